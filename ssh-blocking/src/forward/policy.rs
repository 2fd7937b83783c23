//! What a server does with what its policy grants.

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use ssh_proto::{
    ForwardAddress, ForwardPolicy, ForwardTarget, ListenOn, OpenFailureReason, OpenKind, ServerRole,
};

use crate::Error;
use crate::server::{OpenVerdict, ServerConnection};

use super::connect;
use super::listen::{Listener, Remove, Socket};
use super::pump::{Pass, Pumps, Stream, pump};

/// Listens where a client wants it, if that is granted.
fn bind(
    policy: &ForwardPolicy,
    address: &ForwardAddress,
) -> Option<io::Result<(Socket, Option<Remove>)>> {
    match policy.listen(address)? {
        ListenOn::Tcp { hosts, port } => {
            Some(bind_first(&hosts, port).map(|listener| (Socket::Tcp(listener), None)))
        }
        ListenOn::Path(path) => {
            Some(Socket::bind_path(&path).map(|(socket, path)| (socket, Some(path))))
        }
        _ => None,
    }
}

fn bind_first(hosts: &[&str], port: u16) -> io::Result<TcpListener> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for host in hosts {
        match TcpListener::bind((*host, port)) {
            Ok(listener) => return Ok(listener),
            // Whoever has the port is the one that the client's users would find there.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
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
        let target = ForwardTarget::of(kind);
        let Some(target) = target.filter(|target| self.policy.may_connect(target)) else {
            return OpenVerdict::refuse();
        };
        let Some(pass) = self.pumps.enter() else {
            return OpenVerdict::Refuse {
                reason: OpenFailureReason::RESOURCE_SHORTAGE,
                description: "too many connections".to_owned(),
            };
        };
        OpenVerdict::handle(move |pending| match connect(&target) {
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
        let (socket, path) = bind(&self.policy, address)?.ok()?;
        let port = socket.address().ok()?.map_or(0, |address| address.port());
        let bound = address.bound(port);
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
    let channel = connection.open(address.channel((&originator.0, originator.1)))?;
    pass.channel(&channel);
    channel.opened()?;
    pump(pass, channel, stream);
    Ok(())
}
