//! Sequence numbers, under each way to protect packets: a nonce that counts by itself hides a number that is wrong, the
//! others do not. What is expected is counted here, and not by a sealer or an opener.

use super::hostile::{Offer, PROTECTIONS, Protection, Victim, World};
use super::terrapin::plain;
use super::*;
use crate::connection::role::Side;
use crate::error::DisconnectReason;
use crate::limits::AEAD_RECORDS;
use crate::msg::transport::Unimplemented;

const SIDES: [Side; 2] = [Side::Client, Side::Server];
const OFFERS: [Offer; 2] = [Offer::STRICT, Offer::LOOSE];
const IGNORE: &[u8] = b"\x02\0\0\0\0";
const UNIMPLEMENTED: &[u8] = b"\x03\0\0\0\0";
const DEBUG: &[u8] = b"\x04\0\0\0\0\0\0\0\0\0";
const NOBODY: &[u8] = b"\xc8";

/// A world whose packets are counted by hand.
struct Counted {
    world: World,
    strict: bool,
    /// The number of the next packet of the hostile peer.
    said: u32,
    /// The number of the next packet of the victim.
    heard: u32,
    /// How much of what was heard is counted.
    looked_at: usize,
}

impl Counted {
    fn new(side: Side, offer: Offer) -> Self {
        Self {
            world: World::new(side, offer),
            strict: offer.strict,
            said: 0,
            heard: 0,
            looked_at: 0,
        }
    }

    /// Everything up to an open connection.
    fn open(side: Side, offer: Offer) -> Self {
        let mut counted = Self::new(side, offer);
        counted.exchange(None, &[]);
        counted.log_in();
        counted
    }

    fn count(&mut self, said: u32) {
        self.said = self.said.wrapping_add(said);
        for payload in &self.world.heard[self.looked_at..] {
            self.heard = self.heard.wrapping_add(1);
            if self.strict && payload[0] == 21 {
                self.heard = 0;
            }
        }
        self.looked_at = self.world.heard.len();
    }

    fn say(&mut self, payload: &[u8]) {
        self.world.say(payload);
        self.count(1);
    }

    /// A key exchange, with a wrong guess in it, or none, and these messages in front of each of its packets.
    fn exchange(&mut self, guess: Option<&[u8]>, between: &[&[u8]]) {
        let chat = |counted: &mut Self| between.iter().for_each(|payload| counted.say(payload));
        chat(self);
        self.world.say_kexinit(guess.is_some());
        self.count(1);
        chat(self);
        if let Some(guess) = guess {
            self.say(guess);
            chat(self);
        }
        let method = self.world.method();
        self.say(&method);
        chat(self);
        self.world.say_newkeys();
        self.count(1);
        if self.strict {
            self.said = 0;
        }
    }

    fn log_in(&mut self) {
        self.world.ask_service();
        self.count(1);
        self.world.log_in();
        self.count(1);
    }

    /// Both sides count as is counted here: an answer to what nobody knows names its packet.
    #[track_caller]
    fn check(&mut self, what: &str) {
        assert_eq!(self.world.sequences(), (self.said, self.heard), "{what}");
        let sequence_number = self.said;
        self.say(NOBODY);
        assert_eq!(self.world.closed(), None, "{what}");
        let answer = Unimplemented { sequence_number }.to_payload();
        assert_eq!(self.world.heard.last(), Some(&answer), "{what}");
        assert_eq!(self.world.sequences(), (self.said, self.heard), "{what}");
    }
}

/// The message of the method that the victim takes, as no method has it.
const fn guess(side: Side) -> &'static [u8] {
    match side {
        Side::Server => &[30, 1, 2, 3],
        Side::Client => &[31, 1, 2, 3],
    }
}

/// Every victim, under every protection, strict and not.
fn all() -> impl Iterator<Item = (Side, Offer, String)> {
    SIDES.into_iter().flat_map(|side| {
        OFFERS.into_iter().flat_map(move |offer| {
            PROTECTIONS.map(|protection| {
                let what = format!("{side:?} {protection:?} strict {}", offer.strict);
                (side, offer.protected(protection), what)
            })
        })
    })
}

#[test]
fn the_first_exchange_counts_every_packet_and_those_behind_it_anew_if_it_is_strict() {
    for (side, offer, what) in all() {
        for guess in [None, Some(guess(side))] {
            // In a strict exchange nothing is said in between.
            let chats: [&[&[u8]]; 2] = [&[], &[IGNORE, DEBUG, UNIMPLEMENTED]];
            for between in &chats[..if offer.strict { 1 } else { 2 }] {
                let what = format!("{what} {guess:?} {between:?}");
                let mut counted = Counted::new(side, offer);
                counted.exchange(guess, between);
                // KEXINIT, the method's message, NEWKEYS, and the guess; and what a client says at once.
                let packets = 3 + u32::from(guess.is_some());
                let chat = (packets as usize * between.len()) as u32;
                let said = if offer.strict { 0 } else { packets + chat };
                let first = u32::from(side == Side::Client);
                let heard = if offer.strict { first } else { 3 + first };
                assert_eq!((counted.said, counted.heard), (said, heard), "{what}");
                counted.check(&what);
                counted.log_in();
                counted.check(&what);
            }
        }
    }
}

#[test]
fn later_exchanges_count_every_packet_whatever_is_said_in_them() {
    for (side, offer, what) in all() {
        let mut counted = Counted::open(side, offer);
        for round in 0..10 {
            let guess = (round % 2 == 0).then_some(guess(side));
            counted.exchange(guess, &[IGNORE, DEBUG, UNIMPLEMENTED]);
            if offer.strict {
                assert_eq!((counted.said, counted.heard), (0, 0), "{what}");
            } else {
                assert!(counted.said > 12 * (round + 1), "{what}");
            }
            counted.check(&format!("{what} {round}"));
            // As many as make the numbers of the two directions differ.
            for _ in 0..round {
                counted.say(b"\xc0\0\0\0\x01x");
                counted.say(IGNORE);
            }
            counted.check(&format!("{what} {round}"));
        }
    }
}

#[test]
fn numbers_go_around_under_keys_and_new_keys_go_on_from_there() {
    for (side, offer, what) in all() {
        let mut counted = Counted::open(side, offer);
        let skip = |counted: &mut Counted, sequence| {
            counted.world.skip_in(sequence);
            counted.world.skip_out(sequence);
            (counted.said, counted.heard) = (sequence, sequence);
        };
        skip(&mut counted, u32::MAX - 2);
        for _ in 0..6 {
            counted.check(&what);
        }
        assert_eq!((counted.said, counted.heard), (3, 3), "{what}");
        // An exchange that the last number is in the middle of.
        for before in 0..5 {
            skip(&mut counted, u32::MAX - before);
            counted.exchange(None, &[]);
            let at = if offer.strict { 0 } else { 2 - before as i32 };
            assert_eq!(counted.said as i32, at, "{what}");
            counted.check(&what);
        }
    }
}

#[test]
fn numbers_that_run_out_before_there_are_keys_end_the_connection() {
    for side in SIDES {
        // The peer's: what it says is made by hand, since no sealer of ours would.
        for (sequence, passes) in [(u32::MAX - 1, true), (u32::MAX, false)] {
            let mut world = World::new(side, Offer::LOOSE);
            world.skip_in(sequence);
            world.out.raw(&plain(IGNORE));
            world.carry();
            if passes {
                assert_eq!(world.closed(), None);
                continue;
            }
            let error = PeerError::SequenceOverflow.into();
            assert_eq!(world.closed(), Some(error), "{side:?}");
            let reason = DisconnectReason::KEY_EXCHANGE_FAILED.0;
            assert_eq!(world.disconnect_reason(), reason);
            assert_eq!(world.events, ["Disconnected"]);
        }
    }
    // Ours, a server's value and its NEWKEYS: there is no number left to say it with.
    for (sequence, heard) in [
        (u32::MAX - 2, &[31, 21][..]),
        (u32::MAX - 1, &[31]),
        (u32::MAX, &[]),
    ] {
        let mut world = World::new(Side::Server, Offer::LOOSE);
        world.say_kexinit(false);
        world.forget();
        world.skip_out(sequence);
        let method = world.method();
        world.say(&method);
        assert_eq!(world.numbers(), heard);
        if heard.len() < 2 {
            assert_eq!(world.closed(), Some(PeerError::SequenceOverflow.into()));
            assert_eq!(world.events, ["Disconnected"]);
        } else {
            // Under keys they go around.
            world.say_newkeys();
            world.ask_service();
            world.log_in();
        }
    }
}

const AEADS: [Protection; 2] = [PROTECTIONS[0], PROTECTIONS[1]];

#[test]
fn a_key_that_has_opened_2_32_packets_opens_no_more() {
    for side in SIDES {
        for protection in AEADS {
            let mut world = World::open(side, Offer::STRICT.protected(protection));
            let key = match &mut world.victim {
                Victim::Client(client) => client.transport.opener.key_mut(),
                Victim::Server(server) => server.transport.opener.key_mut(),
            };
            key.unwrap().age(AEAD_RECORDS - 1);
            world.say(b"\xc0\0\0\0\x01x");
            assert_eq!(world.numbers(), [193]);
            world.say(b"\xc0\0\0\0\x01x");
            let error = PeerError::MacIncorrect.into();
            assert_eq!(world.closed(), Some(error), "{side:?} {protection:?}");
            assert_eq!(world.disconnect_reason(), DisconnectReason::MAC_ERROR.0);
            assert!(world.heard.is_empty());
            assert_eq!(world.events, ["Disconnected"]);
        }
    }
}

#[test]
fn a_key_that_has_sealed_2_32_packets_seals_no_more() {
    for side in SIDES {
        for protection in AEADS {
            let mut world = World::open(side, Offer::STRICT.protected(protection));
            let out = match &mut world.victim {
                Victim::Client(client) => &mut client.out,
                Victim::Server(server) => &mut server.out,
            };
            out.sealer_mut().key_mut().unwrap().age(AEAD_RECORDS - 1);
            world.say(b"\xc0\0\0\0\x01x");
            assert_eq!(world.numbers(), [193]);
            // New keys were due since half of that. Nothing leaves under the old ones, no DISCONNECT either.
            world.say(b"\xc0\0\0\0\x01x");
            let error = Error::Bug("a packet could not be sealed");
            assert_eq!(world.closed(), Some(error), "{side:?} {protection:?}");
            assert!(world.heard.is_empty());
            assert_eq!(world.events, ["Disconnected"]);
        }
    }
}
