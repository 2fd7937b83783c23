//! What a server does with what its policy grants.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use ssh_proto::{
    ForwardAddress, ForwardPolicy, ForwardTarget, ListenOn, OpenFailureReason, OpenKind,
};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::Error;
use crate::server::{OpenVerdict, ServerConnection};

use super::connect;
use super::listen::Listener;
use super::pump::{Stream, pump};
use super::serve::{Arrival, Places, serve, until};

/// Listens where a client wants it, if that is granted.
async fn bind(policy: &ForwardPolicy, address: &ForwardAddress) -> Option<io::Result<Listener>> {
    match policy.listen(address)? {
        ListenOn::Tcp { hosts, port } => Some(bind_first(&hosts, port).await.map(Into::into)),
        ListenOn::Path(path) => Some(Listener::bind_path(&path)),
        _ => None,
    }
}

async fn bind_first(hosts: &[&str], port: u16) -> io::Result<TcpListener> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for host in hosts {
        match TcpListener::bind((*host, port)).await {
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
/// use ssh_tokio::ssh_proto::{ForwardAddress, OpenKind};
/// use ssh_tokio::{ForwardPolicy, Forwarding, Handler, OpenVerdict, ServerConnection};
///
/// struct User {
///     forwarding: Forwarding,
/// }
///
/// impl Handler for User {
///     fn connected(&mut self, connection: &ServerConnection) {
///         self.forwarding.connected(connection);
///     }
///     async fn check_channel_open(&mut self, kind: &OpenKind) -> OpenVerdict {
///         self.forwarding.check_open(kind)
///     }
///     async fn check_forward(&mut self, address: &ForwardAddress) -> Option<u16> {
///         self.forwarding.check_forward(address).await
///     }
///     fn forward_granted(&mut self, address: &ForwardAddress) {
///         self.forwarding.granted(address);
///     }
///     async fn check_cancel_forward(&mut self, address: &ForwardAddress) -> bool {
///         self.forwarding.cancel(address).await
///     }
/// }
///
/// let policy = ForwardPolicy::new().listen_on_loopback();
/// let user = User { forwarding: Forwarding::new(policy) };
/// ```
///
/// A listener, with the connections that come to it, is one task of the current runtime; so is each connection that the
/// client has the server make. Everything ends when this is dropped, or before that with the SSH connection. How many
/// listeners there can be is said by [`forwards`](ssh_proto::limits::Limits::forwards); connections are 512 at once, and
/// each is held to what is said at [`Forward`](crate::Forward).
pub struct Forwarding {
    policy: ForwardPolicy,
    connection: Option<ServerConnection>,
    places: Places,
    /// Never written to. What the client had connected ends when it is dropped.
    alive: watch::Sender<()>,
    listeners: Vec<(ForwardAddress, Slot)>,
    tasks: JoinSet<()>,
}

enum Slot {
    /// The client was not told yet: a channel that came before the reply would be refused.
    Bound(Listener),
    Listening {
        /// Dropped: it is to listen no more.
        stop: oneshot::Sender<()>,
        /// Ready when it does not.
        stopped: oneshot::Receiver<()>,
    },
}

impl Forwarding {
    /// The forwarding of one connection.
    pub fn new(policy: ForwardPolicy) -> Self {
        Self {
            policy,
            connection: None,
            places: Places::new(),
            alive: watch::Sender::new(()),
            listeners: Vec::new(),
            tasks: JoinSet::new(),
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
        let Some(place) = self.places.enter() else {
            return OpenVerdict::Refuse {
                reason: OpenFailureReason::RESOURCE_SHORTAGE,
                description: "too many connections".to_owned(),
            };
        };
        let mut alive = self.alive.subscribe();
        OpenVerdict::handle(async move |pending| {
            let owner = Arc::clone(pending.owner());
            let end = until(
                async { owner.shared.over().await },
                // It fails when the other end is dropped, and never does anything else.
                async { _ = alive.changed().await },
            );
            let work = async {
                match connect(&target).await {
                    // It fails when the connection has ended.
                    Ok(stream) => {
                        if let Ok(channel) = pending.accept() {
                            pump(channel, stream).await;
                        }
                    }
                    Err(error) => {
                        pending.refuse(OpenFailureReason::CONNECT_FAILED, &error.to_string());
                    }
                }
            };
            until(async { _ = end.await }, work).await;
            drop(place);
        })
    }

    /// Binds the address if the policy grants it: see [`Handler::check_forward`](crate::Handler::check_forward).
    ///
    /// Cancellation: nothing is bound.
    pub async fn check_forward(&mut self, address: &ForwardAddress) -> Option<u16> {
        self.connection.as_ref()?;
        let listener = bind(&self.policy, address).await?.ok()?;
        let port = listener.address().ok()?.map_or(0, |address| address.port());
        self.listeners
            .push((address.bound(port), Slot::Bound(listener)));
        Some(port)
    }

    /// Starts to serve it: see [`Handler::forward_granted`](crate::Handler::forward_granted).
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn granted(&mut self, address: &ForwardAddress) {
        // Those that have ended.
        while self.tasks.try_join_next().is_some() {}
        let Some(connection) = self.connection.clone() else {
            return;
        };
        let at = self
            .listeners
            .iter()
            .position(|(bound, slot)| bound == address && matches!(slot, Slot::Bound(..)));
        let Some((bound, Slot::Bound(listener))) = at.map(|at| self.listeners.swap_remove(at))
        else {
            return;
        };
        let (stop, stopping) = oneshot::channel();
        let (told, stopped) = oneshot::channel();
        self.tasks.spawn(listen(
            connection,
            bound.clone(),
            listener,
            self.places.clone(),
            stopping,
            told,
        ));
        self.listeners
            .push((bound, Slot::Listening { stop, stopped }));
    }

    /// Listens no more: see [`Handler::check_cancel_forward`](crate::Handler::check_cancel_forward). Connections that
    /// exist go on.
    ///
    /// Cancellation: it stops to listen all the same.
    pub async fn cancel(&mut self, address: &ForwardAddress) -> bool {
        let at = self
            .listeners
            .iter()
            .position(|(bound, _)| bound == address);
        let Some((_, slot)) = at.map(|at| self.listeners.swap_remove(at)) else {
            return false;
        };
        if let Slot::Listening { stop, stopped } = slot {
            drop(stop);
            // The client may use the port itself once it has the answer.
            _ = stopped.await;
        }
        true
    }
}

impl fmt::Debug for Forwarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarding")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// Serves a listener until `stop` is dropped, and those who have come to the end.
async fn listen(
    connection: ServerConnection,
    address: ForwardAddress,
    listener: Listener,
    places: Places,
    mut stop: oneshot::Receiver<()>,
    stopped: oneshot::Sender<()>,
) {
    // In this order: who is told finds the port free.
    let mut open = Some((listener, stopped));
    serve(connection.shared(), |cx| {
        if Pin::new(&mut stop).poll(cx).is_ready() {
            open = None;
        }
        let Some((listener, _)) = &mut open else {
            return Poll::Ready(Arrival::Closed);
        };
        listener.poll_accept(cx).map(|stream| {
            let Some(place) = places.enter() else {
                return Arrival::Dropped;
            };
            let (connection, address) = (connection.clone(), address.clone());
            Arrival::Serve(Box::pin(async move {
                // Whoever made the connection learns of what fails by its end.
                _ = forwarded(&connection, &address, stream).await;
                drop(place);
            }))
        })
    })
    .await;
}

/// A connection that came to a listener.
async fn forwarded(
    connection: &ServerConnection,
    address: &ForwardAddress,
    stream: Stream,
) -> Result<(), Error> {
    let originator = stream.originator();
    let kind = address.channel((&originator.0, originator.1));
    let channel = connection.open(kind).await?;
    channel.opened().await?;
    pump(channel, stream).await;
    Ok(())
}
