//! Who is woken when, without threads: two state machines that hand each other their output.

use std::sync::Arc;

use ssh_proto::key::{KeyKind, PrivateKey};
use ssh_proto::{
    Client, ClientConfig, ClientEvent, ClientRole, Credential, HostKey, OpenChannel, OpenRequest,
    Seed, Server, ServerConfig, ServerEvent,
};

use super::*;

/// A little more output than this, and requests of ours are `Blocked`.
const NEARLY_BLOCKED: usize = 80_000;
/// A little more output than this, and the state machine stops reading.
const NEARLY_DEAF: usize = 195_000;

fn key(seed: u8) -> Arc<PrivateKey> {
    Arc::new(PrivateKey::generate(KeyKind::Ed25519, &[seed; 32]).unwrap())
}

/// An authenticated client that may have one open unanswered, and its server.
fn pair() -> (Client, Server) {
    let now = Instant::now();
    let mut config = ClientConfig::new();
    config.transport.limits.pending_opens = 1;
    let mut client = Client::new(Arc::new(config), Seed::new([1; 32]), now);
    let mut config = ServerConfig::new(vec![HostKey::Private(key(2))]);
    config.transport.limits.pending_requests = 10_000;
    let mut server = Server::new(Arc::new(config), Seed::new([3; 32]), now);
    client
        .authenticate("user", Credential::public_key(key(4)), now)
        .unwrap();
    while !client.is_authenticated() {
        carry(&mut client, &mut server);
        while let Some(event) = client.poll_event() {
            if let ClientEvent::HostKeyOffered(offer) = event {
                client.accept_host_key(offer).unwrap();
            }
        }
        while let Some(event) = server.poll_event() {
            match event {
                ServerEvent::KeyOffered(offer) => server.accept_key(offer).unwrap(),
                ServerEvent::LoginAttempted(attempt) => server.grant(attempt).unwrap(),
                _ => {}
            }
        }
    }
    (client, server)
}

/// Each side gets what the other has to say.
fn carry(client: &mut Client, server: &mut Server) {
    let now = Instant::now();
    let taken = server.handle_bytes(client.output(), now);
    client.consume_output(taken);
    say(server, client);
}

/// The client gets what the server has to say.
fn say(server: &mut Server, client: &mut Client) {
    let taken = client.handle_bytes(server.output(), Instant::now());
    assert_eq!(taken, server.output().len(), "the client takes no more");
    server.consume_output(taken);
}

/// A question that the client's state machine answers by itself.
fn ask(server: &mut Server) {
    let now = Instant::now();
    server
        .global_request("any@example.com", b"", true, now)
        .unwrap();
}

fn sort(event: ClientEvent, _: bool) -> Sorted<ClientEvent> {
    match event {
        ClientEvent::Channel(id) => Sorted::Channel(id),
        ClientEvent::Unblocked => Sorted::Unblocked,
        other => Sorted::Question(other),
    }
}

fn asked(server: &mut Server) -> OpenRequest {
    loop {
        let event = server.poll_event().expect("an open");
        if let ServerEvent::OpenRequested(request) = event {
            return request;
        }
    }
}

/// Whether another open has to wait for an answer of the peer.
fn is_at_limit(core: &mut Core<ClientRole>) -> bool {
    match core.conn.open(OpenChannel::Session, Instant::now()) {
        Ok(_) => false,
        Err(misuse) => {
            assert_eq!(misuse, Misuse::Limit("pending_opens"));
            core.must_wait(misuse)
        }
    }
}

/// An answer that makes room arrives while the output is full: it is processed when output is taken, not when it is
/// read. `held`: somebody still has the channel.
fn an_answer_behind_full_output_wakes(held: bool) {
    let (mut client, mut server) = pair();
    let now = Instant::now();
    let first = client.open(OpenChannel::Session, now).unwrap();
    carry(&mut client, &mut server);
    let request = asked(&mut server);
    // No request is refused for want of room: whoever that happens to is told by an event.
    while client.output().len() < NEARLY_BLOCKED {
        client.ignore(1_000).unwrap();
    }
    while client.output().len() < NEARLY_DEAF {
        ask(&mut server);
        say(&mut server, &mut client);
    }
    let door = || Arc::new(Condvar::new());
    let mut core = Core::new(client, sort, false, door(), door());
    core.dispatch();
    if held {
        core.add_channel(first, false);
    } else if let Some(mut channel) = core.conn.channel(first) {
        channel.release();
    }
    core.count(Interest::Room, true);

    // In one read: what makes the output full, and the answer behind it.
    for _ in 0..100 {
        ask(&mut server);
    }
    server.accept_open(request, b"").unwrap();
    say(&mut server, &mut core.conn);
    core.relieve();
    core.dispatch();
    assert!(is_at_limit(&mut core), "the answer waits behind the output");

    let woken = core.wakes;
    core.swap_output(&mut Vec::new());
    core.dispatch();
    assert!(core.wakes > woken, "nobody is told");
    assert!(!is_at_limit(&mut core));
}

#[test]
fn an_answer_behind_full_output_wakes_who_waits_at_a_limit() {
    an_answer_behind_full_output_wakes(true);
}

#[test]
fn so_does_the_answer_for_a_channel_that_was_dropped() {
    an_answer_behind_full_output_wakes(false);
}

#[test]
fn who_fails_again_at_a_limit_wakes_nobody() {
    let (mut client, mut server) = pair();
    client.open(OpenChannel::Session, Instant::now()).unwrap();
    carry(&mut client, &mut server);
    let door = || Arc::new(Condvar::new());
    let mut core = Core::new(client, sort, false, door(), door());
    core.dispatch();
    // Two of them would wake each other for ever.
    core.count(Interest::Room, true);
    core.count(Interest::Room, true);
    let woken = core.wakes;
    for _ in 0..3 {
        assert!(is_at_limit(&mut core));
        assert!(core.conn.output().is_empty());
        core.dispatch();
    }
    assert_eq!(core.wakes, woken);
}
