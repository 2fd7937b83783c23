//! Requests that wait until earlier ones are answered, while the peer asks for more replies than the output takes: answers
//! then lie unread in the state machine, and are looked at when the output leaves, not when something is read.

mod common;

use std::sync::Arc;
use std::time::Instant;

use common::{config, log_in, options, soon};
use ssh_tokio::Client;
use ssh_tokio::ssh_proto::{self, ClientConfig, OpenRequest, Seed, ServerEvent};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const PIPE: usize = 256 * 1024;
const CHUNK: usize = 8 * 1024;

/// A server that reads only when the test wants it to.
struct Peer {
    ssh: ssh_proto::Server,
    stream: DuplexStream,
    asked: Option<OpenRequest>,
}

impl Peer {
    fn new(stream: DuplexStream) -> Self {
        let mut config = config();
        config.transport.limits.pending_requests = usize::MAX;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        Self {
            ssh: ssh_proto::Server::new(Arc::new(config), Seed::new(seed), Instant::now()),
            stream,
            asked: None,
        }
    }

    fn events(&mut self) {
        while let Some(event) = self.ssh.poll_event() {
            match event {
                ServerEvent::KeyOffered(offer) => self.ssh.accept_key(offer).unwrap(),
                ServerEvent::LoginAttempted(attempt) => self.ssh.grant(attempt).unwrap(),
                ServerEvent::OpenRequested(request) => self.asked = Some(request),
                _ => {}
            }
        }
    }

    async fn flush(&mut self) {
        let out = self.ssh.output().to_vec();
        self.ssh.consume_output(out.len());
        self.stream.write_all(&out).await.unwrap();
    }

    /// Reads until a channel is asked for.
    async fn until_asked(&mut self) -> OpenRequest {
        loop {
            self.flush().await;
            if let Some(request) = self.asked.take() {
                return request;
            }
            let mut buf = [0; 4096];
            let len = self.stream.read(&mut buf).await.unwrap();
            assert!(len > 0, "the client went away");
            let mut rest = &buf[..len];
            while !rest.is_empty() {
                let taken = self.ssh.handle_bytes(rest, Instant::now());
                rest = &rest[taken..];
                self.events();
            }
        }
    }

    /// Asks for so many replies without reading them, grants the channel behind them, then reads, and grants another.
    async fn serve(mut self, chunks: usize) -> Self {
        let first = self.until_asked().await;
        for _ in 0..chunks {
            while self.ssh.output().len() < CHUNK {
                let now = Instant::now();
                self.ssh.global_request("x", b"", true, now).unwrap();
            }
            self.flush().await;
            // The client reads what there is.
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
        while self.ssh.output().len() < CHUNK {
            let now = Instant::now();
            self.ssh.global_request("x", b"", true, now).unwrap();
        }
        self.ssh.accept_open(first, b"").unwrap();
        self.flush().await;
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        let second = self.until_asked().await;
        self.ssh.accept_open(second, b"").unwrap();
        self.flush().await;
        self
    }
}

#[tokio::test]
async fn an_answer_that_had_to_wait_for_output_lets_the_next_request_go() {
    // In one of these the confirmation is in the block where reading stops: the pipe is full, and so is the output.
    for chunks in 45..85 {
        let (near, far) = tokio::io::duplex(PIPE);
        let serving = tokio::spawn(Peer::new(far).serve(chunks));
        let mut config = ClientConfig::new();
        config.transport.limits.pending_opens = 1;
        let connecting = Client::connect_stream(near, options().config(config));
        let (client, driver) = soon(connecting).await.unwrap();
        drop(driver.spawn());
        log_in(&client).await;
        let opened = soon(async {
            tokio::join!(
                client.direct_tcpip("localhost", 1),
                client.direct_tcpip("localhost", 2)
            )
        });
        let (first, second) = opened.await;
        assert!(first.is_ok() && second.is_ok(), "{chunks}");
        drop(soon(serving).await.unwrap());
    }
}
