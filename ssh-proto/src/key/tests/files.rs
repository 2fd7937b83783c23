use proptest::prelude::*;

use super::*;
use crate::key::{Encryption, Format};
use crate::names::SignatureAlgorithm;
use crate::wire::Reader;

#[test]
fn keys_of_ssh_keygen_are_read_and_sign() {
    for fixture in &FIXTURES {
        let key = fixture.key();
        assert_eq!(*key.public(), fixture.public_key());
        assert_eq!(key.comment(), "test@example");
        for &algorithm in key.public().algorithms() {
            let signature = key.sign(algorithm, b"message").unwrap();
            assert_eq!(
                key.public().verify(algorithm, b"message", &signature),
                Ok(())
            );
        }
    }
}

#[test]
fn the_files_of_ssh_keygen_are_written_byte_for_byte() {
    for fixture in &FIXTURES {
        let bytes = inside(fixture.file);
        let mut reader = Reader::new(&bytes);
        reader.bytes(15 + 8 + 8 + 4 + 4).unwrap();
        reader.string().unwrap();
        let checkint = Reader::new(reader.string().unwrap()).uint32().unwrap();
        let written = fixture.key().to_openssh(None, checkint).unwrap();
        assert_eq!(written.expose(), fixture.file.as_bytes());
    }
}

#[test]
fn a_clone_and_its_origin_share_the_secret() {
    let key = FIXTURES[0].key();
    let other = key.clone().with_comment("another");
    assert_eq!(
        (key.comment(), other.comment()),
        ("test@example", "another")
    );
    drop(key);
    let signature = other.sign(SignatureAlgorithm::Ed25519, b"m").unwrap();
    assert_eq!(
        other
            .public()
            .verify(SignatureAlgorithm::Ed25519, b"m", &signature),
        Ok(())
    );
}

#[test]
fn debug_shows_the_public_half_alone() {
    let text = format!("{:?}", FIXTURES[0].key());
    assert_eq!(
        text,
        "PrivateKey { public: PublicKey(ssh-ed25519 SHA256:aKPLBw6X+O/Ms+krYpVAZCyrbgHJHk+T87o+UzHxFUQ), \
         comment: \"test@example\", .. }"
    );
}

#[test]
fn keys_go_to_other_threads() {
    fn check<T: Send + Sync + 'static>() {}
    check::<PrivateKey>();
    check::<PublicKey>();
    check::<KeyError>();
}

#[test]
fn other_formats_are_named() {
    for (file, format) in [
        ("-----BEGIN RSA PRIVATE KEY-----\n", Format::Pkcs1Private),
        ("-----BEGIN RSA PUBLIC KEY-----\n", Format::Pkcs1Public),
        ("-----BEGIN EC PRIVATE KEY-----\n", Format::Sec1Private),
        ("-----BEGIN DSA PRIVATE KEY-----\n", Format::DsaPrivate),
        ("-----BEGIN PRIVATE KEY-----\n", Format::Pkcs8Private),
        (
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
            Format::Pkcs8EncryptedPrivate,
        ),
        ("-----BEGIN PUBLIC KEY-----\n", Format::SpkiPublic),
        ("-----BEGIN CERTIFICATE-----\n", Format::X509Certificate),
        (FIXTURES[0].signature, Format::SshSignature),
        ("-----BEGIN PGP MESSAGE-----\n", Format::OtherPem),
        (
            "PuTTY-User-Key-File-3: ssh-ed25519\r\n",
            Format::PuttyPrivate,
        ),
        ("---- BEGIN SSH2 PUBLIC KEY ----\n", Format::Rfc4716Public),
        (
            "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n",
            Format::SshComPrivate,
        ),
        ("SSH PRIVATE KEY FILE FORMAT 1.1\n\0", Format::Ssh1Private),
        (FIXTURES[1].public, Format::OpensshPublic),
        (
            "ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5 me",
            Format::OpensshCertificate,
        ),
        ("hello there", Format::Unknown),
        ("", Format::Unknown),
    ] {
        let error = PrivateKey::from_openssh(file, None).unwrap_err();
        assert_eq!(error, KeyError::Foreign(format), "{file}");
    }
    let error = PublicKey::from_openssh(FIXTURES[0].file).unwrap_err();
    assert_eq!(error, KeyError::Foreign(Format::OpensshPrivate));
    assert_eq!(error.to_string(), "this is an OpenSSH private key");
}

#[test]
fn a_key_type_that_cannot_sign_is_named() {
    let error = PrivateKey::from_openssh(include_str!("../fixtures/dsa"), None).unwrap_err();
    assert_eq!(error, KeyError::unsupported("key type", "ssh-dss"));
    assert_eq!(error.to_string(), "key type \"ssh-dss\" is not supported");
}

#[test]
fn files_edited_on_other_systems_are_read() {
    let fixture = &FIXTURES[0];
    let crlf = fixture.file.replace('\n', "\r\n");
    let indented = fixture.file.replace('\n', "\n  ");
    let marked = format!("\u{feff}\n{}\n\n", fixture.file);
    for file in [crlf, indented, marked] {
        let key = PrivateKey::from_openssh(&file, None).unwrap();
        assert_eq!(*key.public(), fixture.public_key());
    }
}

#[test]
fn a_key_too_large_for_a_file_is_not_written() {
    let key = FIXTURES[0].key().with_comment(&"x".repeat(64 * 1024));
    let limit = KeyError::Limit("a private key file has at most 64 KiB");
    assert_eq!(key.to_openssh(None, 1), Err(limit.clone()));
    let long = " ".repeat(64 * 1024) + FIXTURES[0].file;
    assert_eq!(PrivateKey::from_openssh(&long, None).unwrap_err(), limit);
}

#[cfg(not(feature = "encrypted-keys"))]
#[test]
fn without_the_feature_encrypted_files_are_refused_by_name() {
    let error = KeyError::unsupported("key derivation", "bcrypt");
    let result = PrivateKey::from_openssh(FIXTURES[0].encrypted, PASSPHRASE);
    assert_eq!(result.unwrap_err(), error);
    let encryption = Encryption {
        passphrase: b"passphrase",
        rounds: 1,
        salt: [1; 16],
    };
    let result = FIXTURES[0].key().to_openssh(Some(encryption), 1);
    assert_eq!(result.unwrap_err(), error);
}

#[test]
fn the_public_half_needs_no_passphrase() {
    for fixture in &FIXTURES {
        for (file, encrypted) in [(fixture.file, false), (fixture.encrypted, true)] {
            assert_eq!(PrivateKey::is_encrypted(file), Ok(encrypted));
            let public = PublicKey::from_openssh_private(file);
            assert_eq!(public, Ok(fixture.public_key()));
        }
    }
}

#[cfg(feature = "encrypted-keys")]
mod encrypted {
    use super::*;
    use crate::wire::Malformed;

    const CIPHERS: [&str; 7] = [
        include_str!("../fixtures/ed25519.aes128-ctr"),
        include_str!("../fixtures/ed25519.aes192-ctr"),
        include_str!("../fixtures/ed25519.aes128-cbc"),
        include_str!("../fixtures/ed25519.aes192-cbc"),
        include_str!("../fixtures/ed25519.aes256-cbc"),
        include_str!("../fixtures/ed25519.aes128-gcm"),
        include_str!("../fixtures/ed25519.aes256-gcm"),
    ];

    #[test]
    fn chacha20_poly1305_files_are_named_and_not_read() {
        let file = include_str!("../fixtures/ed25519.chacha20-poly1305");
        let error = PrivateKey::from_openssh(file, PASSPHRASE).unwrap_err();
        assert!(
            error.to_string().contains("chacha20-poly1305@openssh.com"),
            "{error}"
        );
    }

    #[test]
    fn encrypted_keys_of_ssh_keygen_are_read() {
        for fixture in &FIXTURES {
            let key = PrivateKey::from_openssh(fixture.encrypted, PASSPHRASE).unwrap();
            assert_eq!(*key.public(), fixture.public_key());
            assert_eq!(key.comment(), "test@example");
        }
    }

    #[test]
    fn every_cipher_is_read_with_the_right_passphrase_only() {
        for file in CIPHERS {
            let key = PrivateKey::from_openssh(file, PASSPHRASE).unwrap();
            assert_eq!(*key.public(), FIXTURES[0].public_key());
            assert_eq!(key.comment(), "test@example");
            for (passphrase, error) in [
                (Some(&b"passphras"[..]), KeyError::WrongPassphrase),
                (Some(b""), KeyError::PassphraseNeeded),
                (None, KeyError::PassphraseNeeded),
            ] {
                let result = PrivateKey::from_openssh(file, passphrase);
                assert_eq!(result.unwrap_err(), error);
            }
        }
    }

    #[test]
    fn a_change_under_a_tag_is_noticed_anywhere() {
        for file in &CIPHERS[5..] {
            let bytes = inside(file);
            // The private section and the tag are the last 144 + 16 bytes.
            for at in [1, 16, 17, 40, 100, 160] {
                let mut bytes = bytes.clone();
                let at = bytes.len() - at;
                bytes[at] ^= 0x10;
                let result = PrivateKey::from_openssh(armored(&bytes), PASSPHRASE);
                assert_eq!(result.unwrap_err(), KeyError::WrongPassphrase);
            }
            for (len, problem) in [(15, Malformed::Truncated), (17, Malformed::Trailing)] {
                let mut bytes = bytes.clone();
                bytes.resize(bytes.len() - 16 + len, 0);
                let result = PrivateKey::from_openssh(armored(&bytes), PASSPHRASE);
                assert_eq!(result.unwrap_err(), KeyError::malformed("tag", problem));
            }
        }
    }

    #[test]
    fn a_cipher_that_is_not_supported_is_named() {
        let file = include_str!("../fixtures/ed25519.3des-cbc");
        let error = PrivateKey::from_openssh(file, PASSPHRASE).unwrap_err();
        assert_eq!(error, KeyError::unsupported("cipher", "3des-cbc"));
        // Its public half is in clear all the same.
        let public = PublicKey::from_openssh_private(file);
        assert_eq!(public, Ok(FIXTURES[0].public_key()));
    }

    #[test]
    fn a_key_derivation_that_is_not_supported_is_named() {
        let mut other = inside(FIXTURES[0].encrypted);
        let text = String::from_utf8_lossy(&other).into_owned();
        let at = text.find("bcrypt").unwrap();
        other[at..at + 6].copy_from_slice(b"scr\x1bpt");
        let error = PrivateKey::from_openssh(armored(&other), PASSPHRASE).unwrap_err();
        assert_eq!(
            error.to_string(),
            "key derivation \"scr\\\\u{1b}pt\" is not supported"
        );
    }

    #[test]
    fn rounds_are_bounded_before_any_work() {
        let file = FIXTURES[0].encrypted;
        let limit = KeyError::Limit("more bcrypt rounds than are allowed");
        let read = |max| PrivateKey::from_openssh_with_max_rounds(file, PASSPHRASE, max);
        assert_eq!(read(1).unwrap_err(), limit);
        assert!(read(2).is_ok());

        let bytes = inside(file);
        let text = String::from_utf8_lossy(&bytes[..60]).into_owned();
        let rounds = text.find("bcrypt").unwrap() + 6 + 4 + 4 + 16;
        assert_eq!(bytes[rounds..rounds + 4], [0, 0, 0, 2]);
        // Without a passphrase nothing is derived: the bound is judged first.
        for (count, error) in [
            (u32::MAX, limit.clone()),
            (1_025, limit),
            (1_024, KeyError::PassphraseNeeded),
            (0, KeyError::malformed("rounds", Malformed::Value)),
        ] {
            let mut bytes = bytes.clone();
            bytes[rounds..rounds + 4].copy_from_slice(&count.to_be_bytes());
            let result = PrivateKey::from_openssh(armored(&bytes), None);
            assert_eq!(result.unwrap_err(), error);
        }
    }

    #[test]
    fn an_encrypted_file_of_ssh_keygen_is_written_byte_for_byte() {
        let bytes = inside(FIXTURES[4].encrypted);
        let mut reader = Reader::new(&bytes);
        reader.bytes(15).unwrap();
        assert_eq!(reader.string(), Ok(&b"aes256-ctr"[..]));
        assert_eq!(reader.string(), Ok(&b"bcrypt"[..]));
        let mut options = Reader::new(reader.string().unwrap());
        let salt = options.string().unwrap().try_into().unwrap();
        let encryption = Encryption {
            passphrase: b"passphrase",
            rounds: options.uint32().unwrap(),
            salt,
        };
        // The checkint is the first thing that counter mode hides: the key stream gives it away.
        let key = FIXTURES[4].key();
        let zero = key.to_openssh(Some(encryption), 0).unwrap();
        let zero = inside(std::str::from_utf8(zero.expose()).unwrap());
        reader.uint32().unwrap();
        reader.string().unwrap();
        reader.uint32().unwrap();
        let at = bytes.len() - reader.remaining().len();
        let word = |bytes: &[u8]| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let checkint = word(&bytes) ^ word(&zero);
        let written = key.to_openssh(Some(encryption), checkint).unwrap();
        assert_eq!(written.expose(), FIXTURES[4].encrypted.as_bytes());
    }

    #[test]
    fn an_empty_passphrase_encrypts_nothing() {
        let encryption = |passphrase, rounds| {
            let salt = [1; 16];
            Some(Encryption {
                passphrase,
                rounds,
                salt,
            })
        };
        let key = FIXTURES[0].key();
        assert_eq!(
            key.to_openssh(encryption(b"", 1), 1),
            Err(KeyError::PassphraseNeeded)
        );
        assert_eq!(
            key.to_openssh(encryption(b"x", 0), 1),
            Err(KeyError::malformed("rounds", Malformed::Value))
        );
    }
}

fn kinds() -> impl Strategy<Value = KeyKind> {
    prop::sample::select(vec![
        KeyKind::Ed25519,
        KeyKind::EcdsaNistp256,
        KeyKind::EcdsaNistp384,
        KeyKind::EcdsaNistp521,
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read_again(
        kind in kinds(),
        entropy in any::<[u8; 32]>(),
        comment in any::<String>(),
        checkint in any::<u32>(),
    ) {
        let key = PrivateKey::generate(kind, &entropy).unwrap().with_comment(&comment);
        let file = key.to_openssh(None, checkint).unwrap();
        let again = PrivateKey::from_openssh(file.expose(), None).unwrap();
        prop_assert_eq!(again.public(), key.public());
        prop_assert_eq!(again.comment(), comment.as_str());
        // The secret half as well: the files are the same.
        prop_assert_eq!(again.to_openssh(None, checkint).unwrap(), file);
    }

    #[cfg(feature = "encrypted-keys")]
    #[test]
    fn what_is_encrypted_is_read_again(
        kind in kinds(),
        entropy in any::<[u8; 32]>(),
        comment in any::<String>(),
        passphrase in prop::collection::vec(any::<u8>(), 1..100),
        rounds in 1_u32..3,
        salt in any::<[u8; 16]>(),
        checkint in any::<u32>(),
    ) {
        let key = PrivateKey::generate(kind, &entropy).unwrap().with_comment(&comment);
        let encryption = Encryption { passphrase: &passphrase, rounds, salt };
        let file = key.to_openssh(Some(encryption), checkint).unwrap();
        let again = PrivateKey::from_openssh(file.expose(), Some(&passphrase)).unwrap();
        prop_assert_eq!(again.public(), key.public());
        prop_assert_eq!(again.comment(), comment.as_str());
        prop_assert_eq!(again.to_openssh(Some(encryption), checkint).unwrap(), file);
    }
}

#[test]
fn a_new_rsa_key_is_written_and_read_again() {
    let key = PrivateKey::generate(KeyKind::Rsa { bits: 2_048 }, &[0; 32]).unwrap();
    assert_eq!((key.public().bits(), key.comment()), (2_048, ""));
    let file = key.to_openssh(None, 7).unwrap();
    let again = PrivateKey::from_openssh(file.expose(), None).unwrap();
    assert_eq!(again.public(), key.public());
    let signature = again.sign(SignatureAlgorithm::RsaSha256, b"m").unwrap();
    assert_eq!(
        key.public()
            .verify(SignatureAlgorithm::RsaSha256, b"m", &signature),
        Ok(())
    );
}
