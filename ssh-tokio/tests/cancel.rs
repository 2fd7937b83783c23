//! Cancellation at every poll: nothing hangs, nothing is left behind, no acknowledged byte is lost.
//!
//! What is left behind is counted with the configurations: each state machine holds its `Arc`, so a connection that is
//! kept alive by a forgotten waker, task or handle shows in its strong count.

mod common;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use common::{Seen, config, keys, log_in, next_cut, options, polls, serve, server, soon};
use ssh_tokio::ssh_proto::ClientConfig;
use ssh_tokio::ssh_proto::config::ServerConfig;
use ssh_tokio::{Client, Error, Server, ServerOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// A server, and what counts its connections.
struct Counted {
    server: Server,
    server_config: Arc<ServerConfig>,
    client_config: Arc<ClientConfig>,
    seen: Arc<Seen>,
    at_rest: usize,
}

impl Counted {
    fn new() -> Self {
        let seen = Arc::new(Seen::default());
        let server_config = Arc::new(config());
        let for_handler = Arc::clone(&seen);
        let options = ServerOptions::new(Arc::clone(&server_config), move |_| {
            common::TestHandler::new(Arc::clone(&for_handler))
        });
        let server = Server::new(options);
        let at_rest = Arc::strong_count(&server_config);
        Self {
            server,
            server_config,
            client_config: Arc::new(ClientConfig::new()),
            seen,
            at_rest,
        }
    }

    async fn connect(
        &self,
        stream: DuplexStream,
    ) -> Result<(Client, ssh_tokio::Driver<DuplexStream>), Error> {
        Client::connect_stream(stream, options().config(Arc::clone(&self.client_config))).await
    }

    /// Nothing of any connection is left.
    async fn is_empty(&self, cut: usize) {
        for _ in 0..500 {
            if Arc::strong_count(&self.client_config) == 1
                && Arc::strong_count(&self.server_config) == self.at_rest
                && self.server.connections() == 0
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!(
            "cut at poll {cut}: {} clients and {} servers are left",
            Arc::strong_count(&self.client_config) - 1,
            Arc::strong_count(&self.server_config) - self.at_rest
        );
    }

    /// A connection's whole life: key exchange, login, two commands with data, the end.
    async fn life(&self, stream: DuplexStream) -> Result<(), Error> {
        let (client, mut driver) = self.connect(stream).await?;
        let work = async {
            let key = Arc::clone(&keys().1);
            if !client.auth_public_key("user", key).await?.success() {
                return Err(Error::Cancelled);
            }
            let input = vec![5; 20_000];
            let output = client.exec("cat").input(input.clone()).output().await?;
            // A connection that is cut ends the command, too.
            if output.status.success() {
                assert!(output.stdout == input);
            }
            let mut child = client.exec("flood 9000").spawn().await?;
            let mut all = Vec::new();
            if let Some(stdout) = &mut child.stdout {
                stdout.read_to_end(&mut all).await?;
            }
            child.wait().await?;
            client.rekey()?;
            client
                .global_request("time@example.com", b"now?", true)
                .await?;
            Ok(())
        };
        let result = driver.drive(work).await;
        drop(client);
        driver.await?;
        result
    }
}

#[tokio::test]
async fn a_client_is_dropped_at_every_poll_of_its_life() {
    let counted = Counted::new();
    let mut cut = 0;
    loop {
        let (near, far) = tokio::io::duplex(2_000);
        let serving = serve(&counted.server, far);
        let life = soon(polls(cut, counted.life(near))).await;
        // The server finds out by itself.
        _ = soon(serving).await.unwrap();
        counted.is_empty(cut).await;
        if let Some(life) = life {
            life.unwrap();
            break;
        }
        cut = next_cut(cut);
    }
    assert!(cut > 20, "the scenario had only {cut} polls");
}

#[tokio::test]
async fn a_server_is_dropped_at_every_poll_of_a_connection() {
    let counted = Counted::new();
    let mut cut = 0;
    loop {
        let (near, far) = tokio::io::duplex(2_000);
        let serving = polls(cut, counted.server.serve_stream(far, None));
        let (served, life) = soon(async { tokio::join!(serving, counted.life(near)) }).await;
        counted.is_empty(cut).await;
        if let Some(served) = served {
            served.unwrap();
            life.unwrap();
            break;
        }
        cut = next_cut(cut);
    }
    assert!(cut > 20, "the scenario had only {cut} polls");
}

/// Cuts an operation at each of its polls on one connection, which goes on.
async fn operation<T, F>(name: &str, mut start: impl FnMut(Client) -> F)
where
    F: Future<Output = Result<T, Error>>,
{
    let seen = Arc::new(Seen::default());
    let server = server(config(), &seen, |options| options);
    let (near, far) = tokio::io::duplex(1_000);
    let serving = serve(&server, far);
    let mut config = ClientConfig::new();
    // Channels that are not given up would soon be too many.
    config.transport.limits.channels = 6;
    config.transport.limits.pending_opens = 3;
    let connecting = Client::connect_stream(near, options().config(config));
    let (client, driver) = soon(connecting).await.unwrap();
    let driver = driver.spawn();
    log_in(&client).await;
    let mut cut = 0;
    let mut finished = 0;
    while finished < 3 {
        // Channels that were given up are gone when the server has closed them, too.
        for _ in 0..10 {
            let done = soon(polls(cut, start(client.clone()))).await;
            if let Some(result) = done {
                result.unwrap_or_else(|error| panic!("{name}, cut at poll {cut}: {error}"));
                finished += 1;
            }
            let status = soon(client.exec("exit 9").status()).await;
            let status = status.unwrap_or_else(|error| panic!("{name}, poll {cut}: {error}"));
            assert_eq!(status.code(), Some(9), "{name}, cut at poll {cut}");
        }
        cut += 1;
        assert!(cut < 500, "{name} never ends");
    }
    drop(client);
    soon(driver).await.unwrap().unwrap();
    soon(serving).await.unwrap().unwrap();
    assert!(seen.has("handler dropped"));
}

#[tokio::test]
async fn commands_are_cut_at_every_poll() {
    operation("output", async |client| {
        client.exec("cat").input(vec![1; 5_000]).output().await
    })
    .await;
}

#[tokio::test]
async fn opens_are_cut_at_every_poll() {
    operation("open", async |client| {
        client.open_custom("echo@example.com", b"x").await
    })
    .await;
    operation("subsystem", async |client| {
        client.subsystem("reverse").await
    })
    .await;
}

#[tokio::test]
async fn requests_are_cut_at_every_poll() {
    operation("global request", async |client| {
        client
            .global_request("time@example.com", b"now?", true)
            .await
    })
    .await;
    operation("channel request", async |client| {
        let (channel, _) = client.open_custom("echo@example.com", b"x").await?;
        channel.request("poke@example.com", b"gently", true).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_and_writing_are_cut_and_lose_nothing() {
    let counted = Counted::new();
    let (near, far) = tokio::io::duplex(3_000);
    let serving = serve(&counted.server, far);
    let (client, driver) = soon(counted.connect(near)).await.unwrap();
    let driver = driver.spawn();
    log_in(&client).await;
    let mut child = soon(client.exec("cat").spawn()).await.unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let data: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    let sent = data.clone();
    let writer = tokio::spawn(async move {
        let (mut at, mut cuts) = (0, 0_usize);
        while at < sent.len() {
            let piece = &sent[at..sent.len().min(at + 10_000)];
            match polls(1, stdin.write(piece)).await {
                Some(len) => {
                    at += len.unwrap();
                    if at % 200_000 < 10_000 {
                        // The reader finds nothing for a while.
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                }
                None => {
                    cuts += 1;
                    tokio::task::yield_now().await;
                }
            }
        }
        stdin.shutdown().await.unwrap();
        cuts
    });
    let (mut received, mut cuts) = (Vec::new(), 0_usize);
    let mut buf = vec![0; 7_000];
    loop {
        match soon(polls(1, stdout.read(&mut buf))).await {
            Some(Ok(0)) => break,
            Some(len) => received.extend_from_slice(&buf[..len.unwrap()]),
            None => {
                cuts += 1;
                tokio::task::yield_now().await;
            }
        }
    }
    assert!(
        received == data,
        "{} of {} bytes",
        received.len(),
        data.len()
    );
    let written = soon(writer).await.unwrap();
    assert!(
        written >= 10 && cuts >= 10,
        "only {written} and {cuts} cuts"
    );
    drop((child, stdout, client));
    soon(driver).await.unwrap().unwrap();
    soon(serving).await.unwrap().unwrap();
    counted.is_empty(0).await;
}

#[tokio::test]
async fn what_was_acknowledged_arrives_although_the_writer_is_dropped() {
    let counted = Counted::new();
    for cut in 0..30 {
        let (near, far) = tokio::io::duplex(1_500);
        let serving = serve(&counted.server, far);
        let (client, driver) = soon(counted.connect(near)).await.unwrap();
        let driver = driver.spawn();
        log_in(&client).await;
        let mut child = soon(client.exec("sink").spawn()).await.unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut acknowledged = 0;
        let writing = async {
            let bytes = vec![0; 3_000 + cut];
            loop {
                acknowledged += stdin.write(&bytes).await.unwrap();
            }
        };
        assert!(soon(polls(cut, writing)).await.is_none_or(|(): ()| false));
        // EOF goes behind what was written.
        drop(stdin);
        soon(counted.seen.wait_for(&format!("sink got {acknowledged}"))).await;
        drop((child, client));
        soon(driver).await.unwrap().unwrap();
        soon(serving).await.unwrap().unwrap();
    }
    counted.is_empty(0).await;
}

#[tokio::test]
async fn a_task_that_waits_is_not_kept_alive_by_the_connection() {
    let counted = Counted::new();
    let (near, far) = tokio::io::duplex(1_000);
    let serving = serve(&counted.server, far);
    let (client, driver) = soon(counted.connect(near)).await.unwrap();
    let driver = driver.spawn();
    log_in(&client).await;
    // Each task owns handles and waits for something that never comes.
    let tasks: Vec<_> = (0..5)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut child = client.exec("hang").spawn().await.unwrap();
                match number {
                    0 => _ = child.stdout.as_mut().unwrap().read(&mut [0]).await,
                    1 => _ = child.stderr.as_mut().unwrap().read(&mut [0]).await,
                    2 => _ = child.channel().wait_closed().await,
                    3 => _ = child.channel().events().next().await,
                    _ => _ = client.events().next().await,
                }
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(client);
    for task in tasks {
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }
    soon(driver).await.unwrap().unwrap();
    soon(serving).await.unwrap().unwrap();
    counted.is_empty(0).await;
}
