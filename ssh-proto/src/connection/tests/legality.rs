//! Every message number in every phase of a real connection, in both roles: the exact reaction, with a body that is as it
//! should be, with one that is not, and with none. What is expected is written down here once more, from the RFCs.

use super::hostile::{Offer, Victim, World, password};
use super::*;
use crate::connection::role::Side;
use crate::error::DisconnectReason;
use crate::msg::auth::{
    UserauthBanner, UserauthFailure, UserauthInfoResponse, UserauthPasswdChangereq,
};
use crate::msg::connection as msg;
use crate::msg::transport::{Debug, ExtInfo, Ignore, Ping, Pong, Unimplemented};
use crate::msg::{Rest, transport};
use crate::wire::NameList;

/// A place where a connection can be when a message comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Our KEXINIT is out, the peer's is not in.
    Begin,
    Guess(Kex),
    Method(Kex),
    NewKeys(Kex),
    /// The first packet behind NEWKEYS.
    Greeting,
    /// The service is granted; a client has sent a password.
    Auth,
    /// The same on a server that has asked something.
    Prompting,
    /// Channel 0 is open, channel 1 was asked for by this side.
    Open,
    /// The same, and our own KEXINIT is out.
    OpenOffered,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kex {
    Loose,
    Strict,
    Later,
}

/// What happens to the connection because of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reaction {
    /// It is taken, and these messages are the answer.
    Taken(&'static [u8]),
    /// It is DISCONNECT.
    Ends,
    /// It is passed over: nothing is said, nothing happens.
    Ignored,
    /// It is answered with UNIMPLEMENTED.
    Unknown,
    /// It ends the connection.
    Refused,
}
use Reaction::{Ends, Ignored, Refused, Taken, Unknown};

fn places(side: Side) -> Vec<Place> {
    let mut places = vec![Place::Begin, Place::Greeting, Place::Auth];
    for kex in [Kex::Loose, Kex::Strict, Kex::Later] {
        places.extend([Place::Guess(kex), Place::Method(kex), Place::NewKeys(kex)]);
    }
    places.extend([Place::Open, Place::OpenOffered]);
    if side == Side::Server {
        places.push(Place::Prompting);
    }
    places
}

/// The rules, number by number.
fn expected(number: u8, place: Place, side: Side) -> Reaction {
    use Place::{Auth, Begin, Greeting, Guess, Method, NewKeys, Open, OpenOffered, Prompting};
    use Side::{Client, Server};
    let in_kex = matches!(place, Guess(_) | Method(_) | NewKeys(_));
    let is_open = matches!(place, Open | OpenOffered);
    match number {
        1 => Ends,
        2..=4 => match place {
            Guess(Kex::Strict) | Method(Kex::Strict) | NewKeys(Kex::Strict) => Refused,
            _ => Taken(&[]),
        },
        20 => match (place, side) {
            _ if in_kex => Refused,
            // Our own KEXINIT is out already; a client sends its value at once.
            (Begin | OpenOffered, Client) => Taken(&[30]),
            (Begin | OpenOffered, Server) => Taken(&[]),
            (_, Client) => Taken(&[20, 30]),
            (_, Server) => Taken(&[20]),
        },
        21 => match (place, side) {
            (NewKeys(Kex::Later), _) | (NewKeys(_), Server) => Taken(&[]),
            (NewKeys(_), Client) => Taken(&[5]),
            _ => Refused,
        },
        30..=49 if matches!(place, Guess(_)) => Ignored,
        30 if matches!(place, Method(_)) && side == Server => Taken(&[31, 21]),
        31 if matches!(place, Method(_)) && side == Client => Taken(&[21]),
        30..=49 => Refused,
        _ if in_kex || place == Begin => Refused,
        5 => match (place, side) {
            (Greeting | Auth | Prompting, Server) => Taken(&[6]),
            _ => Refused,
        },
        6 => match (place, side) {
            (Greeting, Client) => Taken(&[50]),
            _ => Refused,
        },
        7 => match (place, side) {
            (Greeting, _) | (Auth, Client) => Taken(&[]),
            _ => Refused,
        },
        50 => match (place, side) {
            (Auth | Prompting, Server) => Taken(&[52]),
            (Open | OpenOffered, Server) => Ignored,
            _ => Refused,
        },
        51..=53 | 60 if place == Auth && side == Client => Taken(&[]),
        61 if place == Prompting => Taken(&[52]),
        51..=53 | 60..=79 => Refused,
        80..=127 if !is_open => Refused,
        // Behind a KEXINIT of ours nothing is said but UNIMPLEMENTED.
        80 if place == Open => Taken(&[82]),
        90 if place == Open => Taken(&[92]),
        97 if place == Open => Taken(&[97]),
        98 if place == Open => Taken(&[100]),
        192 if place == Open => Taken(&[193]),
        80..=82 | 90..=100 | 192 | 193 if is_open => Taken(&[]),
        _ => Unknown,
    }
}

/// A connection in that place.
fn at(place: Place, side: Side) -> World {
    let kex_at = |kex| {
        let offer = match kex {
            Kex::Loose => Offer::LOOSE,
            Kex::Strict | Kex::Later => Offer::STRICT,
        };
        match kex {
            // What it prefers is not what the victim prefers: a guess is wrong.
            Kex::Later => open(side, offer),
            _ => World::new(side, offer),
        }
    };
    let mut world = match place {
        Place::Begin => World::new(side, Offer::LOOSE),
        Place::Guess(kex) => {
            let mut world = kex_at(kex);
            world.say_kexinit(true);
            world
        }
        Place::Method(kex) => {
            let mut world = kex_at(kex);
            world.say_kexinit(false);
            world
        }
        Place::NewKeys(kex) => {
            let mut world = kex_at(kex);
            world.say_kexinit(false);
            let method = world.method();
            world.say(&method);
            world
        }
        Place::Greeting => {
            let mut world = World::new(side, Offer::STRICT);
            world.exchange();
            world
        }
        Place::Auth | Place::Prompting => {
            let mut world = World::new(side, Offer::STRICT);
            world.exchange();
            world.ask_service();
            if place == Place::Prompting {
                let mut payload = vec![50];
                let mut writer = Writer::new(&mut payload);
                writer.string(b"alice").string(b"ssh-connection");
                writer.string(b"keyboard-interactive");
                writer.string(b"").string(b"");
                world.say(&payload);
                assert_eq!(world.numbers().last(), Some(&60));
            }
            world
        }
        Place::Open => open(side, Offer::STRICT),
        Place::OpenOffered => {
            let mut world = open(side, Offer::STRICT);
            let now = world.now;
            match &mut world.victim {
                Victim::Client(client) => client.rekey(now).unwrap(),
                Victim::Server(server) => server.rekey(now).unwrap(),
            }
            world.carry();
            assert_eq!(world.numbers(), [20]);
            world
        }
    };
    assert_eq!(world.closed(), None, "{place:?}");
    world.events.clear();
    world
}

/// Channel 0 is open, channel 1 was asked for by the victim.
pub(super) fn open(side: Side, offer: Offer) -> World {
    let mut world = World::open(side, offer);
    let first = world.victim_opens();
    world.confirm_open(0);
    assert_eq!(world.channel_events(first).len(), 1);
    world.victim_opens();
    world.forget();
    world
}

/// The message of that number as it should be. Numbers that nobody knows have some bytes.
pub(super) fn well_formed(number: u8, world: &mut World) -> Vec<u8> {
    let channel = 0;
    match number {
        1 => transport::Disconnect {
            reason_code: 11,
            description: b"bye",
            language_tag: b"",
        }
        .to_payload(),
        2 => Ignore { data: b"x" }.to_payload(),
        3 => Unimplemented { sequence_number: 0 }.to_payload(),
        4 => Debug {
            always_display: false,
            message: b"x",
            language_tag: b"",
        }
        .to_payload(),
        5 => b"\x05\0\0\0\x0cssh-userauth".to_vec(),
        6 => b"\x06\0\0\0\x0cssh-userauth".to_vec(),
        7 => ExtInfo {
            nr_extensions: 0,
            extensions: Rest(b""),
        }
        .to_payload(),
        21 | 52 | 82 => vec![number],
        50 => password("alice", "secret"),
        51 => UserauthFailure {
            authentications_that_can_continue: NameList::new("password"),
            partial_success: false,
        }
        .to_payload(),
        53 => UserauthBanner {
            message: b"hello",
            language_tag: b"",
        }
        .to_payload(),
        60 => UserauthPasswdChangereq {
            prompt: b"new?",
            language_tag: b"",
        }
        .to_payload(),
        61 => UserauthInfoResponse {
            num_responses: 1,
            responses: Rest(b"\0\0\0\x0242"),
        }
        .to_payload(),
        80 => msg::GlobalRequest {
            request_name: "x@example.com",
            want_reply: true,
            data: Rest(b""),
        }
        .to_payload(),
        81 => msg::RequestSuccess { data: Rest(b"") }.to_payload(),
        90 => msg::ChannelOpen {
            channel_type: "y@example.com",
            sender_channel: 9,
            initial_window_size: 1,
            maximum_packet_size: 1,
            data: Rest(b""),
        }
        .to_payload(),
        91 => msg::ChannelOpenConfirmation {
            recipient_channel: 1,
            sender_channel: 8,
            initial_window_size: 1,
            maximum_packet_size: 1,
            data: Rest(b""),
        }
        .to_payload(),
        92 => msg::ChannelOpenFailure {
            recipient_channel: 1,
            reason_code: 1,
            description: b"no",
            language_tag: b"",
        }
        .to_payload(),
        93 => msg::ChannelWindowAdjust {
            recipient_channel: channel,
            bytes_to_add: 1,
        }
        .to_payload(),
        94 => msg::ChannelData {
            recipient_channel: channel,
            data: b"x",
        }
        .to_payload(),
        95 => msg::ChannelExtendedData {
            recipient_channel: channel,
            data_type_code: 1,
            data: b"x",
        }
        .to_payload(),
        96 => msg::ChannelEof {
            recipient_channel: channel,
        }
        .to_payload(),
        97 => msg::ChannelClose {
            recipient_channel: channel,
        }
        .to_payload(),
        98 => msg::ChannelRequest {
            recipient_channel: channel,
            request_type: "x@example.com",
            want_reply: true,
            data: Rest(b""),
        }
        .to_payload(),
        99 => msg::ChannelSuccess {
            recipient_channel: channel,
        }
        .to_payload(),
        100 => msg::ChannelFailure {
            recipient_channel: channel,
        }
        .to_payload(),
        192 => Ping { data: b"x" }.to_payload(),
        193 => Pong { data: b"x" }.to_payload(),
        // The values of a key exchange depend on what was said before.
        30 | 31 => {
            let speaker = if number == 30 {
                Side::Client
            } else {
                Side::Server
            };
            if world.victim_side() != speaker && world.has_method() {
                world.method()
            } else {
                vec![number, 0, 0, 0, 1, 7]
            }
        }
        _ => [&[number][..], &[0; 20]].concat(),
    }
}

/// Bodies that are not as they should be.
fn malformed(number: u8, payload: &[u8]) -> Vec<Vec<u8>> {
    let mut bodies = vec![[payload, &[0xff; 3]].concat()];
    if payload.len() > 1 {
        bodies.push(payload[..payload.len() - 1].to_vec());
        bodies.push(vec![number]);
    }
    bodies
}

/// Whether anything may follow the fields of the message.
const fn is_open_ended(number: u8) -> bool {
    matches!(number, 80 | 81 | 90 | 91 | 98)
}

#[track_caller]
fn assert_ended(world: &mut World, error: &Error, reason: Option<DisconnectReason>, what: &str) {
    assert_eq!(world.closed().as_ref(), Some(error), "{what}");
    assert_last_event(world, what);
    if let Some(reason) = reason {
        assert_eq!(world.disconnect_reason(), reason.0, "{what}");
    }
    assert!(world.numbers().is_empty(), "{what}");
    // It is over for good: nothing is heard any more, and nothing is said.
    world.say(&[2, 0, 0, 0, 0]);
    world.say(&[192, 0, 0, 0, 0]);
    assert_eq!(world.closed().as_ref(), Some(error), "{what}");
    assert!(world.numbers().is_empty(), "{what}");
    assert_last_event(world, what);
}

/// The end is the last event, and besides it channels may have ended.
#[track_caller]
fn assert_last_event(world: &World, what: &str) {
    let (last, others) = world.events.split_last().expect("an event");
    assert_eq!(last, "Disconnected", "{what}");
    assert!(others.iter().all(|event| event == "Channel"), "{what}");
}

fn unexpected(number: u8, place: Place) -> Error {
    let stage = match place {
        Place::Begin | Place::Guess(_) | Place::Method(_) | Place::NewKeys(_) => Stage::KeyExchange,
        Place::OpenOffered => Stage::KeyExchange,
        Place::Greeting | Place::Auth | Place::Prompting => Stage::Authentication,
        Place::Open => Stage::Connected,
    };
    PeerError::UnexpectedMessage {
        message: number,
        stage,
    }
    .into()
}

/// What is said by the message is heard in its place, and everything about it is as expected.
fn walk(number: u8, place: Place, side: Side) {
    let what = format!("{number} at {place:?} of a {side:?}");
    let reaction = expected(number, place, side);
    let mut world = at(place, side);
    let payload = well_formed(number, &mut world);
    world.heard.clear();
    if (number, matches!(place, Place::NewKeys(_))) == (21, true) {
        world.say_newkeys();
    } else if number == 20 {
        world.say_kexinit(false);
    } else {
        world.say(&payload);
    }
    match reaction {
        Taken(answers) => {
            assert_eq!(world.closed(), None, "{what}");
            assert_eq!(world.numbers(), answers, "{what}");
        }
        Ignored => {
            assert_eq!(world.closed(), None, "{what}");
            assert!(
                world.numbers().is_empty() && world.events.is_empty(),
                "{what}"
            );
        }
        Unknown => {
            assert_eq!(world.closed(), None, "{what}");
            let answer = Unimplemented {
                sequence_number: world.last_sequence(),
            };
            assert_eq!(world.heard, [answer.to_payload()], "{what}");
            assert!(world.events.is_empty(), "{what}");
        }
        Ends => {
            assert!(
                matches!(world.closed(), Some(Error::Disconnected(_))),
                "{what}"
            );
            assert!(world.numbers().is_empty(), "{what}");
            assert_last_event(&world, &what);
        }
        Refused => {
            let error = unexpected(number, place);
            let reason = Some(DisconnectReason::PROTOCOL_ERROR);
            assert_ended(&mut world, &error, reason, &what);
        }
    }
    // What the number alone decides, no body changes; what is read has to be right to the last byte.
    let payload = if number == 20 {
        let mut world = at(place, side);
        world.say_kexinit(false);
        world.last_kexinit().to_vec()
    } else {
        payload
    };
    for body in malformed(number, &payload) {
        let longer = body.len() > payload.len();
        let mut world = at(place, side);
        world.heard.clear();
        world.say(&body);
        match reaction {
            Taken(_) | Ends if longer && is_open_ended(number) => {
                assert_eq!(world.closed(), None, "{what}, longer");
            }
            Taken(_) | Ends => assert!(
                matches!(
                    world.closed(),
                    Some(Error::Peer(PeerError::Malformed { message, .. })) if message == number
                ),
                "{what}, {} bytes: {:?}",
                body.len(),
                world.closed()
            ),
            Ignored => assert_eq!(world.closed(), None, "{what}"),
            Unknown => assert_eq!(world.numbers(), [3], "{what}"),
            Refused => assert_eq!(world.closed(), Some(unexpected(number, place)), "{what}"),
        }
    }
}

fn walk_all(side: Side) {
    for place in places(side) {
        for number in 0..=255 {
            walk(number, place, side);
        }
    }
}

#[test]
fn every_number_in_every_phase_of_a_client_has_its_reaction() {
    walk_all(Side::Client);
}

#[test]
fn every_number_in_every_phase_of_a_server_has_its_reaction() {
    walk_all(Side::Server);
}
