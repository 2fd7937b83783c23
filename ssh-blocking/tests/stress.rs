//! Many threads on one connection: data, small commands, timeouts and key exchanges at once.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use common::{MIB, Seen, TestServer, config, keys, options, server};
use ssh_blocking::ssh_proto::config::ClientConfig;
use ssh_blocking::{Client, Handler, Server, ServerConnection, ServerOptions, Transport};

/// Eight threads move data both ways, four run commands, two wait with short timeouts.
fn storm(client: &Client, len: usize) {
    std::thread::scope(|scope| {
        for thread in 0..8_usize {
            scope.spawn(move || {
                let mut child = client.exec("cat").spawn().unwrap();
                let mut stdin = child.stdin.take().unwrap();
                let mut stdout = child.stdout.take().unwrap();
                let data: Vec<u8> = (0..len).map(|at| (at * (thread + 3) % 251) as u8).collect();
                let received = std::thread::scope(|scope| {
                    let sent = &data;
                    scope.spawn(move || {
                        for piece in sent.chunks(7_777 * (thread + 1)) {
                            stdin.write_all(piece).unwrap();
                        }
                    });
                    let mut received = Vec::new();
                    if thread % 2 == 0 {
                        stdout.read_to_end(&mut received).unwrap();
                    } else {
                        stdout.copy_to(&mut received).unwrap();
                    }
                    received
                });
                assert!(received == data);
                assert!(child.wait().unwrap().success());
            });
        }
        for thread in 0..4 {
            scope.spawn(move || {
                for round in 0..20 {
                    let text = format!("{thread} {round}");
                    let output = client.exec(format!("echo {text}")).output().unwrap();
                    assert_eq!(output.stdout, format!("{text}\n").into_bytes());
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(move || {
                let mut child = client.exec("cat").spawn().unwrap();
                child
                    .channel()
                    .set_read_timeout(Some(Duration::from_millis(3)));
                let mut stdout = child.stdout.take().unwrap();
                for _ in 0..20 {
                    let error = stdout.read(&mut [0; 1]).unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::TimedOut);
                }
                assert!(child.wait().unwrap().success());
            });
        }
    });
}

fn rekeying() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.transport.rekey.bytes = MIB as u64;
    config
}

#[test]
fn a_storm_over_tcp_with_many_key_exchanges() {
    let server = TestServer::start();
    let options = options().config(rekeying());
    let client = Client::connect(server.handle.address(), options).unwrap();
    let key = Arc::clone(&keys().1);
    assert!(client.auth_public_key("user", key).unwrap().success());
    storm(&client, 4 * MIB);
    assert!(client.rekeys() >= 8, "{}", client.rekeys());
}

#[test]
fn a_storm_over_a_pair_of_halves() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let seen = Arc::new(Seen::default());
    let server = server(config(), &seen, |options| options);
    let half = |stream: &UnixStream| stream.try_clone().unwrap();
    let pair = |stream: UnixStream| {
        let (reader, closing) = (half(&stream), half(&stream));
        Transport::pair(reader, stream)
            .on_close(move || _ = closing.shutdown(std::net::Shutdown::Both))
    };
    let thread = {
        let transport = pair(theirs);
        std::thread::spawn(move || server.serve_stream(transport, None))
    };
    let client = Client::connect_stream(pair(ours), options().config(rekeying())).unwrap();
    let key = Arc::clone(&keys().1);
    assert!(client.auth_public_key("user", key).unwrap().success());
    storm(&client, MIB);
    drop(client);
    thread.join().unwrap().unwrap();
}

#[test]
fn many_connections_at_once() {
    let server = TestServer::start();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let client = server.client();
                for _ in 0..5 {
                    let output = client.exec("cat").input(vec![1; 100_000]).output().unwrap();
                    assert_eq!(output.stdout.len(), 100_000);
                }
            });
        }
    });
}

/// Refuses everybody, while a thread of its own waits for the end of the connection.
struct Watched;

impl Handler for Watched {
    fn connected(&mut self, connection: &ServerConnection) {
        let connection = connection.clone();
        std::thread::spawn(move || connection.wait_closed());
    }
}

#[test]
fn a_server_that_waits_for_the_end_misses_no_attempt() {
    let server = Server::new(ServerOptions::new(config(), |_| Watched));
    let handle = server.bind("127.0.0.1:0").unwrap();
    let address = handle.address();
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for _ in 0..300 {
            let client = Client::connect(address, options()).unwrap();
            for _ in 0..3 {
                assert!(!client.auth_password("user", "guess").unwrap().success());
            }
            done.send(()).unwrap();
        }
    });
    for _ in 0..300 {
        // An attempt that is missed is never answered, however long this waits.
        ended.recv_timeout(Duration::from_secs(60)).unwrap();
    }
}
