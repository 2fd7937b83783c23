//! Forwarding of every kind between the client on Tokio and OpenSSH's server.

use conformance::forwarding::{TokioClient, forbidden, local_forwards, remote_forwards};

#[test]
fn the_client_forwards_local_ports_and_sockets() {
    local_forwards::<TokioClient>();
}

#[test]
fn the_client_forwards_ports_and_sockets_of_the_server() {
    remote_forwards::<TokioClient>();
}

#[test]
fn what_the_server_forbids_is_an_error_and_the_client_goes_on() {
    forbidden::<TokioClient>();
}
