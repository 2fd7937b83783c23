//! Scenarios of one client and one server: described once, played by the bare core over several networks in memory and
//! over a real loopback socket, and by every pair of backends that a socket can join, in both roles; by each adapter also
//! over a stream that is disturbed. Whoever plays them, both sides must see the same.

mod auth;
mod channels;
mod data;
mod disturbed;
mod ending;
mod forwarding;
mod own;
mod rekey;
mod sessions;

use conformance::scenario::{
    BACKENDS, Backend, Disturbance, NETWORKS, Scenario, play, play_disturbed, simulate,
};
use conformance::wire::Network;

const ADAPTERS: [Backend; 3] = [Backend::Blocking, Backend::Tokio, Backend::Mio];

/// Plays a scenario everywhere; both sides must see what is expected: a line for the connection and one for each channel.
#[track_caller]
fn everywhere(scenario: &Scenario, expected: &str) {
    let expected: Vec<&str> = expected
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    for network in NETWORKS {
        if !(scenario.heavy && network == Some(Network::Pieces(1))) {
            compare(
                &format!("{network:?}"),
                &simulate(scenario, network),
                &expected,
            );
        }
    }
    for client in BACKENDS {
        for server in BACKENDS {
            let what = format!("{client:?} client, {server:?} server");
            compare(&what, &play(scenario, client, server), &expected);
        }
    }
    for adapter in ADAPTERS {
        let disturbance = Disturbance::Drawn(0);
        let seen = play_disturbed(scenario, adapter, adapter, disturbance);
        compare(&format!("{adapter:?}, disturbed"), &seen, &expected);
    }
}

#[track_caller]
fn compare(what: &str, seen: &[String], expected: &[&str]) {
    assert!(
        seen == expected,
        "{what}: seen\n{}\nexpected\n{}\n",
        seen.join("\n"),
        expected.join("\n")
    );
}
