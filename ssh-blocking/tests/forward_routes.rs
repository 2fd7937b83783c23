//! Channels of a client's ready-made forwards come to no callback of its user, also when the forward cannot take them.
#![cfg(unix)]

mod common;
#[path = "common/open.rs"]
mod open;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use common::{keys, options};
use ssh_blocking::ssh_proto::config::ClientConfig;
use ssh_blocking::ssh_proto::log::LogLevel;
use ssh_blocking::ssh_proto::{ForwardAddress, OpenFailureReason};
use ssh_blocking::{Client, ClientOptions, Error, ServerConnection, ServerHandle};

const WAIT: &str = "wait@example.com";
const ORIGINATOR: (&str, u16) = ("192.0.2.1", 1);

fn server() -> (ServerHandle, mpsc::Receiver<ServerConnection>) {
    let (server, connections) = open::server();
    (server.bind("127.0.0.1:0").unwrap(), connections)
}

/// Counts the channels that come to the callback.
fn counting(options: ClientOptions) -> (ClientOptions, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    let options = options.on_channel_open(move |pending| {
        seen.fetch_add(1, Ordering::SeqCst);
        drop(pending);
    });
    (options, count)
}

fn connect(server: &ServerHandle, options: ClientOptions) -> Client {
    let client = Client::connect(server.address(), options).unwrap();
    let key = Arc::clone(&keys().1);
    assert!(client.auth_public_key("user", key).unwrap().success());
    client
}

#[test]
fn a_forward_that_is_full_refuses_the_next_connection_itself() {
    let (server, connections) = server();
    let (options, seen) = counting(options());
    let client = connect(&server, options);
    let connection = connections.recv().unwrap();
    let forward = client.forward_remote_dynamic(("localhost", 1_080)).unwrap();
    let address = ForwardAddress::tcpip("localhost", 1_080);
    let mut channels = Vec::new();
    let refused = loop {
        match connection.open_forwarded(&address, ORIGINATOR) {
            Ok(channel) => channels.push(channel),
            Err(error) => break error,
        }
    };
    assert!(channels.len() > 100, "{}", channels.len());
    // The limit of the channels would come later.
    assert!(channels.len() < 1_000, "{}", channels.len());
    assert!(
        matches!(
            refused,
            Error::OpenFailed {
                reason: OpenFailureReason::RESOURCE_SHORTAGE,
                ..
            }
        ),
        "{refused:?}"
    );
    assert_eq!(seen.load(Ordering::SeqCst), 0);
    forward.stop();
}

#[test]
fn a_forward_that_was_stopped_refuses_connections_that_were_on_their_way() {
    let (server, connections) = server();
    let (waits, waiting) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let arrived = Arc::new(AtomicBool::new(false));
    let mut config = ClientConfig::new();
    config.transport.own.global_requests.push(WAIT.into());
    config.transport.log = LogLevel::Packet;
    let open = Arc::clone(&arrived);
    let options = options()
        .config(config)
        .on_log(move |record| {
            if record.text.starts_with("received message 90,") {
                open.store(true, Ordering::SeqCst);
            }
        })
        .check_global_request(move |_, _| {
            waits.send(()).unwrap();
            released.recv().unwrap();
            None
        });
    let (options, seen) = counting(options);
    let client = connect(&server, options);
    let connection = connections.recv().unwrap();
    let forward = client.forward_remote_dynamic(("localhost", 1_080)).unwrap();

    // While the connection's own thread is in a callback, an open comes behind it.
    connection.global_request(WAIT, b"", false).unwrap();
    waiting.recv().unwrap();
    let opening = thread::spawn(move || {
        let address = ForwardAddress::tcpip("localhost", 1_080);
        connection.open_forwarded(&address, ORIGINATOR).unwrap_err()
    });
    while !arrived.load(Ordering::SeqCst) {
        client.ping(b"").unwrap();
    }
    forward.stop();
    release.send(()).unwrap();
    let refused = opening.join().unwrap();
    assert!(matches!(refused, Error::OpenFailed { .. }), "{refused:?}");
    assert_eq!(seen.load(Ordering::SeqCst), 0);

    // Another forward of the same address is another one.
    let again = client.forward_remote_dynamic(("localhost", 1_080)).unwrap();
    assert_eq!(again.port(), Some(1_080));
}
