//! A command that was blocked is told when to try again.

use super::*;
use crate::channel::{ChannelEvent, OpenChannel};
use crate::error::{DisconnectReason, Misuse};
use crate::limits::REQUEST_MARK;

/// A client with more output than its own requests may add to.
fn full() -> Pair {
    let mut pair = Pair::default();
    pair.login();
    while pair.client.output().len() <= REQUEST_MARK {
        pair.client.ignore(1_000).unwrap();
    }
    assert!(pair.client.poll_event().is_none(), "nobody was refused");
    pair
}

/// The server takes so much.
fn take(pair: &mut Pair, len: usize) {
    let bytes = pair.client.output()[..len].to_vec();
    assert_eq!(pair.server.handle_bytes(&bytes, pair.now), len);
    pair.client.consume_output(len);
}

fn is_told(pair: &mut Pair) -> bool {
    match pair.client.poll_event() {
        None => false,
        Some(ClientEvent::Unblocked) => true,
        other => panic!("{other:?}"),
    }
}

#[test]
fn when_output_has_left() {
    let mut pair = full();
    let now = pair.now;
    // Whatever was refused, and however often: it is told once.
    assert_eq!(
        pair.client.open(OpenChannel::Session, now).map(drop),
        Err(Misuse::Blocked)
    );
    assert_eq!(pair.client.ignore(1), Err(Misuse::Blocked));
    assert_eq!(pair.client.ping(b"", now), Err(Misuse::Blocked));
    let much = pair.client.output().len() - REQUEST_MARK;
    take(&mut pair, much - 1);
    assert!(!is_told(&mut pair));
    take(&mut pair, 1);
    assert!(is_told(&mut pair));
    assert!(!is_told(&mut pair));
    pair.client.open(OpenChannel::Session, now).unwrap();
    // Room alone is no news.
    pair.run(usize::MAX);
    assert!(!pair.client_events.iter().any(|event| event == "Unblocked"));
}

#[test]
fn when_a_channels_request_was_refused() {
    let mut pair = Pair::default();
    pair.login();
    let id = pair.client.open(OpenChannel::Session, pair.now).unwrap();
    pair.carry(usize::MAX);
    while let Some(event) = pair.server.poll_event() {
        if let ServerEvent::OpenRequested(request) = event {
            pair.server.accept_open(request, b"").unwrap();
        }
    }
    pair.run(usize::MAX);
    let mut channel = pair.client.channel(id).unwrap();
    assert!(matches!(
        channel.poll_event(),
        Some(ChannelEvent::Opened { .. })
    ));
    while pair.client.output().len() <= REQUEST_MARK {
        pair.client.ignore(1_000).unwrap();
    }
    let mut channel = pair.client.channel(id).unwrap();
    let blocked = channel.request("x", b"", true).map(drop);
    assert_eq!(blocked, Err(Misuse::Blocked));
    let len = pair.client.output().len();
    take(&mut pair, len);
    assert!(is_told(&mut pair));
    let mut channel = pair.client.channel(id).unwrap();
    assert!(channel.request("x", b"", true).is_ok());
}

#[test]
fn when_the_key_exchange_is_over_that_held_too_much_back() {
    let mut pair = Pair::default();
    pair.login();
    pair.client.rekey(pair.now).unwrap();
    let request = |pair: &mut Pair| {
        let data = [7; 1_000];
        pair.client
            .global_request("x", &data, false, pair.now)
            .map(drop)
    };
    let refused = (0..100).find_map(|_| request(&mut pair).err());
    assert_eq!(refused, Some(Misuse::Blocked));
    let len = pair.client.output().len();
    take(&mut pair, len);
    assert!(!is_told(&mut pair), "output is not what is missing");
    pair.run(usize::MAX);
    assert_eq!(pair.client_events[2..], ["Rekeyed", "Unblocked"]);
    assert_eq!(request(&mut pair), Ok(()));
}

#[test]
fn but_not_for_what_nobody_asked_for() {
    let mut config = ClientConfig::new();
    config.transport.keepalive = Some(crate::config::Keepalive {
        interval: Duration::from_secs(1),
        count: 5,
    });
    let mut pair = Pair::new(config, ServerConfig::new(vec![host_key(KeyKind::Ed25519)]));
    pair.login();
    while pair.client.output().len() <= REQUEST_MARK {
        pair.client.ignore(1_000).unwrap();
    }
    pair.now += Duration::from_secs(1);
    let before = pair.client.output().len();
    pair.client.handle_timeout(pair.now);
    assert_eq!(
        pair.client.output().len(),
        before,
        "no room for a keepalive"
    );
    take(&mut pair, before);
    assert!(!is_told(&mut pair));
}

#[test]
fn and_not_after_the_end() {
    let mut pair = full();
    assert_eq!(pair.client.ignore(1), Err(Misuse::Blocked));
    let len = pair.client.output().len();
    take(&mut pair, len);
    pair.client
        .disconnect(DisconnectReason::BY_APPLICATION, "", pair.now);
    assert!(matches!(
        pair.client.poll_event(),
        Some(ClientEvent::Disconnected(_))
    ));
    assert!(pair.client.poll_event().is_none());
}
