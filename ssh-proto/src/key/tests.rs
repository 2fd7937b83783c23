//! Tests of the key layer against files and signatures that OpenSSH made, and against broken ones.

mod bounds;
mod broken_files;
mod files;
mod known_answers;
mod publics;
mod signatures;

use super::{KeyError, KeyKind, PrivateKey, PublicKey};

const PASSPHRASE: Option<&[u8]> = Some(b"passphrase");

/// What `ssh-keygen` made of one key, and what `ssh-keygen -l` says about it.
struct Fixture {
    file: &'static str,
    encrypted: &'static str,
    public: &'static str,
    signature: &'static str,
    bits: u32,
    sha256: &'static str,
    md5: &'static str,
}

macro_rules! fixture {
    ($name:literal, $bits:literal, $sha256:literal, $md5:literal) => {
        Fixture {
            file: include_str!(concat!("fixtures/", $name)),
            encrypted: include_str!(concat!("fixtures/", $name, ".enc")),
            public: include_str!(concat!("fixtures/", $name, ".pub")),
            signature: include_str!(concat!("fixtures/", $name, ".sshsig")),
            bits: $bits,
            sha256: concat!("SHA256:", $sha256),
            md5: concat!("MD5:", $md5),
        }
    };
}

const FIXTURES: [Fixture; 5] = [
    fixture!(
        "ed25519",
        256,
        "aKPLBw6X+O/Ms+krYpVAZCyrbgHJHk+T87o+UzHxFUQ",
        "f2:71:6b:5d:a2:24:52:ac:ce:80:58:92:c1:a5:3d:39"
    ),
    fixture!(
        "nistp256",
        256,
        "NKHM4spq8SrvBZG6l9IGSz5ASNd4Hyim0Otp2J4Hb48",
        "6c:09:5b:eb:21:85:78:18:2b:31:61:e7:82:b1:58:85"
    ),
    fixture!(
        "nistp384",
        384,
        "/Hbsq4ZwWSeQOxve7gh6nrYQfUtIX6buWV/Ipb2jDps",
        "73:2b:b9:1c:75:95:61:a1:3f:cc:7c:fb:c5:9b:39:de"
    ),
    fixture!(
        "nistp521",
        521,
        "BaX9bkLThmCo2NKRlC5x04dGVF4CV0YxUo7+lbhuwbI",
        "14:b8:f3:e8:5d:86:d4:35:29:35:59:94:ab:c4:d6:0e"
    ),
    fixture!(
        "rsa2048",
        2048,
        "BH9jKvmj258PxbHclaYOPMgtnEhkM8rVmeaV+C7iz7k",
        "11:53:c5:b9:06:03:bd:df:f7:bb:6e:59:05:1d:46:c0"
    ),
];

impl Fixture {
    fn key(&self) -> PrivateKey {
        PrivateKey::from_openssh(self.file, None).unwrap()
    }

    fn public_key(&self) -> PublicKey {
        PublicKey::from_openssh(self.public).unwrap().0
    }
}

/// The bytes inside the armor.
fn inside(file: &str) -> Vec<u8> {
    super::pem::decode(file.as_bytes())
        .unwrap()
        .expose()
        .to_vec()
}

/// The bytes in armor again.
fn armored(bytes: &[u8]) -> Vec<u8> {
    super::pem::encode(bytes).unwrap().expose().to_vec()
}
