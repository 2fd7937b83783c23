//! The core alone on a socket, turned by the simplest loop that there is: `poll(2)`, read, write, and the scripts.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use ssh_proto::{
    Client, ClientConfig, ClientRole, Connection, Input, Seed, Server, ServerConfig, ServerRole,
};

use super::hub::{Hub, HubRole};
use super::side::Side;

/// Plays the client's side.
pub(super) fn client(side: Arc<Side>, stream: TcpStream, config: ClientConfig) {
    let core = Client::new(Arc::new(config), Seed::new([3; 32]), Instant::now());
    run::<ClientRole>(side, stream, core);
}

/// Plays the server's side.
pub(super) fn server(side: Arc<Side>, stream: TcpStream, config: ServerConfig) {
    let core = Server::new(Arc::new(config), Seed::new([4; 32]), Instant::now());
    run::<ServerRole>(side, stream, core);
}

/// Gets the loop out of `poll(2)`.
struct Bell(UnixStream);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        // It fails when it was rung often enough, or when the loop is gone.
        _ = (&self.0).write(&[0]);
    }
}

fn run<R: HubRole>(side: Arc<Side>, mut stream: TcpStream, mut core: Connection<R>) {
    let (rope, bell) = UnixStream::pair().expect("a pair of sockets");
    for socket in [&rope, &bell] {
        socket.set_nonblocking(true).expect("non-blocking");
    }
    stream.set_nonblocking(true).expect("non-blocking");
    stream.set_nodelay(true).expect("TCP_NODELAY");
    let mut hub = Hub::new(side, Waker::from(Arc::new(Bell(bell))));
    let mut spare = Input::new();
    let mut said = false;
    loop {
        let mut now = Instant::now();
        core.handle_timeout(now);
        hub.turn(&mut core, now);
        write(&mut stream, &mut core, now);
        read(&mut stream, &mut core, &mut spare, now);
        now = Instant::now();
        if hub.turn(&mut core, now) {
            continue;
        }
        if core.closed().is_some() && core.output().is_empty() && !said {
            // Not the whole of it: who closes a socket with unread data takes back what it said last. It fails when the
            // peer is gone.
            _ = stream.shutdown(Shutdown::Write);
            said = true;
        }
        if hub.is_done() && said {
            return linger(&stream);
        }
        wait(&stream, &rope, &core, now);
    }
}

/// Waits until there is something to do.
fn wait<R: HubRole>(stream: &TcpStream, mut rope: &UnixStream, core: &Connection<R>, now: Instant) {
    let mut wanted = PollFlags::empty();
    wanted.set(PollFlags::IN, core.wants_input());
    wanted.set(PollFlags::OUT, !core.output().is_empty());
    let mut fds = vec![PollFd::new(rope, PollFlags::IN)];
    // A socket that ended would wake for ever.
    if !wanted.is_empty() {
        fds.push(PollFd::new(stream, wanted));
    }
    let timeout = core.poll_timeout().map(|at| {
        let left = at.saturating_duration_since(now);
        Timespec::try_from(left).expect("less than centuries")
    });
    // Interrupted: that is news as well.
    _ = poll(&mut fds, timeout.as_ref());
    let mut rings = [0; 64];
    while matches!(rope.read(&mut rings), Ok(len) if len > 0) {}
}

fn write<R: HubRole>(stream: &mut TcpStream, core: &mut Connection<R>, now: Instant) {
    while !core.output().is_empty() {
        match stream.write(core.output()) {
            Ok(len) => core.consume_output(len),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(_) => {
                // Nobody takes it any more.
                core.consume_output(core.output().len());
                core.handle_eof(now);
            }
        }
    }
}

fn read<R: HubRole>(
    stream: &mut TcpStream,
    core: &mut Connection<R>,
    spare: &mut Input,
    now: Instant,
) {
    while core.wants_input() {
        let mut input = match core.take_input(std::mem::take(spare)) {
            Ok(input) => input,
            Err(kept) => {
                *spare = kept;
                return;
            }
        };
        let read = stream.read(input.unfilled());
        input.advance(*read.as_ref().unwrap_or(&0));
        *spare = core.handle_input(input, now).unwrap_or_default();
        match read {
            Ok(len) if len > 0 => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            _ => core.handle_eof(now),
        }
    }
}

/// Waits until the peer has read everything.
fn linger(mut stream: &TcpStream) {
    // Both fail when the peer is gone, which is what is waited for.
    _ = stream.set_nonblocking(false);
    _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    while matches!(stream.read(&mut [0; 4096]), Ok(len) if len > 0) {}
}
