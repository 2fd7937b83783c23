//! The server: who gets in, subsystems, channels of other kinds, limits, stopping; and what ends with what.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{MIB, Seen, TestServer, config, keys, options, server};
use ssh_blocking::ssh_proto::{self, OpenFailureReason};
use ssh_blocking::{Client, Error, MaxStartups, Transport};

#[test]
fn a_subsystem_runs_by_name() {
    let server = TestServer::start();
    let client = server.client();
    let mut channel = client.subsystem("reverse").unwrap();
    channel.write_all(b"abc").unwrap();
    channel.shutdown_write().unwrap();
    let mut text = String::new();
    channel.read_to_string(&mut text).unwrap();
    assert_eq!(text, "cba");
    let error = client.subsystem("nonsense").unwrap_err();
    assert!(matches!(error, Error::Refused("subsystem")), "{error}");
}

#[test]
fn a_tcp_connection_is_forwarded_both_ways() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let echo = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        std::io::copy(&mut &stream, &mut &stream).unwrap();
    });
    let server = TestServer::start();
    let client = server.client();
    let channel = client.direct_tcpip("127.0.0.1", port).unwrap();
    let data = vec![7; 3 * MIB];
    let received = std::thread::scope(|scope| {
        let (mut writer, data) = (&channel, &data);
        scope.spawn(move || {
            writer.write_all(data).unwrap();
            writer.shutdown_write().unwrap();
        });
        let mut received = Vec::new();
        (&channel).read_to_end(&mut received).unwrap();
        received
    });
    assert!(received == data);
    echo.join().unwrap();
}

#[test]
fn a_command_without_a_session_says_that_none_was_opened() {
    let mut config = config();
    config.transport.limits.channels = 1;
    let server = TestServer::start_with(config, |options| options);
    let client = server.client();
    let first = client.exec("cat").spawn().unwrap();
    // The refusal comes before the request for the command leaves, or after.
    for _ in 0..300 {
        let error = client.exec("cat").spawn().map(drop).unwrap_err();
        assert!(matches!(error, Error::OpenFailed { .. }), "{error:?}");
    }
    drop(first);
}

#[test]
fn a_target_that_cannot_be_reached_says_why() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let server = TestServer::start();
    let client = server.client();
    let error = client.direct_tcpip("127.0.0.1", closed.port()).unwrap_err();
    let Error::OpenFailed { reason, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(*reason, OpenFailureReason::CONNECT_FAILED);
    assert!(client.is_alive());
}

#[test]
fn channels_and_requests_of_the_authors_own() {
    let server = TestServer::start();
    let client = server.client();
    let (mut channel, data) = client.open_custom("echo@example.com", b"hello").unwrap();
    assert_eq!(data, b"you said hello");
    channel.write_all(b"ping").unwrap();
    let mut pong = [0; 4];
    channel.read_exact(&mut pong).unwrap();
    assert_eq!(&pong, b"ping");
    channel
        .request("poke@example.com", b"gently", true)
        .unwrap();
    let error = channel
        .request("poke@example.com", b"hard", true)
        .unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error}");
    channel.request("poke@example.com", b"hard", false).unwrap();
    assert_eq!(
        client
            .global_request("time@example.com", b"now?", true)
            .unwrap(),
        b"noon"
    );
    assert!(
        client
            .global_request("time@example.com", b"later?", true)
            .is_err()
    );
    assert!(
        client
            .global_request("unknown@example.com", b"", true)
            .is_err()
    );
    assert_eq!(
        client
            .global_request("time@example.com", b"now?", false)
            .unwrap(),
        b""
    );
    let error = client.open_custom("unknown@example.com", b"").unwrap_err();
    assert!(matches!(error, Error::OpenFailed { .. }), "{error}");
}

#[test]
fn an_address_is_refused_before_a_byte() {
    let server = TestServer::start_with(config(), |options| {
        options.filter(|address| !address.ip().is_loopback())
    });
    let mut stream = TcpStream::connect(server.handle.address()).unwrap();
    let mut bytes = Vec::new();
    // The end of the stream, or a reset: never a version line.
    _ = stream.read_to_end(&mut bytes);
    assert_eq!(bytes, b"");
}

#[test]
fn connections_beyond_the_limit_are_dropped() {
    let server = TestServer::start_with(config(), |options| options.max_connections(2));
    let (first, second) = (server.client(), server.client());
    let third = Client::connect(server.handle.address(), options());
    assert!(third.is_err());
    assert!(first.is_alive() && second.is_alive());
    drop(first);
    wait_until(|| server.handle.server().connections() < 2);
    assert!(server.client().is_alive());
}

#[test]
fn those_that_do_not_authenticate_are_limited_apart() {
    let limit = MaxStartups {
        start: 1,
        rate: 100,
        full: 1,
    };
    let server = TestServer::start_with(config(), |options| options.max_startups(limit));
    let waiting = server.connect();
    assert!(Client::connect(server.handle.address(), options()).is_err());
    assert!(waiting.auth_password("user", "secret").unwrap().success());
    wait_until(|| server.seen.has("authenticated user"));
    assert!(server.connect().is_alive());
}

#[test]
fn login_grace_is_absolute() {
    let mut config = config();
    config.transport.deadlines.authentication = Some(Duration::from_millis(200));
    let server = TestServer::start_with(config, |options| options);
    let client = server.connect();
    let begin = Instant::now();
    wait_until(|| !client.is_alive());
    assert!(begin.elapsed() < Duration::from_secs(5));
    wait_until(|| server.handle.server().connections() == 0);
}

#[test]
fn stopping_gives_those_who_are_there_time() {
    let server = TestServer::start();
    let client = server.client();
    let begin = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            assert!(client.exec("echo x").output().unwrap().status.success());
            client.disconnect();
        });
        assert_eq!(server.handle.stop(Duration::from_secs(20)), 0);
    });
    assert!(begin.elapsed() >= Duration::from_millis(100));
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert!(TcpStream::connect(server.handle.address()).is_err());
}

#[test]
fn stopping_ends_who_stays_longer() {
    let server = TestServer::start();
    let client = server.client();
    let mut child = client.exec("cat").spawn().unwrap();
    assert_eq!(server.handle.stop(Duration::from_millis(50)), 1);
    assert_eq!(server.handle.server().connections(), 0);
    let error = child.wait().unwrap_err();
    let Error::Connection(ssh_proto::Error::Disconnected(said)) = &error else {
        panic!("{error}");
    };
    assert_eq!(said.description, "the server stops");
}

#[test]
fn a_panic_in_the_handler_ends_its_connection_only() {
    let server = TestServer::start();
    let bystander = server.client();
    let client = server.connect();
    assert!(client.auth_password("panic", "x").is_err());
    assert!(!client.is_alive());
    assert!(bystander.exec("echo x").output().unwrap().status.success());
    assert!(server.client().is_alive());
}

#[test]
fn a_panic_in_a_program_ends_its_connection_only() {
    let server = TestServer::start();
    let bystander = server.client();
    let client = server.client();
    assert!(client.exec("panic").output().is_err());
    wait_until(|| !client.is_alive());
    assert!(bystander.exec("echo x").output().unwrap().status.success());
}

#[test]
fn a_dropped_child_closes_its_channel() {
    let server = TestServer::start();
    let client = server.client();
    drop(client.exec("hang").spawn().unwrap());
    server.seen.wait_for("hang ended true");
    server.seen.wait_for("closed");
    assert!(client.exec("echo x").output().unwrap().status.success());
}

#[test]
fn the_last_handle_closes_the_connection() {
    let server = TestServer::start();
    let client = server.client();
    let child = client.exec("cat").spawn().unwrap();
    drop(client.clone());
    drop(client);
    let mut stdin = child.stdin.unwrap();
    stdin.write_all(b"x").unwrap(); // the channel keeps the connection alive
    drop((stdin, child.stderr));
    let mut stdout = child.stdout.unwrap();
    assert_eq!(stdout.read(&mut [0; 8]).unwrap(), 1);
    drop(stdout);
    wait_until(|| server.handle.server().connections() == 1);
}

#[test]
fn every_thread_ends_with_its_connection() {
    let server = TestServer::start();
    let before = threads();
    for _ in 0..4 {
        let client = server.client();
        assert!(client.exec("echo x").output().unwrap().status.success());
    }
    wait_until(|| server.handle.server().connections() == 0);
    // Other tests run in this process, too: a leak would show as four or more for good.
    wait_until(|| threads() <= before + 64);
    let client = server.client();
    client.disconnect();
    wait_until(|| server.handle.server().connections() == 0);
}

#[test]
fn disconnecting_wakes_everybody_who_waits() {
    let server = TestServer::start();
    let client = server.client();
    let woken = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let mut child = client.exec("cat").spawn().unwrap();
            // Kept: without it the command would get EOF and end by itself.
            let stdin = child.stdin.take().unwrap();
            let (mut stdout, woken) = (child.stdout.take().unwrap(), &woken);
            scope.spawn(move || {
                assert!(stdout.read(&mut [0; 1]).is_err());
                drop(stdin);
                woken.fetch_add(1, Ordering::Relaxed);
            });
            scope.spawn(move || {
                assert!(child.wait().is_err());
                woken.fetch_add(1, Ordering::Relaxed);
            });
        }
        std::thread::sleep(Duration::from_millis(50));
        client.disconnect();
    });
    assert_eq!(woken.load(Ordering::Relaxed), 6);
}

#[test]
fn a_peer_that_is_gone_is_an_error_for_everybody() {
    let server = TestServer::start();
    let client = server.client();
    let mut child = client.exec("cat").spawn().unwrap();
    drop(server.handle); // stops at once
    assert!(child.wait().is_err());
    assert!(client.exec("echo x").output().is_err());
    assert!(client.closed().is_some());
}

#[test]
fn a_unix_socket_carries_a_connection() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let seen = Arc::new(Seen::default());
    let server = server(config(), &seen, |options| options);
    let thread = std::thread::spawn(move || server.serve_stream(theirs, None));
    let client = Client::connect_stream(ours, options()).unwrap();
    use_it(&client);
    drop(client);
    thread.join().unwrap().unwrap();
}

#[test]
fn a_pair_of_halves_carries_a_connection() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let seen = Arc::new(Seen::default());
    let server = server(config(), &seen, |options| options);
    let thread = std::thread::spawn(move || {
        let reader = theirs.try_clone().unwrap();
        let closing = theirs.try_clone().unwrap();
        let pair = Transport::pair(reader, theirs)
            .on_close(move || _ = closing.shutdown(std::net::Shutdown::Both));
        server.serve_stream(pair, None)
    });
    let (reader, closing) = (ours.try_clone().unwrap(), ours.try_clone().unwrap());
    let pair = Transport::pair(reader, ours)
        .on_close(move || _ = closing.shutdown(std::net::Shutdown::Both));
    let client = Client::connect_stream(pair, options()).unwrap();
    use_it(&client);
    drop(client);
    thread.join().unwrap().unwrap();
}

#[test]
fn a_channel_carries_another_connection() {
    let inner = TestServer::start();
    let outer = TestServer::start();
    let jump = outer.client();
    let address = inner.handle.address();
    let channel = jump.direct_tcpip("127.0.0.1", address.port()).unwrap();
    let closing = channel.clone();
    let pair = Transport::pair(channel.clone(), channel).on_close(move || closing.close());
    let client = Client::connect_stream(pair, options()).unwrap();
    use_it(&client);
}

/// Authenticates, and moves a few megabytes each way.
fn use_it(client: &Client) {
    let key = Arc::clone(&keys().1);
    assert!(client.auth_public_key("user", key).unwrap().success());
    let data: Vec<u8> = (0..4 * MIB).map(|i| (i % 251) as u8).collect();
    let output = client.exec("cat").input(data.clone()).output().unwrap();
    assert!(output.stdout == data);
    let mut child = client.exec("cat").spawn().unwrap();
    child
        .channel()
        .set_read_timeout(Some(Duration::from_millis(20)));
    assert!(child.stdout.as_mut().unwrap().read(&mut [0; 1]).is_err());
    assert!(child.wait().unwrap().success());
}

fn wait_until(mut done: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it never came");
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}
