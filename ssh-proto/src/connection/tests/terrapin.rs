//! A man in the middle who tampers with the first key exchange (CVE-2023-48795): nothing that is inserted, deleted,
//! repeated, swapped or changed before NEWKEYS leads to a connection, in neither role, whatever the cipher.

use super::*;
use crate::connection::role::Side;
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

    /// What he lets through of what came.
    fn pass(&mut self, bytes: &[u8], plan: &[(Side, usize, Tamper)]) -> Vec<u8> {
        let mut out = Vec::new();
        self.bytes.extend(bytes);
        if !self.greeted && self.bytes.contains(&b'\n') {
            let end = self.bytes.iter().position(|&b| b == b'\n').unwrap() + 1;
            out.extend(self.bytes.drain(..end));
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
                    Tamper::Insert(payload) => out.extend(plain(payload)),
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
                out.extend(&packet);
            }
            if copies > 0
                && let Some(kept) = self.kept.take()
            {
                out.extend(kept);
            }
            self.index += 1;
        }
        out
    }
}

fn plain(payload: &[u8]) -> Vec<u8> {
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

/// A client logs in through him. Afterwards so much time has passed that every deadline is over.
fn attack(cipher: &str, plan: &[(Side, usize, Tamper)]) -> Pair {
    let (client, server) = config(cipher);
    let mut pair = Pair::new(client, server);
    let credential = Credential::public_key(user_key());
    pair.client
        .authenticate("alice", credential, pair.now)
        .unwrap();
    let mut wires = [Wire::new(Side::Client), Wire::new(Side::Server)];
    loop {
        let up = pair.client.output().to_vec();
        pair.client.consume_output(up.len());
        let up = wires[0].pass(&up, plan);
        pair.server.handle_bytes(&up, pair.now);
        let down = pair.server.output().to_vec();
        pair.server.consume_output(down.len());
        let down = wires[1].pass(&down, plan);
        pair.client.handle_bytes(&down, pair.now);
        if !pair.events() && up.is_empty() && down.is_empty() {
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

#[test]
fn a_connection_that_nobody_tampers_with_comes_about() {
    for cipher in CIPHERS {
        let pair = attack(cipher, &[]);
        assert!(pair.client.is_authenticated() && pair.server.is_authenticated());
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

#[test]
fn whatever_he_does_to_any_packet_before_newkeys_ends_in_an_error() {
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
    for cipher in CIPHERS {
        for from in [Side::Client, Side::Server] {
            // KEXINIT, the method's message, NEWKEYS.
            for index in 0..3 {
                for &tamper in &tampers {
                    let what = format!("{cipher} {from:?} {index} {tamper:?}");
                    let pair = attack(cipher, &[(from, index, tamper)]);
                    assert_failed(&pair, &what);
                }
            }
        }
    }
}

#[test]
fn a_packet_that_he_inserts_does_not_make_up_for_one_that_he_deletes() {
    // The attack itself: one more packet before NEWKEYS, one less behind it. In the clear the sequence number goes up, and
    // with a cipher that takes it for its nonce nobody would miss the packet.
    for cipher in CIPHERS {
        for from in [Side::Client, Side::Server] {
            for index in 0..3 {
                for payload in [IGNORE, DEBUG, UNIMPLEMENTED] {
                    let plan = [
                        (from, index, Tamper::Insert(payload)),
                        (from, 3, Tamper::Delete),
                    ];
                    assert_failed(&attack(cipher, &plan), &format!("{cipher} {plan:?}"));
                }
            }
            // Deleting alone.
            let plan = [(from, 3, Tamper::Delete)];
            assert_failed(&attack(cipher, &plan), &format!("{cipher} {plan:?}"));
        }
    }
}

#[test]
fn an_insertion_is_refused_as_what_it_is() {
    for from in [Side::Client, Side::Server] {
        for (index, message) in [(0, 20), (1, 2), (2, 2)] {
            let plan = [(from, index, Tamper::Insert(IGNORE))];
            let pair = attack("chacha20-poly1305@openssh.com", &plan);
            let victim = match from {
                Side::Client => pair.server.closed(),
                Side::Server => pair.client.closed(),
            };
            // In front of KEXINIT it is KEXINIT that is not the first packet any more.
            let expected = PeerError::UnexpectedMessage {
                message,
                stage: Stage::KeyExchange,
            };
            assert_eq!(victim, Some(&expected.into()), "{from:?} {index}");
        }
    }
}
