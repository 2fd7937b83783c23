//! Parsers of formats and messages: what was read and written again reads as the same.

use std::time::Instant;

use ssh_proto::key::{PrivateKey, PublicKey};
use ssh_proto::msg::auth::*;
use ssh_proto::msg::connection::*;
use ssh_proto::msg::kex::*;
use ssh_proto::msg::transport::*;
use ssh_proto::msg::{Message, modes::TerminalModes};
use ssh_proto::replay::{Trace, play};
use ssh_proto::socks::{SocksClient, SocksFailure, SocksProxy, SocksVersion};

use crate::steer::Choices;

/// One message, under every type that has its number.
pub fn message(data: &[u8]) {
    macro_rules! all {
        ($($message:ident),*) => { $(
            if let Ok(message) = $message::decode(data) {
                // A boolean of 2 is read as true and written as 1 (RFC 4251 section 5): the bytes may differ.
                let again = message.to_payload();
                assert_eq!($message::decode(&again).as_ref(), Ok(&message));
            }
        )* };
    }
    all!(
        Disconnect,
        Ignore,
        Unimplemented,
        Debug,
        ServiceRequest,
        ServiceAccept,
        ExtInfo,
        KexInit,
        NewKeys,
        Ping,
        Pong,
        KexEcdhInit,
        KexEcdhReply,
        UserauthRequest,
        UserauthFailure,
        UserauthSuccess,
        UserauthBanner,
        UserauthPkOk,
        UserauthPasswdChangereq,
        UserauthInfoRequest,
        UserauthInfoResponse,
        GlobalRequest,
        RequestSuccess,
        RequestFailure,
        ChannelOpen,
        ChannelOpenConfirmation,
        ChannelOpenFailure,
        ChannelWindowAdjust,
        ChannelData,
        ChannelExtendedData,
        ChannelEof,
        ChannelClose,
        ChannelRequest,
        ChannelSuccess,
        ChannelFailure
    );
    if let Ok(modes) = TerminalModes::decode(data) {
        assert_eq!(TerminalModes::decode(&modes.encode()).as_ref(), Ok(&modes));
    }
}

/// The passphrase that files are tried with: that of the key files in `ssh-proto`.
pub const PASSPHRASE: &[u8] = b"passphrase";
/// The rounds of key derivation that are done at most.
pub const MAX_ROUNDS: u32 = 2;

/// A private key file, plain or under [`PASSPHRASE`].
pub fn private_key(data: &[u8]) {
    _ = PrivateKey::is_encrypted(data);
    _ = PublicKey::from_openssh_private(data);
    for passphrase in [None, Some(PASSPHRASE)] {
        let Ok(key) = PrivateKey::from_openssh_with_max_rounds(data, passphrase, MAX_ROUNDS) else {
            continue;
        };
        let file = key
            .to_openssh(None, 7)
            .expect("a key that was read can be written");
        let again =
            PrivateKey::from_openssh(file.expose(), None).expect("what was written can be read");
        assert_eq!(again.public(), key.public());
        assert_eq!(again.comment(), key.comment());
        for &algorithm in key.public().algorithms() {
            let signature = key
                .sign(algorithm, data)
                .expect("a key that was read signs");
            assert_eq!(key.public().verify(algorithm, data, &signature), Ok(()));
        }
    }
}

/// A public key: a blob, and a line.
pub fn public_key(data: &[u8]) {
    if let Ok(key) = PublicKey::from_blob(data) {
        assert_eq!(key.blob(), data);
        one_line(&key, "");
        for &algorithm in key.algorithms() {
            _ = key.verify(algorithm, b"message", data);
        }
    }
    if let Ok(line) = std::str::from_utf8(data)
        && let Ok((key, comment)) = PublicKey::from_openssh(line)
    {
        one_line(&key, &comment);
    }
}

fn one_line(key: &PublicKey, comment: &str) {
    _ = (key.bits(), key.fingerprint_md5(), key.fingerprint_sha256());
    let line = key.to_openssh(comment);
    let (again, _) = PublicKey::from_openssh(&line).expect("what was written can be read");
    assert_eq!(&again, key);
}

/// A SOCKS proxy, or a client of one, that is told the input in pieces.
pub fn socks(data: &[u8]) {
    let mut choices = Choices::new(data);
    if choices.below(2) == 0 {
        let mut proxy = SocksProxy::new();
        while !choices.is_empty() {
            let piece = choices.piece(300);
            let taken = proxy.handle_bytes(piece);
            assert!(taken <= piece.len());
            if proxy.poll_event().is_some() {
                _ = match choices.below(3) {
                    0 => proxy.accept(),
                    1 => proxy.refuse(SocksFailure(choices.byte())),
                    _ => Ok(()),
                };
            }
            assert!(proxy.output().len() < 1024);
            proxy.consume_output(choices.below(64));
        }
    } else {
        let versions = [SocksVersion::V4, SocksVersion::V5];
        let version = versions[choices.below(2)];
        let host = String::from_utf8_lossy(choices.piece(300)).into_owned();
        let Ok(mut client) = SocksClient::new(version, &host, 80) else {
            return;
        };
        while !choices.is_empty() {
            let piece = choices.piece(300);
            let taken = client.handle_bytes(piece);
            assert!(taken <= piece.len());
            _ = client.poll_event();
            client.consume_output(choices.below(64));
        }
    }
}

/// A recording: read, written, read again, played as far as it goes.
pub fn trace(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(trace) = Trace::parse(text) else {
        return;
    };
    let written = trace.to_string();
    let again = Trace::parse(&written).expect("what was written can be read");
    assert_eq!(again.to_string(), written);
    if let Err(divergence) = play(&trace, Instant::now()) {
        assert!(divergence.step <= trace.steps().len());
        assert!(text.lines().nth(divergence.line - 1).is_some());
    }
}
