//! What calls say once the connection has ended.

mod common;
#[path = "common/open.rs"]
mod open;

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use common::{TestServer, config, keys, options};
use ssh_blocking::ssh_proto::ForwardAddress;
use ssh_blocking::ssh_proto::config::ClientConfig;
use ssh_blocking::{
    Client, Error, PendingChannel, ServerConnection, ServerHandle, Transport, ssh_proto,
};

struct Both {
    _handle: ServerHandle,
    server: ServerConnection,
    client: Client,
    /// The channels that the server asks for.
    asked: mpsc::Receiver<PendingChannel<ssh_proto::ClientRole>>,
}

fn both() -> Both {
    let (server, connections) = open::server();
    let handle = server.bind("127.0.0.1:0").unwrap();
    let (pending, asked) = mpsc::channel();
    let mut config = ClientConfig::new();
    let own = &mut config.transport.own;
    own.channel_kinds.push("echo@example.com".into());
    let options = options()
        .config(config)
        .on_channel_open(move |channel| pending.send(channel).unwrap());
    let client = Client::connect(handle.address(), options).unwrap();
    let key = Arc::clone(&keys().1);
    assert!(client.auth_public_key("user", key).unwrap().success());
    Both {
        server: connections.recv().unwrap(),
        _handle: handle,
        client,
        asked,
    }
}

/// The peer said that it ends the connection.
#[track_caller]
fn says_why<T>(result: Result<T, Error>) {
    let error = result.err().expect("the connection has ended");
    assert!(
        matches!(error, Error::Connection(ssh_proto::Error::Disconnected(_))),
        "{error:?}"
    );
}

#[test]
fn an_attempt_after_the_end_says_why_the_connection_ended() {
    let mut config = config();
    config.transport.deadlines.authentication = Some(Duration::from_millis(100));
    let server = TestServer::start_with(config, |options| options);
    let client = server.connect();
    while client.is_alive() {
        std::thread::sleep(Duration::from_millis(5));
    }
    says_why(client.auth_password("user", "secret"));
}

#[test]
fn a_clients_calls_after_the_end_say_why_the_connection_ended() {
    let both = both();
    let client = &both.client;
    both.server.disconnect("enough");
    client.wait_closed();
    says_why(client.no_more_sessions());
    says_why(client.open_session());
    says_why(client.open_custom("echo@example.com", b""));
    says_why(client.direct_tcpip("localhost", 1));
    says_why(client.global_request("time@example.com", b"", true));
    says_why(client.request_forward(ForwardAddress::tcpip("localhost", 1)));
    says_why(client.ping(b""));
    says_why(client.rekey());
}

#[test]
fn a_servers_calls_after_the_end_say_why_the_connection_ended() {
    let both = both();
    let server = &both.server;
    both.client.disconnect();
    server.wait_closed();
    says_why(server.open_custom("echo@example.com", b""));
    says_why(server.open_forwarded(&ForwardAddress::tcpip("localhost", 1), ("localhost", 1)));
    says_why(server.global_request("time@example.com", b"", true));
    says_why(server.rekey());
}

#[test]
fn accepting_a_channel_after_the_end_says_why_the_connection_ended() {
    let both = both();
    let server = both.server.clone();
    let opening = std::thread::spawn(move || server.open_custom("echo@example.com", b"").map(drop));
    let pending = both.asked.recv().unwrap();
    both.server.disconnect("enough");
    both.client.wait_closed();
    says_why(pending.accept());
    let error = opening.join().unwrap().unwrap_err();
    assert!(
        matches!(error, Error::Connection(ssh_proto::Error::LocallyClosed)),
        "{error:?}"
    );
}

/// A writer that breaks when it is told to.
struct Brittle {
    writer: UnixStream,
    broken: Arc<AtomicBool>,
}

impl Write for Brittle {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_half_that_can_no_longer_be_written_to_ends_the_connection_though_the_other_says_nothing() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (server, _connections) = open::server();
    let serving = std::thread::spawn(move || server.serve_stream(theirs, None));
    let broken = Arc::new(AtomicBool::new(false));
    let writer = Brittle {
        writer: ours.try_clone().unwrap(),
        broken: Arc::clone(&broken),
    };
    let closing = ours.try_clone().unwrap();
    let pair = Transport::pair(ours, writer).on_close(move || _ = closing.shutdown(Shutdown::Both));
    let client = Client::connect_stream(pair, options()).unwrap();
    let key = Arc::clone(&keys().1);
    assert!(client.auth_public_key("user", key).unwrap().success());
    broken.store(true, Ordering::Relaxed);
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(client.open_session().map(drop)).unwrap());
    let outcome = told.recv_timeout(Duration::from_secs(30)).expect("an end");
    let error = outcome.unwrap_err();
    assert!(
        matches!(&error, Error::Io(error) if error.kind() == io::ErrorKind::BrokenPipe),
        "{error:?}"
    );
    serving.join().unwrap().unwrap_err();
}

#[test]
fn a_socket_that_can_no_longer_be_written_to_ends_the_connection_though_the_peer_says_nothing() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.shutdown(Shutdown::Read).unwrap();
    let error = Client::connect_stream(ours, options()).unwrap_err();
    assert!(
        matches!(&error, Error::Io(error) if error.kind() == io::ErrorKind::BrokenPipe),
        "{error:?}"
    );
}
