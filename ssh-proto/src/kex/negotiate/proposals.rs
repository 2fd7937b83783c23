//! Any two proposals, with names that are no algorithms in every list: the outcome is that of the rule, or there is none.

use proptest::prelude::*;

use super::*;

/// Names that must never come out, whoever says them and wherever.
const FOREIGN: [&str; 10] = [
    "none",
    "ext-info-c",
    "ext-info-s",
    "kex-strict-c",
    "kex-strict-s",
    "kex-strict-c-v00@openssh.com",
    "kex-strict-s-v00@openssh.com",
    "diffie-hellman-group1-sha1",
    "ssh-rsa",
    "3des-cbc",
];

/// A list of algorithms of one kind and of other names, in any order, some twice.
fn list<A: Algorithm>() -> impl Strategy<Value = String> {
    let names: Vec<&'static str> = A::ALL
        .iter()
        .map(|algorithm| algorithm.name())
        .chain(FOREIGN)
        .collect();
    prop::collection::vec(prop::sample::select(names), 0..14).prop_map(|names| names.join(","))
}

/// The lists of one side: methods, host keys, then ciphers and MACs of both directions.
fn proposal() -> impl Strategy<Value = [String; 6]> {
    (
        list::<Kex>(),
        list::<SignatureAlgorithm>(),
        list::<Cipher>(),
        list::<Cipher>(),
        list::<Mac>(),
        list::<Mac>(),
    )
        .prop_map(|(a, b, c, d, e, f)| [a, b, c, d, e, f])
}

fn kexinit(lists: &[String; 6]) -> Vec<u8> {
    let [kex, host_keys, cipher_c, cipher_s, mac_c, mac_s] =
        lists.each_ref().map(|list| NameList::new(list));
    let none = NameList::new("none");
    KexInit {
        cookie: [0; 16],
        kex_algorithms: kex,
        server_host_key_algorithms: host_keys,
        encryption_algorithms_client_to_server: cipher_c,
        encryption_algorithms_server_to_client: cipher_s,
        mac_algorithms_client_to_server: mac_c,
        mac_algorithms_server_to_client: mac_s,
        compression_algorithms_client_to_server: none,
        compression_algorithms_server_to_client: none,
        languages_client_to_server: NameList::default(),
        languages_server_to_client: NameList::default(),
        first_kex_packet_follows: false,
        reserved: 0,
    }
    .to_payload()
}

/// RFC 4253 section 7.1, of names that are algorithms here.
fn first<A: Algorithm>(client: &str, server: &str) -> Option<A> {
    client
        .split(',')
        .filter(|name| server.split(',').any(|other| other == *name))
        .find_map(|name| A::ALL.iter().copied().find(|known| known.name() == name))
}

/// Cipher and MAC of one direction.
fn direction(client: [&str; 2], server: [&str; 2]) -> Option<(Cipher, Option<Mac>)> {
    let cipher: Cipher = first(client[0], server[0])?;
    if cipher.is_aead() {
        return Some((cipher, None));
    }
    Some((cipher, Some(first(client[1], server[1])?)))
}

/// Everything, or nothing.
type Chosen = (
    Kex,
    SignatureAlgorithm,
    (Cipher, Option<Mac>),
    (Cipher, Option<Mac>),
);

fn reference(client: &[String; 6], server: &[String; 6]) -> Option<Chosen> {
    Some((
        first(&client[0], &server[0])?,
        first(&client[1], &server[1])?,
        direction([&client[2], &client[4]], [&server[2], &server[4]])?,
        direction([&client[3], &client[5]], [&server[3], &server[5]])?,
    ))
}

fn outcome(local: &[String; 6], peer: &[String; 6], side: Side) -> Option<Chosen> {
    let (local, peer) = (kexinit(local), kexinit(peer));
    let local = KexInit::decode(&local).unwrap();
    let peer = KexInit::decode(&peer).unwrap();
    let outcome = negotiate(&local, &peer, side);
    assert!(matches!(outcome, Ok(_) | Err(Error::Incompatible(_))));
    let chosen = outcome.ok()?.negotiated;
    let each = |direction: DirectionAlgorithms| (direction.cipher, direction.mac);
    Some((
        chosen.kex,
        chosen.host_key,
        each(chosen.client_to_server),
        each(chosen.server_to_client),
    ))
}

proptest! {
    #[test]
    fn any_two_proposals_give_what_the_rule_says_on_both_sides(
        client in proposal(),
        server in proposal(),
    ) {
        let expected = reference(&client, &server);
        prop_assert_eq!(outcome(&client, &server, Side::Client), expected);
        prop_assert_eq!(outcome(&server, &client, Side::Server), expected);
    }
}

#[test]
fn a_marker_or_none_is_never_chosen() {
    let good = || {
        [
            "curve25519-sha256",
            "ssh-ed25519",
            "aes128-ctr",
            "aes128-ctr",
            "hmac-sha2-256",
            "hmac-sha2-256",
        ]
        .map(str::to_owned)
    };
    assert!(outcome(&good(), &good(), Side::Client).is_some());
    for at in 0..6 {
        for name in FOREIGN {
            // Both sides put it first: what comes behind it is chosen.
            let mut first = good();
            first[at] = format!("{name},{}", first[at]);
            for side in [Side::Client, Side::Server] {
                let chosen = outcome(&first, &first, side);
                assert_eq!(chosen, outcome(&good(), &good(), side), "{at} {name}");
            }
            // Both sides have nothing else: there is nothing in common.
            let mut only = good();
            only[at] = name.to_owned();
            for side in [Side::Client, Side::Server] {
                assert_eq!(outcome(&only, &only, side), None, "{at} {name}");
            }
        }
    }
}
