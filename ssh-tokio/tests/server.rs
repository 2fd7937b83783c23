//! The server and the ends of connections: limits, stopping, forwarding, panics, drops, peers that go away.

mod common;

use std::time::{Duration, Instant};

use common::{MIB, Pair, Seen, TestServer, config, log_in, options, pair, serve, server, soon};
use ssh_tokio::ssh_proto::{self, OpenFailureReason};
use ssh_tokio::{Client, Error, ExitStatus, MaxStartups};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn a_tcp_connection_is_forwarded_both_ways() {
    let target = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = target.local_addr().unwrap().port();
    let echo = tokio::spawn(async move {
        let (mut stream, _) = target.accept().await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        all.reverse();
        stream.write_all(&all).await.unwrap();
    });
    let pair = pair().await;
    let mut channel = soon(pair.client.direct_tcpip("127.0.0.1", port))
        .await
        .unwrap();
    channel.write_all(b"forwarded").await.unwrap();
    channel.shutdown().await.unwrap();
    let mut answer = String::new();
    soon(channel.read_to_string(&mut answer)).await.unwrap();
    assert_eq!(answer, "dedrawrof");
    echo.await.unwrap();
    let error = soon(pair.client.direct_tcpip("127.0.0.1", port))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::OpenFailed { reason, .. } if *reason == OpenFailureReason::CONNECT_FAILED),
        "{error}"
    );
}

#[tokio::test]
async fn a_channel_carries_another_connection() {
    let inner = TestServer::start().await;
    let outer = pair().await;
    let port = inner.handle.address().port();
    let channel = soon(outer.client.direct_tcpip("127.0.0.1", port))
        .await
        .unwrap();
    let (client, driver) = soon(Client::connect_stream(channel, options()))
        .await
        .unwrap();
    let driver = driver.spawn();
    log_in(&client).await;
    let input = vec![9; 3 * MIB];
    let output = soon(client.exec("cat").input(input.clone()).output())
        .await
        .unwrap();
    assert!(output.stdout == input);
    drop(client);
    soon(driver).await.unwrap().unwrap();
    // The outer connection goes on.
    assert!(
        soon(outer.client.exec("echo x").status())
            .await
            .unwrap()
            .success()
    );
}

#[tokio::test]
async fn a_driver_needs_no_task() {
    let seen = Arc::new(Seen::default());
    let (near, far) = tokio::io::duplex(4_096);
    let serving = serve(&server(config(), &seen, |options| options), far);
    let (client, mut driver) = soon(Client::connect_stream(near, options())).await.unwrap();
    let work = async {
        log_in(&client).await;
        client.exec("echo by hand").output().await
    };
    let output = soon(driver.drive(work)).await.unwrap();
    assert_eq!(output.stdout, b"by hand\n");
    drop(client);
    soon(driver).await.unwrap();
    soon(serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_address_is_refused_before_a_byte() {
    let server = TestServer::start_with(config(), |options| options.filter(|_| false)).await;
    let mut stream = tokio::net::TcpStream::connect(server.handle.address())
        .await
        .unwrap();
    let mut all = Vec::new();
    soon(stream.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"");
}

#[tokio::test]
async fn connections_beyond_the_limit_are_dropped() {
    let server = TestServer::start_with(config(), |options| options.max_connections(2)).await;
    let (_one, two) = (server.client().await, server.client().await);
    let third = soon(Client::connect(server.handle.address(), options())).await;
    assert!(third.is_err());
    drop(two);
    until(|| server.handle.server().connections() == 1).await;
    server.client().await;
}

#[tokio::test]
async fn those_that_do_not_authenticate_are_limited_apart() {
    let max = MaxStartups {
        start: 1,
        rate: 100,
        full: 2,
    };
    let server = TestServer::start_with(config(), |options| options.max_startups(max)).await;
    let first = server.connect().await;
    let second = soon(Client::connect(server.handle.address(), options())).await;
    assert!(second.is_err());
    log_in(&first).await;
    server.seen.wait_for("authenticated user").await;
    server.connect().await;
}

#[tokio::test]
async fn login_grace_is_absolute() {
    let mut config = config();
    config.transport.deadlines.authentication = Some(Duration::from_millis(300));
    let server = TestServer::start_with(config, |options| options).await;
    let client = server.connect().await;
    let begin = Instant::now();
    while client.is_alive() {
        // Trying is no way to stay.
        _ = soon(client.auth_password("nobody", "x")).await;
        assert!(begin.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(80)).await;
    }
    assert!(begin.elapsed() > Duration::from_millis(100));
}

#[tokio::test]
async fn stopping_gives_those_who_are_there_time() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let address = server.handle.address();
    let work = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        client.exec("echo still here").output().await
    });
    let cut = soon(server.handle.stop(Duration::from_secs(10))).await;
    assert_eq!(cut, 0);
    assert_eq!(work.await.unwrap().unwrap().stdout, b"still here\n");
    assert!(Client::connect(address, options()).await.is_err());
}

#[tokio::test]
async fn stopping_ends_who_stays_longer() {
    let server = TestServer::start().await;
    let client = server.client().await;
    let cut = soon(server.handle.stop(Duration::from_millis(100))).await;
    assert_eq!(cut, 1);
    assert_eq!(server.handle.server().connections(), 0);
    until(|| !client.is_alive()).await;
    let ssh_proto::Error::Disconnected(said) = (match client.closed().unwrap() {
        Error::Connection(error) => error,
        error => panic!("{error}"),
    }) else {
        panic!("no words");
    };
    assert_eq!(said.description, "the server stops");
}

#[tokio::test]
async fn panics_end_their_connection_only() {
    let server = TestServer::start().await;
    let bystander = server.client().await;
    let client = server.connect().await;
    assert!(soon(client.auth_password("panic", "x")).await.is_err());
    let client = server.client().await;
    assert!(soon(client.exec("panic").output()).await.is_err());
    assert!(
        soon(bystander.exec("echo x").status())
            .await
            .unwrap()
            .success()
    );
}

#[tokio::test]
async fn a_dropped_child_closes_its_channel() {
    let pair = pair().await;
    let child = soon(pair.client.exec("hang").spawn()).await.unwrap();
    drop(child);
    soon(pair.seen.wait_for("hang ended true")).await;
    soon(pair.seen.wait_for("closed")).await;
    assert!(pair.client.is_alive());
}

#[tokio::test]
async fn the_last_handle_closes_the_connection() {
    let Pair {
        client,
        server,
        seen,
        driver,
        serving,
    } = pair().await;
    let child = soon(client.exec("cat").spawn()).await.unwrap();
    drop(client);
    // A channel is a handle as well.
    let mut child = child;
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    stdin.write_all(b"x").await.unwrap();
    soon(stdout.read_exact(&mut [0])).await.unwrap();
    drop((child, stdin, stdout));
    soon(driver).await.unwrap().unwrap();
    soon(serving).await.unwrap().unwrap();
    assert_eq!(server.connections(), 0);
    assert!(seen.has("handler dropped"));
}

#[tokio::test]
async fn a_driver_that_is_dropped_wakes_everybody_who_waits() {
    let pair = pair().await;
    let mut child = soon(pair.client.exec("cat").spawn()).await.unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let reader = tokio::spawn(async move { stdout.read(&mut [0]).await });
    let writer = tokio::spawn(async move { stdin.write_all(&vec![0; 100 * MIB]).await });
    let waiter = tokio::spawn(async move { child.wait().await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    pair.driver.abort();
    // It may have read something before.
    _ = soon(reader).await.unwrap();
    assert!(soon(writer).await.unwrap().is_err());
    assert!(soon(waiter).await.unwrap().is_err());
    assert!(soon(pair.client.exec("echo x").output()).await.is_err());
    assert!(soon(pair.serving).await.unwrap().is_err());
}

#[tokio::test]
async fn a_peer_that_is_gone_is_an_error_for_everybody() {
    let pair = pair().await;
    let mut child = soon(pair.client.exec("hang").spawn()).await.unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let reader = tokio::spawn(async move { stdout.read(&mut [0]).await });
    pair.serving.abort();
    assert!(soon(reader).await.unwrap().is_err());
    assert!(soon(child.wait()).await.is_err());
    let error = soon(pair.driver).await.unwrap().unwrap_err();
    assert!(
        matches!(
            error,
            Error::Connection(ssh_proto::Error::UnexpectedEof(_)) | Error::Io(_)
        ),
        "{error}"
    );
}

#[tokio::test]
async fn what_was_written_before_the_end_arrives() {
    let pair = pair().await;
    let mut child = soon(pair.client.exec("sink").spawn()).await.unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&vec![1; 200_000]).await.unwrap();
    drop(stdin);
    drop((child, pair.client));
    soon(pair.seen.wait_for("sink got 200000")).await;
    soon(pair.driver).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_slow_verdict_does_not_hold_up_data() {
    let pair = pair().await;
    let client = pair.client.clone();
    let slow = tokio::spawn(async move { client.open_custom("echo@example.com", b"slow").await });
    let mut child = soon(pair.client.exec("cat").spawn()).await.unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let again = pair.client.clone();
    let slower = tokio::spawn(async move { again.open_custom("echo@example.com", b"slow").await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    let begin = Instant::now();
    stdin.write_all(b"x").await.unwrap();
    soon(stdout.read_exact(&mut [0])).await.unwrap();
    assert!(
        begin.elapsed() < Duration::from_millis(150),
        "{:?}",
        begin.elapsed()
    );
    assert!(soon(slow).await.unwrap().is_ok());
    assert!(soon(slower).await.unwrap().is_ok());
    drop(stdin);
    assert_eq!(soon(child.wait()).await.unwrap(), ExitStatus::Code(0));
}

#[tokio::test]
async fn disconnecting_is_told_to_the_peer() {
    let pair = pair().await;
    pair.client.disconnect();
    soon(pair.driver).await.unwrap().unwrap();
    soon(pair.serving).await.unwrap().unwrap();
    assert!(matches!(
        pair.client.closed(),
        Some(Error::Connection(ssh_proto::Error::LocallyClosed))
    ));
}

#[tokio::test]
async fn serving_beyond_the_limit_is_refused() {
    let seen = Arc::new(Seen::default());
    let server = server(config(), &seen, |options| options.max_connections(0));
    let (_near, far) = tokio::io::duplex(64);
    let error = soon(server.serve_stream(far, None)).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}

async fn until(mut done: impl FnMut() -> bool) {
    for _ in 0..500 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came true");
}
