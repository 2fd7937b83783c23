//! One connection of a server: events of the protocol in, calls of the handler out, verdicts back.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use mio::Waker;
use ssh_proto::error::DisconnectReason;
use ssh_proto::{
    Answer, ChannelId, ChannelRequest, ForwardAddress, GlobalRequestKind, GlobalRequestReceived,
    LoginAttempt, Misuse, Negotiated, OpenChannel, OpenKind, OpenRequest, Proof, RequestToken,
    ServerEvent, ServerRole,
};

use crate::Error;
use crate::channel::{Owner, ServerChannel};
use crate::core::{Call, Interest, Sorted};
use crate::driver::Shared;
use crate::pending::{Pending, PendingChannel};
use crate::{ExitStatus, Session, Verdict};

use super::Startup;
use super::handler::{Handler, OpenVerdict, Task};
use super::options::Subsystems;

/// A server's connection, as its handler sees it. It can be kept and used by any thread.
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
    /// # Errors
    ///
    /// [`Error::OpenFailed`]. It waits for the client, so do not call it within a [`Handler`]'s methods.
    pub fn open_custom(&self, kind: &str, data: &[u8]) -> Result<(ServerChannel, Vec<u8>), Error> {
        let channel = self.open(OpenChannel::Custom { kind, data })?;
        let data = channel.opened()?;
        Ok((channel, data))
    }

    /// Opens a channel for a connection that came to where the client had this server listen
    /// ([`Handler::check_forward`]); `originator` is the address and port of whoever connected. The ready-made
    /// [`Forwarding`](crate::Forwarding) does so by itself.
    ///
    /// # Errors
    ///
    /// [`Error::OpenFailed`]. It waits for the client, so do not call it within a [`Handler`]'s methods.
    pub fn open_forwarded(
        &self,
        address: &ForwardAddress,
        originator: (&str, u16),
    ) -> Result<ServerChannel, Error> {
        let channel = self.open(address.channel(originator))?;
        channel.opened()?;
        Ok(channel)
    }

    /// Asks for a channel; the answer is not waited for.
    pub(crate) fn open(&self, kind: OpenChannel<'_>) -> Result<ServerChannel, Error> {
        let (id, gate) = self.owner.shared.wait(
            Interest::Room,
            None,
            "room for a request",
            |core| match core.conn.open(kind, Instant::now()) {
                Err(misuse) if core.must_wait(misuse) => None,
                Err(misuse) => Some(Err(core.refused(misuse))),
                Ok(id) => Some(Ok((id, core.add_channel(id, false)))),
            },
        )??;
        Ok(ServerChannel::new(Arc::clone(&self.owner), id, gate))
    }

    /// Whether the connection has not ended.
    pub fn is_alive(&self) -> bool {
        self.closed().is_none()
    }

    /// Why the connection has ended.
    pub fn closed(&self) -> Option<Error> {
        self.owner.shared.act(|core| core.over.clone())
    }

    /// Waits until the connection has ended; [`closed`](Self::closed) says why. Do not call it within a [`Handler`]'s
    /// methods.
    pub fn wait_closed(&self) {
        // It ends with the connection, and with nothing else.
        let shared = &self.owner.shared;
        _ = shared.wait(Interest::Connection, None, "the end", |_| None::<()>);
    }

    pub(crate) fn tell_end(&self, waker: &Arc<Waker>) {
        self.owner.shared.act(|core| core.tell_end(waker));
    }

    /// Makes a request about the connection, and waits for the answer when one is wanted.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]. It waits for the client, so do not call it within a [`Handler`]'s methods.
    pub fn global_request(
        &self,
        name: &str,
        data: &[u8],
        want_reply: bool,
    ) -> Result<Vec<u8>, Error> {
        super::global_request(&self.owner.shared, name, data, want_reply)
    }

    /// Starts a key exchange now.
    ///
    /// # Errors
    ///
    /// The connection has ended.
    pub fn rekey(&self) -> Result<(), Error> {
        let shared = &self.owner.shared;
        shared.command(|core| core.conn.rekey(Instant::now()))
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

/// What the connection's own thread works with.
pub(super) struct Attendee {
    pub(super) owner: Arc<Owner<ServerRole>>,
    pub(super) handler: Box<dyn Handler>,
    pub(super) subsystems: Arc<Subsystems>,
    pub(super) startup: Option<Startup>,
    pub(super) user: String,
    pub(super) sessions: BTreeMap<ChannelId, (Session, Option<ServerChannel>)>,
}

/// Where an event of a server goes: all of them to the connection's own thread.
pub(super) fn sort(event: ServerEvent, _: bool) -> Sorted<ServerEvent> {
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
    pub(super) fn connect(&mut self, connection: &ServerConnection) {
        guarded(&self.owner, || self.handler.connected(connection));
    }

    /// Does what a call asks for. What the core refuses here, it refuses because the connection or the channel is
    /// gone: then there is nobody left to tell.
    pub(super) fn serve(&mut self, shared: &Shared<ServerRole>, call: Call<ServerRole>) {
        match call {
            Call::Event(ServerEvent::KeyOffered(offer)) => {
                let fine = self.handler.check_key_offer(offer.user(), offer.key());
                _ = shared.act(|core| {
                    if fine {
                        core.conn.accept_key(offer)
                    } else {
                        core.conn.refuse_key(offer)
                    }
                });
            }
            Call::Event(ServerEvent::LoginAttempted(attempt)) => self.judge(shared, attempt),
            Call::Event(ServerEvent::Authenticated { user }) => {
                self.startup = None;
                self.user.clone_from(&user);
                self.handler.authenticated(&user);
            }
            Call::Event(ServerEvent::OpenRequested(request)) => self.open(shared, request),
            Call::Event(ServerEvent::GlobalRequested(request)) => {
                self.global(shared, request);
            }
            Call::Event(ServerEvent::SignatureNeeded(request)) => {
                let signature = self.handler.sign_host_key(&request);
                _ = shared.act(|core| core.conn.supply_signature(request, signature.as_deref()));
            }
            Call::Event(_) | Call::ForwardEnded(_) => {}
            Call::Requested {
                channel,
                request,
                token,
            } => self.request(shared, channel, request, token),
            Call::ChannelClosed(id) => {
                if let Some((session, _)) = self.sessions.remove(&id) {
                    self.handler.closed(&session);
                }
            }
        }
    }

    fn global(&mut self, shared: &Shared<ServerRole>, request: GlobalRequestReceived) {
        let GlobalRequestReceived { kind, token, .. } = request;
        if let GlobalRequestKind::Forward(address) = kind {
            let Some(token) = token else {
                return;
            };
            let Some(port) = self.handler.check_forward(&address) else {
                _ = shared.act(|core| core.conn.answer_global(token, Answer::Refuse));
                return;
            };
            if shared
                .act(|core| core.conn.accept_forward(token, port))
                .is_ok()
            {
                self.handler.forward_granted(&address.bound(port));
            }
            return;
        }
        let reply = match kind {
            GlobalRequestKind::CancelForward(address) => {
                self.handler.check_cancel_forward(&address).then(Vec::new)
            }
            GlobalRequestKind::Custom { name, data } => {
                self.handler.check_global_request(&name, &data)
            }
            _ => None,
        };
        if let Some(token) = token {
            let answer = reply.as_deref().map_or(Answer::Refuse, Answer::Accept);
            _ = shared.act(|core| core.conn.answer_global(token, answer));
        }
    }

    fn judge(&mut self, shared: &Shared<ServerRole>, attempt: LoginAttempt) {
        let handler = &mut self.handler;
        let verdict = match attempt.proof() {
            Proof::None => handler.check_auth_none(&attempt),
            Proof::Password(password) => handler.check_auth_password(&attempt, password),
            Proof::PasswordChange { old, new } => handler.check_password_change(&attempt, old, new),
            Proof::PublicKey(key) => handler.check_auth_public_key(&attempt, key),
            Proof::KeyboardInteractive { submethods } => {
                handler.check_auth_interactive(&attempt, submethods)
            }
            Proof::Answers(answers) => handler.check_auth_answers(&attempt, answers),
            _ => Verdict::Refuse,
        };
        let result = shared.act(|core| verdict.give(&mut core.conn, attempt));
        if let Err(Misuse::Argument(_) | Misuse::Limit(_)) = result {
            // The author's own mistake, such as a prompt that is too long: the question stays open for ever.
            shared.disconnect(DisconnectReason::BY_APPLICATION, "internal error");
        }
    }

    fn open(&mut self, shared: &Shared<ServerRole>, request: OpenRequest) {
        match self.handler.check_channel_open(request.kind()) {
            OpenVerdict::Refuse {
                reason,
                description,
            } => {
                _ = shared.act(|core| core.conn.refuse_open(request, reason, &description));
            }
            OpenVerdict::Accept => {
                let is_session = matches!(request.kind(), OpenKind::Session);
                let mut pending = Pending::new(Arc::clone(&self.owner), request);
                if let Ok(channel) = pending.accept(&[])
                    && is_session
                {
                    let id = channel.id();
                    let session = Session::new(id, self.user.clone());
                    self.sessions.insert(id, (session, Some(channel)));
                }
            }
            OpenVerdict::Handle(handle) => {
                let owner = Arc::clone(&self.owner);
                let pending = PendingChannel::new(Arc::clone(&owner), request);
                // When no thread can be had, `pending` is dropped, which refuses.
                _ = thread::Builder::new()
                    .name("ssh channel".into())
                    .spawn(move || {
                        guarded(&owner, || handle(pending));
                    });
            }
        }
    }

    fn request(
        &mut self,
        shared: &Shared<ServerRole>,
        id: ChannelId,
        request: ChannelRequest,
        token: Option<RequestToken>,
    ) {
        if let ChannelRequest::Custom { name, data } = &request {
            let accepted = self.handler.check_channel_request(id, name, data);
            reply(shared, id, token, accepted);
            return;
        }
        let Some((session, channel)) = self.sessions.get_mut(&id) else {
            reply(shared, id, token, false);
            return;
        };
        let handler = &mut self.handler;
        let mut task = None;
        let accepted = match request {
            ChannelRequest::Pty(pty) => {
                let accepted = handler.check_pty(session, &pty);
                if accepted {
                    session.pty = Some(pty);
                }
                accepted
            }
            ChannelRequest::Env { name, value } => {
                let accepted = handler.check_env(session, &name, &value);
                if accepted {
                    session.env.push((name, value));
                }
                accepted
            }
            ChannelRequest::Shell => {
                task = handler.check_shell(session);
                task.is_some()
            }
            ChannelRequest::Exec(command) => {
                task = handler.check_exec(session, &command);
                task.is_some()
            }
            ChannelRequest::Subsystem(name) => {
                task = match self.subsystems.get(&name) {
                    Some(subsystem) => subsystem(session),
                    None => handler.check_subsystem(session, &name),
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
            ChannelRequest::Break { ms } => handler.check_break(session, ms),
            _ => false,
        };
        let channel = task.is_some().then(|| channel.take()).flatten();
        // The reply is to come before the program's output.
        reply(shared, id, token, accepted);
        if let (Some(task), Some(channel)) = (task, channel) {
            start(task, channel);
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

/// Runs a session's program on a thread of its own.
fn start(task: Task, channel: ServerChannel) {
    let failed = channel.clone();
    let spawned = thread::Builder::new()
        .name("ssh program".into())
        .spawn(move || {
            let owner = Arc::clone(channel.owner());
            let for_task = channel.clone();
            if let Some(status) = guarded(&owner, || task(for_task)) {
                // All of these fail only when the channel is gone.
                _ = channel.send_exit(&status);
                _ = channel.shutdown_write();
                channel.close();
                // The client's next wish should not have to wait for a look of the connection's own thread.
                owner.shared.hand_over();
            }
        });
    if spawned.is_err() {
        _ = failed.send_exit(&ExitStatus::Code(255));
        failed.close();
    }
}

/// Runs what an author wrote. A panic ends this connection and no other.
fn guarded<T>(owner: &Owner<ServerRole>, run: impl FnOnce() -> T) -> Option<T> {
    match panic::catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => Some(result),
        Err(_) => {
            owner
                .shared
                .disconnect(DisconnectReason::BY_APPLICATION, "internal error");
            None
        }
    }
}
