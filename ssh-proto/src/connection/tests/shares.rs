//! Values of a key exchange, host keys and signatures that are not as they should be: no connection comes of them, and
//! nobody is asked to trust such a host key.

use super::hostile::{Offer, World};
use super::*;
use crate::connection::role::Side;
use crate::crypto::drbg::Drbg;
use crate::error::{DisconnectReason, Incompatible};
use crate::msg::kex::{KexEcdhInit, KexEcdhReply};

/// The victim and its peer have exchanged KEXINIT and do this method.
fn doing(side: Side, kex: Kex) -> World {
    let mut offer = Offer::STRICT;
    offer.first_kex = kex.name();
    let mut world = World::with(side, offer, |transport| {
        transport.algorithms.kex = Preference::new([kex]).unwrap();
    });
    world.say_kexinit(false);
    assert_eq!(world.closed(), None);
    world
}

#[track_caller]
fn assert_failed(world: &mut World, error: PeerError, what: &str) {
    assert_eq!(world.closed(), Some(error.into()), "{what}");
    let reason = DisconnectReason::KEY_EXCHANGE_FAILED.0;
    assert_eq!(world.disconnect_reason(), reason, "{what}");
    assert_eq!(world.events, ["Disconnected"], "{what}");
}

/// Shares that no side may use: too short, too long, of low order, not on the curve, not reduced.
fn bad_shares(kex: Kex, side: Side) -> Vec<Vec<u8>> {
    let (len, curve_at) = match (kex, side) {
        (Kex::EcdhNistp256, _) => (65, 0),
        (Kex::EcdhNistp384, _) => (97, 0),
        (Kex::EcdhNistp521, _) => (133, 0),
        // The key of ML-KEM goes to a server, its ciphertext to a client.
        (Kex::MlKem768X25519Sha256, Side::Server) => (1_216, 1_184),
        (Kex::MlKem768X25519Sha256, Side::Client) => (1_120, 1_088),
        _ => (32, 0),
    };
    let mut bad = vec![vec![], vec![0; len], vec![4; len - 1], vec![4; len + 1]];
    if len - curve_at == 32 {
        // RFC 7748: points of order 1, 2, 4 and 8, reduced and not, give a secret of zeros.
        let one = [&[1][..], &[0; 31]].concat();
        let minus_one = [&[0xec][..], &[0xff; 30], &[0x7f]].concat();
        let p = [&[0xed][..], &[0xff; 30], &[0x7f]].concat();
        let p_and_one = [&[0xee][..], &[0xff; 30], &[0x7f]].concat();
        for point in [one, minus_one, p, p_and_one] {
            bad.push([&vec![0; curve_at][..], &point].concat());
        }
    } else {
        // The point at infinity, a compressed one, one that is not on the curve.
        bad.push(vec![0]);
        bad.push([&[2][..], &vec![5; (len - 1) / 2]].concat());
        bad.push([&[4][..], &vec![5; len - 1]].concat());
    }
    if kex == Kex::MlKem768X25519Sha256 && side == Side::Server {
        // FIPS 203 section 7.2: a coefficient above 3,328.
        bad.push([vec![0xff; 1_184], [&[9][..], &[0; 31]].concat()].concat());
    }
    bad
}

#[test]
fn a_bad_value_of_the_peer_ends_the_exchange_in_both_roles() {
    for &kex in Kex::ALL {
        for share in bad_shares(kex, Side::Server) {
            let mut world = doing(Side::Server, kex);
            world.says(&KexEcdhInit { q_c: &share });
            let what = format!("{kex}, {} bytes to a server", share.len());
            assert_failed(&mut world, PeerError::KeyExchangeValue, &what);
        }
        for share in bad_shares(kex, Side::Client) {
            let mut world = doing(Side::Client, kex);
            let key = PrivateKey::generate(KeyKind::Ed25519, &[5; 32]).unwrap();
            world.says(&KexEcdhReply {
                k_s: key.public().blob(),
                q_s: &share,
                signature: &key.sign(SignatureAlgorithm::Ed25519, b"").unwrap(),
            });
            let what = format!("{kex}, {} bytes to a client", share.len());
            assert_failed(&mut world, PeerError::KeyExchangeValue, &what);
        }
    }
}

#[test]
fn a_ciphertext_for_nobody_gives_no_signature_that_is_right() {
    // It opens, as FIPS 203 wants it, to a secret that the server does not have.
    let kex = Kex::MlKem768X25519Sha256;
    let mut world = doing(Side::Client, kex);
    let key = PrivateKey::generate(KeyKind::Ed25519, &[5; 32]).unwrap();
    let mut rng = Drbg::new(Seed::new([6; 32]));
    let (_, point) =
        crate::crypto::agree::Ephemeral::generate(Kex::Curve25519Sha256, &mut rng).unwrap();
    world.says(&KexEcdhReply {
        k_s: key.public().blob(),
        q_s: &[&[7; 1_088], &point[..]].concat(),
        signature: &key.sign(SignatureAlgorithm::Ed25519, &[0; 32]).unwrap(),
    });
    assert_failed(&mut world, PeerError::HostKeySignature, "ML-KEM");
}

/// What is done to the host key and the signature of a reply.
type Change<'a> = dyn Fn(&mut Vec<u8>, &mut Vec<u8>) + 'a;

/// What becomes of a good reply of a server when it is changed.
fn replied(change: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) -> World {
    let mut world = doing(Side::Client, Kex::Curve25519Sha256);
    let payload = world.method();
    let reply = KexEcdhReply::decode(&payload).unwrap();
    let (mut key, mut signature) = (reply.k_s.to_vec(), reply.signature.to_vec());
    change(&mut key, &mut signature);
    world.says(&KexEcdhReply {
        k_s: &key,
        q_s: reply.q_s,
        signature: &signature,
    });
    world
}

#[test]
fn a_host_key_is_not_even_shown_before_its_signature_was_right() {
    let other = PrivateKey::generate(KeyKind::Ed25519, &[77; 32]).unwrap();
    let wrong: [(&str, &Change<'_>); 6] = [
        ("a bit of the signature", &|_, signature| {
            *signature.last_mut().unwrap() ^= 1;
        }),
        ("no signature", &|_, signature| signature.clear()),
        ("a signature of zeros", &|_, signature| {
            signature
                .iter_mut()
                .rev()
                .take(64)
                .for_each(|byte| *byte = 0);
        }),
        ("another algorithm in the signature", &|_, signature| {
            *signature = [b"\0\0\0\x07ssh-rsa", &signature[15..]].concat();
        }),
        ("the signature of another key", &|_, signature| {
            *signature = other.sign(SignatureAlgorithm::Ed25519, &[1; 32]).unwrap();
        }),
        ("the key of another signature", &|key, _| {
            *key = other.public().blob().to_vec();
        }),
    ];
    for (what, change) in wrong {
        let mut world = replied(change);
        assert_failed(&mut world, PeerError::HostKeySignature, what);
    }
    let mut cut = replied(|key, _| _ = key.pop());
    assert_failed(
        &mut cut,
        PeerError::HostKey("it cannot be read"),
        "a cut key",
    );
    let world = replied(|_, _| {});
    assert_eq!(world.closed(), None);
    assert_eq!(world.events, ["HostKeyOffered"]);
}

#[test]
fn a_host_key_of_any_other_kind_than_the_negotiated_one_is_refused() {
    for kind in [
        KeyKind::EcdsaNistp256,
        KeyKind::EcdsaNistp384,
        KeyKind::EcdsaNistp521,
    ] {
        let other = PrivateKey::generate(kind, &[5; 32]).unwrap();
        let mut world = replied(|key, signature| {
            *key = other.public().blob().to_vec();
            *signature = other.sign(other.public().algorithms()[0], b"x").unwrap();
        });
        let error = PeerError::HostKey("it is not of the negotiated kind");
        assert_failed(&mut world, error, &format!("{kind:?}"));
    }
}

#[test]
fn one_name_in_a_list_of_host_keys_allows_that_one_alone() {
    let kinds = [
        (KeyKind::Ed25519, SignatureAlgorithm::Ed25519),
        (KeyKind::EcdsaNistp256, SignatureAlgorithm::EcdsaNistp256),
        (KeyKind::EcdsaNistp384, SignatureAlgorithm::EcdsaNistp384),
        (KeyKind::EcdsaNistp521, SignatureAlgorithm::EcdsaNistp521),
    ];
    for &allowed in SignatureAlgorithm::ALL {
        for (kind, algorithm) in kinds {
            let mut client = ClientConfig::new();
            client.transport.algorithms.host_keys = Preference::new([allowed]).unwrap();
            let mut pair = Pair::new(client, ServerConfig::new(vec![host_key(kind)]));
            pair.login();
            if allowed == algorithm {
                assert!(pair.client.is_authenticated(), "{allowed} {kind:?}");
                continue;
            }
            assert_eq!(
                pair.client.closed(),
                Some(&Error::Incompatible(Arc::new(Incompatible {
                    what: "host key algorithm",
                    local: allowed.name().to_owned(),
                    peer: algorithm.name().to_owned(),
                }))),
                "{kind:?}"
            );
            assert!(!pair.client_events.contains(&"HostKeyOffered".to_owned()));
            assert!(!pair.server.is_authenticated());
        }
    }
}
