//! The client: connects, authenticates, opens channels.

mod asked;
mod auth;
mod command;
mod options;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use ssh_proto::error::DisconnectReason;
use ssh_proto::{
    ClientEvent, ClientRole, Connection, Misuse, Negotiated, OpenChannel, Program, RequestId, Role,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, ToSocketAddrs};

use crate::channel::{Channel, Owner};
use crate::core::{Call, Core, Interest, Shared, Sorted, must_wait, now, seed};
use crate::driver::{Attendant, Drive, Driver};
use crate::events::Events;
use crate::forward::Routes;
use crate::observers::Observers;
use crate::waiters::Wish;
use crate::{Error, SessionInfo};

use asked::Asked;

pub use auth::{Answerer, Asker, Method, Signer};
pub use command::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Output};
pub use options::{ClientOptions, HostKeyAsker, HostKeyPolicy};

/// A connection to a server.
///
/// It is a handle: clones use the same connection, also from different tasks. When the last handle is gone, channels
/// included, the connection is closed. What moves the bytes is the [`Driver`] that comes with it.
///
/// Attempts to authenticate wait for one another: a callback that is called within one (a banner, prompts, a signature, a
/// new password) would wait for itself if it started another.
///
/// ```no_run
/// use ssh_tokio::{Client, ClientOptions, HostKeyPolicy};
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let pin = HostKeyPolicy::fingerprint("SHA256:ohD8VZEXGWo6Ez8GSEJQ9WpafgLFsOfLOtGGQCQo6Og");
/// let client = Client::connect_spawn("server.example:22", ClientOptions::new(pin)).await?;
/// if !client.auth_password("user", "secret").await?.success() {
///     return Err("wrong password".into());
/// }
/// let output = client.exec("uname -a").output().await?;
/// println!("{}", String::from_utf8_lossy(&output.stdout));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    owner: Arc<Owner<ClientRole>>,
    extras: Arc<Extras>,
}

struct Extras {
    /// One attempt to authenticate at a time.
    auth: tokio::sync::Mutex<()>,
    banner: Mutex<Option<options::BannerCallback>>,
    peer: Option<SocketAddr>,
}

impl Client {
    /// Connects to a server, exchanges keys, and has the host key judged. `address` is whatever has socket addresses:
    /// `("host", 22)`, `"host:22"`, a [`SocketAddr`]. Each address of a name is tried in turn.
    ///
    /// What is returned besides the client must be polled from then on: see [`Driver`].
    ///
    /// Cancellation: the socket is closed.
    ///
    /// # Errors
    ///
    /// No address answers in time, the peer does not speak SSH, no algorithm fits, or the host key is refused.
    pub async fn connect(
        address: impl ToSocketAddrs,
        options: ClientOptions,
    ) -> Result<(Self, Driver<TcpStream>), Error> {
        let timeout = options.timeout;
        within(timeout, async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let peer = stream.peer_addr().ok();
            Self::start(stream, peer, options).await
        })
        .await
    }

    /// The same over a stream that exists: a socket (mind `TCP_NODELAY`), a [`duplex`](tokio::io::duplex) pipe, a
    /// [`Channel`] of another connection, the two pipes of a process [joined](tokio::io::join).
    ///
    /// Cancellation: the stream is dropped.
    ///
    /// # Errors
    ///
    /// Those of [`connect`](Self::connect).
    pub async fn connect_stream<T>(
        stream: T,
        options: ClientOptions,
    ) -> Result<(Self, Driver<T>), Error>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        within(options.timeout, Self::start(stream, None, options)).await
    }

    /// [`connect`](Self::connect), with the driver [spawned](Driver::spawn) on the current runtime. Why the connection
    /// ends is told by [`closed`](Self::closed) and [`events`](Self::events).
    ///
    /// Cancellation: the socket is closed.
    ///
    /// # Errors
    ///
    /// Those of [`connect`](Self::connect).
    pub async fn connect_spawn(
        address: impl ToSocketAddrs,
        options: ClientOptions,
    ) -> Result<Self, Error> {
        let (client, driver) = Self::connect(address, options).await?;
        drop(driver.spawn());
        Ok(client)
    }

    async fn start<T>(
        stream: T,
        peer: Option<SocketAddr>,
        options: ClientOptions,
    ) -> Result<(Self, Driver<T>), Error>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let (config, log) = (options.protocol(), options.log);
        #[cfg(feature = "tracing")]
        let (config, log) = ssh_proto::adapter::traced::<ClientRole>(config, peer, log);
        let observers = Observers {
            log,
            #[cfg(feature = "replay")]
            recording: options.recording,
            #[cfg(feature = "keylog")]
            key_log: options.key_log,
        };
        let conn = Connection::<ClientRole>::new(config, seed()?, now());
        let shared = Arc::new(Shared::new(conn, sort, false));
        let owner = Arc::new(Owner {
            shared: Arc::clone(&shared),
        });
        let attendee = Attendee {
            shared: Arc::clone(&shared),
            owner: Arc::downgrade(&owner),
            policy: options.policy,
            asked: options.asked,
        };
        let attendant = Attendant::new(attendee.attend());
        let drive = Drive::new(shared, stream, observers, attendant);
        let mut driver = Driver::new(drive);
        let client = Self {
            owner,
            extras: Arc::new(Extras {
                auth: tokio::sync::Mutex::new(()),
                banner: Mutex::new(options.banner),
                peer,
            }),
        };
        let exchanged = client
            .shared()
            .wait(Interest::Connection(Wish::ANY), |core| {
                core.conn.negotiated().is_some().then_some(())
            });
        driver.drive(exchanged).await?;
        Ok((client, driver))
    }

    pub(crate) const fn owner(&self) -> &Arc<Owner<ClientRole>> {
        &self.owner
    }

    pub(crate) fn shared(&self) -> &Shared<ClientRole> {
        &self.owner.shared
    }

    fn show_banner(&self, text: &str) {
        let mut banner = self
            .extras
            .banner
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(banner) = banner.as_mut() {
            banner(text);
        }
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
    /// Cancellation: the channel is closed, also while it is being opened.
    ///
    /// # Errors
    ///
    /// [`Error::OpenFailed`], [`Error::Refused`].
    pub async fn subsystem(&self, name: &str) -> Result<Channel, Error> {
        let channel = self.open(OpenChannel::Session).await?;
        channel.start(Program::Subsystem(name)).await?;
        Ok(channel)
    }

    /// Opens a session with nothing in it, for callers that want to see each answer: see [`Channel::pty`],
    /// [`Channel::env`] and [`Channel::start`]. [`exec`](Self::exec), [`shell`](Self::shell) and
    /// [`subsystem`](Self::subsystem) ask for everything at once, which is faster.
    ///
    /// Cancellation: the channel is closed, also while it is being opened.
    ///
    /// # Errors
    ///
    /// [`Error::OpenFailed`].
    pub async fn open_session(&self) -> Result<Channel, Error> {
        let channel = self.open(OpenChannel::Session).await?;
        channel.opened().await?;
        Ok(channel)
    }

    /// Has the server connect to a host of its side (RFC 4254 section 7.2).
    ///
    /// Cancellation: the channel is closed, also while it is being opened.
    ///
    /// # Errors
    ///
    /// [`Error::OpenFailed`].
    pub async fn direct_tcpip(&self, host: &str, port: u16) -> Result<Channel, Error> {
        let kind = OpenChannel::DirectTcpip {
            host,
            port,
            originator: ("127.0.0.1", 0),
        };
        let channel = self.open(kind).await?;
        channel.opened().await?;
        Ok(channel)
    }

    /// Opens a channel of the caller's own kind. `data` goes into the open message; what the peer's confirmation
    /// carries is returned.
    ///
    /// Cancellation: the channel is closed, also while it is being opened.
    ///
    /// # Errors
    ///
    /// [`Error::OpenFailed`].
    pub async fn open_custom(&self, kind: &str, data: &[u8]) -> Result<(Channel, Vec<u8>), Error> {
        let channel = self.open(OpenChannel::Custom { kind, data }).await?;
        let confirmation = channel.opened().await?;
        Ok((channel, confirmation))
    }

    /// Asks for a channel; the answer is not waited for.
    pub(crate) async fn open(&self, kind: OpenChannel<'_>) -> Result<Channel, Error> {
        open(&self.owner, kind).await
    }

    /// Makes a request about the connection (RFC 4254 section 4), and waits for the answer when one is wanted. The
    /// data of the answer is returned.
    ///
    /// Cancellation: the request was sent or it was not; its answer is thrown away.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`].
    pub async fn global_request(
        &self,
        name: &str,
        data: &[u8],
        want_reply: bool,
    ) -> Result<Vec<u8>, Error> {
        global_request(self.shared(), name, data, want_reply).await
    }

    /// Sends a PING with at most 256 bytes (`ping@openssh.com`), and waits until the server has answered: everything that
    /// it sent before has arrived then.
    ///
    /// Cancellation: it was sent or it was not; the answer is thrown away.
    ///
    /// # Errors
    ///
    /// The server does not answer such messages; or the connection has ended.
    pub async fn ping(&self, data: &[u8]) -> Result<(), Error> {
        let sent = self
            .shared()
            .wait(Interest::Connection(Wish::ROOM), |core| {
                match core.conn.ping(data, now()) {
                    Err(misuse) if must_wait(misuse) => None,
                    Err(misuse) => Some(Err(core.over.clone().unwrap_or(Error::Misuse(misuse)))),
                    Ok(()) => {
                        core.pings += 1;
                        Some(Ok(core.pings))
                    }
                }
            })
            .await??;
        // They are answered in order.
        self.shared()
            .wait(Interest::Connection(Wish::STATE), |core| {
                (core.pongs >= sent).then_some(())
            })
            .await
    }

    /// Starts a key exchange now. Data goes on flowing; see [`rekeys`](Self::rekeys).
    ///
    /// # Errors
    ///
    /// The connection has ended.
    pub fn rekey(&self) -> Result<(), Error> {
        Ok(self.shared().act(|core| core.conn.rekey(now()))?)
    }

    /// How many key exchanges were completed after the first one.
    pub fn rekeys(&self) -> u64 {
        self.shared().act(|core| core.rekeys)
    }

    /// What happens to the connection as a whole, from now on.
    pub fn events(&self) -> Events {
        Events::new(Arc::clone(&self.owner))
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

    /// Ends the connection for all its handles: the server is told, and everything that waits fails. The last bytes
    /// have left when the [`Driver`] is ready.
    pub fn disconnect(&self) {
        self.disconnect_with(DisconnectReason::BY_APPLICATION, "");
    }

    /// The same with a reason of RFC 4253 section 11.1, and a text for whoever reads the server's log.
    pub fn disconnect_with(&self, reason: DisconnectReason, text: &str) {
        self.shared().disconnect(reason, text);
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("peer", &self.extras.peer)
            .finish_non_exhaustive()
    }
}

async fn within<T>(
    timeout: Option<Duration>,
    future: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match timeout {
        None => future.await,
        Some(timeout) => tokio::time::timeout(timeout, future)
            .await
            .unwrap_or(Err(Error::TimedOut("the connection"))),
    }
}

/// Asks for a channel, in either role. Dropping what is returned closes it, also before the peer has answered.
pub(crate) async fn open<R: Role>(
    owner: &Arc<Owner<R>>,
    kind: OpenChannel<'_>,
) -> Result<Channel<R>, Error> {
    let id = owner
        .shared
        .wait(Interest::Connection(Wish::ROOM), |core| {
            match core.conn.open(kind, now()) {
                Err(misuse) if must_wait(misuse) => None,
                Err(misuse) => Some(Err(core.over.clone().unwrap_or(Error::Misuse(misuse)))),
                Ok(id) => {
                    core.add_channel(id, false);
                    Some(Ok(id))
                }
            }
        })
        .await??;
    Ok(Channel::new(Arc::clone(owner), id))
}

/// A global request that was sent. Dropping it throws the reply away.
struct GlobalReply<'a, R: Role> {
    shared: &'a Shared<R>,
    request: RequestId,
}

impl<R: Role> Drop for GlobalReply<'_, R> {
    fn drop(&mut self) {
        self.shared.lock().replies.remove(&self.request);
    }
}

/// A request about the connection, in either role.
pub(crate) async fn global_request<R: Role>(
    shared: &Shared<R>,
    name: &str,
    data: &[u8],
    want_reply: bool,
) -> Result<Vec<u8>, Error> {
    if want_reply {
        let ask = |core: &mut Core<R>| core.conn.global_request(name, data, true, now());
        return Ok(ask_global(shared, "global request", ask).await?.1);
    }
    shared
        .wait(Interest::Connection(Wish::ROOM), |core| {
            match core.conn.global_request(name, data, false, now()) {
                Err(misuse) if must_wait(misuse) => None,
                Err(misuse) => Some(Err(core.over.clone().unwrap_or(Error::Misuse(misuse)))),
                Ok(_) => Some(Ok(Vec::new())),
            }
        })
        .await?
}

/// Makes a request about the connection, and waits until it is granted; with the data of the reply. `what` names it.
pub(crate) async fn ask_global<R: Role>(
    shared: &Shared<R>,
    what: &'static str,
    mut ask: impl FnMut(&mut Core<R>) -> Result<RequestId, Misuse>,
) -> Result<(RequestId, Vec<u8>), Error> {
    let request = shared
        .wait(Interest::Connection(Wish::ROOM), |core| match ask(core) {
            Err(misuse) if must_wait(misuse) => None,
            Err(misuse) => Some(Err(core.over.clone().unwrap_or(Error::Misuse(misuse)))),
            Ok(request) => {
                core.replies.insert(request, None);
                Some(Ok(request))
            }
        })
        .await??;
    let sent = GlobalReply { shared, request };
    let reply = shared
        .wait(Interest::Connection(Wish::STATE), |core| {
            core.replies.get_mut(&sent.request)?.take()
        })
        .await?;
    Ok((request, reply.ok_or(Error::Refused(what))?))
}

/// Where an event of a client goes.
fn sort(event: ClientEvent) -> Sorted<ClientEvent> {
    match event {
        ClientEvent::Channel(id) => Sorted::Channel(id),
        ClientEvent::GlobalReplied { request, reply } => Sorted::Reply(request, reply),
        ClientEvent::Disconnected(error) => Sorted::Over(error),
        ClientEvent::PongReceived(_) => Sorted::Pong,
        ClientEvent::Rekeyed => Sorted::Rekeyed,
        ClientEvent::Unblocked => Sorted::Unblocked,
        ClientEvent::OpenRequested(request) => Sorted::Open(request),
        ClientEvent::GlobalRequested(_) | ClientEvent::HostKeyOffered(_) => Sorted::Call(event),
        _ => Sorted::Question(event),
    }
}

/// Answers what no caller waits for.
struct Attendee {
    shared: Arc<Shared<ClientRole>>,
    owner: Weak<Owner<ClientRole>>,
    policy: HostKeyPolicy,
    asked: Asked,
}

impl Attendee {
    /// Until the connection has ended. What fails here fails because it has.
    async fn attend(mut self) {
        let shared = Arc::clone(&self.shared);
        while let Some(call) = shared.next_call(Routes::tidy).await {
            match call {
                Call::Event(ClientEvent::HostKeyOffered(offer)) => {
                    let verdict = self.policy.judge(offer.key()).await;
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
                Call::Open(request) => self.asked.open(&shared, &self.owner, request),
                Call::Event(ClientEvent::GlobalRequested(request)) => {
                    self.asked.global(&shared, request);
                }
                Call::Requested {
                    channel,
                    request,
                    token,
                } => self.asked.request(&shared, channel, &request, token),
                Call::Event(_) | Call::ChannelClosed(_) => {}
            }
        }
    }
}
