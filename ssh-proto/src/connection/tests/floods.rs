//! A peer that repeats itself without end, or answers what nobody asked: what waits here stays within its bounds, and the
//! connection ends or goes on as if nothing had been said.

use super::hostile::{Offer, Victim, World};
use super::legality::{open, well_formed};
use super::*;
use crate::connection::role::Side;
use crate::error::{DisconnectReason, Misuse};
use crate::limits::{Limits, REPLY_MARK};
use crate::packet::sealer::Traffic;

const SIDES: [Side; 2] = [Side::Client, Side::Server];

/// Bytes of the victim that wait to be written, behind a key exchange as well.
const fn waiting(world: &World) -> usize {
    match &world.victim {
        Victim::Client(client) => client.out.waiting(),
        Victim::Server(server) => server.out.waiting(),
    }
}

/// What the victim has sent with its present keys.
const fn sent(world: &World) -> Traffic {
    match &world.victim {
        Victim::Client(client) => client.out.sealer().traffic(),
        Victim::Server(server) => server.out.sealer().traffic(),
    }
}

/// Hands over packets without reading what comes back. The application takes its events and answers nothing.
fn shove(world: &mut World, payload: &[u8], count: usize) {
    for _ in 0..count {
        world.out.transport(&Raw(payload));
    }
    loop {
        let bytes = world.out.pending().to_vec();
        let taken = match &mut world.victim {
            Victim::Client(client) => {
                while client.poll_event().is_some() {}
                client.handle_bytes(&bytes, world.now)
            }
            Victim::Server(server) => {
                while server.poll_event().is_some() {}
                server.handle_bytes(&bytes, world.now)
            }
        };
        world.out.consume(taken);
        if taken == 0 {
            return;
        }
    }
}

fn rekey(world: &mut World) -> Result<(), Misuse> {
    match &mut world.victim {
        Victim::Client(client) => client.rekey(world.now),
        Victim::Server(server) => server.rekey(world.now),
    }
}

#[test]
fn whatever_floods_in_behind_our_kexinit_what_waits_is_bounded() {
    let limits = Limits::default();
    let bound = |number| match number {
        // UNIMPLEMENTED may leave in an exchange (RFC 4253 section 7.1), each a packet of 36 bytes: the messages that it
        // answers are counted.
        0 | 8..=19 | 22..=29 | 54..=59 | 83..=89 | 101..=191 | 194.. => {
            limits.deferred_len + 40 * limits.idle_messages as usize
        }
        // Replies behind the exchange, and what waited before it.
        _ => limits.deferred_len + REPLY_MARK,
    };
    for side in SIDES {
        for number in 0..=255 {
            if matches!(number, 1 | 20) {
                // They end the connection, or answer the KEXINIT.
                continue;
            }
            let mut world = open(side, Offer::STRICT);
            rekey(&mut world).unwrap();
            let payload = well_formed(number, &mut world);
            let mut most = 0;
            for _ in 0..12 {
                shove(&mut world, &payload, 1_000);
                most = most.max(waiting(&world));
                if world.closed().is_some() {
                    break;
                }
            }
            let what = format!("{number} to a {side:?}: {most} bytes, {:?}", world.closed());
            assert!(most <= bound(number), "{what}");
            assert!(
                matches!(world.closed(), None | Some(Error::Peer(_))),
                "{what}"
            );
            // Whoever does not answer our KEXINIT is cut off in time, whatever else was said.
            let (end, told) = match world.closed() {
                None => (
                    Error::TimedOut(Stage::KeyExchange),
                    DisconnectReason::KEY_EXCHANGE_FAILED,
                ),
                Some(error) => (error, DisconnectReason::PROTOCOL_ERROR),
            };
            world.wait(Duration::from_secs(30));
            assert_eq!(world.closed(), Some(end), "{what}");
            assert_eq!(world.disconnect_reason(), told.0, "{what}");
        }
    }
}

#[test]
fn replies_that_a_stalled_exchange_holds_back_end_the_connection_at_their_bound() {
    for side in SIDES {
        let mut world = open(side, Offer::STRICT);
        rekey(&mut world).unwrap();
        world.carry();
        world.forget();
        for _ in 0..100_000 {
            world.say(b"\xc0\0\0\0\x01x");
            if world.closed().is_some() {
                break;
            }
            assert!(waiting(&world) <= Limits::default().deferred_len);
        }
        let limit = PeerError::Limit("replies waiting for a key exchange");
        assert_eq!(world.closed(), Some(limit.into()), "{side:?}");
        assert_eq!(
            world.disconnect_reason(),
            DisconnectReason::PROTOCOL_ERROR.0
        );
        // Not one of the held answers leaves after all.
        assert!(world.numbers().is_empty());
    }
}

#[test]
fn a_thousand_answers_to_nothing_change_nothing_and_one_more_ends_the_connection() {
    for side in SIDES {
        for number in [81, 82, 93, 99, 100] {
            let mut world = open(side, Offer::STRICT);
            let payload = match number {
                93 => b"\x5d\0\0\0\0\0\0\0\0".to_vec(),
                _ => well_formed(number, &mut world),
            };
            for count in 1..=1_000 {
                world.say(&payload);
                assert_eq!(world.closed(), None, "{number} {count}");
            }
            assert!(world.heard.is_empty() && world.events.is_empty());
            // The connection lives as before.
            world.say(b"\xc0\0\0\0\x01x");
            assert_eq!(world.numbers(), [193]);
            world.say(&payload);
            let limit = PeerError::Limit("messages that nobody asked for");
            assert_eq!(world.closed(), Some(limit.into()), "{number}");
            let reason = DisconnectReason::PROTOCOL_ERROR.0;
            assert_eq!(world.disconnect_reason(), reason);
        }
    }
}

#[test]
fn before_authentication_little_is_said_for_much() {
    // Four times what came, and what the first answers have beyond that.
    let allowed = |came: u64| 4 * came + 4_096;
    for side in SIDES {
        for number in 0..=255 {
            let mut world = World::new(side, Offer::STRICT);
            world.exchange();
            world.ask_service();
            let payload = match number {
                // Of the methods, the one that costs a client nothing.
                50 => b"\x32\0\0\0\x05alice\0\0\0\x0essh-connection\0\0\0\x04none".to_vec(),
                _ => well_formed(number, &mut world),
            };
            for _ in 0..3_000 {
                world.say(&payload);
                world.forget();
                let came = world.out.sealer().traffic().bytes;
                assert!(
                    sent(&world).bytes <= allowed(came),
                    "{number} to a {side:?}: {} for {came}",
                    sent(&world).bytes
                );
                let is_in = match &world.victim {
                    Victim::Client(client) => client.is_authenticated(),
                    Victim::Server(server) => server.is_authenticated(),
                };
                if world.closed().is_some() || is_in || number == 20 {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_flood_of_bytes_before_the_version_is_answered_with_nothing() {
    let greeting = b"x\r\n".repeat(1_000);
    let mut pair = Pair::default();
    let before = pair.client.output().len();
    pair.client.handle_bytes(&greeting, pair.now);
    assert_eq!(pair.client.closed(), None);
    assert_eq!(pair.client.output().len(), before);
    // A server says why it hangs up, once.
    let before = pair.server.output().len();
    pair.server.handle_bytes(&greeting, pair.now);
    let said = pair.server.output().len() - before;
    assert!(pair.server.closed().is_some());
    assert!(said < 100, "{said}");
    pair.server.handle_bytes(&greeting, pair.now);
    assert_eq!(pair.server.output().len() - before, said);
}
