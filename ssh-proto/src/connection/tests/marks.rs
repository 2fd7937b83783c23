//! The bounds of `limits.rs` that nobody sets, at their edges: marks of the output, PING, EXT_INFO.

use super::hostile::{Offer, World};
use super::*;
use crate::crypto::drbg::Drbg;
use crate::error::{DisconnectReason, Misuse};
use crate::limits::{
    DATA_MARK, EXT_INFO_LEN, OWN_HELD_MARK, PACKET_DATA_LEN, PING_LEN, REPLY_MARK,
    REPLY_MARK_BEFORE_AUTH, REQUEST_MARK, RESUME_MARK, RESUME_MARK_BEFORE_AUTH,
};
use crate::msg::Rest;
use crate::msg::transport::{ExtInfo, Ping, Pong};
use crate::packet::output::Output;
use crate::packet::sealer::Sealer;
use crate::wire::Malformed;

/// An output in which so many bytes wait.
fn waiting(len: usize) -> Output {
    let mut out = Output::new(Drbg::new(Seed::new([3; 32])), Sealer::plain(), 1 << 20);
    out.raw(&vec![0; len]);
    out.trust();
    out
}

fn around(mark: usize) -> [(usize, bool); 3] {
    [(mark - 1, true), (mark, true), (mark + 1, false)]
}

#[test]
fn data_stops_at_its_mark_and_before_it_is_cut_to_what_fits() {
    // A packet's own bytes are room that data does not have.
    let around_data = waiting(0).sealer().max_overhead() + 13;
    let room = |waits| waiting(waits).data_room();
    assert_eq!(room(0), PACKET_DATA_LEN);
    let least = DATA_MARK - around_data - 512;
    assert_eq!(
        (room(least - 1), room(least), room(least + 1)),
        (513, 512, 0)
    );
    assert_eq!(room(DATA_MARK), 0);
    assert_eq!(room(DATA_MARK + 1), 0);
}

#[test]
fn requests_stop_above_their_mark() {
    for (len, passes) in around(REQUEST_MARK) {
        let mut out = waiting(len);
        assert_eq!(out.is_open(), passes, "{len}");
        let expected = if passes { Ok(()) } else { Err(Misuse::Blocked) };
        assert_eq!(out.request(&Raw(b"\x50")), expected, "{len}");
    }
}

#[test]
fn before_authentication_input_stops_earlier() {
    let waiting = |len: usize| {
        let mut out = Output::new(Drbg::new(Seed::new([3; 32])), Sealer::plain(), 1 << 20);
        out.raw(&vec![0; len]);
        out
    };
    for (len, passes) in around(REPLY_MARK_BEFORE_AUTH) {
        assert_eq!(waiting(len).has_reply_room(), passes, "{len}");
    }
    for (len, passes) in around(RESUME_MARK_BEFORE_AUTH) {
        assert_eq!(waiting(len).has_much_reply_room(), passes, "{len}");
    }
}

#[test]
fn input_stops_above_its_mark_and_goes_on_below_another() {
    for (len, passes) in around(REPLY_MARK) {
        assert_eq!(waiting(len).has_reply_room(), passes, "{len}");
    }
    for (len, passes) in around(RESUME_MARK) {
        assert_eq!(waiting(len).has_much_reply_room(), passes, "{len}");
    }
    // And so does a connection whose peer asks and does not read.
    let mut pair = Pair::default();
    pair.login();
    let mut asked = 0;
    while pair.server.wants_input() {
        for _ in 0..100 {
            pair.client.out.transport(&Ping {
                data: &[7; PING_LEN],
            });
            asked += 1;
        }
        let bytes = pair.client.output().to_vec();
        let taken = pair.server.handle_bytes(&bytes, pair.now);
        pair.client.consume_output(taken);
    }
    let waits = pair.server.output().len();
    assert!(
        (REPLY_MARK + 1..REPLY_MARK + 2 * PING_LEN).contains(&waits),
        "{waits}"
    );
    // The rest of what was read waits for more than a little room.
    let read = |pair: &mut Pair, len: usize| {
        let bytes = pair.server.output()[..len].to_vec();
        assert_eq!(pair.client.handle_bytes(&bytes, pair.now), len);
        pair.server.consume_output(len);
    };
    read(&mut pair, waits - RESUME_MARK - 1);
    assert!(!pair.server.wants_input());
    assert_eq!(pair.server.output().len(), RESUME_MARK + 1);
    read(&mut pair, 1);
    assert!(pair.server.output().len() > RESUME_MARK);
    // Nothing was lost.
    pair.run(usize::MAX);
    assert_eq!(pair.server.closed(), None);
    let answered = pair.server.out.sealer().traffic().packets;
    assert!(answered > asked, "{answered} of {asked}");
}

#[test]
fn our_own_messages_behind_a_key_exchange_stop_above_their_mark() {
    // Each is held with four bytes of length in front.
    for (len, passes) in around(OWN_HELD_MARK) {
        let mut out = waiting(0);
        out.shut_gate();
        assert_eq!(out.request(&Raw(&vec![80; len - 4])), Ok(()));
        let expected = if passes { Ok(()) } else { Err(Misuse::Blocked) };
        assert_eq!(out.request(&Raw(b"\x50")), expected, "{len}");
    }
}

/// What is too much ends the connection, and what is not does nothing.
#[track_caller]
fn assert_ends(pair: &Pair, victim: Side, passes: bool, error: PeerError) {
    if passes {
        assert_eq!(pair.closed(victim), None);
    } else {
        pair.assert_ended(victim, error, DisconnectReason::PROTOCOL_ERROR);
    }
}

#[test]
fn a_ping_is_answered_up_to_its_length() {
    for (len, passes) in around(PING_LEN) {
        let data = vec![7; len];
        let mut pair = Pair::default();
        pair.login();
        // Ours.
        let sent = pair.client.ping(&data, pair.now);
        let expected = if passes {
            Ok(())
        } else {
            Err(Misuse::Argument("data of PING"))
        };
        assert_eq!(sent, expected);
        pair.run(usize::MAX);
        let answered = pair
            .client_events
            .iter()
            .any(|event| event == "PongReceived");
        assert_eq!(answered, passes);
        // The peer's.
        pair.client.out.transport(&Ping { data: &data });
        pair.run(usize::MAX);
        assert_ends(
            &pair,
            Side::Server,
            passes,
            PeerError::Limit("data of PING"),
        );
        // The peer's answer.
        let mut pair = Pair::default();
        pair.login();
        pair.client.ping(b"x", pair.now).unwrap();
        pair.server.out.transport(&Pong { data: &data });
        pair.run(usize::MAX);
        assert_ends(
            &pair,
            Side::Client,
            passes,
            PeerError::Limit("data of PONG"),
        );
    }
}

/// An EXT_INFO whose payload has so many bytes.
fn ext_info(len: usize) -> Vec<u8> {
    let mut extension = Vec::new();
    let mut writer = Writer::new(&mut extension);
    writer.string(b"x").string(&vec![0; len - 5 - 9]);
    let payload = ExtInfo {
        nr_extensions: 1,
        extensions: Rest(&extension),
    }
    .to_payload();
    assert_eq!(payload.len(), len);
    payload
}

/// An EXT_INFO with so many entries.
fn entries(nr_extensions: usize) -> Vec<u8> {
    let mut extensions = Vec::new();
    for _ in 0..nr_extensions {
        Writer::new(&mut extensions).string(b"x").string(b"");
    }
    ExtInfo {
        nr_extensions: nr_extensions as u32,
        extensions: Rest(&extensions),
    }
    .to_payload()
}

/// These packets are the first behind the keys; the error that they end the connection with, or none.
#[track_caller]
fn assert_greeted(side: Side, payloads: &[Vec<u8>], error: Option<PeerError>) {
    let mut world = World::new(side, Offer::STRICT);
    world.exchange();
    for payload in payloads {
        assert_eq!(world.closed(), None);
        world.say(payload);
    }
    assert_eq!(world.closed(), error.map(Error::from));
    if error.is_some() {
        let reason = DisconnectReason::PROTOCOL_ERROR.0;
        assert_eq!(world.disconnect_reason(), reason);
    } else {
        world.ask_service();
    }
}

#[test]
fn an_ext_info_is_read_up_to_its_length_and_only_two_of_them() {
    let too_much = PeerError::Malformed {
        message: 7,
        field: "nr_extensions",
        problem: Malformed::TooLong,
    };
    for side in [Side::Client, Side::Server] {
        for (len, passes) in around(EXT_INFO_LEN) {
            assert_greeted(side, &[ext_info(len)], (!passes).then_some(too_much));
        }
        for (count, passes) in around(64) {
            assert_greeted(side, &[entries(count)], (!passes).then_some(too_much));
        }
        // A server's two, and a client's only one.
        let one_more = PeerError::UnexpectedMessage {
            message: 7,
            stage: Stage::Authentication,
        };
        let most = if side == Side::Client { 2 } else { 1 };
        let said = vec![ext_info(20); most];
        assert_greeted(side, &said, None);
        let said = vec![ext_info(20); most + 1];
        assert_greeted(side, &said, Some(one_more));
    }
}
