//! The forwards of a client.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use ssh_proto::{
    ClientRole, ForwardAddress, ForwardTarget, OpenChannel, OpenFailureReason, OpenKind,
    OpenRequest, RequestId,
};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, ToSocketAddrs};

use crate::Error;
use crate::channel::{Channel, Owner};
use crate::client::{Client, ask_global};
use crate::core::{Core, Interest, must_wait, now};
use crate::pending::Pending;
use crate::pump::verdict;
use crate::waiters::Wish;

use super::listen::Listener;
use super::pump::{Stream, pump};
use super::serve::{Arrival, Places, serve};
use super::{Forward, connect, dynamic};

impl Client {
    /// Listens here on a TCP port, and has the server connect to `target` for each connection that comes (`ssh -L`). Port
    /// 0 takes a free one: [`Forward::port`] tells which. Nothing is taken before the forward [runs](Forward::run) or is
    /// [spawned](Forward::spawn):
    ///
    /// ```no_run
    /// # async fn run(client: ssh_tokio::Client) -> Result<(), ssh_tokio::Error> {
    /// let forward = client.forward_local("127.0.0.1:0", ("intranet.example", 80)).await?.spawn();
    /// println!("http://{}/", forward.address().unwrap());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Cancellation: nothing is listened on.
    ///
    /// # Errors
    ///
    /// The address cannot be listened on. That the target cannot be reached shows in each connection only.
    pub async fn forward_local(
        &self,
        bind: impl ToSocketAddrs,
        target: impl Into<ForwardTarget>,
    ) -> Result<Forward, Error> {
        let target = target.into();
        let listener = TcpListener::bind(bind).await?;
        self.listen(listener.into(), Some(target))
    }

    /// The same from a Unix socket, which must not exist yet, can be used by its owner only, and is removed in the end.
    ///
    /// Cancellation: nothing is listened on.
    ///
    /// # Errors
    ///
    /// Those of [`forward_local`](Self::forward_local).
    pub async fn forward_local_path(
        &self,
        path: impl AsRef<Path>,
        target: impl Into<ForwardTarget>,
    ) -> Result<Forward, Error> {
        self.listen(Listener::bind_path(path.as_ref())?, Some(target.into()))
    }

    /// Listens here on a TCP port for SOCKS 4, 4a and 5, and has the server connect to wherever each connection asks for
    /// (`ssh -D`).
    ///
    /// Cancellation: nothing is listened on.
    ///
    /// # Errors
    ///
    /// Those of [`forward_local`](Self::forward_local).
    pub async fn forward_dynamic(&self, bind: impl ToSocketAddrs) -> Result<Forward, Error> {
        self.listen(TcpListener::bind(bind).await?.into(), None)
    }

    /// Has the server listen on a TCP port, and connects to `target` from here for each connection that comes
    /// (`ssh -R`). What the address means is told at [`ForwardAddress::Tcpip`]; port 0 lets the server choose, and
    /// [`Forward::port`] tells which. Connections that come before the forward runs wait; those beyond
    /// [`pending_opens`](ssh_proto::limits::Limits::pending_opens) are refused.
    ///
    /// Cancellation: the server is asked not to listen, once it has answered.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`].
    pub async fn forward_remote(
        &self,
        bind: (&str, u16),
        target: impl Into<ForwardTarget>,
    ) -> Result<Forward, Error> {
        let target = target.into();
        self.forward_from(ForwardAddress::tcpip(bind.0, bind.1), Some(target))
            .await
    }

    /// The same from a Unix socket of the server.
    ///
    /// Cancellation: the server is asked not to listen, once it has answered.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`].
    pub async fn forward_remote_path(
        &self,
        path: impl AsRef<Path>,
        target: impl Into<ForwardTarget>,
    ) -> Result<Forward, Error> {
        let address = ForwardAddress::streamlocal(path.as_ref().as_os_str().as_encoded_bytes());
        let target = target.into();
        self.forward_from(address, Some(target)).await
    }

    /// Has the server listen on a TCP port for SOCKS 4, 4a and 5, and connects from here to wherever each connection asks
    /// for (`ssh -R` with nothing but a port).
    ///
    /// Cancellation: the server is asked not to listen, once it has answered.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`].
    pub async fn forward_remote_dynamic(&self, bind: (&str, u16)) -> Result<Forward, Error> {
        self.forward_from(ForwardAddress::tcpip(bind.0, bind.1), None)
            .await
    }

    /// Has the server connect to a Unix socket of its side (`direct-streamlocal@openssh.com`).
    ///
    /// Cancellation: the channel is closed, also while it is being opened.
    ///
    /// # Errors
    ///
    /// [`Error::OpenFailed`].
    pub async fn direct_streamlocal(&self, path: impl AsRef<Path>) -> Result<Channel, Error> {
        let path = path.as_ref().as_os_str().as_encoded_bytes();
        let channel = self.open(OpenChannel::DirectStreamlocal { path }).await?;
        channel.opened().await?;
        Ok(channel)
    }

    /// Has the server listen, for a caller that takes care of the channels itself: they come to
    /// [`ClientOptions::on_channel_open`](crate::ClientOptions::on_channel_open), with the id that is returned here, along
    /// with where the server listens. What the address means is told at [`ForwardAddress::Tcpip`];
    /// [`forward_remote`](Self::forward_remote) and its like do everything.
    ///
    /// Cancellation: the request was sent or it was not; its answer is thrown away, and channels that come of it are
    /// offered all the same.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`].
    pub async fn request_forward(
        &self,
        address: ForwardAddress,
    ) -> Result<(RequestId, ForwardAddress), Error> {
        let (forward, _) = ask_global(self.shared(), "forwarding", |core| {
            core.conn.request_forward(address.clone(), now())
        })
        .await?;
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
    /// Cancellation: the request was sent or it was not; its answer is thrown away.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]: the server says that it did not listen there.
    pub async fn cancel_forward(&self, forward: RequestId) -> Result<(), Error> {
        ask_global(self.shared(), "forwarding", |core| {
            core.conn.cancel_forward(forward, now())
        })
        .await
        .map(drop)
    }

    /// Promises the server that no session will be opened any more (`no-more-sessions@openssh.com`).
    ///
    /// Cancellation: it was promised or it was not.
    ///
    /// # Errors
    ///
    /// The connection has ended.
    pub async fn no_more_sessions(&self) -> Result<(), Error> {
        self.shared()
            .wait(Interest::Connection(Wish::ROOM), |core| {
                match core.conn.no_more_sessions(now()) {
                    Err(misuse) if must_wait(misuse) => None,
                    other => Some(other.map_err(Error::Misuse)),
                }
            })
            .await?
    }

    /// `target`: `None` asks each connection.
    fn listen(
        &self,
        mut listener: Listener,
        target: Option<ForwardTarget>,
    ) -> Result<Forward, Error> {
        let address = listener.address()?;
        let owner = Arc::clone(self.owner());
        let target = Arc::new(target);
        let places = Places::new();
        let serving = async move {
            serve(&owner.shared, |cx| {
                listener.poll_accept(cx).map(|stream| {
                    let Some(place) = places.enter() else {
                        return Arrival::Dropped;
                    };
                    let (owner, target) = (Arc::clone(&owner), Arc::clone(&target));
                    Arrival::Serve(Box::pin(async move {
                        // Whoever made the connection learns of what fails by its end.
                        _ = match &*target {
                            Some(target) => to_target(&owner, stream, target).await,
                            None => to_anywhere(&owner, stream).await,
                        };
                        drop(place);
                    }))
                })
            })
            .await;
            verdict(&owner.shared)
        };
        Ok(Forward {
            address,
            port: address.map(|address| address.port()),
            serving: Ok(Box::pin(serving)),
        })
    }

    /// `target`: `None` asks each connection.
    async fn forward_from(
        &self,
        address: ForwardAddress,
        target: Option<ForwardTarget>,
    ) -> Result<Forward, Error> {
        let request = self
            .shared()
            .wait(Interest::Connection(Wish::ROOM), |core| {
                match core.conn.request_forward(address.clone(), now()) {
                    Err(misuse) if must_wait(misuse) => None,
                    Err(misuse) => Some(Err(core.over.clone().unwrap_or(Error::Misuse(misuse)))),
                    Ok(request) => {
                        core.replies.insert(request, None);
                        // Before the reply, since the first connection may come right behind it.
                        core.routes.waiting.insert(request, VecDeque::new());
                        Some(Ok(request))
                    }
                }
            })
            .await??;
        let route = Route {
            owner: Arc::clone(self.owner()),
            request,
        };
        let port = self
            .shared()
            .wait(Interest::Connection(Wish::STATE), |core| {
                core.replies.get(&request)?.as_ref()?;
                let granted = core.replies.remove(&request).flatten().flatten().is_some();
                let address = core.conn.forward(request).filter(|_| granted);
                Some(address.map(ForwardAddress::port))
            })
            .await?
            .ok_or(Error::Refused("forwarding"))?;
        let target = Arc::new(target);
        let places = Places::new();
        let serving = async move {
            let owner = &route.owner;
            let mut waiting = owner.shared.waiting(Interest::Connection(Wish::STATE));
            serve(&owner.shared, |cx| {
                let next = waiting.poll(cx, &mut |core| core.routes.next(request));
                next.map(|next| {
                    // The end of the connection is told apart.
                    let Ok(next) = next else {
                        return Arrival::Closed;
                    };
                    let pending = Pending::new(Arc::clone(owner), next);
                    // Dropping it refuses.
                    let Some(place) = places.enter() else {
                        return Arrival::Dropped;
                    };
                    let target = Arc::clone(&target);
                    Arrival::Serve(Box::pin(async move {
                        // What fails shows in the channel's end.
                        _ = connected(pending, target.as_ref().as_ref()).await;
                        drop(place);
                    }))
                })
            })
            .await;
            verdict(&owner.shared)
        };
        Ok(Forward {
            address: None,
            port,
            serving: Ok(Box::pin(serving)),
        })
    }
}

/// A connection that came here, to a fixed target.
async fn to_target(
    owner: &Arc<Owner<ClientRole>>,
    stream: Stream,
    target: &ForwardTarget,
) -> Result<(), Error> {
    let channel = open(owner, &stream, target).await?;
    pump(channel, stream).await;
    Ok(())
}

/// A connection that came here and says itself where it goes.
async fn to_anywhere(owner: &Arc<Owner<ClientRole>>, mut stream: Stream) -> Result<(), Error> {
    let mut asked = dynamic::ask(&mut stream).await?;
    match open(owner, &stream, &asked.target).await {
        Ok(mut channel) => {
            asked.answer(Ok(()), &mut stream).await?;
            channel.write_all(&asked.rest).await?;
            pump(channel, stream).await;
        }
        Err(error) => {
            asked.answer(Err((&error).into()), &mut stream).await?;
        }
    }
    Ok(())
}

/// Has the server connect to a target.
async fn open(
    owner: &Arc<Owner<ClientRole>>,
    stream: &Stream,
    target: &ForwardTarget,
) -> Result<Channel, Error> {
    let originator = stream.originator();
    let kind = target.channel((&originator.0, originator.1));
    let channel = crate::client::open(owner, kind).await?;
    channel.opened().await?;
    Ok(channel)
}

/// A connection that came to the server. `target`: `None` asks it.
async fn connected(
    mut pending: Pending<ClientRole>,
    target: Option<&ForwardTarget>,
) -> Result<(), Error> {
    let Some(target) = target else {
        return anywhere(pending.accept(&[])?).await;
    };
    match connect(target).await {
        Ok(stream) => pump(pending.accept(&[])?, stream).await,
        Err(error) => pending.refuse(OpenFailureReason::CONNECT_FAILED, &error.to_string()),
    }
    Ok(())
}

/// A connection that came to the server and says itself where it goes.
async fn anywhere(mut channel: Channel) -> Result<(), Error> {
    let mut asked = dynamic::ask(&mut channel).await?;
    match connect(&asked.target).await {
        Ok(mut stream) => {
            asked.answer(Ok(()), &mut channel).await?;
            stream.write_all(&asked.rest).await?;
            pump(channel, stream).await;
        }
        Err(error) => {
            asked.answer(Err(error.kind().into()), &mut channel).await?;
            channel.shutdown_write()?;
        }
    }
    Ok(())
}

/// Where the channels go that the server opens. It stands under the lock.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    /// Channels that wait to be served, by forward. There are no more than the state machine has questions open
    /// ([`pending_opens`](ssh_proto::limits::Limits::pending_opens)).
    waiting: BTreeMap<RequestId, VecDeque<OpenRequest>>,
    /// Forwards that nobody serves any more, while the server was not told so. There are no more than it listens for
    /// ([`forwards`](ssh_proto::limits::Limits::forwards)).
    given_up: Vec<RequestId>,
}

impl Routes {
    fn next(&mut self, forward: RequestId) -> Option<OpenRequest> {
        self.waiting.get_mut(&forward)?.pop_front()
    }

    /// Has a channel served that the server asks for. Given back: it is none of ours.
    pub(crate) fn offer(&mut self, request: OpenRequest) -> Result<(), OpenRequest> {
        let forward = match request.kind() {
            OpenKind::ForwardedTcpip { forward, .. }
            | OpenKind::ForwardedStreamlocal { forward, .. } => *forward,
            _ => return Err(request),
        };
        match self.waiting.get_mut(&forward) {
            Some(waiting) => waiting.push_back(request),
            None => return Err(request),
        }
        Ok(())
    }

    /// Tells the server which forwards are not served any more, as far as there is room for it, and as far as it has
    /// granted them: one that it is still thinking about cannot be taken back before.
    pub(crate) fn tidy(core: &mut Core<ClientRole>) {
        let mut given_up = std::mem::take(&mut core.routes.given_up);
        given_up.retain(|&request| {
            if let Some(None) = core.replies.get(&request) {
                return true;
            }
            core.replies.remove(&request);
            core.conn.forward(request).is_some()
                && matches!(core.conn.cancel_forward(request, now()), Err(misuse) if must_wait(misuse))
        });
        core.routes.given_up = given_up;
    }
}

/// A forward that the server was asked for. Dropping it takes it back.
struct Route {
    owner: Arc<Owner<ClientRole>>,
    request: RequestId,
}

impl Drop for Route {
    fn drop(&mut self) {
        self.owner.shared.act(|core| {
            for request in core
                .routes
                .waiting
                .remove(&self.request)
                .unwrap_or_default()
            {
                let reason = OpenFailureReason::ADMINISTRATIVELY_PROHIBITED;
                // It fails only when the connection has ended.
                _ = core.conn.refuse_open(request, reason, "");
            }
            core.routes.given_up.push(self.request);
            Routes::tidy(core);
        });
    }
}
