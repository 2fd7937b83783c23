use base64ct::{Base64, Encoding};
use proptest::prelude::*;

use super::*;
use crate::key::Format;
use crate::wire::{Malformed, Writer};

fn blob(fill: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut blob = Vec::new();
    fill(&mut Writer::new(&mut blob));
    blob
}

fn rsa(e: &[u8], n: &[u8]) -> Result<PublicKey, KeyError> {
    PublicKey::from_blob(&blob(|w| {
        w.string(b"ssh-rsa").mpint(e).mpint(n);
    }))
}

#[test]
fn fingerprints_and_sizes_are_those_of_ssh_keygen() {
    for fixture in &FIXTURES {
        let (key, comment) = PublicKey::from_openssh(fixture.public).unwrap();
        assert_eq!(key.fingerprint_sha256(), fixture.sha256);
        #[cfg(feature = "encrypted-keys")]
        assert_eq!(key.fingerprint_md5(), fixture.md5);
        #[cfg(not(feature = "encrypted-keys"))]
        let _ = fixture.md5;
        assert_eq!(key.bits(), fixture.bits);
        assert_eq!(comment, "test@example");
        assert_eq!(key.to_openssh(&comment), fixture.public.trim_end());
        assert_eq!(PublicKey::from_blob(key.blob()), Ok(key));
    }
}

#[test]
fn a_line_is_read_with_any_blanks_and_without_a_comment() {
    let key = FIXTURES[0].public_key();
    let line = key.to_openssh("");
    let (name, base64) = line.split_once(' ').unwrap();
    for (line, comment) in [
        (line.clone(), ""),
        (format!("  {name}\t \t{base64} \t a  b \r\n"), "a  b"),
    ] {
        let read = PublicKey::from_openssh(&line);
        assert_eq!(read, Ok((key.clone(), comment.to_owned())));
    }
}

#[test]
fn a_line_that_says_another_type_than_its_blob_is_refused() {
    let line = FIXTURES[0].public.replace("ssh-ed25519", "ssh-rsa");
    assert_eq!(
        PublicKey::from_openssh(&line),
        Err(KeyError::malformed("key type", Malformed::Value))
    );
}

#[test]
fn lines_that_are_none_are_refused() {
    let line = FIXTURES[0].public.trim();
    for (line, error) in [
        (format!("no-pty {line}"), KeyError::Foreign(Format::Unknown)),
        (
            format!("{line}\n{line}"),
            KeyError::malformed("comment", Malformed::Trailing),
        ),
        (
            line.replace("AAAAC3", "AAAA*3"),
            KeyError::malformed("base64", Malformed::Encoding),
        ),
        (
            format!("ssh-ed25519 {}", "AAAA".repeat(50_000)),
            KeyError::Limit("a public key has at most 64 KiB"),
        ),
    ] {
        assert_eq!(PublicKey::from_openssh(&line), Err(error));
    }
}

#[test]
fn a_comment_never_becomes_a_line_of_its_own() {
    let key = FIXTURES[0].public_key();
    let line = key.to_openssh("me\nssh-ed25519 AAAA evil\r\x1b[2J");
    assert!(!line.contains(char::is_control));
    let comment = "me ssh-ed25519 AAAA evil  [2J".to_owned();
    assert_eq!(PublicKey::from_openssh(&line), Ok((key, comment)));
}

#[test]
fn a_type_that_is_not_known_survives() {
    let bytes = blob(|w| {
        w.string(b"sk-ssh-ed25519@openssh.com")
            .string(&[7; 32])
            .string(b"ssh:");
    });
    let key = PublicKey::from_blob(&bytes).unwrap();
    assert_eq!(key.blob(), bytes);
    assert_eq!(key.key_type(), "sk-ssh-ed25519@openssh.com");
    assert_eq!((key.bits(), key.algorithms()), (0, &[][..]));
    let (again, comment) = PublicKey::from_openssh(&key.to_openssh("card")).unwrap();
    assert_eq!((again, comment.as_str()), (key, "card"));
}

#[test]
fn names_have_the_form_that_rfc_4250_asks_for() {
    let long = [b'x'; 65];
    for (name, problem) in [
        (&b""[..], Malformed::Encoding),
        (b"a,b", Malformed::Encoding),
        (b"a b", Malformed::Encoding),
        (b"a\nb", Malformed::Encoding),
        (b"\xff", Malformed::Encoding),
        (&long, Malformed::TooLong),
    ] {
        let bytes = blob(|w| {
            w.string(name);
        });
        let error = KeyError::malformed("key type", problem);
        assert_eq!(PublicKey::from_blob(&bytes), Err(error));
    }
    assert!(
        PublicKey::from_blob(&blob(|w| {
            w.string(&long[..64]);
        }))
        .is_ok()
    );
}

#[test]
fn an_ed25519_key_has_32_bytes() {
    for len in 0..128 {
        let bytes = blob(|w| {
            w.string(b"ssh-ed25519").string(&vec![1; len]);
        });
        assert_eq!(PublicKey::from_blob(&bytes).is_ok(), len == 32, "{len}");
    }
}

#[test]
fn points_are_uncompressed_and_of_the_curve_that_the_type_names() {
    let key = FIXTURES[1].public_key();
    let point = &key.blob()[key.blob().len() - 65..];
    let read = |name: &[u8], curve: &[u8], point: &[u8]| {
        PublicKey::from_blob(&blob(|w| {
            w.string(name).string(curve).string(point);
        }))
    };
    let name = b"ecdsa-sha2-nistp256";
    assert_eq!(read(name, b"nistp256", point), Ok(key.clone()));
    let wrong = |field| Err(KeyError::malformed(field, Malformed::Value));
    assert_eq!(read(name, b"nistp384", point), wrong("curve"));
    assert_eq!(read(b"ecdsa-sha2-nistp384", b"nistp384", point), wrong("Q"));
    assert_eq!(read(name, b"nistp256", &[0]), wrong("Q"));
    assert_eq!(read(name, b"nistp256", b""), wrong("Q"));
    let mut compressed = point[..33].to_vec();
    compressed[0] = 2;
    assert_eq!(read(name, b"nistp256", &compressed), wrong("Q"));
    let mut hybrid = point.to_vec();
    hybrid[0] = 6;
    assert_eq!(read(name, b"nistp256", &hybrid), wrong("Q"));
}

#[test]
fn bytes_behind_a_key_are_refused() {
    for fixture in &FIXTURES {
        let mut bytes = fixture.public_key().blob().to_vec();
        bytes.push(0);
        let error = KeyError::malformed("public key", Malformed::Trailing);
        assert_eq!(PublicKey::from_blob(&bytes), Err(error));
    }
}

#[test]
fn every_cut_key_is_refused() {
    for fixture in &FIXTURES {
        let key = fixture.public_key();
        for len in 0..key.blob().len() {
            assert!(PublicKey::from_blob(&key.blob()[..len]).is_err());
        }
    }
}

#[test]
fn rsa_numbers_have_bounds() {
    let n = |bits: usize| {
        let mut n = vec![0xff; bits.div_ceil(8)];
        n[0] = 0xff >> (n.len() * 8 - bits);
        n
    };
    let f4 = [1, 0, 1];
    let size = KeyError::Limit("an RSA modulus has 2,048 to 16,384 bits");
    for bits in [2_048, 2_049, 16_384] {
        assert_eq!(rsa(&f4, &n(bits)).unwrap().bits() as usize, bits);
    }
    for bits in [8, 1_024, 2_047, 16_385, 100_000] {
        assert_eq!(rsa(&f4, &n(bits)), Err(size.clone()));
    }
    assert_eq!(rsa(&f4, &[]), Err(size.clone()));
    let small = include_str!("../fixtures/rsa1024.pub");
    assert_eq!(PublicKey::from_openssh(small), Err(size));

    let mut even = n(2_048);
    even[255] = 0xfe;
    let error = KeyError::BadKey("an even RSA modulus");
    assert_eq!(rsa(&f4, &even), Err(error));

    let error = KeyError::BadKey("an RSA exponent that is 1 or even");
    for e in [&[][..], &[1], &[2], &[1, 0, 0]] {
        assert_eq!(rsa(e, &n(2_048)), Err(error.clone()));
    }
    assert!(rsa(&[3], &n(2_048)).is_ok());
    assert!(rsa(&[1, 0xff, 0xff, 0xff, 0xff], &n(2_048)).is_ok());
    assert_eq!(
        rsa(&[2, 0, 0, 0, 1], &n(2_048)),
        Err(KeyError::Limit("an RSA exponent has at most 33 bits"))
    );
}

#[test]
fn one_key_has_one_encoding() {
    let e = [0, 1, 0, 1];
    let n = [&[0][..], &[0xff; 256]].concat();
    let padded_n = [&[0][..], &n].concat();
    let read = |e: &[u8], n: &[u8]| {
        PublicKey::from_blob(&blob(|w| {
            w.string(b"ssh-rsa").string(e).string(n);
        }))
    };
    assert!(read(&e[1..], &n).is_ok());
    let wrong = Err(KeyError::malformed("n or e", Malformed::Value));
    assert_eq!(read(&e, &n), wrong);
    assert_eq!(read(&e[1..], &padded_n), wrong);
    let negative = Err(KeyError::malformed("n", Malformed::Negative));
    assert_eq!(read(&e[1..], &n[1..]), negative);
}

/// The keys that entropy gives must stay what they are: somebody may derive one again.
#[test]
fn the_same_entropy_gives_the_same_key_in_every_version() {
    for (kind, fingerprint) in [
        (
            KeyKind::Ed25519,
            "SHA256:1Lt0B6m58n9i5yp9hABit7qhCJ/7aR7kRxt8QRziO8k",
        ),
        (
            KeyKind::EcdsaNistp256,
            "SHA256:qqP1VqXAmbIY2UKUIuacF+7SUoRyyTx8me6mKT5Vv64",
        ),
        (
            KeyKind::EcdsaNistp384,
            "SHA256:VkfFy9yXCS05V2akf4768dpGkM9RCPwz937CWHNkGUA",
        ),
        (
            KeyKind::EcdsaNistp521,
            "SHA256:Em7BOblJqFWeh2JXUC9jCOXkXyHggwRODTOSkNBfi/U",
        ),
    ] {
        let key = PrivateKey::generate(kind, &[42; 32]).unwrap();
        assert_eq!(key.public().fingerprint_sha256(), fingerprint);
        let other = PrivateKey::generate(kind, &[43; 32]).unwrap();
        assert_ne!(key.public(), other.public());
    }
}

#[test]
fn rsa_keys_are_made_in_four_sizes() {
    for bits in [0, 1_024, 2_047, 2_056, 6_144, 16_384] {
        let result = PrivateKey::generate(KeyKind::Rsa { bits }, &[0; 32]);
        assert!(matches!(result, Err(KeyError::Limit(_))), "{bits}");
    }
}

#[test]
fn keys_and_errors_are_small() {
    assert!(size_of::<PublicKey>() <= 24);
    assert!(size_of::<KeyError>() <= 40);
}

proptest! {
    #[test]
    fn any_blob_survives_or_fails(name in "[a-z0-9@.-]{1,64}", rest in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = blob(|w| { w.string(name.as_bytes()).bytes(&rest); });
        if let Ok(key) = PublicKey::from_blob(&bytes) {
            prop_assert_eq!(key.blob(), &bytes);
            prop_assert_eq!(key.key_type(), &name);
            let line = format!("{name} {}", Base64::encode_string(&bytes));
            prop_assert_eq!(key.to_openssh(""), line);
        }
    }
}
