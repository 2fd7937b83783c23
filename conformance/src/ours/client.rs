//! Clients of this library for the servers of other implementations.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use ssh_blocking::ssh_proto::ClientConfig;
use ssh_blocking::ssh_proto::key::{PrivateKey, PublicKey};
use ssh_blocking::{Client, ClientOptions, HostKeyPin, HostKeyPolicy};

use crate::peers::{KeyPair, ServerPeer, Sshd};

/// How long a connection may take until the keys are exchanged.
const CONNECT: Duration = Duration::from_secs(30);

/// The private key of a pair that has no passphrase.
///
/// # Panics
/// If the library cannot read it.
#[must_use]
#[track_caller]
pub fn private_key(pair: &KeyPair) -> Arc<PrivateKey> {
    let file = fs::read(&pair.path)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", pair.path.display()));
    let key = PrivateKey::from_openssh(file, None)
        .unwrap_or_else(|error| panic!("{}: {error}", pair.path.display()));
    Arc::new(key)
}

/// The public half of a pair.
///
/// # Panics
/// If the library cannot read it.
#[must_use]
#[track_caller]
pub fn public_key(pair: &KeyPair) -> PublicKey {
    read_public_key(&pair.public)
}

/// The public key of a line: `ssh-ed25519 AAAA..`.
///
/// # Panics
/// If the library cannot read it.
#[must_use]
#[track_caller]
pub fn read_public_key(line: &str) -> PublicKey {
    PublicKey::from_openssh(line)
        .unwrap_or_else(|error| panic!("{line}: {error}"))
        .0
}

/// The host keys of `server`.
#[must_use]
pub fn host_key_pins(server: &impl ServerPeer) -> Vec<HostKeyPin> {
    server
        .host_key_lines()
        .iter()
        .map(|line| HostKeyPin::Key(read_public_key(line)))
        .collect()
}

/// Options of a client that takes the host keys of `server` and no others.
#[must_use]
pub fn options(server: &impl ServerPeer, config: ClientConfig) -> ClientOptions {
    ClientOptions::new(HostKeyPolicy::Pinned(host_key_pins(server)))
        .connect_timeout(CONNECT)
        .config(config)
}

/// A connection whose keys are exchanged, with a configuration that `change` has changed.
///
/// # Panics
/// If it does not come to that; the message has the server's log.
#[must_use]
#[track_caller]
pub fn connect(server: &impl ServerPeer, change: impl FnOnce(&mut ClientConfig)) -> Client {
    let mut config = ClientConfig::new();
    change(&mut config);
    match Client::connect(server.address(), options(server, config)) {
        Ok(client) => client,
        Err(error) => panic!("{error}\nlog of the server:\n{}", server.log()),
    }
}

/// The same, and the user of `server` is logged in with `key`.
///
/// # Panics
/// If it does not come to that; the message has the server's log.
#[must_use]
#[track_caller]
pub fn log_in(
    server: &impl ServerPeer,
    key: &KeyPair,
    change: impl FnOnce(&mut ClientConfig),
) -> Client {
    let client = connect(server, change);
    match client.auth_public_key(Sshd::USER, private_key(key)) {
        Ok(outcome) if outcome.success() => client,
        other => panic!("{other:?}\nlog of the server:\n{}", server.log()),
    }
}
