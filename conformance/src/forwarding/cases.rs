//! What holds for the client of every adapter, with OpenSSH's server.

use std::os::unix::net::UnixStream;

use ssh_blocking::ssh_proto::OpenFailureReason;
use ssh_blocking::ssh_proto::socks::SocksVersion;

use crate::peers::all;

use crate::tcp::{
    connect, exchange_dynamic, exchange_tcp, exchange_unix, free_port, mirror_target, socks,
    unix_mirror_target, wait_for, wait_until_closed,
};

use super::{Failure, Forwarded, Forwarder, LEN, Place};

#[track_caller]
fn port(forward: &impl Forwarded) -> u16 {
    match forward.port() {
        Some(port) if port != 0 => port,
        other => panic!("the forward has port {other:?}"),
    }
}

#[track_caller]
fn exchange_at(forward: &impl Forwarded) {
    exchange_tcp(&connect(port(forward)), LEN);
}

#[track_caller]
fn granted<T, E: std::fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|error| panic!("it failed: {error}"))
}

#[track_caller]
fn failure<T>(result: Result<T, impl Into<Failure>>) -> Failure {
    match result {
        Ok(_) => panic!("it was granted"),
        Err(error) => error.into(),
    }
}

/// From ports and sockets here, to ports and sockets there, and to where SOCKS says.
///
/// # Panics
/// If one of them does not work.
#[track_caller]
pub fn local_forwards<C: Forwarder>() {
    for version in all() {
        let place = Place::new(version);
        let sshd = place.sshd(version, &[]);
        let client = C::log_in(&sshd, place.key());
        let target = mirror_target();
        let unix = place.path("target");
        unix_mirror_target(&unix);
        exchange_at(&granted(client.local(target)));
        exchange_at(&granted(client.local(unix.as_path())));
        let listening = place.path("listening");
        let forward = granted(client.local_path(&listening, target));
        exchange_unix(&listening, LEN);
        forward.stop();
        assert!(!listening.exists());
        let _forward = granted(client.local_path(&listening, unix.as_path()));
        exchange_unix(&listening, LEN);
        let dynamic = granted(client.dynamic());
        exchange_dynamic(port(&dynamic), target.port(), LEN);
        assert_eq!(
            failure(client.direct_streamlocal(&place.path("nobody"))),
            Failure::OpenFailed(OpenFailureReason::CONNECT_FAILED)
        );
    }
}

/// From ports and sockets of the server, fixed and chosen, to ports and sockets here, and to where SOCKS says.
///
/// # Panics
/// If one of them does not work.
#[track_caller]
pub fn remote_forwards<C: Forwarder>() {
    for version in all() {
        let place = Place::new(version);
        let sshd = place.sshd(version, &[]);
        let client = C::log_in(&sshd, place.key());
        let target = mirror_target();
        let unix = place.path("target");
        unix_mirror_target(&unix);

        let fixed_port = free_port();
        let fixed = granted(client.remote(("localhost", fixed_port), target));
        assert_eq!(fixed.port(), Some(fixed_port));
        exchange_at(&fixed);
        let again = client.remote(("localhost", fixed_port), target);
        assert_eq!(failure(again), Failure::Refused);
        fixed.stop();
        wait_until_closed(fixed_port);

        for bind in ["localhost", "", "127.0.0.1"] {
            let chosen = granted(client.remote((bind, 0), target));
            let port = port(&chosen);
            exchange_at(&chosen);
            chosen.stop();
            wait_until_closed(port);
        }
        exchange_at(&granted(client.remote(("localhost", 0), unix.as_path())));
        let listening = place.path("listening");
        let forward = granted(client.remote_path(&listening, target));
        exchange_unix(&listening, LEN);
        forward.stop();
        wait_for("end of the listener", || {
            UnixStream::connect(&listening).is_err().then_some(())
        });
        let dynamic = granted(client.remote_dynamic());
        exchange_dynamic(port(&dynamic), target.port(), LEN);
    }
}

/// What the server forbids is an error, and the client goes on.
///
/// # Panics
/// If it is anything else.
#[track_caller]
pub fn forbidden<C: Forwarder>() {
    for version in all() {
        let place = Place::new(version);
        let sshd = place.sshd(
            version,
            &["AllowTcpForwarding no", "AllowStreamLocalForwarding no"],
        );
        let client = C::log_in(&sshd, place.key());
        let target = mirror_target();
        let remote = client.remote(("localhost", 0), target);
        assert_eq!(failure(remote), Failure::Refused);
        let remote = client.remote_path(&place.path("listening"), target);
        assert_eq!(failure(remote), Failure::Refused);
        let dynamic = granted(client.dynamic());
        let asked = socks(port(&dynamic), SocksVersion::V5, "127.0.0.1", target.port());
        assert!(asked.is_err());
        granted(client.no_more_sessions());
        assert!(client.exec("true").is_err());
        assert!(client.is_alive());
    }
}
