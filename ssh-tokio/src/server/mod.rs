//! The server: listens, limits who gets in, runs a handler per connection, stops gracefully.

mod connection;
mod handler;
mod options;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use ssh_proto::error::DisconnectReason;
use ssh_proto::log::LogRecord;
use ssh_proto::{Connection, ServerRole};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::sync::{Notify, watch};

use crate::Error;
use crate::channel::Owner;
use crate::core::{Shared, now, seed};
use crate::driver::{Attendant, Drive};
use crate::observers::{LogCallback, Observers};

use connection::Attendee;

pub use connection::ServerConnection;
pub use handler::{Handler, OpenVerdict, PendingFn, Task};
pub use options::ServerOptions;

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
    gone: Notify,
}

#[derive(Default)]
struct Live {
    next: u64,
    connections: BTreeMap<u64, Weak<Shared<ServerRole>>>,
    /// Connections that are counted, whether or not they are in the map yet.
    count: usize,
    startups: usize,
}

/// One place among the connections.
struct Place {
    inner: Arc<Inner>,
    number: u64,
}

/// One place among those that are not authenticated.
struct Startup(Arc<Inner>);

impl Drop for Place {
    fn drop(&mut self) {
        let mut live = self.inner.live();
        live.connections.remove(&self.number);
        live.count -= 1;
        drop(live);
        self.inner.gone.notify_waiters();
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
        let max = &self.options.max_startups;
        let mut live = self.live();
        if live.count >= self.options.max_connections
            || (live.startups >= max.start && max.drops(live.startups, draw()))
        {
            return None;
        }
        live.count += 1;
        live.startups += 1;
        live.next += 1;
        let number = live.next;
        let inner = Arc::clone(self);
        Some((Place { inner, number }, Startup(Arc::clone(self))))
    }

    /// Disconnects everybody; says how many that were.
    fn cut(&self) -> usize {
        let connections: Vec<_> = self
            .live()
            .connections
            .values()
            .filter_map(Weak::upgrade)
            .collect();
        for shared in &connections {
            shared.disconnect(DisconnectReason::BY_APPLICATION, "the server stops");
        }
        connections.len()
    }

    /// Waits until no connection is left, for so long at the most.
    async fn wait_empty(&self, limit: Duration) {
        let empty = async {
            loop {
                let mut gone = std::pin::pin!(self.gone.notified());
                // From here on no end is missed.
                gone.as_mut().enable();
                if self.live().count == 0 {
                    return;
                }
                gone.await;
            }
        };
        // That it takes longer is seen by whoever counts.
        _ = tokio::time::timeout(limit, empty).await;
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
                gone: Notify::new(),
            }),
        }
    }

    /// Listens on an address, and serves whoever connects: see [`serve`](Self::serve). Port 0 takes a free one:
    /// [`ServerHandle::address`] tells which.
    ///
    /// Cancellation: nothing is listened on.
    ///
    /// # Errors
    ///
    /// The address cannot be listened on.
    pub async fn bind(&self, address: impl ToSocketAddrs) -> io::Result<ServerHandle> {
        self.serve(TcpListener::bind(address).await?)
    }

    /// Serves whoever connects to a listener. This spawns a task that listens, and one for each connection, on the
    /// current runtime; they end with the handle that is returned.
    ///
    /// # Errors
    ///
    /// The listener has no address.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn serve(&self, listener: TcpListener) -> io::Result<ServerHandle> {
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(self.clone().accept(listener, stopped));
        Ok(ServerHandle {
            server: self.clone(),
            address,
            stop,
        })
    }

    async fn accept(self, listener: TcpListener, mut stopped: watch::Receiver<bool>) {
        loop {
            let accepted = {
                let mut stopping = std::pin::pin!(stopped.wait_for(|stop| *stop));
                let mut accepting = std::pin::pin!(listener.accept());
                std::future::poll_fn(|cx| {
                    // A handle that is gone stops as well.
                    if stopping.as_mut().poll(cx).is_ready() {
                        return Poll::Ready(None);
                    }
                    accepting.as_mut().poll(cx).map(Some)
                })
                .await
            };
            match accepted {
                None => return,
                Some(Ok((stream, peer))) => self.admit(stream, peer),
                Some(Err(error))
                    if matches!(
                        error.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                    ) => {}
                // Out of descriptors or memory: it gets better when connections end.
                Some(Err(_)) => tokio::time::sleep(EXHAUSTED).await,
            }
        }
    }

    /// Spawns a task for a connection that was accepted, or drops it.
    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        let filter = self.inner.options.filter.as_ref();
        let welcome = filter.is_none_or(|filter| {
            panic::catch_unwind(AssertUnwindSafe(|| filter(peer))).unwrap_or(false)
        });
        if !welcome || stream.set_nodelay(true).is_err() {
            return;
        }
        let Some((place, startup)) = self.inner.admit() else {
            return;
        };
        // Why a connection ends is in its log.
        let started = panic::catch_unwind(AssertUnwindSafe(|| {
            self.start(stream, Some(peer), place, startup)
        }));
        if let Ok(Ok(serving)) = started {
            tokio::spawn(serving);
        }
    }

    /// Serves one stream, and is ready when its connection has ended: with `Ok` when the client or this side said so,
    /// with an error otherwise. Programs of sessions, and what is forwarded, run in tasks of the current runtime that end with
    /// it, everything else in this future.
    ///
    /// Cancellation: the connection ends at once.
    ///
    /// # Errors
    ///
    /// Why the connection ended. `WouldBlock` as an I/O error: the limits do not let it in.
    pub async fn serve_stream<T>(&self, stream: T, peer: Option<SocketAddr>) -> Result<(), Error>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let Some((place, startup)) = self.inner.admit() else {
            return Err(io::Error::new(io::ErrorKind::WouldBlock, "too many connections").into());
        };
        self.start(stream, peer, place, startup)?.await
    }

    fn start<T>(
        &self,
        stream: T,
        peer: Option<SocketAddr>,
        place: Place,
        startup: Startup,
    ) -> Result<Serving<T>, Error>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let options = &self.inner.options;
        let config = Arc::clone(&options.config);
        let log = options
            .log
            .clone()
            .map(|log| -> LogCallback { Box::new(move |record: &LogRecord| log(peer, record)) });
        #[cfg(feature = "tracing")]
        let (config, log) = ssh_proto::adapter::traced::<ServerRole>(config, peer, log);
        let observers = Observers {
            log,
            #[cfg(feature = "replay")]
            recording: options.recording.as_ref().map(|make| make(peer)),
            #[cfg(feature = "keylog")]
            key_log: options.key_log.clone(),
        };
        let conn = Connection::<ServerRole>::new(config, seed()?, now());
        let shared = Arc::new(Shared::new(conn, connection::sort, true));
        self.inner
            .live()
            .connections
            .insert(place.number, Arc::downgrade(&shared));
        let owner = Arc::new(Owner {
            shared: Arc::clone(&shared),
        });
        let connection = ServerConnection { owner, peer };
        let attendee = Attendee::new(connection, Arc::clone(&self.inner.subsystems), startup);
        let attendant = Attendant::boxed((options.factory)(attendee));
        let drive = Drive::new(shared, stream, observers, attendant);
        Ok(Serving {
            drive,
            _place: place,
        })
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.inner.live().count
    }
}

/// A connection that is served. Its place is given up after everything else.
struct Serving<T> {
    drive: Drive<T, ServerRole>,
    _place: Place,
}

impl<T> Future for Serving<T>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    type Output = Result<(), Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.get_mut().drive).poll(cx)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("options", &self.inner.options)
            .finish_non_exhaustive()
    }
}

/// A listening server. Dropping it stops it at once: connections are told, and end within two seconds.
#[must_use = "dropping it stops the server"]
pub struct ServerHandle {
    server: Server,
    address: SocketAddr,
    stop: watch::Sender<bool>,
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

    /// Waits until [`stop`](Self::stop) is called elsewhere.
    ///
    /// Cancellation: nothing happens.
    pub async fn wait(&self) {
        // It fails only when the sender is gone, which is here.
        _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    /// Stops gracefully: takes no new connections, gives those that exist `grace` to end by themselves, then
    /// disconnects them. Says how many it had to disconnect.
    ///
    /// Cancellation: no new connections are taken; those that exist go on until the handle is dropped.
    pub async fn stop(&self, grace: Duration) -> usize {
        self.stop.send_replace(true);
        let inner = &self.server.inner;
        inner.wait_empty(grace).await;
        let cut = inner.cut();
        inner.wait_empty(LAST_WORDS).await;
        cut
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.stop.send_replace(true);
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

/// Four random bytes. Without them the limits are hard.
fn draw() -> u32 {
    let mut draw = [0; 4];
    match getrandom::fill(&mut draw) {
        Ok(()) => u32::from_ne_bytes(draw),
        Err(_) => 0,
    }
}
