//! Callers' code that is wrong: callbacks that panic, answers that are too long. It costs its connection at the most.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Seen, TestServer, config, log_in, options, serve, server, soon};
use ssh_tokio::Client;
use ssh_tokio::ssh_proto::ClientConfig;
use ssh_tokio::ssh_proto::log::LogLevel;

/// A configuration of a client that logs.
fn talkative() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.transport.log = LogLevel::Debug;
    config
}

#[tokio::test]
async fn a_log_callback_that_panics_ends_its_connection_and_is_not_called_again() {
    let other = TestServer::start().await;
    let bystander = other.client().await;
    // At the first record, and at one in the middle of the connection's life.
    for fine in [0, 8] {
        let calls = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&calls);
        let options = options().config(talkative()).on_log(move |_| {
            let before = count.fetch_add(1, Ordering::Relaxed);
            assert!(before < fine, "the callback panics, as the test wants");
        });
        let server = server(config(), &Arc::new(Seen::default()), |options| options);
        let (near, far) = tokio::io::duplex(64 * 1024);
        let serving = serve(&server, far);
        let ended = soon(async {
            let (client, driver) = Client::connect_stream(near, options).await?;
            let driver = driver.spawn();
            _ = client.auth_password("user", "secret").await;
            client.exec("hang").output().await?;
            driver.await.unwrap()
        });
        assert!(ended.await.is_err());
        // The server was told.
        soon(serving).await.unwrap().unwrap();
        assert_eq!(calls.load(Ordering::Relaxed), fine + 1);
    }
    let output = soon(bystander.exec("echo x").output()).await;
    assert!(output.unwrap().status.success());
}

#[tokio::test]
async fn a_log_callback_that_panics_when_the_driver_is_dropped_harms_nobody() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let armed = Arc::new(AtomicUsize::new(0));
    let trap = Arc::clone(&armed);
    let options = options().config(talkative()).on_log(move |_| {
        let panics = trap.load(Ordering::Relaxed);
        count.fetch_add(panics, Ordering::Relaxed);
        assert_eq!(panics, 0, "the callback panics, as the test wants");
    });
    let server = server(config(), &Arc::new(Seen::default()), |options| options);
    let (near, far) = tokio::io::duplex(64 * 1024);
    let serving = serve(&server, far);
    let connecting = Client::connect_stream(near, options);
    let (client, mut driver) = soon(connecting).await.unwrap();
    soon(driver.drive(log_in(&client))).await;
    armed.store(1, Ordering::Relaxed);
    drop(driver);
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    assert!(!client.is_alive());
    // It finds out by itself.
    _ = soon(serving).await.unwrap();
}

#[cfg(feature = "keylog")]
#[tokio::test]
async fn a_key_log_writer_that_panics_ends_its_connection_only() {
    struct Broken;

    impl std::io::Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            panic!("the writer panics, as the test wants")
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let server = TestServer::start().await;
    let bystander = server.client().await;
    let options = options().key_log(Broken);
    let ended = soon(async {
        let client = Client::connect_spawn(server.handle.address(), options).await?;
        client.auth_password("user", "secret").await
    });
    assert!(ended.await.is_err());
    let output = soon(bystander.exec("echo x").output()).await;
    assert!(output.unwrap().status.success());
}
