//! A bit that is flipped behind NEWKEYS: which error it is, in whichever byte of a packet it was, and that it is the last
//! thing that happens.

use super::hostile::PROTECTIONS;
use super::*;

/// A pair that has logged in under this protection.
fn open((cipher, mac): (Cipher, Mac)) -> Pair {
    let mut client = ClientConfig::new();
    client.transport.algorithms.ciphers = Preference::new([cipher]).unwrap();
    client.transport.algorithms.macs = Preference::new([mac]).unwrap();
    let mut server = ServerConfig::new(vec![host_key(KeyKind::Ed25519)]);
    server.transport.algorithms.kex = Preference::new([Kex::Curve25519Sha256]).unwrap();
    let mut pair = Pair::new(client, server);
    pair.login();
    assert!(pair.client.is_authenticated());
    pair
}

/// A packet for the victim, and another one behind it. Says how long the first one is, and its `packet_length`.
fn packets(pair: &mut Pair, victim: Side) -> (Vec<u8>, usize, u32) {
    let out = pair.out(other(victim));
    let layout = out.layout();
    let payload = b"\x02\0\0\0\x07ignored";
    out.transport(&Raw(payload));
    let len = out.pending().len();
    out.transport(&Raw(payload));
    let bytes = out.pending().to_vec();
    out.consume(bytes.len());
    (bytes, len, (len - layout.tag - 4) as u32)
}

/// What it must be: the MAC is wrong. Where the length is that of no packet any more, that is told first: its MAC would lie
/// nowhere. OpenSSH does the same ("Bad packet length").
fn expected((cipher, mac): (Cipher, Mac), length: u32, bit: usize) -> PeerError {
    if bit >= 32 {
        return PeerError::MacIncorrect;
    }
    let flipped = length ^ (1 << (31 - bit));
    let apart = cipher.is_aead() || mac.is_etm();
    let block = if cipher == Cipher::ChaCha20Poly1305 {
        8
    } else {
        16
    };
    let counted = u64::from(flipped) + if apart { 0 } else { 4 };
    let is_legal = counted > 0 && counted.is_multiple_of(block) && flipped <= 256 * 1024;
    if is_legal {
        PeerError::MacIncorrect
    } else {
        PeerError::PacketLength(flipped)
    }
}

#[test]
fn a_flipped_bit_of_any_byte_under_any_keys_is_the_last_thing_that_happens() {
    for protection in PROTECTIONS {
        for victim in [Side::Client, Side::Server] {
            let (_, whole, _) = packets(&mut open(protection), victim);
            for byte in 0..whole {
                // Of the length every bit, since it is read before the MAC. Of the others each once and again.
                let bits = if byte < 4 {
                    0..8
                } else {
                    byte % 8..byte % 8 + 1
                };
                for bit in bits.map(|bit| byte * 8 + bit) {
                    let what = format!("{protection:?} {victim:?} bit {bit}");
                    let mut pair = open(protection);
                    let (mut bytes, len, length) = packets(&mut pair, victim);
                    assert_eq!(len, whole);
                    bytes[byte] ^= 0x80 >> (bit % 8);
                    let error = expected(protection, length, bit);
                    // A longer packet is not whole before as many bytes are there.
                    bytes.resize(bytes.len() + 300_000, 0);
                    assert_end(&mut pair, victim, &bytes, error, &what);
                }
            }
        }
    }
}

/// The bytes end the victim's connection because of this error, once and for all, and its peer hears why.
#[track_caller]
fn assert_end(pair: &mut Pair, victim: Side, bytes: &[u8], error: PeerError, what: &str) {
    let told = match error {
        PeerError::MacIncorrect => DisconnectReason::MAC_ERROR,
        _ => DisconnectReason::PROTOCOL_ERROR,
    };
    let now = pair.now;
    let heard = (pair.client_events.len(), pair.server_events.len());
    let hear = |pair: &mut Pair, bytes: &[u8]| match victim {
        Side::Client => _ = pair.client.handle_bytes(bytes, now),
        Side::Server => _ = pair.server.handle_bytes(bytes, now),
    };
    hear(pair, bytes);
    pair.run(usize::MAX);
    let error = Some(Error::from(error));
    assert_eq!(pair.closed(victim), error.as_ref(), "{what}");
    assert_eq!(pair.told(victim), Some(told), "{what}");
    // Nothing that is right afterwards, and no time, changes anything.
    assert!(pair.out(other(victim)).pending().is_empty(), "{what}");
    hear(pair, bytes);
    hear(pair, b"");
    pair.now += Duration::from_secs(10_000);
    pair.client.handle_timeout(pair.now);
    pair.server.handle_timeout(pair.now);
    pair.run(usize::MAX);
    assert_eq!(pair.closed(victim), error.as_ref(), "{what}");
    let last = ["Disconnected"];
    assert_eq!(pair.client_events[heard.0..], last, "{what}");
    assert_eq!(pair.server_events[heard.1..], last, "{what}");
    assert!(pair.out(victim).pending().is_empty(), "{what}");
}
