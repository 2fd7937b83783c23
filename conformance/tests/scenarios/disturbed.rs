//! Crumbs, signals, and readiness that is not true, at any call of a stream: nothing of it is seen above the adapter. The
//! other files play every scenario once over a stream that is disturbed most of the time; here one with something of
//! everything is disturbed in many ways.

use conformance::scenario::{
    Act, Backend, Deed, Disturbance, Fault, Login, Scenario, ask, bye, command, custom, exit, join,
    open, play_disturbed, play_narrow, read_all, read_stderr, write, write_stderr,
};

use crate::compare;

const OWN: &str = "own@example.com";

const EXPECTED: [&str; 6] = [
    "client: refused, publickey,password,keyboard-interactive; in; new keys; disconnected",
    "client both: opened; own@example.com \"please\": granted; data 3000 of server's; stderr 3000 of server's errors; exit 7; eof; closed",
    "client cat: opened; data 100000 of client's; exit 0; eof; closed",
    "server: password of alice refused; password of alice accepted; alice is in; disconnected by the peer: 11 \"\"",
    "server both: exec both granted; own@example.com \"please\" granted; closed",
    "server cat: exec cat granted; data 100000 of client's; eof; closed",
];

fn everything() -> Scenario {
    let cat = command("cat")
        .client([
            write(50_000),
            Act::Await("rekeyed"),
            write(50_000),
            Act::Eof,
        ])
        .client([read_all()])
        .server([Act::Echo, exit(0)]);
    let both = command("both")
        .client([ask(custom(OWN, "please")), Act::Mark("asked"), read_all()])
        .client([read_stderr()])
        .server([write(3_000), Act::Await("asked"), exit(7)])
        .server([write_stderr(3_000)]);
    Scenario::new()
        .logins([
            Login::Password("alice", "wrong"),
            Login::Password("alice", "sesame"),
        ])
        .configure(|_, server| server.transport.own.channel_requests.push(OWN.into()))
        .channel(cat)
        .channel(both)
        .client([
            open("cat"),
            open("both"),
            Deed::Rekey,
            Deed::AwaitRekeys(1),
            Deed::Mark("rekeyed"),
            join("cat"),
            join("both"),
            bye(),
        ])
}

#[track_caller]
fn undisturbed_by(adapter: Backend, disturbance: Disturbance) {
    let seen = play_disturbed(&everything(), adapter, adapter, disturbance);
    compare(&format!("{adapter:?}, {disturbance:?}"), &seen, &EXPECTED);
}

/// So many calls of each direction are disturbed, one in each connection: up to the login, and some of the rest.
const CALLS: u64 = 24;

#[track_caller]
fn one_fault(adapter: Backend, faults: &[Fault]) {
    for at in 1..=CALLS {
        for fault in faults {
            undisturbed_by(adapter, Disturbance::Once(at, *fault));
        }
    }
}

#[track_caller]
fn many_faults(adapter: Backend) {
    for number in 1..=16 {
        undisturbed_by(adapter, Disturbance::Drawn(number));
    }
}

const ANY: [Fault; 3] = [Fault::Short(1), Fault::Interrupted, Fault::NotReady];

#[test]
fn one_call_of_ssh_blocking_that_does_less_changes_nothing() {
    // Halves that block are always ready.
    one_fault(Backend::Blocking, &[Fault::Short(1), Fault::Interrupted]);
}

#[test]
fn one_call_of_ssh_tokio_that_does_less_changes_nothing() {
    one_fault(Backend::Tokio, &ANY);
}

#[test]
fn one_call_of_ssh_mio_that_does_less_changes_nothing() {
    one_fault(Backend::Mio, &ANY);
}

#[test]
fn calls_of_ssh_blocking_that_mostly_do_less_change_nothing() {
    many_faults(Backend::Blocking);
}

#[test]
fn calls_of_ssh_tokio_that_mostly_do_less_change_nothing() {
    many_faults(Backend::Tokio);
}

#[test]
fn calls_of_ssh_mio_that_mostly_do_less_change_nothing() {
    many_faults(Backend::Mio);
}

#[track_caller]
fn through_a_narrow_socket(adapter: Backend) {
    let seen = play_narrow(&everything(), adapter, adapter);
    compare(&format!("{adapter:?}, narrow"), &seen, &EXPECTED);
}

#[test]
fn a_socket_of_ssh_blocking_that_has_hardly_any_room_changes_nothing() {
    through_a_narrow_socket(Backend::Blocking);
}

#[test]
fn a_socket_of_ssh_tokio_that_has_hardly_any_room_changes_nothing() {
    through_a_narrow_socket(Backend::Tokio);
}

#[test]
fn a_socket_of_ssh_mio_that_has_hardly_any_room_changes_nothing() {
    through_a_narrow_socket(Backend::Mio);
}
