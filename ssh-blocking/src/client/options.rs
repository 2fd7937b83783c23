//! What is decided before a client connects. Above all: which host key will do.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ssh_proto::adapter::judge_host_key;
use ssh_proto::config::ClientConfig;
use ssh_proto::key::PublicKey;
use ssh_proto::log::LogRecord;
use ssh_proto::{ChannelId, ClientRole};

#[cfg(feature = "keylog")]
use crate::driver::KeyLogWriter;
use crate::driver::LogCallback;
#[cfg(feature = "replay")]
use crate::driver::RecordingCallback;

use crate::pending::PendingChannel;
use crate::{HostKeyPin, HostKeyRefused};

use super::asked::Asked;

/// Which host key of a server will do. There is no default: whoever connects decides.
#[non_exhaustive]
pub enum HostKeyPolicy {
    /// One of these keys and no other.
    Pinned(Vec<HostKeyPin>),
    /// The callback decides. It may take its time: a user can be asked.
    Ask(Box<dyn FnMut(&PublicKey) -> bool + Send>),
    /// Any key at all: whoever sits between can read and change everything. For tests.
    AcceptAny,
}

impl HostKeyPolicy {
    /// The key with this `SHA256:` fingerprint.
    pub fn fingerprint(fingerprint: impl Into<String>) -> Self {
        Self::Pinned(vec![HostKeyPin::Fingerprint(fingerprint.into())])
    }

    /// This key.
    pub fn key(key: PublicKey) -> Self {
        Self::Pinned(vec![HostKeyPin::Key(key)])
    }

    /// The callback decides.
    pub fn ask(callback: impl FnMut(&PublicKey) -> bool + Send + 'static) -> Self {
        Self::Ask(Box::new(callback))
    }

    /// The verdict on a key.
    pub(crate) fn judge(&mut self, key: &PublicKey) -> Result<(), HostKeyRefused> {
        match self {
            Self::Pinned(pins) => judge_host_key(pins, key),
            Self::Ask(callback) => {
                let fine = callback(key);
                fine.then_some(())
                    .ok_or_else(|| HostKeyRefused::new(key, &[]))
            }
            Self::AcceptAny => Ok(()),
        }
    }
}

impl fmt::Debug for HostKeyPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pinned(pins) => f.debug_tuple("Pinned").field(pins).finish(),
            Self::Ask(_) => f.write_str("Ask"),
            Self::AcceptAny => f.write_str("AcceptAny"),
        }
    }
}

/// What is decided before a client connects.
///
/// ```
/// use std::time::Duration;
/// use ssh_blocking::{ClientOptions, HostKeyPolicy};
///
/// let pin = HostKeyPolicy::fingerprint("SHA256:ohD8VZEXGWo6Ez8GSEJQ9WpafgLFsOfLOtGGQCQo6Og");
/// let options = ClientOptions::new(pin)
///     .connect_timeout(Duration::from_secs(10))
///     .on_banner(|text| eprintln!("{text}"));
/// # drop(options);
/// ```
pub struct ClientOptions {
    pub(super) policy: HostKeyPolicy,
    /// `None`: the defaults, which are made when they are needed.
    pub(super) config: Option<Arc<ClientConfig>>,
    pub(super) timeout: Option<Duration>,
    pub(super) banner: Option<OnBanner>,
    pub(super) log: Option<LogCallback>,
    pub(super) asked: Asked,
    #[cfg(feature = "replay")]
    pub(super) recording: Option<RecordingCallback>,
    #[cfg(feature = "keylog")]
    pub(super) key_log: Option<KeyLogWriter>,
}

/// What is done with a banner.
pub(super) type OnBanner = Box<dyn FnMut(&str) + Send>;

impl ClientOptions {
    /// The defaults, with the one thing that has none.
    pub fn new(policy: HostKeyPolicy) -> Self {
        Self {
            policy,
            config: None,
            timeout: None,
            banner: None,
            log: None,
            asked: Asked::default(),
            #[cfg(feature = "replay")]
            recording: None,
            #[cfg(feature = "keylog")]
            key_log: None,
        }
    }

    /// The protocol's own options: algorithms, limits, deadlines of its stages, keepalive.
    #[must_use]
    pub fn config(mut self, config: impl Into<Arc<ClientConfig>>) -> Self {
        self.config = Some(config.into());
        self
    }

    /// How long [`Client::connect`](crate::Client::connect) may take in all: all addresses, and the key exchange.
    #[must_use]
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Shown to the user: text of the server that comes while the user authenticates. Safe to print. Called within
    /// the calls that authenticate.
    #[must_use]
    pub fn on_banner(mut self, callback: impl FnMut(&str) + Send + 'static) -> Self {
        self.banner = Some(Box::new(callback));
        self
    }

    /// The server asks for a channel: of a kind that the configuration lists
    /// ([`channel_kinds`](ssh_proto::config::Extensions::channel_kinds)), or because of a
    /// [`Client::request_forward`](crate::Client::request_forward). Dropping what is handed out refuses. Without this
    /// callback all are refused but those of [`Client::forward_remote`](crate::Client::forward_remote) and its like.
    ///
    /// This callback and the two that follow are called one after the other, on the connection's own thread: they must
    /// not wait for the server, so leave a channel to another thread.
    #[must_use]
    pub fn on_channel_open(
        mut self,
        callback: impl FnMut(PendingChannel<ClientRole>) + Send + 'static,
    ) -> Self {
        self.asked.open = Some(Box::new(callback));
        self
    }

    /// A request of the server about a channel, of a name that the configuration lists
    /// ([`channel_requests`](ssh_proto::config::Extensions::channel_requests)). Without it they are refused.
    #[must_use]
    pub fn check_channel_request(
        mut self,
        callback: impl FnMut(ChannelId, &str, &[u8]) -> bool + Send + 'static,
    ) -> Self {
        self.asked.request = Some(Box::new(callback));
        self
    }

    /// A request of the server about the connection, of a name that the configuration lists
    /// ([`global_requests`](ssh_proto::config::Extensions::global_requests)). `Some` accepts it, with the data of the
    /// reply. Without it they are refused.
    #[must_use]
    pub fn check_global_request(
        mut self,
        callback: impl FnMut(&str, &[u8]) -> Option<Vec<u8>> + Send + 'static,
    ) -> Self {
        self.asked.global = Some(Box::new(callback));
        self
    }

    /// Log records, as many as [`TransportConfig::log`](ssh_proto::config::TransportConfig::log) asks for. Called by
    /// whichever thread works for the connection, one at a time. That thread may be the one that reads: the callback must
    /// not wait for the server.
    #[must_use]
    pub fn on_log(mut self, callback: impl FnMut(&LogRecord) + Send + 'static) -> Self {
        self.log = Some(Box::new(callback));
        self
    }

    /// Records the connection: every piece of the recording is handed to the callback, in order, the last one when the
    /// connection has ended. Together they are a [`Trace`](ssh_proto::replay::Trace). **It holds secrets**: the seed of all
    /// keys, passwords, data in clear. Called by whichever thread works for the
    /// connection, one at a time.
    #[cfg(feature = "replay")]
    #[must_use]
    pub fn on_recording(mut self, callback: impl FnMut(&str) + Send + 'static) -> Self {
        self.recording = Some(Box::new(callback));
        self
    }

    /// Writes the key log to `writer`, a line for each key exchange: with it Wireshark opens a recording of the bytes on
    /// the wire. **Whoever has it reads everything**, passwords included. It is for finding faults; nothing turns it on
    /// but this call. What goes wrong with the writer is passed over.
    ///
    /// ```no_run
    /// use std::fs::OpenOptions;
    /// use ssh_blocking::{ClientOptions, HostKeyPolicy};
    ///
    /// let mut file = OpenOptions::new();
    /// file.append(true).create(true);
    /// #[cfg(unix)]
    /// std::os::unix::fs::OpenOptionsExt::mode(&mut file, 0o600);
    /// let pin = HostKeyPolicy::fingerprint("SHA256:ohD8VZEXGWo6Ez8GSEJQ9WpafgLFsOfLOtGGQCQo6Og");
    /// let options = ClientOptions::new(pin).key_log(file.open("ssh-keys.log")?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[cfg(feature = "keylog")]
    #[must_use]
    pub fn key_log(mut self, writer: impl std::io::Write + Send + 'static) -> Self {
        self.key_log = Some(Arc::new(std::sync::Mutex::new(writer)));
        self
    }

    /// The protocol's options, as the connection needs them.
    pub(super) fn protocol(&self) -> Arc<ClientConfig> {
        #[cfg_attr(
            not(any(feature = "replay", feature = "keylog")),
            expect(unused_mut, reason = "what features add")
        )]
        let mut config = self.config.clone().unwrap_or_default();
        #[cfg(feature = "replay")]
        if self.recording.is_some() {
            Arc::make_mut(&mut config).transport.record = true;
        }
        #[cfg(feature = "keylog")]
        if self.key_log.is_some() {
            Arc::make_mut(&mut config).transport.key_log = true;
        }
        config
    }
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientOptions")
            .field("policy", &self.policy)
            .field("config", &self.config)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
