//! Every input that was kept goes through its target again.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use fuzz::formats::{MAX_ROUNDS, PASSPHRASE};
use ssh_proto::key::PrivateKey;

meter::count_heap!();

/// The heap is counted for the whole process.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn every_corpus_passes() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in fuzz::TARGETS {
        let folder = corpora.join(name);
        let mut inputs: Vec<_> = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.expect("a folder that can be read").path())
            .collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "{} is empty", folder.display());
        for input in inputs {
            let data = std::fs::read(&input).expect("a file that can be read");
            if let Err(text) = fuzz::harness::run(*target, &data) {
                panic!("{name} fails on {}: {text}", input.display());
            }
        }
    }
}

#[test]
fn every_folder_of_inputs_has_a_target() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in std::fs::read_dir(corpora).expect("the corpora") {
        let name = entry.expect("a folder that can be read").file_name();
        assert!(
            fuzz::TARGETS.iter().any(|(target, _)| name == *target),
            "{name:?}"
        );
    }
}

/// Otherwise the target ends at the passphrase, and never sees what a cipher gives.
#[test]
fn the_key_files_of_the_corpus_open_under_every_cipher() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/private_key");
    let (mut kinds, mut ciphers) = (BTreeSet::new(), BTreeSet::new());
    for entry in std::fs::read_dir(folder).expect("the corpus") {
        let entry = entry.expect("a folder that can be read");
        let file = std::fs::read(entry.path()).expect("a file that can be read");
        let key = PrivateKey::from_openssh_with_max_rounds(&file, Some(PASSPHRASE), MAX_ROUNDS);
        let Ok(key) = key else { continue };
        kinds.insert(key.public().key_type().to_owned());
        if PrivateKey::is_encrypted(&file) == Ok(true) {
            ciphers.insert(cipher(&file));
        }
    }
    let kinds: Vec<_> = kinds.iter().map(String::as_str).collect();
    assert_eq!(
        kinds,
        [
            "ecdsa-sha2-nistp256",
            "ecdsa-sha2-nistp384",
            "ecdsa-sha2-nistp521",
            "ssh-ed25519",
            "ssh-rsa"
        ]
    );
    let ciphers: Vec<_> = ciphers.iter().map(String::as_str).collect();
    assert_eq!(
        ciphers,
        [
            "aes128-cbc",
            "aes128-ctr",
            "aes128-gcm@openssh.com",
            "aes192-cbc",
            "aes192-ctr",
            "aes256-cbc",
            "aes256-ctr",
            "aes256-gcm@openssh.com"
        ]
    );
}

/// The cipher that a key file names: behind the magic of 15 bytes stands its length, then the name.
fn cipher(file: &[u8]) -> String {
    let text = str::from_utf8(file).expect("PEM");
    let digits = text
        .lines()
        .filter(|line| !line.starts_with('-'))
        .flat_map(str::bytes);
    let mut bits = digits.filter(|digit| *digit != b'=').flat_map(|digit| {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        (0..6).rev().map(move |bit| value >> bit & 1)
    });
    let mut byte = || (0..8).fold(0, |byte, _| byte << 1 | bits.next().expect("more"));
    let head: Vec<u8> = (0..19).map(|_| byte()).collect();
    (0..head[18]).map(|_| char::from(byte())).collect()
}
