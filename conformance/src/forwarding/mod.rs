//! What the tests of forwarding with OpenSSH share: a place to do it, the clients of every adapter, and what holds for all of them.
//!
//! These are tools for tests: they panic instead of returning errors.

mod cases;
mod clients;
mod mio;
mod servers;

use std::path::PathBuf;

use tempfile::TempDir;

use crate::ours::SshdExample;
use crate::peers::{KeyKind, KeyPair, Ssh, Sshd, SshdOptions, Version};

pub use cases::{forbidden, local_forwards, remote_forwards};
pub use clients::{Failure, Forwarded, Forwarder, TokioClient, TokioForward};
pub use mio::{MioClient, MioForward};
pub use servers::{
    serves_local_forwards, serves_nothing_unasked, serves_port_zero_and_cancel,
    serves_remote_forwards,
};

/// How much goes through each connection, each way.
pub const LEN: usize = 300_000;

/// A key, and room for sockets.
#[derive(Debug)]
pub struct Place {
    key: KeyPair,
    folder: TempDir,
}

impl Place {
    /// A new key in a new folder.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    #[track_caller]
    pub fn new(version: Version) -> Self {
        // A path of a socket must be short.
        let folder = tempfile::Builder::new()
            .prefix("fw")
            .tempdir()
            .unwrap_or_else(|error| panic!("no temporary folder: {error}"));
        let key = KeyPair::generate(version, KeyKind::Ed25519, &folder.path().join("id"), "");
        Self { key, folder }
    }

    /// The key that every server of this place lets in.
    #[must_use]
    pub const fn key(&self) -> &KeyPair {
        &self.key
    }

    /// A path for a socket.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// OpenSSH's server, with these lines in its configuration.
    #[must_use]
    #[track_caller]
    pub fn sshd(&self, version: Version, config: &[&str]) -> Sshd {
        let options = SshdOptions {
            config: config.iter().map(|&line| line.to_owned()).collect(),
            authorized_keys: vec![self.key.public.clone()],
            ..SshdOptions::default()
        };
        Sshd::start(version, &options)
    }

    /// The example of that name: `sshd`, `sshd-tokio` or `server`.
    #[must_use]
    #[track_caller]
    pub fn our_sshd(&self, program: &str, arguments: &[&str]) -> SshdExample {
        SshdExample::start_program(program, &[KeyKind::Ed25519], &[&self.key], arguments)
    }

    /// OpenSSH's client for it, forwarding and nothing else.
    #[must_use]
    pub fn client(&self, server: &SshdExample, version: Version, flags: &[&str]) -> Ssh {
        let client = server
            .client(version)
            .identity(&self.key)
            .option("ExitOnForwardFailure", "yes");
        flags
            .iter()
            .fold(client.flag("-N"), |client, flag| client.flag(flag))
    }
}
