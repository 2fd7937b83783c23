//! What a server grants, and how it serves it.

use std::fmt;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use ssh_proto::{ForwardAddress, OpenChannel, OpenFailureReason, OpenKind, ServerRole};

use crate::Error;
use crate::server::{OpenVerdict, ServerConnection};

use super::ForwardTarget;
use super::listen::{Listener, Remove, Socket};
use super::pump::{Pass, Pumps, Stream, pump};

type Judge<T> = Arc<dyn Fn(&T) -> bool + Send + Sync>;

/// What clients of a server may have forwarded. At first: nothing.
#[derive(Clone, Default)]
pub struct ForwardPolicy {
    listen: Listen,
    connect: Option<Judge<ForwardTarget>>,
    paths: Option<Judge<Path>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Listen {
    #[default]
    Nowhere,
    Loopback,
    Anywhere,
}

impl ForwardPolicy {
    /// A policy that grants nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Clients may have the server listen on TCP ports of its loopback addresses. A client that asks for all addresses
    /// gets these; one that asks for another address is refused.
    #[must_use]
    pub const fn listen_on_loopback(mut self) -> Self {
        self.listen = Listen::Loopback;
        self
    }

    /// Clients may have the server listen on TCP ports of any of its addresses, which others can reach then: OpenSSH's
    /// `GatewayPorts clientspecified`.
    #[must_use]
    pub const fn listen_anywhere(mut self) -> Self {
        self.listen = Listen::Anywhere;
        self
    }

    /// Clients may have the server listen on Unix sockets where `allow` says so. The socket must not exist, can be used by
    /// the server's user only, and is removed in the end.
    #[must_use]
    pub fn listen_on_paths(
        mut self,
        allow: impl Fn(&Path) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.paths = Some(Arc::new(allow));
        self
    }

    /// Clients may have the server connect to where `allow` says so: to TCP ports, by the name or address that the client
    /// gave, and to Unix sockets.
    #[must_use]
    pub fn connect(
        mut self,
        allow: impl Fn(&ForwardTarget) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.connect = Some(Arc::new(allow));
        self
    }

    /// Listens where a client wants it, if that is granted.
    fn bind(&self, address: &ForwardAddress) -> Option<io::Result<(Socket, Option<Remove>)>> {
        match address {
            ForwardAddress::Tcpip { address, port } => {
                let hosts = self.hosts(address)?;
                Some(bind_first(&hosts, *port).map(|listener| (Socket::Tcp(listener), None)))
            }
            ForwardAddress::Streamlocal { path } => {
                let path = to_path(path)?;
                let allow = self.paths.as_ref()?;
                allow(&path).then(|| {
                    let (socket, path) = Socket::bind_path(&path)?;
                    Ok((socket, Some(path)))
                })
            }
            _ => None,
        }
    }

    /// The addresses to try for what a client wrote.
    fn hosts<'a>(&self, address: &'a str) -> Option<Vec<&'a str>> {
        const LOOPBACK: [&str; 2] = ["127.0.0.1", "::1"];
        let is_loopback = |address: &str| {
            address
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback())
        };
        match (self.listen, address) {
            (Listen::Nowhere, _) => None,
            (_, "localhost") | (Listen::Loopback, "" | "*" | "0.0.0.0" | "::") => {
                Some(LOOPBACK.to_vec())
            }
            (Listen::Loopback, address) => is_loopback(address).then(|| vec![address]),
            (Listen::Anywhere, "" | "*") => Some(vec!["::", "0.0.0.0"]),
            (Listen::Anywhere, address) => Some(vec![address]),
        }
    }
}

impl fmt::Debug for ForwardPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardPolicy")
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

fn bind_first(hosts: &[&str], port: u16) -> io::Result<TcpListener> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for host in hosts {
        match TcpListener::bind((*host, port)) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere there are none")]
fn to_path(bytes: &[u8]) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    Some(Path::new(std::ffi::OsStr::from_bytes(bytes)).to_owned())
}

#[cfg(not(unix))]
fn to_path(_: &[u8]) -> Option<PathBuf> {
    None
}

/// The forwarding of one connection of a server, for its [`Handler`](crate::Handler) to delegate to.
///
/// ```
/// use ssh_blocking::ssh_proto::{ForwardAddress, OpenKind};
/// use ssh_blocking::{ForwardPolicy, Forwarding, Handler, OpenVerdict, ServerConnection};
///
/// struct User {
///     forwarding: Forwarding,
/// }
///
/// impl Handler for User {
///     fn connected(&mut self, connection: &ServerConnection) {
///         self.forwarding.connected(connection);
///     }
///     fn check_channel_open(&mut self, kind: &OpenKind) -> OpenVerdict {
///         self.forwarding.check_open(kind)
///     }
///     fn check_forward(&mut self, address: &ForwardAddress) -> Option<u16> {
///         self.forwarding.check_forward(address)
///     }
///     fn forward_granted(&mut self, address: &ForwardAddress) {
///         self.forwarding.granted(address);
///     }
///     fn check_cancel_forward(&mut self, address: &ForwardAddress) -> bool {
///         self.forwarding.cancel(address)
///     }
/// }
///
/// let policy = ForwardPolicy::new().listen_on_loopback();
/// let user = User { forwarding: Forwarding::new(policy) };
/// ```
///
/// Everything ends when it is dropped.
pub struct Forwarding {
    policy: ForwardPolicy,
    connection: Option<ServerConnection>,
    pumps: Arc<Pumps<ServerRole>>,
    listeners: Vec<(ForwardAddress, Slot)>,
}

enum Slot {
    /// The client was not told yet: a channel that came before the reply would be refused.
    Bound(Socket, Option<Remove>),
    Listening(#[expect(dead_code, reason = "it stops when it is dropped")] Listener),
}

impl Forwarding {
    /// The forwarding of one connection.
    pub fn new(policy: ForwardPolicy) -> Self {
        Self {
            policy,
            connection: None,
            pumps: Pumps::new(),
            listeners: Vec::new(),
        }
    }

    /// To be called from [`Handler::connected`](crate::Handler::connected). Without it no listener is granted.
    pub fn connected(&mut self, connection: &ServerConnection) {
        self.connection = Some(connection.clone());
    }

    /// The verdict on a channel: connections that the policy grants are made; everything else is refused.
    pub fn check_open(&self, kind: &OpenKind) -> OpenVerdict {
        let target = match kind {
            OpenKind::DirectTcpip { host, port, .. } => {
                Some(ForwardTarget::from((host.as_str(), *port)))
            }
            OpenKind::DirectStreamlocal { path } => to_path(path).map(ForwardTarget::Path),
            _ => None,
        };
        let allowed = |target: &ForwardTarget| {
            self.policy
                .connect
                .as_ref()
                .is_some_and(|allow| allow(target))
        };
        let Some(target) = target.filter(allowed) else {
            return OpenVerdict::refuse();
        };
        let Some(pass) = self.pumps.enter() else {
            return OpenVerdict::Refuse {
                reason: OpenFailureReason::RESOURCE_SHORTAGE,
                description: "too many connections".to_owned(),
            };
        };
        OpenVerdict::handle(move |pending| match target.connect() {
            // It fails when the connection has ended.
            Ok(stream) => {
                if let Ok(channel) = pending.accept() {
                    pump(&pass, channel, stream);
                }
            }
            Err(error) => {
                pending.refuse(OpenFailureReason::CONNECT_FAILED, &error.to_string());
            }
        })
    }

    /// Binds the address if the policy grants it: see [`Handler::check_forward`](crate::Handler::check_forward).
    pub fn check_forward(&mut self, address: &ForwardAddress) -> Option<u16> {
        self.connection.as_ref()?;
        let (socket, path) = self.policy.bind(address)?.ok()?;
        let port = socket.address().ok()?.map_or(0, |address| address.port());
        let bound = match address {
            ForwardAddress::Tcpip { address, .. } => ForwardAddress::tcpip(address.as_str(), port),
            other => other.clone(),
        };
        self.listeners.push((bound, Slot::Bound(socket, path)));
        Some(port)
    }

    /// Starts to serve it: see [`Handler::forward_granted`](crate::Handler::forward_granted).
    pub fn granted(&mut self, address: &ForwardAddress) {
        let Some(connection) = self.connection.clone() else {
            return;
        };
        let at = self
            .listeners
            .iter()
            .position(|(bound, slot)| bound == address && matches!(slot, Slot::Bound(..)));
        let Some((bound, Slot::Bound(socket, path))) = at.map(|at| self.listeners.swap_remove(at))
        else {
            return;
        };
        // Where it fails nobody is served, which the client sees as silence.
        if let Ok(listener) = self.listen(&bound, socket, path, &connection) {
            self.listeners.push((bound, Slot::Listening(listener)));
        }
    }

    fn listen(
        &self,
        bound: &ForwardAddress,
        socket: Socket,
        path: Option<Remove>,
        connection: &ServerConnection,
    ) -> io::Result<Listener> {
        let pumps = Arc::clone(&self.pumps);
        let (served, ended) = (connection.clone(), connection.clone());
        let address = Arc::new(bound.clone());
        let listener = Listener::start(
            socket,
            path,
            move || !ended.is_alive(),
            move |stream| {
                let Some(pass) = pumps.enter() else {
                    return;
                };
                let (connection, address) = (served.clone(), Arc::clone(&address));
                // When no thread can be had, the connection is dropped. Whoever made it learns of what fails by its end.
                _ = thread::Builder::new()
                    .name("ssh forward".into())
                    .spawn(move || _ = forwarded(&connection, &pass, &address, stream));
            },
        )?;
        connection.tell_end(listener.waker());
        Ok(listener)
    }

    /// Listens no more: see [`Handler::check_cancel_forward`](crate::Handler::check_cancel_forward). Connections that
    /// exist go on.
    pub fn cancel(&mut self, address: &ForwardAddress) -> bool {
        let at = self
            .listeners
            .iter()
            .position(|(bound, _)| bound == address);
        at.map(|at| self.listeners.swap_remove(at)).is_some()
    }
}

impl Drop for Forwarding {
    fn drop(&mut self) {
        self.listeners.clear();
        self.pumps.stop();
    }
}

impl fmt::Debug for Forwarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarding")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// A connection that came to a listener.
fn forwarded(
    connection: &ServerConnection,
    pass: &Pass<ServerRole>,
    address: &ForwardAddress,
    stream: Stream,
) -> Result<(), Error> {
    pass.stream(&stream)?;
    let originator = stream.originator();
    let channel = connection.open(match address {
        ForwardAddress::Tcpip { address, port } => OpenChannel::ForwardedTcpip {
            address,
            port: *port,
            originator: (&originator.0, originator.1),
        },
        ForwardAddress::Streamlocal { path } => OpenChannel::ForwardedStreamlocal { path },
        _ => return Ok(()),
    })?;
    pass.channel(&channel);
    channel.opened()?;
    pump(pass, channel, stream);
    Ok(())
}
