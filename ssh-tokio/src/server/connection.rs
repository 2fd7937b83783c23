//! One connection of a server: events of the protocol in, calls of the handler out, verdicts back.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::task::Poll;

use ssh_proto::error::DisconnectReason;
use ssh_proto::{
    Answer, ChannelId, ChannelRequest, ForwardAddress, GlobalRequestKind, GlobalRequestReceived,
    LoginAttempt, Misuse, Negotiated, OpenChannel, OpenKind, OpenRequest, Proof, RequestToken,
    ServerEvent, ServerRole,
};
use tokio::task::JoinSet;

use crate::BoxFuture;
use crate::channel::{Owner, ServerChannel};
use crate::core::{Call, Shared, Sorted, now};
use crate::events::Events;
use crate::pending::{Pending, PendingChannel};
use crate::{Error, Session, Verdict};

use super::Startup;
use super::handler::{Handler, OpenVerdict, Task};
use super::options::Subsystems;

/// A server's connection, as its handler sees it. It can be kept and used by any task.
#[derive(Clone)]
pub struct ServerConnection {
    pub(super) owner: Arc<Owner<ServerRole>>,
    pub(super) peer: Option<SocketAddr>,
}

impl ServerConnection {
    /// Where the client connects from.
    pub const fn peer_address(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The algorithms in force.
    pub fn negotiated(&self) -> Option<Negotiated> {
        self.owner
            .shared
            .act(|core| core.conn.negotiated().cloned())
    }

    /// How many key exchanges were completed after the first one.
    pub fn rekeys(&self) -> u64 {
        self.owner.shared.act(|core| core.rekeys)
    }

    /// Opens a channel of the author's own kind to the client.
    ///
    /// Cancellation: the channel is closed, also while it is being opened.
    ///
    /// # Errors
    ///
    /// [`Error::OpenFailed`].
    pub async fn open_custom(
        &self,
        kind: &str,
        data: &[u8],
    ) -> Result<(ServerChannel, Vec<u8>), Error> {
        let channel = self.open(OpenChannel::Custom { kind, data }).await?;
        let data = channel.opened().await?;
        Ok((channel, data))
    }

    /// Opens a channel for a connection that came to where the client had this server listen
    /// ([`Handler::check_forward`]); `originator` is the address and port of whoever connected. The ready-made
    /// [`Forwarding`](crate::Forwarding) does so by itself.
    ///
    /// Cancellation: the channel is closed, also while it is being opened.
    ///
    /// # Errors
    ///
    /// [`Error::OpenFailed`].
    pub async fn open_forwarded(
        &self,
        address: &ForwardAddress,
        originator: (&str, u16),
    ) -> Result<ServerChannel, Error> {
        let channel = self.open(address.channel(originator)).await?;
        channel.opened().await?;
        Ok(channel)
    }

    /// Asks for a channel; the answer is not waited for.
    pub(crate) async fn open(&self, kind: OpenChannel<'_>) -> Result<ServerChannel, Error> {
        crate::client::open(&self.owner, kind).await
    }

    pub(crate) fn shared(&self) -> &Shared<ServerRole> {
        &self.owner.shared
    }

    /// Whether the connection has not ended.
    pub fn is_alive(&self) -> bool {
        self.closed().is_none()
    }

    /// Why the connection has ended.
    pub fn closed(&self) -> Option<Error> {
        self.owner.shared.act(|core| core.over.clone())
    }

    /// Makes a request about the connection, and waits for the answer when one is wanted.
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
        crate::client::global_request(&self.owner.shared, name, data, want_reply).await
    }

    /// What happens to the connection as a whole, from now on.
    pub fn events(&self) -> Events<ServerRole> {
        Events::new(Arc::clone(&self.owner))
    }

    /// Starts a key exchange now.
    ///
    /// # Errors
    ///
    /// The connection has ended.
    pub fn rekey(&self) -> Result<(), Error> {
        Ok(self.owner.shared.act(|core| core.conn.rekey(now()))?)
    }

    /// Ends the connection; the client is shown the text.
    pub fn disconnect(&self, text: &str) {
        self.disconnect_with(DisconnectReason::BY_APPLICATION, text);
    }

    /// Ends the connection with a reason of RFC 4253 section 11.1; the client is shown the text.
    pub fn disconnect_with(&self, reason: DisconnectReason, text: &str) {
        self.owner.shared.disconnect(reason, text);
    }
}

impl fmt::Debug for ServerConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConnection")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// What attends to a connection, but for the handler.
pub(super) struct Attendee {
    pub(super) connection: ServerConnection,
    pub(super) subsystems: Arc<Subsystems>,
    pub(super) startup: Option<Startup>,
    pub(super) user: String,
    pub(super) sessions: BTreeMap<ChannelId, (Session, Option<ServerChannel>)>,
    /// Programs of sessions and whatever else runs. They end with this.
    pub(super) tasks: JoinSet<()>,
}

/// Where an event of a server goes: all of them to the attendant.
pub(super) fn sort(event: ServerEvent) -> Sorted<ServerEvent> {
    match event {
        ServerEvent::Channel(id) => Sorted::Channel(id),
        ServerEvent::GlobalReplied { request, reply } => Sorted::Reply(request, reply),
        ServerEvent::Disconnected(error) => Sorted::Over(error),
        ServerEvent::Rekeyed => Sorted::Rekeyed,
        ServerEvent::Unblocked => Sorted::Unblocked,
        _ => Sorted::Call(event),
    }
}

impl Attendee {
    pub(super) fn new(
        connection: ServerConnection,
        subsystems: Arc<Subsystems>,
        startup: Startup,
    ) -> Self {
        Self {
            connection,
            subsystems,
            startup: Some(startup),
            user: String::new(),
            sessions: BTreeMap::new(),
            tasks: JoinSet::new(),
        }
    }

    pub(super) const fn peer(&self) -> Option<SocketAddr> {
        self.connection.peer
    }

    fn shared(&self) -> &Shared<ServerRole> {
        &self.connection.owner.shared
    }

    /// Serves one call after the other, until the connection has ended. What the core refuses here, it refuses because
    /// the connection or the channel is gone: then there is nobody left to tell.
    pub(super) async fn attend<H: Handler>(mut self, mut handler: H) {
        handler.connected(&self.connection);
        while let Some(call) = self.next_call().await {
            self.serve(&mut handler, call).await;
        }
        // Programs see the end of their channels, and have as long as the stream takes to be closed.
        while self.tasks.join_next().await.is_some() {}
    }

    /// The next call. Tasks that have ended are cleared away meanwhile.
    async fn next_call(&mut self) -> Option<Call<ServerRole>> {
        let shared = Arc::clone(&self.connection.owner.shared);
        let mut next = std::pin::pin!(shared.next_call(|_| {}));
        std::future::poll_fn(|cx| {
            while let Poll::Ready(Some(_)) = self.tasks.poll_join_next(cx) {}
            next.as_mut().poll(cx)
        })
        .await
    }

    async fn serve(&mut self, handler: &mut impl Handler, call: Call<ServerRole>) {
        match call {
            Call::Event(ServerEvent::KeyOffered(offer)) => {
                let fine = handler.check_key_offer(offer.user(), offer.key()).await;
                _ = self.shared().act(|core| {
                    if fine {
                        core.conn.accept_key(offer)
                    } else {
                        core.conn.refuse_key(offer)
                    }
                });
            }
            Call::Event(ServerEvent::LoginAttempted(attempt)) => self.judge(handler, attempt).await,
            Call::Event(ServerEvent::Authenticated { user }) => {
                self.startup = None;
                self.user.clone_from(&user);
                handler.authenticated(&user);
            }
            Call::Event(ServerEvent::OpenRequested(request)) => self.open(handler, request).await,
            Call::Event(ServerEvent::GlobalRequested(request)) => {
                self.global(handler, request).await;
            }
            Call::Event(ServerEvent::SignatureNeeded(request)) => {
                let signature = handler.sign_host_key(&request).await;
                _ = self
                    .shared()
                    .act(|core| core.conn.supply_signature(request, signature.as_deref()));
            }
            Call::Event(_) | Call::Open(_) => {}
            Call::Requested {
                channel,
                request,
                token,
            } => self.request(handler, channel, request, token).await,
            Call::ChannelClosed(id) => {
                if let Some((session, _)) = self.sessions.remove(&id) {
                    handler.closed(&session);
                }
            }
        }
    }

    async fn global(&self, handler: &mut impl Handler, request: GlobalRequestReceived) {
        let GlobalRequestReceived { kind, token, .. } = request;
        let reply = match kind {
            GlobalRequestKind::Forward(address) => {
                let Some(token) = token else {
                    return;
                };
                let port = handler.check_forward(&address).await;
                let answered = self.shared().act(|core| match port {
                    Some(port) => core.conn.accept_forward(token, port),
                    None => core.conn.answer_global(token, Answer::Refuse),
                });
                if let (Some(port), Ok(())) = (port, answered) {
                    handler.forward_granted(&address.bound(port));
                }
                return;
            }
            GlobalRequestKind::CancelForward(address) => {
                let gone = handler.check_cancel_forward(&address).await;
                gone.then(Vec::new)
            }
            GlobalRequestKind::Custom { name, data } => {
                handler.check_global_request(&name, &data).await
            }
            _ => None,
        };
        if let Some(token) = token {
            let answer = reply.as_deref().map_or(Answer::Refuse, Answer::Accept);
            _ = self
                .shared()
                .act(|core| core.conn.answer_global(token, answer));
        }
    }

    async fn judge(&self, handler: &mut impl Handler, attempt: LoginAttempt) {
        let verdict = match attempt.proof() {
            Proof::None => handler.check_auth_none(&attempt).await,
            Proof::Password(password) => handler.check_auth_password(&attempt, password).await,
            Proof::PasswordChange { old, new } => {
                handler.check_password_change(&attempt, old, new).await
            }
            Proof::PublicKey(key) => handler.check_auth_public_key(&attempt, key).await,
            Proof::KeyboardInteractive { submethods } => {
                handler.check_auth_interactive(&attempt, submethods).await
            }
            Proof::Answers(answers) => handler.check_auth_answers(&attempt, answers).await,
            _ => Verdict::Refuse,
        };
        let result = self
            .shared()
            .act(|core| verdict.give(&mut core.conn, attempt));
        if let Err(Misuse::Argument(_) | Misuse::Limit(_)) = result {
            // The author's own mistake, such as a prompt that is too long: the question stays open for ever.
            self.connection.disconnect("internal error");
        }
    }

    async fn open(&mut self, handler: &mut impl Handler, request: OpenRequest) {
        match handler.check_channel_open(request.kind()).await {
            OpenVerdict::Refuse {
                reason,
                description,
            } => {
                _ = self
                    .shared()
                    .act(|core| core.conn.refuse_open(request, reason, &description));
            }
            OpenVerdict::Accept => {
                let is_session = matches!(request.kind(), OpenKind::Session);
                let mut pending = Pending::new(Arc::clone(&self.connection.owner), request);
                if let Ok(channel) = pending.accept(&[])
                    && is_session
                {
                    let id = channel.id();
                    let session = Session::new(id, self.user.clone());
                    self.sessions.insert(id, (session, Some(channel)));
                }
            }
            OpenVerdict::Handle(handle) => {
                let owner = Arc::clone(&self.connection.owner);
                let pending = PendingChannel::new(Arc::clone(&owner), request);
                self.tasks.spawn(async move {
                    guarded(&owner, handle(pending)).await;
                });
            }
        }
    }

    async fn request(
        &mut self,
        handler: &mut impl Handler,
        id: ChannelId,
        request: ChannelRequest,
        token: Option<RequestToken>,
    ) {
        if let ChannelRequest::Custom { name, data } = &request {
            let accepted = handler.check_channel_request(id, name, data).await;
            reply(self.shared(), id, token, accepted);
            return;
        }
        let shared = Arc::clone(&self.connection.owner.shared);
        let Some((session, channel)) = self.sessions.get_mut(&id) else {
            reply(&shared, id, token, false);
            return;
        };
        let mut task = None;
        let accepted = match request {
            ChannelRequest::Pty(pty) => {
                let accepted = handler.check_pty(session, &pty).await;
                if accepted {
                    session.pty = Some(pty);
                }
                accepted
            }
            ChannelRequest::Env { name, value } => {
                let accepted = handler.check_env(session, &name, &value).await;
                if accepted {
                    session.env.push((name, value));
                }
                accepted
            }
            ChannelRequest::Shell => {
                task = handler.check_shell(session).await;
                task.is_some()
            }
            ChannelRequest::Exec(command) => {
                task = handler.check_exec(session, &command).await;
                task.is_some()
            }
            ChannelRequest::Subsystem(name) => {
                task = match self.subsystems.get(&name) {
                    Some(subsystem) => subsystem(session),
                    None => handler.check_subsystem(session, &name).await,
                };
                task.is_some()
            }
            ChannelRequest::WindowChange(size) => {
                if let Some(pty) = &mut session.pty {
                    pty.columns = size.columns;
                    pty.rows = size.rows;
                    pty.width_px = size.width_px;
                    pty.height_px = size.height_px;
                    handler.window_change(session, size);
                }
                session.pty.is_some()
            }
            ChannelRequest::Signal(signal) => {
                handler.signal(session, &signal);
                true
            }
            ChannelRequest::Break { ms } => handler.check_break(session, ms).await,
            _ => false,
        };
        let channel = task.is_some().then(|| channel.take()).flatten();
        // The reply is to come before the program's output.
        reply(&shared, id, token, accepted);
        if let (Some(task), Some(channel)) = (task, channel) {
            let owner = Arc::clone(&self.connection.owner);
            self.tasks.spawn(run(owner, task, channel));
            shared.lock().drive.started = true;
        }
    }
}

fn reply(shared: &Shared<ServerRole>, id: ChannelId, token: Option<RequestToken>, accept: bool) {
    if let Some(token) = token {
        shared.act(|core| {
            if let Some(mut channel) = core.conn.channel(id) {
                _ = channel.reply(token, accept);
            }
        });
    }
}

/// A session's program.
async fn run(owner: Arc<Owner<ServerRole>>, task: Task, channel: ServerChannel) {
    let Some(status) = guarded(&owner, task.run(channel.clone())).await else {
        return;
    };
    // All of these fail only when the channel is gone.
    _ = channel.send_exit(&status).await;
    _ = channel.shutdown_write();
    channel.close();
}

/// Runs what an author wrote. A panic ends this connection and no other.
async fn guarded<T>(owner: &Owner<ServerRole>, mut future: BoxFuture<'static, T>) -> Option<T> {
    std::future::poll_fn(|cx| {
        let polled = panic::catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
        polled.map_or_else(
            |_| {
                let reason = DisconnectReason::BY_APPLICATION;
                owner.shared.disconnect(reason, "internal error");
                Poll::Ready(None)
            },
            |polled| polled.map(Some),
        )
    })
    .await
}
