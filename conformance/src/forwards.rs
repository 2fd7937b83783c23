//! What forwarding of TCP must do with any server and our client. Each connection carries data both ways at once, or one way after
//! the other: then the answer begins only after EOF.
//!
//! These are tools for tests: they panic instead of returning errors.

use ssh_blocking::Client;
use ssh_blocking::ssh_proto::OpenFailureReason;
use ssh_blocking::ssh_proto::adapter::Error;

use crate::tcp::{
    ANY, connect, echo_target, ends_at_once, exchange_dynamic, exchange_tcp, free_port,
    mirror_target, wait_until_closed,
};

/// What goes through a forwarded connection, each way.
pub const LEN: usize = 8 << 20;

/// What goes through each one of many.
pub const LITTLE: usize = 100_000;

/// What a server does about `cancel-tcpip-forward`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// It stops to listen.
    Stops,
    /// It refuses, and goes on.
    Refuses,
}

/// Local and dynamic forwards.
///
/// # Panics
/// If one of them does not do what it should.
#[track_caller]
pub fn our_client_forwards_local_ports(client: &Client) {
    let (mirror, echo) = (mirror_target(), echo_target());
    for target in [mirror, echo] {
        let forward = client.forward_local(ANY, target);
        let forward = forward.unwrap_or_else(|error| panic!("no forward: {error}"));
        exchange_tcp(&connect(forward.port().unwrap_or(0)), LEN);
    }
    let dynamic = client.forward_dynamic(ANY);
    let dynamic = dynamic.unwrap_or_else(|error| panic!("no forward: {error}"));
    exchange_dynamic(dynamic.port().unwrap_or(0), mirror.port(), LITTLE);
}

/// A target where nobody listens.
///
/// # Panics
/// If it does not do what it should.
#[track_caller]
pub fn a_target_that_refuses_is_an_error(client: &Client) {
    let refused = client.direct_tcpip("127.0.0.1", free_port()).map(drop);
    assert!(
        matches!(
            refused,
            Err(Error::OpenFailed {
                reason: OpenFailureReason::CONNECT_FAILED,
                ..
            })
        ),
        "{refused:?}"
    );
    let forward = client.forward_local(ANY, ("127.0.0.1", free_port()));
    let forward = forward.unwrap_or_else(|error| panic!("no forward: {error}"));
    assert!(ends_at_once(&connect(forward.port().unwrap_or(0))));
    assert!(client.is_alive());
}

/// Remote forwards, fixed, chosen by the server, and dynamic.
///
/// # Panics
/// If one of them does not do what it should.
#[track_caller]
pub fn our_client_forwards_ports_of_the_server(client: &Client, cancel: Cancel) {
    let (mirror, echo) = (mirror_target(), echo_target());
    let forward = |port, target| {
        let forward = client.forward_remote(("localhost", port), target);
        forward.unwrap_or_else(|error| panic!("no forward: {error}"))
    };
    for target in [mirror, echo] {
        let port = free_port();
        let fixed = forward(port, target);
        assert_eq!(fixed.port(), Some(port));
        exchange_tcp(&connect(port), LEN);
        let again = client.forward_remote(("localhost", port), target);
        assert!(matches!(again, Err(Error::Refused(_))), "{again:?}");
        fixed.stop();
        match cancel {
            Cancel::Stops => wait_until_closed(port),
            // Whatever comes, the client takes none of it any more.
            Cancel::Refuses => assert!(ends_at_once(&connect(port))),
        }
    }
    let chosen = forward(0, mirror);
    let port = chosen.port().unwrap_or(0);
    assert_ne!(port, 0);
    exchange_tcp(&connect(port), LITTLE);
    chosen.stop();
    if cancel == Cancel::Stops {
        wait_until_closed(port);
    }
    let nobody = forward(0, ([127, 0, 0, 1], free_port()).into());
    assert!(ends_at_once(&connect(nobody.port().unwrap_or(0))));
    let dynamic = client.forward_remote_dynamic(("localhost", 0));
    let dynamic = dynamic.unwrap_or_else(|error| panic!("no forward: {error}"));
    exchange_dynamic(dynamic.port().unwrap_or(0), mirror.port(), LITTLE);
}
