//! The server: listens, limits who gets in, runs a handler per connection, stops gracefully.

mod connection;
mod handler;
mod options;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Interest as Readiness, Poll, Token, Waker};
use ssh_proto::error::DisconnectReason;
use ssh_proto::{Connection, RequestId, Role, ServerRole};

use crate::Error;
use crate::channel::{Owner, after};
use crate::core::Interest;
use crate::driver::{LogCallback, Shared, seed};
use crate::transport::Transport;

use connection::Attendee;

pub use connection::ServerConnection;
pub use handler::{Handler, OpenVerdict, Task};
pub use options::ServerOptions;

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
/// How long a listener rests when the system has no more descriptors.
const EXHAUSTED: Duration = Duration::from_millis(50);
/// How long a connection that was told to end may take.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A server. It listens on any number of sockets, and serves any streams; all of them share its limits.
#[derive(Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

struct Inner {
    options: ServerOptions,
    subsystems: Arc<options::Subsystems>,
    live: Mutex<Live>,
    /// A connection has ended.
    gone: Condvar,
}

#[derive(Default)]
struct Live {
    next: u64,
    connections: BTreeMap<u64, Arc<Shared<ServerRole>>>,
    /// Connections that are counted, whether or not they are in the map yet.
    count: usize,
    startups: usize,
}

/// One place among the connections.
struct Place(Arc<Inner>);

/// One place among those that are not authenticated.
struct Startup(Arc<Inner>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.live().count -= 1;
        self.0.gone.notify_all();
    }
}

impl Drop for Startup {
    fn drop(&mut self) {
        self.0.live().startups -= 1;
    }
}

impl Inner {
    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a new connection, unless the limits are reached.
    fn admit(self: &Arc<Self>) -> Option<(Place, Startup)> {
        let mut draw = [0; 4];
        // Without random bytes the limits are hard.
        let draw = match getrandom::fill(&mut draw) {
            Ok(()) => u32::from_ne_bytes(draw),
            Err(_) => 0,
        };
        let mut live = self.live();
        if live.count >= self.options.max_connections
            || self.options.max_startups.drops(live.startups, draw)
        {
            return None;
        }
        live.count += 1;
        live.startups += 1;
        Some((Place(Arc::clone(self)), Startup(Arc::clone(self))))
    }
}

impl Server {
    /// A server with these options. It does nothing yet.
    pub fn new(mut options: ServerOptions) -> Self {
        let subsystems = Arc::new(std::mem::take(&mut options.subsystems));
        Self {
            inner: Arc::new(Inner {
                options,
                subsystems,
                live: Mutex::default(),
                gone: Condvar::new(),
            }),
        }
    }

    /// Listens on an address, and serves whoever connects, on threads of their own. Port 0 takes a free one:
    /// [`ServerHandle::address`] tells which.
    ///
    /// # Errors
    ///
    /// The address cannot be listened on.
    pub fn bind(&self, address: impl ToSocketAddrs) -> io::Result<ServerHandle> {
        self.serve(TcpListener::bind(address)?)
    }

    /// Serves whoever connects to a listener, on threads of their own.
    ///
    /// # Errors
    ///
    /// The listener is none, or the system has no thread or descriptor left.
    pub fn serve(&self, listener: TcpListener) -> io::Result<ServerHandle> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let mut listener = mio::net::TcpListener::from_std(listener);
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        poll.registry()
            .register(&mut listener, LISTENER, Readiness::READABLE)?;
        let server = self.clone();
        let state = Arc::new(Stop::default());
        let seen = Arc::clone(&state);
        let thread = thread::Builder::new()
            .name("ssh listener".into())
            .spawn(move || server.accept(poll, &listener, &seen))?;
        Ok(ServerHandle {
            server: self.clone(),
            address,
            waker,
            state,
            thread: Mutex::new(Some(thread)),
        })
    }

    fn accept(&self, mut poll: Poll, listener: &mio::net::TcpListener, stop: &Stop) {
        let mut events = Events::with_capacity(4);
        while !stop.is_set() {
            match listener.accept() {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // It fails only when interrupted.
                    _ = poll.poll(&mut events, None);
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                    ) => {}
                // Out of descriptors or memory: it gets better when connections end.
                Err(_) => thread::sleep(EXHAUSTED),
            }
        }
    }

    /// Starts a thread for a connection that was accepted, or drops it.
    fn admit(&self, stream: mio::net::TcpStream, peer: SocketAddr) {
        let options = &self.inner.options;
        let welcome = options.filter.as_ref().is_none_or(|filter| {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| filter(peer))).unwrap_or(false)
        });
        if !welcome {
            return;
        }
        let Some((place, startup)) = self.inner.admit() else {
            return;
        };
        let server = self.clone();
        // When there is no thread, the stream is dropped.
        _ = thread::Builder::new()
            .name("ssh server".into())
            .spawn(move || {
                // Why a connection ends is in its log.
                _ = server.run(Transport::from_mio(stream), Some(peer), place, startup);
            });
    }

    /// Serves one stream, and returns when its connection has ended: with `Ok` when the client or this side said so,
    /// with an error otherwise.
    ///
    /// # Errors
    ///
    /// Why the connection ended. `WouldBlock` as an I/O error: the limits do not let it in.
    pub fn serve_stream<T>(&self, stream: T, peer: Option<SocketAddr>) -> Result<(), Error>
    where
        T: TryInto<Transport>,
        Error: From<T::Error>,
    {
        let transport = stream.try_into()?;
        let Some((place, startup)) = self.inner.admit() else {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "too many connections").into());
        };
        self.run(transport, peer, place, startup)
    }

    fn run(
        &self,
        transport: Transport,
        peer: Option<SocketAddr>,
        place: Place,
        startup: Startup,
    ) -> Result<(), Error> {
        let options = &self.inner.options;
        let handler = (options.factory)(peer);
        let config = Arc::clone(&options.config);
        let log = options.log.clone().map(|log| -> LogCallback {
            Box::new(move |record: &ssh_proto::log::LogRecord| log(peer, record))
        });
        #[cfg(feature = "tracing")]
        let (config, log) = ssh_proto::adapter::traced::<ServerRole>(config, peer, log);
        let conn = Connection::<ServerRole>::new(config, seed()?, Instant::now());
        let (shared, mut attendance) = Shared::new(conn, transport, connection::sort, true, log)?;
        #[cfg(feature = "keylog")]
        if let Some(writer) = &options.key_log {
            shared.write_key_log_to(Arc::clone(writer));
        }
        #[cfg(feature = "replay")]
        if let Some(make) = &options.recording {
            shared.record_to(make(peer));
        }
        if let Some(reader) = attendance.take_reader() {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name("ssh reader".into())
                .spawn(move || shared.read_pair(reader))?;
        }
        let listed = self.inner.list(&shared);
        let owner = Arc::new(Owner {
            shared: Arc::clone(&shared),
        });
        let mut attendee = Attendee {
            owner: Arc::clone(&owner),
            handler,
            subsystems: Arc::clone(&self.inner.subsystems),
            startup: Some(startup),
            user: String::new(),
            sessions: BTreeMap::new(),
        };
        let connection = ServerConnection { owner, peer };
        attendee.connect(&connection);
        drop(connection);
        shared.attend(attendance, &mut |shared, call| attendee.serve(shared, call));
        drop(attendee);
        self.inner.live().connections.remove(&listed);
        drop(place);
        match shared.act(|core| core.over.clone()) {
            None | Some(Error::Connection(ssh_proto::Error::LocallyClosed)) => Ok(()),
            Some(Error::Connection(ssh_proto::Error::Disconnected(said)))
                if said.reason == DisconnectReason::BY_APPLICATION =>
            {
                Ok(())
            }
            Some(error) => Err(error),
        }
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.inner.live().count
    }
}

impl Inner {
    fn list(&self, shared: &Arc<Shared<ServerRole>>) -> u64 {
        let mut live = self.live();
        let number = live.next;
        live.next += 1;
        live.connections.insert(number, Arc::clone(shared));
        number
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("options", &self.inner.options)
            .finish_non_exhaustive()
    }
}

/// Whether a listener is to stop.
#[derive(Default)]
struct Stop {
    set: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    fn is_set(&self) -> bool {
        *self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self) {
        *self.set.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}

/// A listening server. Dropping it stops it at once.
#[must_use = "dropping it stops the server"]
pub struct ServerHandle {
    server: Server,
    address: SocketAddr,
    waker: Waker,
    state: Arc<Stop>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
}

impl ServerHandle {
    /// The address that it listens on.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The server.
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// Waits until another thread stops it.
    pub fn wait(&self) {
        let mut set = self
            .state
            .set
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while !*set {
            set = self
                .state
                .changed
                .wait(set)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Stops gracefully: takes no new connections, gives those that exist `grace` to end by themselves, then
    /// disconnects them. Says how many it had to disconnect.
    pub fn stop(&self, grace: Duration) -> usize {
        self.stop_listening();
        let inner = &self.server.inner;
        inner.wait_empty(after(Some(grace)));
        let cut = inner.cut();
        inner.wait_empty(after(Some(LAST_WORDS)));
        cut
    }

    fn stop_listening(&self) {
        self.state.set();
        // It fails only when the system is out of everything; then the next connection wakes the listener.
        _ = self.waker.wake();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // A listener that panicked has stopped, too.
            _ = thread.join();
        }
    }
}

impl Inner {
    /// Disconnects everybody; says how many that were.
    fn cut(&self) -> usize {
        let connections: Vec<_> = self.live().connections.values().cloned().collect();
        for shared in &connections {
            shared.disconnect(DisconnectReason::BY_APPLICATION, "the server stops");
        }
        connections.len()
    }

    fn wait_empty(&self, deadline: Option<Instant>) {
        let mut live = self.live();
        while live.count > 0 {
            let left = deadline.map_or(LAST_WORDS, |at| {
                at.saturating_duration_since(Instant::now())
            });
            if left.is_zero() {
                return;
            }
            live = self
                .gone
                .wait_timeout(live, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.stop_listening();
        self.server.inner.cut();
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// A request about the connection, in either role.
pub(crate) fn global_request<R: Role>(
    shared: &Shared<R>,
    name: &str,
    data: &[u8],
    want_reply: bool,
) -> Result<Vec<u8>, Error> {
    let request = shared.wait(
        Interest::Room,
        None,
        "room for a request",
        |core| match core
            .conn
            .global_request(name, data, want_reply, Instant::now())
        {
            Err(misuse) if core.must_wait(misuse) => None,
            Err(misuse) => Some(Err(core.refused(misuse))),
            Ok(request) => {
                if want_reply {
                    core.replies.insert(request, None);
                }
                Some(Ok(request))
            }
        },
    )??;
    if !want_reply {
        return Ok(Vec::new());
    }
    await_reply(shared, request, "global request")
}

/// Waits for the reply to a request about the connection; `what` names it.
pub(crate) fn await_reply<R: Role>(
    shared: &Shared<R>,
    request: RequestId,
    what: &'static str,
) -> Result<Vec<u8>, Error> {
    shared
        .wait(Interest::Connection, None, "a reply", |core| {
            if core.replies.get(&request)?.is_some() {
                core.replies.remove(&request).flatten()
            } else {
                None
            }
        })?
        .ok_or(Error::Refused(what))
}
