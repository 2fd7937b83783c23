//! russh 0.65, in both roles.

use conformance::both_roles::Peer;
use conformance::commands::{Killed, our_client_runs_commands};
use conformance::forwards::{
    Cancel, a_target_that_refuses_is_an_error, our_client_forwards_local_ports,
    our_client_forwards_ports_of_the_server,
};
use conformance::peers::Actor;
use conformance::suites::Missing;

const PEER: Peer = Peer {
    actor: Actor::russh,
    missing: Missing {
        kex: &[],
        host_keys: &[],
        ciphers: &[],
        macs: &[],
    },
    killed: Killed::Told,
    told_of_term: ("-1", "TERM"),
    listeners_of_their_own: true,
};

// Their server.

#[test]
fn our_client_agrees_with_russh_on_everything_that_both_have() {
    PEER.our_client_agrees_on_everything();
}

#[test]
fn our_client_runs_commands_on_russh() {
    let (client, _server) = PEER.our_client();
    our_client_runs_commands(&client, PEER.killed);
}

#[test]
fn our_client_forwards_local_ports_through_russh() {
    let (client, _server) = PEER.our_client();
    our_client_forwards_local_ports(&client);
}

#[test]
fn a_target_that_refuses_is_an_error_and_our_client_goes_on() {
    let (client, _server) = PEER.our_client();
    a_target_that_refuses_is_an_error(&client);
}

#[test]
fn our_client_forwards_ports_of_russh_until_it_cancels_them() {
    let (client, _server) = PEER.our_client();
    our_client_forwards_ports_of_the_server(&client, Cancel::Stops);
}

#[test]
fn every_kind_of_key_logs_our_client_in() {
    PEER.every_kind_of_key_logs_our_client_in();
}

#[test]
fn a_password_lets_our_client_in_and_a_wrong_one_does_not() {
    PEER.a_password_lets_our_client_in();
}

#[test]
fn our_client_answers_many_rounds_of_questions() {
    PEER.our_client_answers_rounds_of_questions();
}

#[test]
fn our_client_passes_several_factors_of_russh() {
    PEER.our_client_passes_several_factors();
}

// Their client.

#[test]
fn russh_agrees_with_our_server_on_everything_that_both_have() {
    PEER.their_client_agrees_on_everything();
}

#[test]
fn russh_runs_commands_on_our_server() {
    PEER.their_client_runs_commands();
}

#[test]
fn our_server_connects_for_russh() {
    PEER.our_server_connects();
}

#[test]
fn our_server_listens_for_russh_until_it_is_cancelled() {
    PEER.our_server_listens_until_it_is_cancelled();
}

#[test]
fn our_server_forwards_nothing_unless_it_is_told_to() {
    PEER.our_server_forwards_nothing_unless_it_is_told_to();
}

#[test]
fn every_kind_of_key_logs_russh_in() {
    PEER.every_kind_of_key_logs_their_client_in();
}

#[test]
fn a_password_lets_russh_in_and_a_wrong_one_does_not() {
    PEER.a_password_lets_their_client_in();
}

#[test]
fn russh_answers_many_rounds_of_questions() {
    PEER.their_client_answers_rounds_of_questions();
}

#[test]
fn russh_passes_several_factors() {
    PEER.their_client_passes_several_factors();
}

#[test]
fn keys_are_exchanged_anew_by_either_side_under_load() {
    PEER.both_sides_rekey_under_load();
}
