//! What a server asks of a client, and what becomes of it: forwards that are given up, answers that are too long, the end.

mod common;

use std::sync::{Arc, Mutex};

use common::{config, options, polls, serve, soon};
use ssh_tokio::ssh_proto::{
    ClientConfig, ClientRole, ForwardAddress, LoginAttempt, OpenFailureReason, OpenKind, Secret,
};
use ssh_tokio::{
    Client, ClientOptions, Error, Forward, Handler, PendingChannel, Server, ServerConnection,
    ServerOptions, Verdict,
};
use tokio::sync::{Semaphore, mpsc};

const OWN: &str = "own@example.com";
/// More than any request, reply or confirmation may hold.
const TOO_LONG: usize = 33 * 1024;

/// A server that says it listens where it was asked to, and leaves the rest to the test.
struct Willing {
    connected: mpsc::UnboundedSender<ServerConnection>,
    cancelled: mpsc::UnboundedSender<ForwardAddress>,
    /// Answers to forwards that it may give.
    answers: Arc<Semaphore>,
}

impl Handler for Willing {
    fn connected(&mut self, connection: &ServerConnection) {
        self.connected.send(connection.clone()).unwrap();
    }
    async fn check_auth_password(&mut self, _: &LoginAttempt, _: &Secret) -> Verdict {
        Verdict::Accept
    }
    async fn check_forward(&mut self, _: &ForwardAddress) -> Option<u16> {
        self.answers.acquire().await.unwrap().forget();
        Some(4242)
    }
    async fn check_cancel_forward(&mut self, address: &ForwardAddress) -> bool {
        // The test may be over.
        _ = self.cancelled.send(address.clone());
        true
    }
    async fn check_global_request(&mut self, _: &str, data: &[u8]) -> Option<Vec<u8>> {
        Some(if data == b"too much" {
            vec![0; TOO_LONG]
        } else {
            b"fine".to_vec()
        })
    }
}

struct World {
    client: Client,
    server: ServerConnection,
    cancelled: mpsc::UnboundedReceiver<ForwardAddress>,
    answers: Arc<Semaphore>,
}

/// Both ends, each with its task; `change` says what the client does when it is asked.
async fn world(change: impl FnOnce(ClientOptions) -> ClientOptions) -> World {
    let (connected, mut connections) = mpsc::unbounded_channel();
    let (cancels, cancelled) = mpsc::unbounded_channel();
    let answers = Arc::new(Semaphore::new(0));
    let for_handler = Arc::clone(&answers);
    let mut theirs = config();
    theirs.transport.own.global_requests.push(OWN.into());
    let server = Server::new(ServerOptions::new(theirs, move |_| Willing {
        connected: connected.clone(),
        cancelled: cancels.clone(),
        answers: Arc::clone(&for_handler),
    }));
    let mut ours = ClientConfig::new();
    ours.transport.limits.forwards = 1;
    ours.transport.own.channel_kinds.push(OWN.into());
    ours.transport.own.global_requests.push(OWN.into());
    let (near, far) = tokio::io::duplex(256 * 1024);
    drop(serve(&server, far));
    let connecting = Client::connect_stream(near, change(options().config(ours)));
    let (client, driver) = soon(connecting).await.unwrap();
    drop(driver.spawn());
    assert!(
        soon(client.auth_password("user", "x"))
            .await
            .unwrap()
            .success()
    );
    World {
        client,
        server: soon(connections.recv()).await.unwrap(),
        cancelled,
        answers,
    }
}

fn refused(error: &Error, why: OpenFailureReason) -> bool {
    matches!(error, Error::OpenFailed { reason, .. } if *reason == why)
}

#[tokio::test]
async fn channels_of_a_forward_that_was_dropped_are_offered_to_nobody() {
    let forward: Arc<Mutex<Option<Forward>>> = Arc::default();
    let offered: Arc<Mutex<Vec<OpenKind>>> = Arc::default();
    let (to_drop, seen) = (Arc::clone(&forward), Arc::clone(&offered));
    let mut world = world(|options| {
        options
            .on_channel_open(move |pending| seen.lock().unwrap().push(pending.kind().clone()))
            .check_global_request(move |_, _| {
                drop(to_drop.lock().unwrap().take());
                None
            })
    })
    .await;
    world.answers.add_permits(1);
    let asking = world
        .client
        .forward_remote(("localhost", 0), ("localhost", 1));
    *forward.lock().unwrap() = Some(soon(asking).await.unwrap());
    // Both leave at once: the channel waits for the client while it drops the forward.
    soon(world.server.global_request(OWN, b"drop it", false))
        .await
        .unwrap();
    let address = ForwardAddress::tcpip("localhost", 4242);
    let error = soon(world.server.open_forwarded(&address, ("localhost", 9)))
        .await
        .unwrap_err();
    assert!(
        refused(&error, OpenFailureReason::ADMINISTRATIVELY_PROHIBITED),
        "{error}"
    );
    assert!(forward.lock().unwrap().is_none());
    assert!(offered.lock().unwrap().is_empty());
    assert_eq!(soon(world.cancelled.recv()).await.unwrap(), address);
}

#[tokio::test]
async fn a_forward_whose_request_was_dropped_is_taken_back_and_leaves_its_place() {
    let mut world = world(|options| options).await;
    let there = ForwardAddress::tcpip("localhost", 80);
    // The question is with the server.
    let cut = polls(1, world.client.request_forward(there.clone())).await;
    assert!(cut.is_none());
    world.answers.add_permits(2);
    assert_eq!(soon(world.cancelled.recv()).await.unwrap(), there);
    // There is place for one.
    let (id, _) = soon(world.client.request_forward(there.clone()))
        .await
        .unwrap();
    soon(world.client.cancel_forward(id)).await.unwrap();
    assert_eq!(soon(world.cancelled.recv()).await.unwrap(), there);
}

#[tokio::test]
async fn a_reply_that_is_too_long_is_a_refusal_and_later_ones_come() {
    let world = world(|options| {
        options.check_global_request(|_, data| {
            Some(match data {
                b"too much" => vec![0; TOO_LONG],
                _ => b"fine".to_vec(),
            })
        })
    })
    .await;
    let (client, server) = (&world.client, &world.server);
    let (first, second) = soon(async {
        tokio::join!(
            client.global_request(OWN, b"too much", true),
            server.global_request(OWN, b"too much", true)
        )
    })
    .await;
    assert!(matches!(first, Err(Error::Refused(_))), "{first:?}");
    assert!(matches!(second, Err(Error::Refused(_))), "{second:?}");
    let later = soon(client.global_request(OWN, b"", true)).await;
    assert_eq!(later.unwrap(), b"fine");
    let later = soon(server.global_request(OWN, b"", true)).await;
    assert_eq!(later.unwrap(), b"fine");
}

#[tokio::test]
async fn a_confirmation_that_is_too_long_refuses_the_channel() {
    let world = world(|options| {
        options.on_channel_open(|pending| {
            let data = match pending.kind() {
                OpenKind::Custom { data, .. } if data == b"too much" => vec![0; TOO_LONG],
                _ => b"fine".to_vec(),
            };
            // It closes at once.
            _ = pending.accept_with(&data);
        })
    })
    .await;
    let error = soon(world.server.open_custom(OWN, b"too much")).await;
    let error = error.unwrap_err();
    assert!(
        refused(&error, OpenFailureReason::RESOURCE_SHORTAGE),
        "{error}"
    );
    let (_, data) = soon(world.server.open_custom(OWN, b"")).await.unwrap();
    assert_eq!(data, b"fine");
}

#[tokio::test]
async fn calls_on_a_connection_that_has_ended_say_why_it_has() {
    let (sender, mut opens) = mpsc::unbounded_channel::<PendingChannel<ClientRole>>();
    let world =
        world(|options| options.on_channel_open(move |pending| sender.send(pending).unwrap()))
            .await;
    let server = world.server.clone();
    let opening = tokio::spawn(async move { server.open_custom(OWN, b"").await.map(drop) });
    let pending = soon(opens.recv()).await.unwrap();
    world.server.disconnect("enough");
    soon(opening).await.unwrap().unwrap_err();
    soon(async {
        while world.client.is_alive() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let why = world.client.closed().unwrap().to_string();
    assert!(why.contains("enough"), "{why}");
    let error = pending.accept().unwrap_err();
    assert_eq!(error.to_string(), why);
    let error = soon(world.client.no_more_sessions()).await.unwrap_err();
    assert_eq!(error.to_string(), why);
    let error = soon(world.client.request_forward(ForwardAddress::tcpip("", 1))).await;
    assert_eq!(error.unwrap_err().to_string(), why);
}
