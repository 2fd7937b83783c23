//! Two backends joined by a loopback socket, each in any role.

use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_send_buffer_size;
use ssh_proto::{ClientConfig, ServerConfig};

use super::disturbed::{Disturbance, Line};
use super::script::{Scenario, Who};
use super::side::Side;
use super::simulated::configurations;
use super::world::World;

/// What plays one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "all that there are")]
pub enum Backend {
    /// The core alone, turned by the simplest loop.
    Core,
    /// `ssh-blocking`.
    Blocking,
    /// `ssh-tokio`.
    Tokio,
    /// `ssh-mio`.
    Mio,
}

/// All backends.
pub const BACKENDS: [Backend; 4] = [
    Backend::Core,
    Backend::Blocking,
    Backend::Tokio,
    Backend::Mio,
];

/// A scenario that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

impl Backend {
    fn client(self, side: Arc<Side>, line: Line, config: ClientConfig) {
        match self {
            Self::Core => super::socket::client(side, line.stream, config),
            Self::Blocking => super::blocking::client(side, line, config),
            Self::Tokio => super::tokio::client(side, line, config),
            Self::Mio => super::mio::client(side, line, config),
        }
    }

    fn server(self, side: Arc<Side>, line: Line, config: ServerConfig) {
        match self {
            Self::Core => super::socket::server(side, line.stream, config),
            Self::Blocking => super::blocking::server(side, line, config),
            Self::Tokio => super::tokio::server(side, line, config),
            Self::Mio => super::mio::server(side, line, config),
        }
    }
}

/// Plays a scenario; what both sides saw. Panics when it hangs.
pub fn play(scenario: &Scenario, client: Backend, server: Backend) -> Vec<String> {
    play_over(scenario, client, server, connected(), None)
}

/// The same with both sides on a stream that is disturbed. The core alone is not: its bytes are cut up elsewhere.
pub fn play_disturbed(
    scenario: &Scenario,
    client: Backend,
    server: Backend,
    disturbance: Disturbance,
) -> Vec<String> {
    play_over(scenario, client, server, connected(), Some(disturbance))
}

/// The same over a socket that has room for so few bytes that most writes are short, and the next one is not ready.
pub fn play_narrow(scenario: &Scenario, client: Backend, server: Backend) -> Vec<String> {
    let (near, far) = connected();
    for stream in [&near, &far] {
        // The system makes it as little as it may be.
        set_socket_send_buffer_size(stream, 1).expect("a buffer");
    }
    play_over(scenario, client, server, (near, far), None)
}

fn play_over(
    scenario: &Scenario,
    client: Backend,
    server: Backend,
    (near, far): (TcpStream, TcpStream),
    disturbance: Option<Disturbance>,
) -> Vec<String> {
    let scenario = Arc::new(scenario.clone());
    let (client_config, server_config) = configurations(&scenario);
    let world = Arc::new(World::default());
    let side = |who| Side::new(who, Arc::clone(&scenario), Arc::clone(&world));
    let sides = [side(Who::Client), side(Who::Server)];
    if scenario.cuts() {
        let wire = near.try_clone().expect("a second handle");
        world.set_scissors(move || {
            // It fails when it is cut already.
            _ = wire.shutdown(Shutdown::Both);
        });
    }
    let (done, ends) = mpsc::channel();
    let (side, tell) = (Arc::clone(&sides[0]), done.clone());
    let near = thread::spawn(move || {
        let line = Line {
            stream: near,
            disturbance,
        };
        client.client(side, line, client_config);
        // It fails when nobody waits any more.
        _ = tell.send(());
    });
    let side = Arc::clone(&sides[1]);
    let far = thread::spawn(move || {
        let line = Line {
            stream: far,
            disturbance,
        };
        server.server(side, line, server_config);
        _ = done.send(());
    });
    let until = Instant::now() + PATIENCE;
    for _ in &sides {
        let left = until.saturating_duration_since(Instant::now());
        match ends.recv_timeout(left) {
            Ok(()) => {}
            // One of them has panicked, which shows below.
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!(
                "{client:?} client, {server:?} server, {disturbance:?}: it hangs:\n{}",
                world.report()
            ),
        }
    }
    near.join().expect("the client's backend");
    far.join().expect("the server's backend");
    sides.iter().flat_map(|side| side.log().lines()).collect()
}

/// Both ends of a loopback connection.
fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
    let near = TcpStream::connect(listener.local_addr().expect("its address"));
    let (far, _) = listener.accept().expect("the other end");
    (near.expect("a connection"), far)
}
