//! The lengths of keys and key files that `limits.rs` bounds: one below, at, one above.

use super::*;
use crate::limits::{KEY_BLOB_LEN, KEY_FILE_LEN, KEY_NAME_LEN};
use crate::wire::{Malformed, Reader, Writer};

fn around(bound: usize) -> [(usize, bool); 3] {
    [(bound - 1, true), (bound, true), (bound + 1, false)]
}

#[test]
fn a_blob_has_64_kib_and_not_a_byte_more() {
    for (len, taken) in around(KEY_BLOB_LEN) {
        let mut blob = Vec::new();
        Writer::new(&mut blob).string(b"unknown@example.com");
        blob.resize(len, 7);
        let read = PublicKey::from_blob(&blob);
        if taken {
            assert_eq!(read.unwrap().blob(), blob);
        } else {
            let limit = KeyError::Limit("a public key has at most 64 KiB");
            assert_eq!(read, Err(limit));
        }
    }
}

#[test]
fn a_type_has_64_bytes_and_not_one_more() {
    for (len, taken) in around(KEY_NAME_LEN) {
        let name = "x".repeat(len);
        let mut blob = Vec::new();
        Writer::new(&mut blob).string(name.as_bytes()).bytes(b"key");
        let read = PublicKey::from_blob(&blob);
        if taken {
            assert_eq!(read.unwrap().key_type(), name);
        } else {
            let error = KeyError::malformed("key type", Malformed::TooLong);
            assert_eq!(read, Err(error));
        }
    }
}

#[test]
fn a_key_file_has_64_kib_and_not_a_byte_more() {
    let file = FIXTURES[0].file;
    for (len, taken) in around(KEY_FILE_LEN) {
        let padded = " ".repeat(len - file.len()) + file;
        let read = PrivateKey::from_openssh(padded, None);
        if taken {
            assert_eq!(read.unwrap().public(), FIXTURES[0].key().public());
        } else {
            let limit = KeyError::Limit("a private key file has at most 64 KiB");
            assert_eq!(read.unwrap_err(), limit);
        }
    }
}

/// An encrypted key with a salt of another length.
#[cfg(feature = "encrypted-keys")]
#[test]
fn a_salt_has_64_bytes_and_not_one_more() {
    let bytes = inside(FIXTURES[0].encrypted);
    let mut reader = Reader::new(&bytes);
    let magic = reader.bytes(15).unwrap();
    let cipher = reader.string().unwrap();
    let kdf = reader.string().unwrap();
    _ = reader.string().unwrap();
    let rest = &bytes[bytes.len() - reader.remaining().len()..];
    for (len, taken) in around(crate::limits::KEY_SALT_LEN) {
        let mut options = Vec::new();
        Writer::new(&mut options).string(&vec![9; len]).uint32(2);
        let mut changed = magic.to_vec();
        Writer::new(&mut changed)
            .string(cipher)
            .string(kdf)
            .string(&options)
            .bytes(rest);
        let read = PrivateKey::from_openssh(armored(&changed), None).unwrap_err();
        if taken {
            // It is taken for what it is: the passphrase is what is missing.
            assert_eq!(read, KeyError::PassphraseNeeded);
        } else {
            assert_eq!(read, KeyError::malformed("salt", Malformed::TooLong));
        }
    }
}
