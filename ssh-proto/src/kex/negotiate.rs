//! Negotiation of the algorithms (RFC 4253 section 7.1).
//!
//! In: both sides' KEXINIT. Out: [`Negotiated`], or which list has nothing in common.

use std::sync::Arc;

use crate::config::TransportConfig;
use crate::connection::role::Side;
use crate::error::{Error, Incompatible};
use crate::msg::Message;
use crate::msg::transport::KexInit;
use crate::names::{Algorithm, Cipher, Compression, Kex, Mac, SignatureAlgorithm};
use crate::wire::NameList;

/// RFC 8308 section 2.1: names that are no methods but say that EXT_INFO is understood.
const EXT_INFO: [(Side, &str); 2] = [(Side::Client, "ext-info-c"), (Side::Server, "ext-info-s")];
/// Strict key exchange under the name of draft-miller-sshm-strict-kex and under OpenSSH's (PROTOCOL section 1.10).
///
/// OpenSSH's comes last: Paramiko lets the last name that starts with `kex-strict-` decide, and knows this one only.
const STRICT: [(Side, [&str; 2]); 2] = [
    (
        Side::Client,
        ["kex-strict-c", "kex-strict-c-v00@openssh.com"],
    ),
    (
        Side::Server,
        ["kex-strict-s", "kex-strict-s-v00@openssh.com"],
    ),
];

/// The algorithms in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Negotiated {
    /// The key exchange method.
    pub kex: Kex,
    /// The signature algorithm of the host key.
    pub host_key: SignatureAlgorithm,
    /// From the client to the server.
    pub client_to_server: DirectionAlgorithms,
    /// From the server to the client.
    pub server_to_client: DirectionAlgorithms,
    /// Strict key exchange: the answer to the Terrapin attack (CVE-2023-48795).
    pub strict: bool,
}

/// The algorithms of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirectionAlgorithms {
    /// The cipher.
    pub cipher: Cipher,
    /// The MAC; `None` when the cipher authenticates by itself.
    pub mac: Option<Mac>,
    /// The compression method.
    pub compression: Compression,
}

/// What two KEXINITs say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) negotiated: Negotiated,
    /// Both sides put the same key exchange method and the same host key algorithm first.
    pub(crate) guess_is_right: bool,
    /// The peer takes EXT_INFO.
    pub(crate) peer_takes_ext_info: bool,
}

/// Our KEXINIT as a payload. `host_keys` are the algorithms that this side can really do.
pub(crate) fn local_kexinit(
    config: &TransportConfig,
    host_keys: &[SignatureAlgorithm],
    side: Side,
    first: bool,
    guess: bool,
    cookie: [u8; 16],
) -> Vec<u8> {
    let algorithms = &config.algorithms;
    // RFC 8308 section 2.1 and strict-kex: "only in the first key exchange".
    let ours = |whose: Side| first && whose == side;
    let markers = EXT_INFO.iter().filter(|(whose, _)| ours(*whose));
    let strict = STRICT.iter().filter(|(whose, _)| ours(*whose));
    let kex = list(
        algorithms
            .kex
            .names()
            .chain(markers.map(|(_, name)| *name))
            .chain(strict.flat_map(|(_, names)| *names)),
    );
    let host_keys = list(host_keys.iter().map(|key| key.name()));
    let ciphers = list(algorithms.ciphers.names());
    let macs = list(algorithms.macs.names());
    let compression = list(Compression::DEFAULT.iter().map(|c| c.name()));
    KexInit {
        cookie,
        kex_algorithms: NameList::new(&kex),
        server_host_key_algorithms: NameList::new(&host_keys),
        encryption_algorithms_client_to_server: NameList::new(&ciphers),
        encryption_algorithms_server_to_client: NameList::new(&ciphers),
        mac_algorithms_client_to_server: NameList::new(&macs),
        mac_algorithms_server_to_client: NameList::new(&macs),
        compression_algorithms_client_to_server: NameList::new(&compression),
        compression_algorithms_server_to_client: NameList::new(&compression),
        languages_client_to_server: NameList::default(),
        languages_server_to_client: NameList::default(),
        first_kex_packet_follows: guess,
        reserved: 0,
    }
    .to_payload()
}

/// Names as they stand in a `name-list`.
fn list<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut list = String::with_capacity(256);
    for name in names {
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(name);
    }
    list
}

/// Negotiates. `side` is ours; it decides whose list is the client's, and who is named in an error.
pub(crate) fn negotiate(
    local: &KexInit<'_>,
    peer: &KexInit<'_>,
    side: Side,
) -> Result<Outcome, Error> {
    let (client, server) = match side {
        Side::Client => (local, peer),
        Side::Server => (peer, local),
    };
    let pick = Picker { side };
    let direction = |c: [NameList<'_>; 3], s: [NameList<'_>; 3], what: [&'static str; 3]| {
        let ([c_cipher, c_mac, c_comp], [s_cipher, s_mac, s_comp]) = (c, s);
        let [cipher_is, mac_is, comp_is] = what;
        let cipher: Cipher = pick.first(c_cipher, s_cipher, cipher_is)?;
        // RFC 5647 section 5.1 as OpenSSH reads it: a cipher that authenticates needs no MAC, whatever the lists say.
        let mac = if cipher.is_aead() {
            None
        } else {
            Some(pick.first::<Mac>(c_mac, s_mac, mac_is)?)
        };
        let compression = pick.first(c_comp, s_comp, comp_is)?;
        Ok::<_, Error>(DirectionAlgorithms {
            cipher,
            mac,
            compression,
        })
    };
    let negotiated = Negotiated {
        kex: pick.first(
            client.kex_algorithms,
            server.kex_algorithms,
            "key exchange method",
        )?,
        host_key: pick.first(
            client.server_host_key_algorithms,
            server.server_host_key_algorithms,
            "host key algorithm",
        )?,
        client_to_server: direction(
            [
                client.encryption_algorithms_client_to_server,
                client.mac_algorithms_client_to_server,
                client.compression_algorithms_client_to_server,
            ],
            [
                server.encryption_algorithms_client_to_server,
                server.mac_algorithms_client_to_server,
                server.compression_algorithms_client_to_server,
            ],
            [
                "cipher from client to server",
                "MAC from client to server",
                "compression from client to server",
            ],
        )?,
        server_to_client: direction(
            [
                client.encryption_algorithms_server_to_client,
                client.mac_algorithms_server_to_client,
                client.compression_algorithms_server_to_client,
            ],
            [
                server.encryption_algorithms_server_to_client,
                server.mac_algorithms_server_to_client,
                server.compression_algorithms_server_to_client,
            ],
            [
                "cipher from server to client",
                "MAC from server to client",
                "compression from server to client",
            ],
        )?,
        strict: says_strict(client, Side::Client) && says_strict(server, Side::Server),
    };
    Ok(Outcome {
        negotiated,
        guess_is_right: client.kex_algorithms.first() == server.kex_algorithms.first()
            && client.server_host_key_algorithms.first()
                == server.server_host_key_algorithms.first(),
        peer_takes_ext_info: EXT_INFO
            .iter()
            .any(|(whose, name)| *whose != side && peer.kex_algorithms.contains(name)),
    })
}

fn says_strict(kexinit: &KexInit<'_>, side: Side) -> bool {
    STRICT
        .iter()
        .filter(|(whose, _)| *whose == side)
        .any(|(_, names)| {
            names
                .iter()
                .any(|name| kexinit.kex_algorithms.contains(name))
        })
}

struct Picker {
    side: Side,
}

impl Picker {
    /// RFC 4253 section 7.1: "the first algorithm on the client's name-list that is also on the server's name-list".
    /// Markers such as `ext-info-c` are no algorithms of ours and so never chosen.
    fn first<A: Algorithm>(
        &self,
        client: NameList<'_>,
        server: NameList<'_>,
        what: &'static str,
    ) -> Result<A, Error> {
        client
            .iter()
            .filter(|name| server.contains(name))
            .find_map(A::from_name)
            .ok_or_else(|| {
                let (local, peer) = match self.side {
                    Side::Client => (client, server),
                    Side::Server => (server, client),
                };
                let shown = |list: NameList<'_>| list.as_str().chars().take(512).collect();
                Error::Incompatible(Arc::new(Incompatible {
                    what,
                    local: shown(local),
                    peer: shown(peer),
                }))
            })
    }
}

#[cfg(test)]
mod proposals;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Preference;
    use proptest::prelude::*;

    fn kexinit(config: &TransportConfig, side: Side) -> Vec<u8> {
        local_kexinit(
            config,
            SignatureAlgorithm::DEFAULT,
            side,
            true,
            false,
            [0; 16],
        )
    }

    fn both(client: &TransportConfig, server: &TransportConfig) -> [Result<Outcome, Error>; 2] {
        let (c, s) = (kexinit(client, Side::Client), kexinit(server, Side::Server));
        let (c, s) = (KexInit::decode(&c).unwrap(), KexInit::decode(&s).unwrap());
        [
            negotiate(&c, &s, Side::Client),
            negotiate(&s, &c, Side::Server),
        ]
    }

    fn shuffled<A: Algorithm>() -> impl Strategy<Value = Preference<A>> {
        (Just(A::ALL.to_vec()).prop_shuffle(), 1..=A::ALL.len())
            .prop_map(|(list, len)| Preference::new(list.into_iter().take(len)).unwrap())
    }

    fn configs() -> impl Strategy<Value = TransportConfig> {
        (shuffled(), shuffled(), shuffled()).prop_map(|(kex, ciphers, macs)| {
            let mut config = TransportConfig::default();
            config.algorithms.kex = kex;
            config.algorithms.ciphers = ciphers;
            config.algorithms.macs = macs;
            config
        })
    }

    /// The rule of RFC 4253 section 7.1 in one line.
    fn reference<A: Algorithm>(client: &Preference<A>, server: &Preference<A>) -> Option<A> {
        client.iter().find(|&algorithm| server.contains(algorithm))
    }

    proptest! {
        #[test]
        fn the_clients_first_that_the_server_has_is_chosen(client in configs(), server in configs()) {
            let [at_client, at_server] = both(&client, &server);
            let kex = reference(&client.algorithms.kex, &server.algorithms.kex);
            let cipher = reference(&client.algorithms.ciphers, &server.algorithms.ciphers);
            let mac = reference(&client.algorithms.macs, &server.algorithms.macs);
            let possible = match (kex, cipher) {
                (Some(_), Some(cipher)) => cipher.is_aead() || mac.is_some(),
                _ => false,
            };
            prop_assert_eq!(at_client.is_ok(), possible);
            prop_assert_eq!(at_server.is_ok(), possible);
            if let (Ok(at_client), Ok(at_server)) = (at_client, at_server) {
                prop_assert_eq!(at_client.negotiated, at_server.negotiated);
                prop_assert_eq!(Some(at_client.negotiated.kex), kex);
                let direction = at_client.negotiated.client_to_server;
                prop_assert_eq!(Some(direction.cipher), cipher);
                prop_assert_eq!(direction.mac, mac.filter(|_| !direction.cipher.is_aead()));
                prop_assert!(at_client.negotiated.strict && at_client.peer_takes_ext_info);
                prop_assert_eq!(at_client.guess_is_right, at_server.guess_is_right);
            }
        }
    }

    #[test]
    fn the_strict_name_that_every_peer_knows_comes_last() {
        for (side, last) in [
            (Side::Client, "kex-strict-c-v00@openssh.com"),
            (Side::Server, "kex-strict-s-v00@openssh.com"),
        ] {
            let kexinit = kexinit(&TransportConfig::default(), side);
            let kexinit = KexInit::decode(&kexinit).unwrap();
            assert_eq!(kexinit.kex_algorithms.iter().last(), Some(last));
        }
    }

    #[test]
    fn an_error_names_the_list_and_both_sides() {
        let mut client = TransportConfig::default();
        client.algorithms.ciphers = Preference::parse("aes128-ctr").unwrap();
        let mut server = TransportConfig::default();
        server.algorithms.ciphers = Preference::parse("aes256-ctr").unwrap();
        let [at_client, _] = both(&client, &server);
        let text = at_client.unwrap_err().to_string();
        assert!(text.contains("cipher from client to server"), "{text}");
        assert!(
            text.contains("this side has aes128-ctr") && text.contains("the peer has aes256-ctr")
        );
    }
}
