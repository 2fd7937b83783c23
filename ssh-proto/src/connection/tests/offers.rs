//! What our first KEXINIT says, literally: nothing that is broken is in it, and nothing about it tells whom we know.

use super::*;
use crate::connection::role::Side;
use crate::msg::transport::KexInit;

const KEX: &str = "mlkem768x25519-sha256,curve25519-sha256,curve25519-sha256@libssh.org,\
                   ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521";
const CIPHERS: &str = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,\
                       aes128-ctr,aes192-ctr,aes256-ctr";
const MACS: &str =
    "hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,hmac-sha2-256,hmac-sha2-512";

/// The first KEXINIT of a side, as its peer sees it.
fn first_kexinit(side: Side, seed: u8) -> Vec<u8> {
    let pair = Pair::seeded(
        ClientConfig::new(),
        ServerConfig::new(vec![host_key(KeyKind::Ed25519)]),
        seed,
    );
    let output = match side {
        Side::Client => pair.client.output(),
        Side::Server => pair.server.output(),
    };
    let line = output.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let packet = &output[line..];
    let length = u32::from_be_bytes(packet[..4].try_into().unwrap()) as usize;
    packet[5..4 + length - usize::from(packet[4])].to_vec()
}

#[test]
fn the_first_kexinit_says_this_and_nothing_else() {
    let markers = [
        (
            Side::Client,
            "ext-info-c,kex-strict-c,kex-strict-c-v00@openssh.com",
            "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,\
             rsa-sha2-512,rsa-sha2-256",
        ),
        (
            Side::Server,
            "ext-info-s,kex-strict-s,kex-strict-s-v00@openssh.com",
            "ssh-ed25519",
        ),
    ];
    for (side, markers, host_keys) in markers {
        let payload = first_kexinit(side, 1);
        let said = KexInit::decode(&payload).unwrap();
        assert_eq!(said.kex_algorithms.as_str(), format!("{KEX},{markers}"));
        assert_eq!(said.server_host_key_algorithms.as_str(), host_keys);
        assert_eq!(
            said.encryption_algorithms_client_to_server.as_str(),
            CIPHERS
        );
        assert_eq!(
            said.encryption_algorithms_server_to_client.as_str(),
            CIPHERS
        );
        assert_eq!(said.mac_algorithms_client_to_server.as_str(), MACS);
        assert_eq!(said.mac_algorithms_server_to_client.as_str(), MACS);
        assert_eq!(
            said.compression_algorithms_client_to_server.as_str(),
            "none"
        );
        assert_eq!(
            said.compression_algorithms_server_to_client.as_str(),
            "none"
        );
        assert_eq!(said.languages_client_to_server.as_str(), "");
        assert_eq!(said.languages_server_to_client.as_str(), "");
        assert!(!said.first_kex_packet_follows);
    }
}

#[test]
fn nothing_that_is_broken_can_be_asked_for() {
    // Not even by a caller who wants it: these are no names here.
    for name in [
        "diffie-hellman-group1-sha1",
        "diffie-hellman-group14-sha1",
        "diffie-hellman-group-exchange-sha1",
        "rsa1024-sha1",
        "rsa2048-sha256",
    ] {
        assert!(Preference::<Kex>::parse(name).is_err(), "{name}");
    }
    for name in ["none", "3des-cbc", "aes128-cbc", "aes256-cbc", "arcfour"] {
        assert!(Preference::<Cipher>::parse(name).is_err(), "{name}");
    }
    for name in ["none", "hmac-md5", "hmac-sha1", "hmac-sha1-96"] {
        assert!(Preference::<Mac>::parse(name).is_err(), "{name}");
    }
    for name in ["ssh-rsa", "ssh-dss"] {
        assert!(
            Preference::<SignatureAlgorithm>::parse(name).is_err(),
            "{name}"
        );
    }
}

#[test]
fn two_first_kexinits_differ_in_the_cookie_alone() {
    for side in [Side::Client, Side::Server] {
        let (one, other) = (first_kexinit(side, 1), first_kexinit(side, 2));
        assert_ne!(one[1..17], other[1..17]);
        assert_eq!(one[17..], other[17..]);
    }
}
