//! What is decided before a server listens.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use ssh_proto::adapter::MaxStartups;
use ssh_proto::config::ServerConfig;
use ssh_proto::log::LogRecord;

use crate::Session;
#[cfg(feature = "keylog")]
use crate::driver::KeyLogWriter;
#[cfg(feature = "replay")]
use crate::driver::RecordingCallback;

use super::handler::{Handler, Task};

/// Subsystems by name.
pub(super) type Subsystems = BTreeMap<String, Box<dyn Fn(&Session) -> Option<Task> + Send + Sync>>;
type Factory = Box<dyn Fn(Option<SocketAddr>) -> Box<dyn Handler> + Send + Sync>;
type Filter = Box<dyn Fn(SocketAddr) -> bool + Send + Sync>;
type ServerLog = Arc<dyn Fn(Option<SocketAddr>, &LogRecord) + Send + Sync>;
#[cfg(feature = "replay")]
type ServerRecording = Box<dyn Fn(Option<SocketAddr>) -> RecordingCallback + Send + Sync>;

/// What is decided before a server listens.
pub struct ServerOptions {
    pub(super) config: Arc<ServerConfig>,
    pub(super) factory: Factory,
    pub(super) filter: Option<Filter>,
    pub(super) max_connections: usize,
    pub(super) max_startups: MaxStartups,
    pub(super) subsystems: Subsystems,
    pub(super) log: Option<ServerLog>,
    #[cfg(feature = "replay")]
    pub(super) recording: Option<ServerRecording>,
    #[cfg(feature = "keylog")]
    pub(super) key_log: Option<KeyLogWriter>,
}

impl ServerOptions {
    /// A server with this configuration, which makes a handler for each connection.
    pub fn new<H: Handler + 'static>(
        config: impl Into<Arc<ServerConfig>>,
        factory: impl Fn(Option<SocketAddr>) -> H + Send + Sync + 'static,
    ) -> Self {
        Self {
            config: config.into(),
            factory: Box::new(move |peer| Box::new(factory(peer))),
            filter: None,
            max_connections: 1_024,
            max_startups: MaxStartups::default(),
            subsystems: Subsystems::new(),
            log: None,
            #[cfg(feature = "replay")]
            recording: None,
            #[cfg(feature = "keylog")]
            key_log: None,
        }
    }

    /// Whether an address may connect at all. Called before anything is done for the connection; who is refused is
    /// dropped without a byte.
    #[must_use]
    pub fn filter(mut self, filter: impl Fn(SocketAddr) -> bool + Send + Sync + 'static) -> Self {
        self.filter = Some(Box::new(filter));
        self
    }

    /// How many connections there may be at once; beyond it new ones are dropped. At first 1,024.
    #[must_use]
    pub const fn max_connections(mut self, max: usize) -> Self {
        self.max_connections = max;
        self
    }

    /// How many connections may be on their way to be authenticated.
    #[must_use]
    pub const fn max_startups(mut self, max: MaxStartups) -> Self {
        self.max_startups = max;
        self
    }

    /// A subsystem by name. The callback sees the session and gives what is to run, or `None` to refuse.
    #[must_use]
    pub fn subsystem(
        mut self,
        name: impl Into<String>,
        subsystem: impl Fn(&Session) -> Option<Task> + Send + Sync + 'static,
    ) -> Self {
        self.subsystems.insert(name.into(), Box::new(subsystem));
        self
    }

    /// Log records of all connections, as many as
    /// [`TransportConfig::log`](ssh_proto::config::TransportConfig::log) asks for. The thread that calls may be the one that
    /// reads: the callback must not wait for the client.
    #[must_use]
    pub fn on_log(
        mut self,
        callback: impl Fn(Option<SocketAddr>, &LogRecord) + Send + Sync + 'static,
    ) -> Self {
        self.log = Some(Arc::new(callback));
        self
    }

    /// Records all connections from now on. `make` makes a callback for each connection; every piece of its recording is
    /// handed to that, in order, the last one when it has ended. Together they are a
    /// [`Trace`](ssh_proto::replay::Trace). **It holds secrets**: the seed of all keys, passwords, data in clear.
    #[cfg(feature = "replay")]
    #[must_use]
    pub fn on_recording<F: FnMut(&str) + Send + 'static>(
        mut self,
        make: impl Fn(Option<SocketAddr>) -> F + Send + Sync + 'static,
    ) -> Self {
        Arc::make_mut(&mut self.config).transport.record = true;
        self.recording = Some(Box::new(move |peer| Box::new(make(peer))));
        self
    }

    /// Writes the key logs of all connections to `writer`, a line for each key exchange: with it Wireshark opens a
    /// recording of the bytes on the wire. **Whoever has it reads everything**, passwords included. It is for finding
    /// faults; nothing turns it on but this call. What goes wrong with the writer is passed over.
    #[cfg(feature = "keylog")]
    #[must_use]
    pub fn key_log(mut self, writer: impl std::io::Write + Send + 'static) -> Self {
        Arc::make_mut(&mut self.config).transport.key_log = true;
        self.key_log = Some(Arc::new(std::sync::Mutex::new(writer)));
        self
    }
}

impl fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerOptions")
            .field("config", &self.config)
            .field("max_connections", &self.max_connections)
            .field("max_startups", &self.max_startups)
            .field("subsystems", &self.subsystems.keys())
            .finish_non_exhaustive()
    }
}
