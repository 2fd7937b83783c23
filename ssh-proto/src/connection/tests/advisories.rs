//! What went wrong in other implementations before anybody had logged in, against a peer that holds the session keys:
//! which error it is here, which DISCONNECT, and that nobody is let in.

use super::hostile::{Offer, PROTECTIONS, Victim, World, password};
use super::*;
use crate::connection::role::Side;
use crate::error::DisconnectReason;
use crate::msg::transport::ExtInfo;

const SIDES: [Side; 2] = [Side::Client, Side::Server];
const OFFERS: [Offer; 2] = [Offer::STRICT, Offer::LOOSE];

/// Both of them, under each way to protect packets.
fn protected() -> impl Iterator<Item = Offer> {
    OFFERS
        .into_iter()
        .flat_map(|offer| PROTECTIONS.map(|protection| offer.protected(protection)))
}

/// The connection has ended because this message came in this stage; nobody is in.
#[track_caller]
fn assert_refused(world: &mut World, message: u8, stage: Stage) {
    let error = PeerError::UnexpectedMessage { message, stage };
    assert_eq!(world.closed(), Some(error.into()));
    let reason = world.disconnect_reason();
    assert_eq!(reason, DisconnectReason::PROTOCOL_ERROR.0);
    assert_eq!(
        world.events.last().map(String::as_str),
        Some("Disconnected")
    );
    assert!(
        !world
            .events
            .iter()
            .any(|event| event.starts_with("Authenticated"))
    );
    let authenticated = match &world.victim {
        Victim::Client(client) => client.is_authenticated(),
        Victim::Server(server) => server.is_authenticated(),
    };
    assert!(!authenticated);
}

/// A server whose client may try to log in, and the same before it has asked for the service.
fn before_login() -> [World; 2] {
    let mut greeted = World::new(Side::Server, Offer::STRICT);
    greeted.exchange();
    let mut served = World::new(Side::Server, Offer::STRICT);
    served.exchange();
    served.ask_service();
    [greeted, served]
}

/// CVE-2018-10933.
#[test]
fn a_client_cannot_tell_the_server_that_it_is_authenticated() {
    for mut world in before_login() {
        world.say(&[52]);
        assert_refused(&mut world, 52, Stage::Authentication);
    }
    // Not in clear either, nor in the middle of an attempt.
    for offer in OFFERS {
        let mut world = World::new(Side::Server, offer);
        world.say_kexinit(false);
        world.say(&[52]);
        assert_refused(&mut world, 52, Stage::KeyExchange);
    }
}

/// CVE-2018-7750, CVE-2018-1000805, CVE-2018-7749, CVE-2024-2873, CVE-2025-32433.
#[test]
fn nothing_of_the_connection_protocol_is_served_before_authentication() {
    let bodies: [&[u8]; 3] = [
        &[],
        b"\0\0\0\x07session\0\0\0\0\0\x20\0\0\0\0\x80\0",
        b"\0\0\0\0\0\0\0\x04exec\x01\0\0\0\x04true",
    ];
    for number in 80..=127 {
        for body in bodies {
            for mut world in before_login() {
                world.say(&[&[number][..], body].concat());
                assert_refused(&mut world, number, Stage::Authentication);
                assert_eq!(world.events, ["Disconnected"]);
            }
        }
    }
}

/// CVE-2023-46446: what is sent before NEWKEYS was sent by nobody in particular.
#[test]
fn a_request_to_log_in_before_newkeys_is_refused() {
    for offer in OFFERS {
        for method_done in [false, true] {
            let mut world = World::new(Side::Server, offer);
            world.say_kexinit(false);
            if method_done {
                let method = world.method();
                world.say(&method);
            }
            world.say(&password("mallory", "secret"));
            assert_refused(&mut world, 50, Stage::KeyExchange);
        }
    }
}

/// CVE-2023-46445: extensions in clear are nobody's.
#[test]
fn ext_info_is_taken_in_its_place_only_and_never_in_clear() {
    let ext_info = ExtInfo {
        nr_extensions: 0,
        extensions: crate::msg::Rest(b""),
    }
    .to_payload();
    for side in SIDES {
        for offer in OFFERS {
            let mut world = World::new(side, offer);
            world.say_kexinit(false);
            world.say(&ext_info);
            assert_refused(&mut world, 7, Stage::KeyExchange);
        }
    }
    // A client's is the first packet behind its first NEWKEYS, or none: not behind later ones.
    let mut world = World::new(Side::Server, Offer::STRICT);
    world.exchange();
    world.ask_service();
    world.exchange();
    world.say(&ext_info);
    assert_refused(&mut world, 7, Stage::Authentication);
}

/// The first packet of a strict exchange is KEXINIT, and the sequence numbers start anew behind NEWKEYS; a guess, right or
/// wrong, is not in their way.
#[test]
fn guesses_of_any_kind_end_in_a_connection_strict_or_not() {
    for side in SIDES {
        for offer in protected() {
            for (preferred, guess) in [("curve25519-sha256", true), ("curve25519-sha256", false)]
                .into_iter()
                .chain([("mlkem768x25519-sha256,curve25519-sha256", true)])
            {
                let mut world = World::with(side, offer, |transport| {
                    transport.algorithms.kex = Preference::parse(preferred).unwrap();
                    transport.algorithms.host_keys = Preference::parse("ssh-ed25519").unwrap();
                });
                world.say_kexinit(guess);
                let is_wrong = guess && preferred.starts_with("mlkem");
                if is_wrong {
                    // Whatever it is, it is passed over once.
                    world.say(&[if side == Side::Server { 30 } else { 31 }, 1, 2, 3]);
                }
                let method = world.method();
                world.say(&method);
                world.say_newkeys();
                world.ask_service();
                world.log_in();
                assert_eq!(world.closed(), None, "{side:?} {preferred} {guess}");
            }
        }
    }
}

/// A wrong guess is passed over once.
#[test]
fn a_second_wrong_guess_is_none() {
    for side in SIDES {
        let mut world = World::new(side, Offer::STRICT);
        world.say_kexinit(true);
        let other = if side == Side::Server { 31 } else { 30 };
        world.say(&[other, 0]);
        assert_eq!(world.closed(), None);
        world.say(&[other, 0]);
        assert_refused(&mut world, other, Stage::KeyExchange);
    }
}

/// Others' strict checks were switched on for later exchanges, where IGNORE and DEBUG are nothing bad, and cut OpenSSH off.
#[test]
fn a_storm_of_later_exchanges_with_messages_between_them_is_taken() {
    for side in SIDES {
        for offer in protected() {
            let mut world = World::open(side, offer);
            for _ in 0..10 {
                world.say_kexinit(false);
                world.say(b"\x02\0\0\0\0");
                let method = world.method();
                world.say(b"\x04\0\0\0\0\0\0\0\0\0");
                world.say(&method);
                world.say(b"\x03\0\0\0\0");
                world.say_newkeys();
                assert_eq!(world.closed(), None);
            }
            // The keys are right on both sides, and the sequence numbers too.
            world.heard.clear();
            world.say(b"\xc0\0\0\0\x01x");
            assert_eq!(world.heard, [b"\xc1\0\0\0\x01x"]);
        }
    }
}

/// GHSA of a client that took SUCCESS for an answer to nothing: only an attempt that could succeed can.
#[test]
fn a_server_cannot_say_success_before_the_client_has_tried() {
    let mut world = World::new(Side::Client, Offer::STRICT);
    world.exchange();
    world.say(&[52]);
    assert_refused(&mut world, 52, Stage::Authentication);
}
