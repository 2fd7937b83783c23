//! What a side keeps to itself: a client everything until it trusts the host key, both sides the connection protocol until
//! the user is in, and a client a password that was not asked for.

use super::hostile::{Offer, Victim, World};
use super::*;
use crate::config::Keepalive;
use crate::connection::event::HostKeyOffer;
use crate::connection::role::Side;
use crate::error::Misuse;
use crate::key::PublicKey;
use crate::msg::auth::{UserauthFailure, UserauthInfoRequest};
use crate::msg::{Rest, auth};
use crate::wire::NameList;

/// A client with a password to send, which has been shown the host key of its server.
fn asked_to_trust(seed: u8) -> (Pair, HostKeyOffer) {
    let server = ServerConfig::new(vec![host_key(KeyKind::Ed25519)]);
    let mut pair = Pair::seeded(ClientConfig::new(), server, seed);
    pair.client
        .authenticate("alice", Credential::password("secret"), pair.now)
        .unwrap();
    loop {
        pair.carry(usize::MAX);
        if let Some(ClientEvent::HostKeyOffered(offer)) = pair.client.poll_event() {
            while pair.carry(usize::MAX) {}
            return (pair, offer);
        }
    }
}

/// The client says nothing and does nothing, for an hour.
#[track_caller]
fn assert_mute(pair: &mut Pair) {
    let until = pair.now + Duration::from_secs(3_600);
    while pair.now < until {
        pair.now += Duration::from_secs(60);
        pair.client.handle_timeout(pair.now);
        while pair.carry(usize::MAX) {}
        assert_eq!(pair.client.output(), b"");
        assert!(!pair.client.wants_input());
        assert!(pair.client.poll_event().is_none());
    }
    assert!(!pair.client.is_authenticated());
    let open = crate::channel::OpenChannel::Session;
    assert_eq!(
        pair.client.open(open, pair.now),
        Err(Misuse::NotAuthenticated)
    );
}

#[test]
fn until_the_host_key_is_trusted_a_client_says_nothing_more() {
    let (mut pair, offer) = asked_to_trust(1);
    assert_mute(&mut pair);
    // Its own deadlines stopped meanwhile.
    pair.client.accept_host_key(offer).unwrap();
    pair.carry(usize::MAX);
    assert_eq!(pair.client.closed(), None);
}

#[test]
fn a_host_key_that_nobody_judges_is_not_trusted() {
    let (mut pair, offer) = asked_to_trust(1);
    drop(offer);
    assert_mute(&mut pair);
    assert!(!pair.server.is_authenticated());
}

#[test]
fn a_verdict_on_the_host_key_of_another_connection_changes_nothing() {
    let (mut pair, _offer) = asked_to_trust(1);
    let (_, foreign) = asked_to_trust(2);
    assert_eq!(
        pair.client.accept_host_key(foreign),
        Err(Misuse::StaleToken)
    );
    assert_mute(&mut pair);
}

#[test]
fn a_rejected_host_key_has_seen_no_password() {
    let (mut pair, offer) = asked_to_trust(1);
    pair.client.reject_host_key(offer).unwrap();
    assert_eq!(pair.client.closed(), Some(&Error::HostKeyRejected));
    while pair.carry(usize::MAX) {}
    let Some(Error::Disconnected(said)) = pair.server.closed() else {
        panic!("{:?}", pair.server.closed());
    };
    assert_eq!(said.reason, DisconnectReason::HOST_KEY_NOT_VERIFIABLE);
    pair.events();
    assert_eq!(pair.server_events, ["Disconnected"]);
}

/// A later exchange in which the server shows another host key than before.
fn shows_another_host_key(world: &mut World) {
    world.say_kexinit(false);
    world.change_host_key();
    let reply = world.method();
    world.forget();
    world.say(&reply);
}

#[test]
fn a_host_key_that_changes_in_a_later_exchange_ends_the_connection() {
    let mut world = World::open(Side::Client, Offer::STRICT);
    shows_another_host_key(&mut world);
    assert_eq!(world.closed(), Some(PeerError::HostKeyChanged.into()));
    assert_eq!(world.events, ["Disconnected"]);
    let reason = DisconnectReason::HOST_KEY_NOT_VERIFIABLE.0;
    assert_eq!(world.disconnect_reason(), reason);
    assert!(world.numbers().is_empty());
}

/// An open connection of a client that wants to be asked about another host key.
fn may_change() -> World {
    let mut config = ClientConfig::new();
    config.allow_host_key_change = true;
    let mut world = World::of_client(config, Offer::STRICT);
    world.exchange();
    world.ask_service();
    world.log_in();
    world.keeps_host_keys = true;
    world.forget();
    world
}

fn known_host_key(world: &World) -> &PublicKey {
    match &world.victim {
        Victim::Client(client) => client.session().expect("a session").host_key,
        Victim::Server(_) => unreachable!("a client"),
    }
}

#[test]
fn where_a_host_key_may_change_nothing_goes_on_until_the_new_one_is_trusted() {
    let mut world = may_change();
    let before = known_host_key(&world).clone();
    shows_another_host_key(&mut world);
    let offer = world.host_key_offer.take().expect("it is asked");
    let shown = offer.key().clone();
    assert_ne!(shown, before);
    world.victim_opens();
    world.wait(Duration::from_secs(600));
    assert!(world.numbers().is_empty());
    assert_eq!(world.closed(), None);
    assert_eq!(*known_host_key(&world), before);
    let Victim::Client(client) = &mut world.victim else {
        unreachable!("a client");
    };
    assert!(!client.wants_input());
    client.accept_host_key(offer).unwrap();
    world.carry();
    // NEWKEYS, and what waited for it.
    assert_eq!(world.numbers(), [21, 90]);
    world.say_newkeys();
    assert_eq!(world.events, ["HostKeyOffered", "Rekeyed"]);
    assert_eq!(*known_host_key(&world), shown);
}

#[test]
fn where_a_host_key_may_change_one_that_is_rejected_ends_the_connection() {
    let mut world = may_change();
    shows_another_host_key(&mut world);
    assert!(world.numbers().is_empty());
    let offer = world.host_key_offer.take().expect("it is asked");
    let Victim::Client(client) = &mut world.victim else {
        unreachable!("a client");
    };
    client.reject_host_key(offer).unwrap();
    world.carry();
    assert_eq!(world.closed(), Some(Error::HostKeyRejected));
    let reason = DisconnectReason::HOST_KEY_NOT_VERIFIABLE.0;
    assert_eq!(world.disconnect_reason(), reason);
    assert!(world.numbers().is_empty());
}

#[test]
fn the_same_host_key_in_a_later_exchange_is_not_asked_about_again() {
    let mut world = may_change();
    world.exchange();
    assert_eq!(world.events, ["Rekeyed"]);
}

/// The numbers of everything that the victim says while time passes, until its connection ends.
fn said_in_time(mut world: World) -> Vec<u8> {
    let mut said = Vec::new();
    let until = world.now + Duration::from_secs(600);
    while world.closed().is_none() && world.now < until {
        world.now += Duration::from_secs(1);
        match &mut world.victim {
            Victim::Client(client) => client.handle_timeout(world.now),
            Victim::Server(server) => server.handle_timeout(world.now),
        }
        world.carry();
        said.extend(world.numbers());
    }
    said
}

#[test]
fn no_keepalive_leaves_before_the_user_is_in() {
    let keepalive = |transport: &mut crate::config::TransportConfig| {
        transport.keepalive = Some(Keepalive {
            interval: Duration::from_secs(1),
            count: 1_000,
        });
    };
    for side in [Side::Client, Side::Server] {
        for steps in 0..3 {
            let mut world = World::with(side, Offer::STRICT, keepalive);
            if steps > 0 {
                world.exchange();
            }
            if steps > 1 {
                world.ask_service();
            }
            world.forget();
            // It waits for as long as it does, and all that it ever says is that it waits no longer.
            assert_eq!(said_in_time(world), [1], "{side:?} {steps}");
        }
        let mut world = World::with(side, Offer::STRICT, keepalive);
        world.exchange();
        world.ask_service();
        world.log_in();
        world.forget();
        assert_eq!(said_in_time(world)[0], 80, "{side:?}");
    }
}

/// A client that has sent its password once.
fn has_sent_a_password() -> World {
    let mut world = World::new(Side::Client, Offer::STRICT);
    world.exchange();
    world.forget();
    world.ask_service();
    assert_eq!(world.numbers(), [50]);
    world
}

#[test]
fn a_password_is_sent_once_whatever_the_server_says_afterwards() {
    // A refusal, of this method and of others; and new keys.
    for methods in ["password", "publickey", ""] {
        let mut world = has_sent_a_password();
        world.says(&UserauthFailure {
            authentications_that_can_continue: NameList::new(methods),
            partial_success: methods.is_empty(),
        });
        assert!(world.numbers().is_empty(), "{methods}");
        assert_eq!(world.closed(), None);
        world.exchange();
        let numbers = world.numbers();
        assert!(!numbers.contains(&50), "{numbers:?}");
        // Another refusal answers nothing.
        world.say(b"\x33\0\0\0\0\0");
        assert!(world.closed().is_some());
        assert!(!world.numbers().contains(&50));
    }
    let mut world = has_sent_a_password();
    world.exchange();
    assert!(!world.numbers().contains(&50));
    assert_eq!(world.closed(), None);
}

#[test]
fn a_server_cannot_turn_one_method_into_another() {
    // Prompts for one who sent a password are a request to change it that cannot be read.
    let mut world = has_sent_a_password();
    world.says(&UserauthInfoRequest {
        name: b"",
        instruction: b"",
        language_tag: b"",
        num_prompts: 1,
        prompts: Rest(b"\0\0\0\x09Password:\0"),
    });
    assert!(matches!(
        world.closed(),
        Some(Error::Peer(PeerError::Malformed { message: 60, .. }))
    ));
    let reason = DisconnectReason::PROTOCOL_ERROR.0;
    assert_eq!(world.disconnect_reason(), reason);
    assert!(world.numbers().is_empty());
    // PK_OK reads like a request to change the password, and is no reason to sign anything.
    let mut world = has_sent_a_password();
    world.says(&auth::UserauthPkOk {
        algorithm: "ssh-ed25519",
        key: user_key().public().blob(),
    });
    assert!(world.events.iter().all(|event| event != "SignatureNeeded"));
    assert!(!world.numbers().contains(&50));
}
