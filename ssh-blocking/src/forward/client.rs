//! The forwards of a client.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, ToSocketAddrs};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use ssh_proto::{
    ClientRole, ForwardAddress, ForwardTarget, Misuse, OpenChannel, OpenFailureReason, OpenKind,
    OpenRequest, RequestId,
};

use crate::Error;
use crate::channel::{Channel, Owner, after};
use crate::client::Client;
use crate::core::{Call, Core, Interest};
use crate::pending::Pending;

use super::dynamic::{self, Asked};
use super::listen::{Listener, Remove, Socket};
use super::pump::{Pass, Pumps, Stream, pump};
use super::{Forward, connect};

/// How long the end of a forward may wait for room to say so.
const LAST_WORDS: Duration = Duration::from_secs(2);

impl Client {
    /// Listens here on a TCP port, and has the server connect to `target` for each connection that comes (`ssh -L`). Port
    /// 0 takes a free one: [`Forward::port`] tells which.
    ///
    /// # Errors
    ///
    /// The address cannot be listened on. That the target cannot be reached shows in each connection only.
    pub fn forward_local(
        &self,
        bind: impl ToSocketAddrs,
        target: impl Into<ForwardTarget>,
    ) -> Result<Forward, Error> {
        self.listen(
            Socket::Tcp(TcpListener::bind(bind)?),
            None,
            Some(target.into()),
        )
    }

    /// The same from a Unix socket, which must not exist yet, can be used by its owner only, and is removed in the end.
    ///
    /// # Errors
    ///
    /// Those of [`forward_local`](Self::forward_local).
    pub fn forward_local_path(
        &self,
        path: impl AsRef<Path>,
        target: impl Into<ForwardTarget>,
    ) -> Result<Forward, Error> {
        let (socket, path) = Socket::bind_path(path.as_ref())?;
        self.listen(socket, Some(path), Some(target.into()))
    }

    /// Listens here on a TCP port for SOCKS 4, 4a and 5, and has the server connect to wherever each connection asks for
    /// (`ssh -D`).
    ///
    /// # Errors
    ///
    /// Those of [`forward_local`](Self::forward_local).
    pub fn forward_dynamic(&self, bind: impl ToSocketAddrs) -> Result<Forward, Error> {
        self.listen(Socket::Tcp(TcpListener::bind(bind)?), None, None)
    }

    /// Has the server listen on a TCP port, and connects to `target` from here for each connection that comes
    /// (`ssh -R`). What the address means is told at [`ForwardAddress::Tcpip`]; port 0 lets the server choose, and
    /// [`Forward::port`] tells which.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`].
    pub fn forward_remote(
        &self,
        bind: (&str, u16),
        target: impl Into<ForwardTarget>,
    ) -> Result<Forward, Error> {
        self.forward_from(ForwardAddress::tcpip(bind.0, bind.1), Some(target.into()))
    }

    /// The same from a Unix socket of the server.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`].
    pub fn forward_remote_path(
        &self,
        path: impl AsRef<Path>,
        target: impl Into<ForwardTarget>,
    ) -> Result<Forward, Error> {
        let path = path.as_ref().as_os_str().as_encoded_bytes();
        self.forward_from(ForwardAddress::streamlocal(path), Some(target.into()))
    }

    /// Has the server listen on a TCP port for SOCKS 4, 4a and 5, and connects from here to wherever each connection asks
    /// for (`ssh -R` with nothing but a port).
    ///
    /// # Errors
    ///
    /// [`Error::Refused`].
    pub fn forward_remote_dynamic(&self, bind: (&str, u16)) -> Result<Forward, Error> {
        self.forward_from(ForwardAddress::tcpip(bind.0, bind.1), None)
    }

    /// Has the server connect to a Unix socket of its side (`direct-streamlocal@openssh.com`).
    ///
    /// # Errors
    ///
    /// [`Error::OpenFailed`].
    pub fn direct_streamlocal(&self, path: impl AsRef<Path>) -> Result<Channel, Error> {
        let path = path.as_ref().as_os_str().as_encoded_bytes();
        let channel = self.open(OpenChannel::DirectStreamlocal { path })?;
        channel.opened()?;
        Ok(channel)
    }

    /// Has the server listen, for a caller that takes care of the channels itself: they come to
    /// [`ClientOptions::on_channel_open`](crate::ClientOptions::on_channel_open), with the id that is returned here,
    /// along with where the server listens. What the address means is told at [`ForwardAddress::Tcpip`];
    /// [`forward_remote`](Self::forward_remote) and its like do everything.
    ///
    /// The first channel may come to the callback before this call has returned the id. Who has several listeners and
    /// must tell their channels apart then goes by the address in [`OpenKind`], or lets channels of an id that is not
    /// known yet wait until the call has returned.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`].
    pub fn request_forward(
        &self,
        address: ForwardAddress,
    ) -> Result<(RequestId, ForwardAddress), Error> {
        let forward =
            self.ask_global(|core| core.conn.request_forward(address.clone(), Instant::now()))?;
        let bound = self.shared().act(|core| {
            core.conn
                .forward(forward)
                .cloned()
                .ok_or_else(|| core.ended())
        })?;
        Ok((forward, bound))
    }

    /// Has the server listen there no more; the id is that of [`request_forward`](Self::request_forward). Channels that are
    /// open stay.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]: the server says that it did not listen there.
    pub fn cancel_forward(&self, forward: RequestId) -> Result<(), Error> {
        self.ask_global(|core| core.conn.cancel_forward(forward, Instant::now()))?;
        Ok(())
    }

    /// Makes a request about forwarding, and waits until it is granted.
    fn ask_global(
        &self,
        mut ask: impl FnMut(&mut Core<ClientRole>) -> Result<RequestId, Misuse>,
    ) -> Result<RequestId, Error> {
        let request = self.shared().wait(
            Interest::Room,
            None,
            "room for a request",
            |core| match ask(core) {
                Err(misuse) if core.must_wait(misuse) => None,
                Err(misuse) => Some(Err(core.refused(misuse))),
                Ok(request) => {
                    core.replies.insert(request, None);
                    Some(Ok(request))
                }
            },
        )??;
        crate::server::await_reply(self.shared(), request, "forwarding")?;
        Ok(request)
    }

    /// Promises the server that no session will be opened any more (`no-more-sessions@openssh.com`).
    ///
    /// # Errors
    ///
    /// The connection has ended.
    pub fn no_more_sessions(&self) -> Result<(), Error> {
        self.shared().wait(
            Interest::Room,
            None,
            "room for a request",
            |core| match core.conn.no_more_sessions(Instant::now()) {
                Err(misuse) if core.must_wait(misuse) => None,
                other => Some(other.map_err(|misuse| core.refused(misuse))),
            },
        )?
    }

    /// `target`: `None` asks each connection.
    fn listen(
        &self,
        socket: Socket,
        path: Option<Remove>,
        target: Option<ForwardTarget>,
    ) -> Result<Forward, Error> {
        let address = socket.address()?;
        let pumps = Pumps::new();
        let (entrance, cut) = (Arc::clone(&pumps), Arc::clone(&pumps));
        let (client, ended) = (self.clone(), self.clone());
        let target = Arc::new(target);
        let listener = Listener::start(
            socket,
            path,
            move || {
                let over = !ended.is_alive();
                if over {
                    // Those that still wait for a word of their own side would not notice.
                    cut.stop();
                }
                over
            },
            move |stream| {
                let Some(pass) = entrance.enter() else {
                    return;
                };
                let (client, target) = (client.clone(), Arc::clone(&target));
                // When no thread can be had, the connection is dropped. Whoever made it learns of what fails by its end.
                _ = thread::Builder::new().name("ssh forward".into()).spawn(
                    move || match &*target {
                        Some(target) => _ = to_target(&client, &pass, stream, target),
                        None => _ = to_anywhere(&client, &pass, stream),
                    },
                );
            },
        )?;
        self.shared().act(|core| core.tell_end(listener.waker()));
        Ok(Forward {
            address,
            port: address.map(|address| address.port()),
            stop: Some(Box::new(move || {
                drop(listener);
                pumps.stop();
            })),
        })
    }

    /// `target`: `None` asks each connection.
    fn forward_from(
        &self,
        address: ForwardAddress,
        target: Option<ForwardTarget>,
    ) -> Result<Forward, Error> {
        let pumps = Pumps::new();
        let route = Arc::new(Route {
            owner: Arc::downgrade(self.owner()),
            pumps: Arc::clone(&pumps),
            target,
        });
        let mut asked = None;
        let granted = self.ask_global(|core| {
            let request = core.conn.request_forward(address.clone(), Instant::now())?;
            // Before the reply, since the first connection may come right behind it.
            self.routes().lock().insert(request, Arc::clone(&route));
            asked = Some(request);
            Ok(request)
        });
        let request = granted.inspect_err(|_| {
            if let Some(asked) = asked {
                self.routes().lock().remove(&asked);
            }
        })?;
        let port = self
            .shared()
            .act(|core| core.conn.forward(request).and_then(ForwardAddress::port));
        let client = self.clone();
        Ok(Forward {
            address: None,
            port,
            stop: Some(Box::new(move || {
                // The route stays while channels may come of it: it refuses them, and nobody else is to see them.
                pumps.stop();
                // It fails when the connection has ended, and with it the forward.
                _ = client.shared().wait(
                    Interest::Room,
                    after(Some(LAST_WORDS)),
                    "room for a request",
                    |core| match core.conn.cancel_forward(request, Instant::now()) {
                        Err(misuse) if core.must_wait(misuse) => None,
                        _ => {
                            // From now on the state machine refuses; what it let through before is called for first.
                            core.dispatch();
                            core.calls.push_back(Call::ForwardEnded(request));
                            Some(())
                        }
                    },
                );
            })),
        })
    }
}

/// A connection that came here, to a fixed target.
fn to_target(
    client: &Client,
    pass: &Pass<ClientRole>,
    stream: Stream,
    target: &ForwardTarget,
) -> Result<(), Error> {
    pass.stream(&stream)?;
    let channel = open(client, pass, &stream, target)?;
    pump(pass, channel, stream);
    Ok(())
}

/// A connection that came here and says itself where it goes.
fn to_anywhere(client: &Client, pass: &Pass<ClientRole>, stream: Stream) -> Result<(), Error> {
    pass.stream(&stream)?;
    let write = |bytes: &[u8]| (&stream).write_all(bytes);
    let mut asked = dynamic::ask(
        |buf, left| {
            stream.set_read_timeout(Some(left))?;
            (&stream).read(buf)
        },
        write,
    )?;
    let target = ForwardTarget::from((asked.host.as_str(), asked.port));
    match open(client, pass, &stream, &target) {
        Ok(mut channel) => {
            asked.answer(Ok(()), write)?;
            channel.write_all(&asked.rest)?;
            pump(pass, channel, stream);
            Ok(())
        }
        Err(error) => Ok(asked.answer(Err((&error).into()), write)?),
    }
}

/// Has the server connect to a target.
fn open(
    client: &Client,
    pass: &Pass<ClientRole>,
    stream: &Stream,
    target: &ForwardTarget,
) -> Result<Channel, Error> {
    let originator = stream.originator();
    let channel = client.open(target.channel((&originator.0, originator.1)))?;
    pass.channel(&channel);
    channel.opened()?;
    Ok(channel)
}

/// Where the channels go that the server opens.
#[derive(Default)]
pub(crate) struct Routes(Mutex<BTreeMap<RequestId, Arc<Route>>>);

/// One forward that the server listens for.
struct Route {
    owner: Weak<Owner<ClientRole>>,
    pumps: Arc<Pumps<ClientRole>>,
    target: Option<ForwardTarget>,
}

impl Routes {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<RequestId, Arc<Route>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves a channel that the server asks for, on a thread of its own. Given back: it is none of ours.
    pub(crate) fn serve(&self, request: OpenRequest) -> Result<(), OpenRequest> {
        let forward = match request.kind() {
            OpenKind::ForwardedTcpip { forward, .. }
            | OpenKind::ForwardedStreamlocal { forward, .. } => *forward,
            _ => return Err(request),
        };
        let Some(route) = self.lock().get(&forward).map(Arc::clone) else {
            return Err(request);
        };
        let Some(owner) = route.owner.upgrade() else {
            return Err(request);
        };
        let mut pending = Pending::new(owner, request);
        let Some(pass) = route.pumps.enter() else {
            // It carries all that it can, or was stopped.
            pending.refuse(OpenFailureReason::RESOURCE_SHORTAGE, "");
            return Ok(());
        };
        // When no thread can be had, `pending` is dropped, which refuses. What fails later shows in the channel's end.
        _ = thread::Builder::new()
            .name("ssh forward".into())
            .spawn(move || _ = route.connected(&pass, pending));
        Ok(())
    }

    /// No channel comes of that forward any more.
    pub(crate) fn forget(&self, forward: RequestId) {
        self.lock().remove(&forward);
    }
}

impl Route {
    fn connected(
        &self,
        pass: &Pass<ClientRole>,
        mut pending: Pending<ClientRole>,
    ) -> Result<(), Error> {
        let Some(target) = &self.target else {
            return Self::anywhere(pass, pending.accept(&[])?);
        };
        match connect(target) {
            Ok(stream) => {
                pump(pass, pending.accept(&[])?, stream);
                Ok(())
            }
            Err(error) => {
                pending.refuse(OpenFailureReason::CONNECT_FAILED, &error.to_string());
                Ok(())
            }
        }
    }

    /// A connection that says itself where it goes.
    fn anywhere(pass: &Pass<ClientRole>, channel: Channel) -> Result<(), Error> {
        pass.channel(&channel);
        let write = |bytes: &[u8]| (&channel).write_all(bytes);
        let mut asked: Asked = dynamic::ask(
            |buf, left| {
                channel.set_read_timeout(Some(left));
                (&channel).read(buf)
            },
            write,
        )?;
        channel.set_read_timeout(None);
        let target = ForwardTarget::from((asked.host.as_str(), asked.port));
        match connect(&target) {
            Ok(stream) => {
                asked.answer(Ok(()), write)?;
                (&stream).write_all(&asked.rest)?;
                pump(pass, channel, stream);
                Ok(())
            }
            Err(error) => {
                asked.answer(Err(error.kind().into()), write)?;
                finish(&channel)
            }
        }
    }
}

/// Everything was said.
fn finish(channel: &Channel) -> Result<(), Error> {
    channel.shutdown_write()?;
    channel.close();
    Ok(())
}
