//! The client: connects, authenticates, opens channels.

mod asked;
mod auth;
mod command;
mod options;

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use ssh_proto::error::DisconnectReason;
use ssh_proto::{ClientEvent, ClientRole, Connection, Negotiated, OpenChannel, Program};

use crate::channel::{Channel, Owner, after};
use crate::core::{Call, Interest, Sorted};
use crate::driver::{Shared, seed};
use crate::forward::Routes;
use crate::transport::{self, Transport};
use crate::{Error, HostKeyRefused, SessionInfo};

use asked::Asked;

pub use auth::{Answerer, Asker, Method, Signer};
pub use command::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Output};
pub use options::{ClientOptions, HostKeyPolicy};

/// A connection to a server.
///
/// It is a handle: clones, and threads that share one by reference, use the same connection. When the last handle is
/// gone, channels included, the connection is closed.
///
/// Attempts to authenticate wait for one another: a callback that is called within one (a banner, prompts, a signature, a
/// new password) would wait for itself if it started another.
///
/// ```no_run
/// use ssh_blocking::{Client, ClientOptions, HostKeyPolicy};
///
/// let pin = HostKeyPolicy::fingerprint("SHA256:ohD8VZEXGWo6Ez8GSEJQ9WpafgLFsOfLOtGGQCQo6Og");
/// let client = Client::connect("server.example:22", ClientOptions::new(pin))?;
/// if !client.auth_password("user", "secret")?.success() {
///     return Err("wrong password".into());
/// }
/// let output = client.exec("uname -a").output()?;
/// println!("{}", String::from_utf8_lossy(&output.stdout));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Client {
    owner: Arc<Owner<ClientRole>>,
    extras: Arc<Extras>,
}

struct Extras {
    /// One attempt to authenticate at a time.
    auth: Mutex<()>,
    banner: Mutex<Option<options::OnBanner>>,
    peer: Option<SocketAddr>,
    routes: Arc<Routes>,
}

impl Client {
    /// Connects to a server, exchanges keys, and has the host key judged. `address` is whatever has socket addresses:
    /// `("host", 22)`, `"host:22"`, a [`SocketAddr`]. Each address of a name is tried in turn.
    ///
    /// # Errors
    ///
    /// No address answers in time, the peer does not speak SSH, no algorithm fits, or the host key is refused.
    pub fn connect(address: impl ToSocketAddrs, options: ClientOptions) -> Result<Self, Error> {
        let deadline = after(options.timeout);
        let (stream, peer) = transport::connect(address, options.timeout)?;
        Self::start(Transport::try_from(stream)?, Some(peer), deadline, options)
    }

    /// The same over a connection that exists: a socket, or a [`Transport::pair`].
    ///
    /// # Errors
    ///
    /// Those of [`connect`](Self::connect).
    pub fn connect_stream<T>(stream: T, options: ClientOptions) -> Result<Self, Error>
    where
        T: TryInto<Transport>,
        Error: From<T::Error>,
    {
        let deadline = after(options.timeout);
        Self::start(stream.try_into()?, None, deadline, options)
    }

    fn start(
        transport: Transport,
        peer: Option<SocketAddr>,
        deadline: Option<Instant>,
        options: ClientOptions,
    ) -> Result<Self, Error> {
        let (config, log) = (options.protocol(), options.log);
        #[cfg(feature = "tracing")]
        let (config, log) = ssh_proto::adapter::traced::<ClientRole>(config, peer, log);
        let conn = Connection::<ClientRole>::new(config, seed()?, Instant::now());
        let (shared, mut attendance) = Shared::new(conn, transport, sort, false, log)?;
        #[cfg(feature = "keylog")]
        if let Some(writer) = options.key_log {
            shared.write_key_log_to(writer);
        }
        #[cfg(feature = "replay")]
        if let Some(callback) = options.recording {
            shared.record_to(callback);
        }
        if let Some(reader) = attendance.take_reader() {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name("ssh reader".into())
                .spawn(move || shared.read_pair(reader))?;
        }
        let policy = Arc::new(Mutex::new(options.policy));
        let owner = Arc::new(Owner { shared });
        let routes = Arc::new(Routes::default());
        let mut attendee = Attendee {
            owner: Arc::downgrade(&owner),
            policy: Arc::clone(&policy),
            routes: Arc::clone(&routes),
            asked: options.asked,
        };
        let attended = Arc::clone(&owner.shared);
        thread::Builder::new()
            .name("ssh client".into())
            .spawn(move || {
                attended.attend(attendance, &mut |shared, call| attendee.serve(shared, call));
            })?;
        let client = Self {
            owner,
            extras: Arc::new(Extras {
                auth: Mutex::new(()),
                banner: Mutex::new(options.banner),
                peer,
                routes,
            }),
        };
        client.check_host_key(&policy, deadline)?;
        Ok(client)
    }

    fn check_host_key(
        &self,
        policy: &Mutex<HostKeyPolicy>,
        deadline: Option<Instant>,
    ) -> Result<(), Error> {
        let offer = loop {
            match self.next_question(deadline, "the key exchange")? {
                ClientEvent::HostKeyOffered(offer) => break offer,
                ClientEvent::Banner(text) => self.show_banner(&text),
                _ => {}
            }
        };
        let verdict = lock(policy).judge(offer.key());
        if let Err(refused) = verdict {
            self.shared()
                .command(|core| core.conn.reject_host_key(offer))?;
            return Err(Error::HostKey(Arc::new(refused)));
        }
        // A verdict that comes too late is none.
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(Error::TimedOut("the verdict on the host key"));
        }
        self.shared().command(|core| {
            core.attended = true;
            core.conn.accept_host_key(offer)
        })?;
        self.shared()
            .wait(Interest::Connection, deadline, "the key exchange", |core| {
                core.conn.negotiated().is_some().then_some(())
            })
    }

    pub(crate) fn shared(&self) -> &Shared<ClientRole> {
        &self.owner.shared
    }

    pub(crate) const fn owner(&self) -> &Arc<Owner<ClientRole>> {
        &self.owner
    }

    pub(crate) fn routes(&self) -> &Routes {
        &self.extras.routes
    }

    fn auth_lock(&self) -> MutexGuard<'_, ()> {
        lock(&self.extras.auth)
    }

    fn show_banner(&self, text: &str) {
        if let Some(banner) = lock(&self.extras.banner).as_mut() {
            banner(text);
        }
    }

    /// The next thing that an attempt to authenticate comes upon. While a question is with the caller the attempt rests:
    /// another one would make it void.
    fn next_question(
        &self,
        deadline: Option<Instant>,
        what: &'static str,
    ) -> Result<ClientEvent, Error> {
        self.shared()
            .wait(Interest::Connection, deadline, what, |core| {
                core.attempts.next(&mut core.inbox)
            })
    }

    /// A command, to be started with [`Command::spawn`] or run with [`Command::output`].
    pub fn exec(&self, command: impl AsRef<[u8]>) -> Command {
        Command::exec(self.clone(), command.as_ref())
    }

    /// The user's shell, to be started with [`Command::spawn`]. For people it wants a [`Command::pty`].
    pub fn shell(&self) -> Command {
        Command::shell(self.clone())
    }

    /// Starts a subsystem, such as `sftp`.
    ///
    /// # Errors
    ///
    /// [`Error::OpenFailed`], [`Error::Refused`].
    pub fn subsystem(&self, name: &str) -> Result<Channel, Error> {
        let channel = self.open(OpenChannel::Session)?;
        channel.start(Program::Subsystem(name))?;
        Ok(channel)
    }

    /// Opens a session with nothing in it, for callers that want to see each answer: see [`Channel::pty`],
    /// [`Channel::env`] and [`Channel::start`]. [`exec`](Self::exec), [`shell`](Self::shell) and
    /// [`subsystem`](Self::subsystem) ask for everything at once, which is faster.
    ///
    /// # Errors
    ///
    /// [`Error::OpenFailed`].
    pub fn open_session(&self) -> Result<Channel, Error> {
        let channel = self.open(OpenChannel::Session)?;
        channel.opened()?;
        Ok(channel)
    }

    /// Has the server connect to a host of its side (RFC 4254 section 7.2).
    ///
    /// # Errors
    ///
    /// [`Error::OpenFailed`].
    pub fn direct_tcpip(&self, host: &str, port: u16) -> Result<Channel, Error> {
        let channel = self.open(OpenChannel::DirectTcpip {
            host,
            port,
            originator: ("127.0.0.1", 0),
        })?;
        channel.opened()?;
        Ok(channel)
    }

    /// Opens a channel of the caller's own kind. `data` goes into the open message; what the peer's confirmation
    /// carries is returned.
    ///
    /// # Errors
    ///
    /// [`Error::OpenFailed`].
    pub fn open_custom(&self, kind: &str, data: &[u8]) -> Result<(Channel, Vec<u8>), Error> {
        let channel = self.open(OpenChannel::Custom { kind, data })?;
        let confirmation = channel.opened()?;
        Ok((channel, confirmation))
    }

    /// Asks for a channel; the answer is not waited for.
    pub(crate) fn open(&self, kind: OpenChannel<'_>) -> Result<Channel, Error> {
        let (id, gate) = self.shared().wait(
            Interest::Room,
            None,
            "room for a request",
            |core| match core.conn.open(kind, Instant::now()) {
                Err(misuse) if core.must_wait(misuse) => None,
                Err(misuse) => Some(Err(core.refused(misuse))),
                Ok(id) => Some(Ok((id, core.add_channel(id, false)))),
            },
        )??;
        Ok(Channel::new(Arc::clone(&self.owner), id, gate))
    }

    /// Makes a request about the connection (RFC 4254 section 4), and waits for the answer when one is wanted. The
    /// data of the answer is returned.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`].
    pub fn global_request(
        &self,
        name: &str,
        data: &[u8],
        want_reply: bool,
    ) -> Result<Vec<u8>, Error> {
        crate::server::global_request(self.shared(), name, data, want_reply)
    }

    /// Sends a PING with at most 256 bytes (`ping@openssh.com`), and waits until the server has answered: everything that
    /// it sent before has arrived then.
    ///
    /// # Errors
    ///
    /// The server does not answer such messages; or the connection has ended.
    pub fn ping(&self, data: &[u8]) -> Result<(), Error> {
        let sent =
            self.shared().wait(
                Interest::Room,
                None,
                "room for a request",
                |core| match core.conn.ping(data, Instant::now()) {
                    Err(misuse) if core.must_wait(misuse) => None,
                    Err(misuse) => Some(Err(core.refused(misuse))),
                    Ok(()) => {
                        core.pings += 1;
                        Some(Ok(core.pings))
                    }
                },
            )??;
        // They are answered in order.
        self.shared()
            .wait(Interest::Connection, None, "an answer", |core| {
                (core.pongs >= sent).then_some(())
            })
    }

    /// Starts a key exchange now. Data goes on flowing; see [`rekeys`](Self::rekeys).
    ///
    /// # Errors
    ///
    /// The connection has ended.
    pub fn rekey(&self) -> Result<(), Error> {
        self.shared()
            .command(|core| core.conn.rekey(Instant::now()))
    }

    /// How many key exchanges were completed after the first one.
    pub fn rekeys(&self) -> u64 {
        self.shared().act(|core| core.rekeys)
    }

    /// The algorithms in force.
    pub fn negotiated(&self) -> Option<Negotiated> {
        self.shared().act(|core| core.conn.negotiated().cloned())
    }

    /// Session identifier, versions, host key and user.
    pub fn session(&self) -> Option<SessionInfo> {
        self.shared()
            .act(|core| core.conn.session().map(SessionInfo::from))
    }

    /// The address that was connected to, where [`connect`](Self::connect) did that.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.extras.peer
    }

    /// Whether the connection has not ended.
    pub fn is_alive(&self) -> bool {
        self.closed().is_none()
    }

    /// Why the connection has ended.
    pub fn closed(&self) -> Option<Error> {
        self.shared().act(|core| core.over.clone())
    }

    /// Waits until the connection has ended; [`closed`](Self::closed) says why.
    pub fn wait_closed(&self) {
        // It ends with the connection, and with nothing else.
        _ = self
            .shared()
            .wait(Interest::Connection, None, "the end", |_| None::<()>);
    }

    /// Ends the connection for all its handles: the server is told, and every call that waits fails. Waits a moment
    /// until the last bytes have left.
    pub fn disconnect(&self) {
        self.disconnect_with(DisconnectReason::BY_APPLICATION, "");
    }

    /// The same with a reason of RFC 4253 section 11.1, and a text for whoever reads the server's log.
    pub fn disconnect_with(&self, reason: DisconnectReason, text: &str) {
        self.shared().disconnect(reason, text);
        self.shared()
            .wait_drained(after(Some(Duration::from_secs(2))));
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("peer", &self.extras.peer)
            .finish_non_exhaustive()
    }
}

/// Where an event of a client goes.
fn sort(event: ClientEvent, attended: bool) -> Sorted<ClientEvent> {
    match event {
        ClientEvent::Channel(id) => Sorted::Channel(id),
        ClientEvent::GlobalReplied { request, reply } => Sorted::Reply(request, reply),
        ClientEvent::Disconnected(error) => Sorted::Over(error),
        ClientEvent::PongReceived(_) => Sorted::Pong,
        ClientEvent::Rekeyed => Sorted::Rekeyed,
        ClientEvent::Unblocked => Sorted::Unblocked,
        ClientEvent::OpenRequested(_) | ClientEvent::GlobalRequested(_) => Sorted::Call(event),
        ClientEvent::HostKeyOffered(_) if attended => Sorted::Call(event),
        _ => Sorted::Question(event),
    }
}

/// What the connection's own thread works with: it answers what no caller waits for.
struct Attendee {
    owner: Weak<Owner<ClientRole>>,
    policy: Arc<Mutex<HostKeyPolicy>>,
    routes: Arc<Routes>,
    asked: Asked,
}

impl Attendee {
    /// What fails here fails because the connection has ended.
    fn serve(&mut self, shared: &Shared<ClientRole>, call: Call<ClientRole>) {
        match call {
            Call::Event(ClientEvent::HostKeyOffered(offer)) => {
                let verdict: Result<(), HostKeyRefused> = lock(&self.policy).judge(offer.key());
                shared.act(|core| {
                    _ = match verdict {
                        Ok(()) => core.conn.accept_host_key(offer),
                        Err(refused) => {
                            core.io_error = Some(Error::HostKey(Arc::new(refused)));
                            core.conn.reject_host_key(offer)
                        }
                    };
                });
            }
            Call::Event(ClientEvent::OpenRequested(request)) => {
                if let Err(request) = self.routes.serve(request) {
                    self.asked.open(shared, &self.owner, request);
                }
            }
            Call::Event(ClientEvent::GlobalRequested(request)) => {
                self.asked.global(shared, request);
            }
            Call::Requested {
                channel,
                request,
                token,
            } => self.asked.request(shared, channel, &request, token),
            Call::ForwardEnded(forward) => self.routes.forget(forward),
            Call::Event(_) | Call::ChannelClosed(_) => {}
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
