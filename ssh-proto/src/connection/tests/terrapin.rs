//! A man in the middle who tampers with the first key exchange (CVE-2023-48795): nothing that is inserted, deleted,
//! repeated, swapped or changed before NEWKEYS leads to a connection, in neither role, whatever the cipher.

use super::*;
use crate::connection::Connection;
use crate::connection::role::{Role, Side};
use crate::crypto::drbg::Drbg;
use crate::packet::output::Output;
use crate::packet::sealer::Sealer;

/// What he does to one packet, or to the first flight behind NEWKEYS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tamper {
    /// A packet in clear with this payload is put in front of it.
    Insert(&'static [u8]),
    Delete,
    Repeat,
    /// It changes places with the next one.
    Swap,
    /// A bit of this byte of its payload is flipped, counted from its start or its end.
    Flip(i32),
}

const IGNORE: &[u8] = b"\x02\0\0\0\0";
const DEBUG: &[u8] = b"\x04\0\0\0\0\0\0\0\0\0";
const UNIMPLEMENTED: &[u8] = b"\x03\0\0\0\0";
const EXT_INFO: &[u8] = b"\x07\0\0\0\0";
const SERVICE_REQUEST: &[u8] = b"\x05\0\0\0\x0cssh-userauth";
const SUCCESS: &[u8] = b"\x34";
const NOBODY: &[u8] = b"\xc7";

/// One direction, as he sees it.
struct Wire {
    from: Side,
    bytes: Vec<u8>,
    /// The version line is through.
    greeted: bool,
    /// NEWKEYS is through.
    sealed: bool,
    index: usize,
    kept: Option<Vec<u8>>,
}

impl Wire {
    fn new(from: Side) -> Self {
        Self {
            from,
            bytes: Vec::new(),
            greeted: false,
            sealed: false,
            index: 0,
            kept: None,
        }
    }

    /// The next thing on its way: a packet, or what comes at once behind NEWKEYS.
    fn next(&mut self) -> Option<Vec<u8>> {
        if self.bytes.is_empty() {
            return None;
        }
        let len = if self.sealed {
            self.bytes.len()
        } else {
            let field: [u8; 4] = self.bytes.get(..4)?.try_into().unwrap();
            u32::from_be_bytes(field) as usize + 4
        };
        let packet: Vec<u8> = self.bytes.drain(..len).collect();
        self.sealed |= packet[5] == 21;
        Some(packet)
    }

    /// What he lets through of what came, piece by piece.
    fn pass(&mut self, bytes: &[u8], plan: &[(Side, usize, Tamper)]) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        self.bytes.extend(bytes);
        if !self.greeted && self.bytes.contains(&b'\n') {
            let end = self.bytes.iter().position(|&b| b == b'\n').unwrap() + 1;
            out.push(self.bytes.drain(..end).collect());
            self.greeted = true;
        }
        while self.greeted
            && let Some(mut packet) = self.next()
        {
            let mut copies = 1;
            for &(from, index, tamper) in plan {
                if (from, index) != (self.from, self.index) {
                    continue;
                }
                match tamper {
                    Tamper::Insert(payload) => out.push(plain(payload)),
                    Tamper::Delete => copies = 0,
                    Tamper::Repeat => copies = 2,
                    Tamper::Swap => {
                        self.kept = Some(std::mem::take(&mut packet));
                        copies = 0;
                    }
                    Tamper::Flip(at) => {
                        let payload = payload_of(&mut packet);
                        let at = at.rem_euclid(payload.len() as i32) as usize;
                        payload[at] ^= 1;
                    }
                }
            }
            for _ in 0..copies {
                out.push(packet.clone());
            }
            if copies > 0
                && let Some(kept) = self.kept.take()
            {
                out.push(kept);
            }
            self.index += 1;
        }
        out
    }
}

/// A packet in clear.
pub(super) fn plain(payload: &[u8]) -> Vec<u8> {
    let mut out = Output::new(Drbg::new(Seed::new([3; 32])), Sealer::plain(), 0);
    out.transport(&Raw(payload));
    out.pending().to_vec()
}

/// The payload of a packet in clear.
fn payload_of(packet: &mut [u8]) -> &mut [u8] {
    let end = packet.len() - usize::from(packet[4]);
    &mut packet[5..end]
}

fn config(cipher: &str) -> (ClientConfig, ServerConfig) {
    let mut client = ClientConfig::new();
    let mut server = ServerConfig::new(vec![host_key(KeyKind::Ed25519)]);
    client.transport.algorithms.ciphers = Preference::parse(cipher).unwrap();
    client.transport.algorithms.macs = Preference::parse("hmac-sha2-256-etm@openssh.com").unwrap();
    server.transport.algorithms.kex = Preference::parse("curve25519-sha256").unwrap();
    (client, server)
}

/// Writes over what a KEXINIT that has not left says of strict key exchange: so this side knows none.
fn loosen<R: Role>(connection: &mut Connection<R>) {
    const NAME: &[u8] = b"kex-strict";
    let write_over = |bytes: &mut [u8]| {
        while let Some(at) = bytes.windows(NAME.len()).position(|name| name == NAME) {
            bytes[at..at + NAME.len()].copy_from_slice(b"not-strict");
        }
    };
    let mut output = connection.output().to_vec();
    connection.consume_output(output.len());
    write_over(&mut output);
    connection.out.raw(&output);
    write_over(connection.transport.offered().unwrap());
}

/// A client logs in through him. The first packet of either side behind NEWKEYS is an EXT_INFO, which nobody misses who
/// does not count packets. Afterwards so much time has passed that every deadline is over.
fn attack(cipher: &str, strict: bool, plan: &[(Side, usize, Tamper)]) -> Pair {
    let (client, server) = config(cipher);
    let mut pair = Pair::new(client, server);
    if !strict {
        loosen(&mut pair.client);
        loosen(&mut pair.server);
    }
    let credential = Credential::public_key(user_key());
    pair.client
        .authenticate("alice", credential, pair.now)
        .unwrap();
    let mut wires = [Wire::new(Side::Client), Wire::new(Side::Server)];
    loop {
        let mut moved = false;
        let up = pair.client.output().to_vec();
        pair.client.consume_output(up.len());
        for piece in wires[0].pass(&up, plan) {
            pair.server.handle_bytes(&piece, pair.now);
            moved = true;
        }
        let down = pair.server.output().to_vec();
        pair.server.consume_output(down.len());
        for piece in wires[1].pass(&down, plan) {
            pair.client.handle_bytes(&piece, pair.now);
            moved = true;
            pair.events();
            if pair.client.out.sealer().traffic().packets == 0 {
                pair.client.out.transport(&Raw(EXT_INFO));
                // It leaves before anything follows it.
                let up = pair.client.output().to_vec();
                pair.client.consume_output(up.len());
                for piece in wires[0].pass(&up, plan) {
                    pair.server.handle_bytes(&piece, pair.now);
                }
            }
        }
        if !pair.events() && !moved {
            break;
        }
    }
    if pair.client.is_authenticated() {
        return pair;
    }
    for _ in 0..3 {
        pair.now += Duration::from_secs(130);
        pair.client.handle_timeout(pair.now);
        pair.server.handle_timeout(pair.now);
        pair.events();
    }
    pair
}

const CIPHERS: [&str; 3] = [
    "chacha20-poly1305@openssh.com",
    "aes128-gcm@openssh.com",
    "aes128-ctr",
];

const CHACHA: &str = CIPHERS[0];

#[test]
fn a_connection_that_nobody_tampers_with_comes_about() {
    for cipher in CIPHERS {
        for strict in [true, false] {
            let pair = attack(cipher, strict, &[]);
            assert!(pair.client.is_authenticated() && pair.server.is_authenticated());
            let negotiated = pair.server.negotiated().unwrap();
            assert_eq!(negotiated.strict, strict);
            assert_eq!(pair.client.negotiated(), Some(negotiated));
            assert!(pair.client.transport.peer_answers_pings());
        }
    }
}

/// Both sides have ended with an error of their own, and nobody is in.
#[track_caller]
fn assert_failed(pair: &Pair, what: &str) {
    assert!(!pair.client.is_authenticated(), "{what}");
    assert!(!pair.server.is_authenticated(), "{what}");
    let told = |events: &[String]| {
        events
            .iter()
            .filter(|event| *event == "Disconnected")
            .count()
    };
    assert_eq!(told(&pair.client_events), 1, "{what}");
    assert_eq!(told(&pair.server_events), 1, "{what}");
    for error in [pair.client.closed(), pair.server.closed()] {
        assert!(error.is_some(), "{what}");
        assert!(!matches!(error, Some(Error::Bug(_))), "{what}: {error:?}");
    }
    let events = &pair.server_events;
    assert!(
        !events.iter().any(|event| event == "LoginAttempted"),
        "{what}"
    );
}

/// How tampering with one packet ends.
#[derive(Debug, Clone, Copy)]
enum End {
    /// The side that hears it is told a message where none of that number may be.
    Unexpected(u8),
    /// A field of it cannot be read.
    Malformed(u8),
    /// A packet is read with the wrong keys.
    Length,
    /// The name in the host key is none.
    HostKey,
    /// The client finds that the server has signed something else.
    Signature,
    /// Each waits for the other until the time of the exchange is over.
    TimedOut,
}

/// How it ends: `from` is who sent the packet, KEXINIT, the method's message or NEWKEYS.
fn end(from: Side, index: usize, tamper: Tamper) -> End {
    use Side::{Client, Server};
    use Tamper::{Delete, Flip, Insert, Repeat, Swap};
    let method = match from {
        Client => 30,
        Server => 31,
    };
    match (index, tamper, from) {
        // What may be in front of a KEXINIT makes it not the first packet.
        (0, Insert(payload), _) if matches!(payload[0], 2..=4) => End::Unexpected(20),
        (_, Insert(payload), _) => End::Unexpected(payload[0]),
        (0, Repeat, _) => End::Unexpected(20),
        (1, Repeat, _) => End::Unexpected(method),
        // A client answers a KEXINIT, and one packet follows the other. A server answers what it did not get with nothing.
        (0, Delete | Swap, Client) => End::Unexpected(method),
        (1, Delete | Swap, Server) => End::Unexpected(21),
        (0 | 1, Delete | Swap, _) => End::TimedOut,
        // Behind NEWKEYS, or without it, the keys are not those of the peer.
        (2, Delete | Swap | Repeat, _) => End::Length,
        // The number of the message.
        (0, Flip(0), _) => End::Unexpected(20 ^ 1),
        (1, Flip(0), _) => End::Unexpected(method ^ 1),
        // NEWKEYS has nothing else.
        (2, Flip(_), _) => End::Unexpected(21 ^ 1),
        // A length.
        (0, Flip(17), _) => End::Malformed(20),
        (1, Flip(1), _) => End::Malformed(method),
        (1, Flip(17), Server) => End::HostKey,
        (_, Flip(_), _) => End::Signature,
        _ => unreachable!(),
    }
}

#[track_caller]
fn assert_ends(pair: &Pair, from: Side, end: End, what: &str) {
    assert_failed(pair, what);
    let victim = match end {
        End::Signature => Side::Client,
        _ => other(from),
    };
    let error = pair.closed(victim).unwrap();
    let told = match end {
        End::TimedOut => {
            let late = Some(&Error::TimedOut(Stage::KeyExchange));
            assert_eq!((Some(error), pair.closed(from)), (late, late), "{what}");
            return;
        }
        End::Unexpected(message) => {
            let stage = Stage::KeyExchange;
            let unexpected = PeerError::UnexpectedMessage { message, stage };
            assert_eq!(*error, unexpected.into(), "{what}");
            DisconnectReason::PROTOCOL_ERROR
        }
        End::Malformed(number) => {
            assert!(
                matches!(error, Error::Peer(PeerError::Malformed { message, .. }) if *message == number),
                "{what}: {error:?}"
            );
            DisconnectReason::PROTOCOL_ERROR
        }
        End::Length => {
            assert!(
                matches!(error, Error::Peer(PeerError::PacketLength(_))),
                "{what}: {error:?}"
            );
            DisconnectReason::PROTOCOL_ERROR
        }
        End::HostKey => {
            assert!(
                matches!(error, Error::Peer(PeerError::HostKey(_))),
                "{what}: {error:?}"
            );
            DisconnectReason::KEY_EXCHANGE_FAILED
        }
        End::Signature => {
            assert_eq!(*error, PeerError::HostKeySignature.into(), "{what}");
            DisconnectReason::KEY_EXCHANGE_FAILED
        }
    };
    assert_eq!(pair.told(victim), Some(told), "{what}");
}

/// Everything that he does to one packet.
fn tampers() -> Vec<Tamper> {
    let inserts = [
        IGNORE,
        DEBUG,
        UNIMPLEMENTED,
        EXT_INFO,
        SERVICE_REQUEST,
        SUCCESS,
        NOBODY,
    ];
    let mut tampers: Vec<Tamper> = inserts.into_iter().map(Tamper::Insert).collect();
    tampers.extend([Tamper::Delete, Tamper::Repeat, Tamper::Swap]);
    tampers.extend([0, 1, 17, -1].map(Tamper::Flip));
    tampers
}

#[test]
fn whatever_he_does_to_any_packet_before_newkeys_ends_in_an_error() {
    for cipher in CIPHERS {
        for from in [Side::Client, Side::Server] {
            // KEXINIT, the method's message, NEWKEYS.
            for index in 0..3 {
                for tamper in tampers() {
                    let what = format!("{cipher} {from:?} {index} {tamper:?}");
                    let pair = attack(cipher, true, &[(from, index, tamper)]);
                    assert_ends(&pair, from, end(from, index, tamper), &what);
                }
            }
        }
    }
}

/// The attack itself: one more packet before NEWKEYS, one less behind it. In the clear the sequence number goes up, and
/// with a cipher that takes it for its nonce nobody misses the packet.
fn prefix_truncation(
    from: Side,
    index: usize,
    payload: &'static [u8],
) -> [(Side, usize, Tamper); 2] {
    [
        (from, index, Tamper::Insert(payload)),
        (from, 3, Tamper::Delete),
    ]
}

#[test]
fn a_packet_that_he_inserts_does_not_make_up_for_one_that_he_deletes() {
    for cipher in CIPHERS {
        for from in [Side::Client, Side::Server] {
            for index in 0..3 {
                for payload in [IGNORE, DEBUG, UNIMPLEMENTED] {
                    let plan = prefix_truncation(from, index, payload);
                    let pair = attack(cipher, true, &plan);
                    let end = end(from, index, plan[0].2);
                    assert_ends(&pair, from, end, &format!("{cipher} {plan:?}"));
                }
            }
            // Deleting alone: a MAC or a tag is wrong, or with chacha20-poly1305 the length.
            let plan = [(from, 3, Tamper::Delete)];
            let pair = attack(cipher, true, &plan);
            assert_failed(&pair, &format!("{cipher} {plan:?}"));
            let error = pair.closed(other(from)).unwrap();
            assert!(
                matches!(
                    error,
                    Error::Peer(PeerError::MacIncorrect | PeerError::PacketLength(_))
                ),
                "{cipher} {plan:?}: {error:?}"
            );
        }
    }
}

#[test]
fn between_peers_that_are_not_strict_the_attack_succeeds_where_the_number_is_the_nonce() {
    for cipher in CIPHERS {
        for from in [Side::Client, Side::Server] {
            for index in 0..3 {
                for payload in [IGNORE, DEBUG, UNIMPLEMENTED] {
                    let plan = prefix_truncation(from, index, payload);
                    let pair = attack(cipher, false, &plan);
                    let what = format!("{cipher} {plan:?}");
                    let is_in = pair.client.is_authenticated() && pair.server.is_authenticated();
                    assert_eq!(is_in, cipher == CHACHA, "{what}");
                    if is_in {
                        // The server has said so, and its client does not know.
                        let lost = from == Side::Server;
                        assert_eq!(pair.client.transport.peer_answers_pings(), !lost, "{what}");
                    } else {
                        assert_failed(&pair, &what);
                    }
                }
            }
        }
    }
}

#[test]
fn peers_that_are_not_strict_agree_on_what_was_said_or_are_no_peers() {
    for cipher in CIPHERS {
        for from in [Side::Client, Side::Server] {
            for index in 0..3 {
                for tamper in tampers() {
                    for more in [None, Some((from, 3, Tamper::Delete))] {
                        let mut plan = vec![(from, index, tamper)];
                        plan.extend(more);
                        let pair = attack(cipher, false, &plan);
                        let what = format!("{cipher} {plan:?}");
                        let [client, server] = [&pair.client.session(), &pair.server.session()]
                            .map(|session| session.map(|session| session.id.to_vec()));
                        // A client goes on once the server has signed the hash of all that both have seen.
                        assert!(client.is_none() || client == server, "{what}");
                        let [at_client, at_server] = [
                            pair.client.is_authenticated(),
                            pair.server.is_authenticated(),
                        ];
                        assert_eq!(at_client, at_server, "{what}");
                        if at_client {
                            // Nothing that counts was changed.
                            assert!(client.is_some(), "{what}");
                            assert!(
                                matches!(tamper, Tamper::Insert(IGNORE | DEBUG | UNIMPLEMENTED)),
                                "{what}"
                            );
                        } else {
                            assert_failed(&pair, &what);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn an_insertion_is_refused_as_what_it_is() {
    for from in [Side::Client, Side::Server] {
        for (index, message) in [(0, 20), (1, 2), (2, 2)] {
            let plan = [(from, index, Tamper::Insert(IGNORE))];
            let pair = attack(CHACHA, true, &plan);
            // In front of KEXINIT it is KEXINIT that is not the first packet any more.
            let expected = PeerError::UnexpectedMessage {
                message,
                stage: Stage::KeyExchange,
            };
            pair.assert_ended(other(from), expected, DisconnectReason::PROTOCOL_ERROR);
        }
    }
}
