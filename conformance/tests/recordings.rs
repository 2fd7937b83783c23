//! Every recording that is kept is replayed, byte for byte; together they have every key exchange, host key, cipher and
//! method of authentication, through every adapter, in both roles. `openssh_recordings` makes them.

#[path = "../src/bin/trace/conversation.rs"]
mod conversation;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Instant;

use ssh_proto::names::{Algorithm, Cipher, Kex, SignatureAlgorithm};
use ssh_proto::replay::{Player, Trace, play};

/// The recordings by name.
fn recordings() -> BTreeMap<String, Trace> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings");
    let files = fs::read_dir(folder).unwrap();
    files
        .map(|file| file.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "trace")
        })
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).unwrap();
            let trace = Trace::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, trace)
        })
        .collect()
}

#[test]
fn every_recording_replays_byte_for_byte() {
    for (name, trace) in recordings() {
        assert!(trace.is_whole(), "{name}");
        match play(&trace, Instant::now()) {
            Ok(len) => assert!(len > 500, "{name}: {len}"),
            Err(divergence) => panic!("{name}: {divergence}"),
        }
    }
}

#[test]
fn recordings_have_every_algorithm_and_method_through_every_adapter_in_both_roles() {
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, trace) in recordings() {
        let mut parts = name.splitn(3, '-');
        let (role, adapter) = (parts.next().unwrap(), parts.next().unwrap());
        assert_eq!(trace.is_client(), role == "client");
        let seen = seen.entry(format!("{role} {adapter}")).or_default();
        seen.insert(parts.next().unwrap().to_owned());
        let mut player = Player::new(&trace, Instant::now());
        while player.step().unwrap().is_some() {}
        let negotiated = player.negotiated().unwrap();
        seen.insert(negotiated.kex.name().to_owned());
        seen.insert(negotiated.host_key.name().to_owned());
        seen.insert(negotiated.client_to_server.cipher.name().to_owned());
        let session = player.session().unwrap();
        assert!(session.user.is_some(), "{name}");
        assert!(session.peer_version.starts_with(b"SSH-2.0-OpenSSH_10.0"));
    }
    let names = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let algorithms = [
        names(Kex::ALL.iter().map(|a| a.name()).collect()),
        names(Cipher::ALL.iter().map(|a| a.name()).collect()),
        names(SignatureAlgorithm::ALL.iter().map(|a| a.name()).collect()),
    ]
    .concat();
    let both = [
        "none",
        "password",
        "keyboard-interactive",
        "publickey-query",
        "two-factors",
    ];
    for adapter in ["blocking", "tokio", "mio"] {
        for (role, methods) in [
            ("client", ["publickey", "publickey-external"]),
            ("server", ["publickey-rsa", "password-change"]),
        ] {
            let expected: BTreeSet<String> = names([&both[..], &methods].concat())
                .into_iter()
                .chain(algorithms.clone())
                .collect();
            assert_eq!(seen.remove(&format!("{role} {adapter}")), Some(expected));
        }
    }
    assert!(seen.is_empty(), "{seen:?}");
}

#[test]
fn a_conversation_shows_what_happened_and_no_secret() {
    for (name, trace) in recordings() {
        for bytes in [false, true] {
            let mut out = Vec::new();
            conversation::print(&trace, Instant::now(), bytes, &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            let words: &[&str] = if trace.is_client() {
                &[
                    "caller  start",
                    "exec \"cat\"",
                    "say it again\\n",
                    "event   Authenticated",
                ]
            } else {
                &[
                    "event   LoginAttempted",
                    "good day\\n",
                    "exit-status",
                    "(auth) ",
                ]
            };
            for word in words {
                assert!(text.contains(word), "{name}: no {word:?} in\n{text}");
            }
            for message in [
                "<-      KEXINIT (20, ",
                "->      NEWKEYS (21, ",
                "CHANNEL_DATA (94, ",
            ] {
                assert!(text.contains(message), "{name}: no {message:?} in\n{text}");
            }
            assert!(text.contains("all as recorded; the recording is whole"));
            // Hexdumps are made on request only, and never of passwords.
            assert_eq!(
                text.contains("\n                      0000  "),
                bytes,
                "{name}"
            );
            for secret in ["correct horse", "sesame", "blue"] {
                assert!(!text.contains(secret), "{name}: {secret:?} in\n{text}");
            }
        }
    }
}

/// They are read and kept by people.
#[test]
fn recordings_are_small_and_name_no_folder() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings");
    let mut all = 0;
    for file in fs::read_dir(folder).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(text.len() < 24 * 1024);
        assert!(!text.contains("/home") && !text.contains("/tmp"));
        all += text.len();
    }
    assert!(all < 1024 * 1024, "{all}");
}
