//! What a server's author writes: the verdicts about one connection.

use std::fmt;

use ssh_proto::key::PublicKey;
use ssh_proto::{
    ChannelId, ForwardAddress, LoginAttempt, OpenFailureReason, OpenKind, PtyRequest, Secret,
    Signal, SignatureRequest, WindowSize,
};

use crate::BoxFuture;
use crate::channel::ServerChannel;
use crate::pending::PendingChannel;
use crate::{ExitStatus, Session, Verdict};

use super::connection::ServerConnection;

/// The verdicts about one connection, with whatever state the author keeps for it: the server makes one per
/// connection. **Every default refuses.**
///
/// The methods are called one after the other, within the connection's future, with no lock held. Verdicts may take
/// their time: write `async fn` and await whatever decides. Meanwhile the next verdict waits, but data flows and programs
/// that run go on. A verdict that is still being thought about when the connection ends is dropped after two seconds. A
/// panic ends this connection and no other.
///
/// ```
/// use ssh_tokio::ssh_proto::{LoginAttempt, OpenKind, Secret};
/// use ssh_tokio::{ExitStatus, Handler, OpenVerdict, Session, Task, Verdict};
/// use tokio::io::AsyncWriteExt;
///
/// struct Greeter;
///
/// impl Handler for Greeter {
///     async fn check_auth_password(&mut self, attempt: &LoginAttempt, password: &Secret) -> Verdict {
///         if attempt.user() == "guest" && *password == Secret::from("welcome") {
///             Verdict::Accept
///         } else {
///             Verdict::Refuse
///         }
///     }
///
///     async fn check_channel_open(&mut self, kind: &OpenKind) -> OpenVerdict {
///         match kind {
///             OpenKind::Session => OpenVerdict::Accept,
///             _ => OpenVerdict::refuse(),
///         }
///     }
///
///     async fn check_exec(&mut self, session: &Session, _: &[u8]) -> Option<Task> {
///         let greeting = format!("hello, {}\n", session.user);
///         Some(Task::new(async move |mut channel| {
///             match channel.write_all(greeting.as_bytes()).await {
///                 Ok(()) => ExitStatus::Code(0),
///                 Err(_) => ExitStatus::Code(1),
///             }
///         }))
///     }
/// }
/// ```
#[expect(unused_variables, reason = "names that document")]
pub trait Handler: Send + 'static {
    /// The connection was accepted; nothing was exchanged yet. The handle can be kept.
    fn connected(&mut self, connection: &ServerConnection) {}

    // Who may log in (RFC 4252).

    /// May this user in without any proof? Asked only where the configuration lists
    /// [`AuthMethod::None`](ssh_proto::AuthMethod::None).
    fn check_auth_none(&mut self, attempt: &LoginAttempt) -> impl Future<Output = Verdict> + Send {
        async { Verdict::Refuse }
    }

    /// May this user in with this password? Comparing two [`Secret`]s takes the same time whatever is in them.
    fn check_auth_password(
        &mut self,
        attempt: &LoginAttempt,
        password: &Secret,
    ) -> impl Future<Output = Verdict> + Send {
        async { Verdict::Refuse }
    }

    /// The user, whose password has expired, gives it and a new one. [`Verdict::Accept`] says that the old one was
    /// right and was replaced.
    fn check_password_change(
        &mut self,
        attempt: &LoginAttempt,
        old: &Secret,
        new: &Secret,
    ) -> impl Future<Output = Verdict> + Send {
        async { Verdict::Refuse }
    }

    /// Somebody asks whether this key would do for this user. It proves nothing: what is decided here is only whether
    /// they are asked for the proof.
    fn check_key_offer(
        &mut self,
        user: &str,
        key: &PublicKey,
    ) -> impl Future<Output = bool> + Send {
        async { false }
    }

    /// May this user in with this key? That whoever asks has the private key is proven.
    fn check_auth_public_key(
        &mut self,
        attempt: &LoginAttempt,
        key: &PublicKey,
    ) -> impl Future<Output = Verdict> + Send {
        async { Verdict::Refuse }
    }

    /// The user wants to be asked (RFC 4256): [`Verdict::Prompt`] does so.
    fn check_auth_interactive(
        &mut self,
        attempt: &LoginAttempt,
        submethods: &str,
    ) -> impl Future<Output = Verdict> + Send {
        async { Verdict::Refuse }
    }

    /// The answers to the last [`Verdict::Prompt`], as many as it had prompts.
    fn check_auth_answers(
        &mut self,
        attempt: &LoginAttempt,
        answers: &[Secret],
    ) -> impl Future<Output = Verdict> + Send {
        async { Verdict::Refuse }
    }

    /// The user is in.
    fn authenticated(&mut self, user: &str) {}

    // Channels (RFC 4254).

    /// May this channel be opened?
    fn check_channel_open(&mut self, kind: &OpenKind) -> impl Future<Output = OpenVerdict> + Send {
        async { OpenVerdict::refuse() }
    }

    /// May the session have a terminal?
    fn check_pty(
        &mut self,
        session: &Session,
        pty: &PtyRequest,
    ) -> impl Future<Output = bool> + Send {
        async { false }
    }

    /// May the session have this environment variable?
    fn check_env(
        &mut self,
        session: &Session,
        name: &[u8],
        value: &[u8],
    ) -> impl Future<Output = bool> + Send {
        async { false }
    }

    /// Gives the session a shell: what is returned runs in a task of its own. `None` refuses.
    fn check_shell(&mut self, session: &Session) -> impl Future<Output = Option<Task>> + Send {
        async { None }
    }

    /// Gives the session a command: what is returned runs in a task of its own. `None` refuses.
    fn check_exec(
        &mut self,
        session: &Session,
        command: &[u8],
    ) -> impl Future<Output = Option<Task>> + Send {
        async { None }
    }

    /// Gives the session a subsystem that is not registered with
    /// [`ServerOptions::subsystem`](crate::ServerOptions::subsystem).
    fn check_subsystem(
        &mut self,
        session: &Session,
        name: &str,
    ) -> impl Future<Output = Option<Task>> + Send {
        async { None }
    }

    /// The session's terminal has another size; [`Session::pty`] tells the new one already.
    fn window_change(&mut self, session: &Session, size: WindowSize) {}

    /// A signal for the session's program.
    fn signal(&mut self, session: &Session, signal: &Signal) {}

    /// A break for the session's program, so many milliseconds long.
    fn check_break(&mut self, session: &Session, ms: u32) -> impl Future<Output = bool> + Send {
        async { false }
    }

    /// A request about a channel, of a name that the configuration lists.
    fn check_channel_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        data: &[u8],
    ) -> impl Future<Output = bool> + Send {
        async { false }
    }

    /// A request about the connection, of a name that the configuration lists. `Some` accepts it, with the data of
    /// the reply.
    fn check_global_request(
        &mut self,
        name: &str,
        data: &[u8],
    ) -> impl Future<Output = Option<Vec<u8>>> + Send {
        async { None }
    }

    /// May the client have this server listen there? `Some` says that it is bound, and at which port; for a Unix socket
    /// the number does not matter. A ready-made answer is [`Forwarding`](crate::Forwarding).
    fn check_forward(
        &mut self,
        address: &ForwardAddress,
    ) -> impl Future<Output = Option<u16>> + Send {
        async { None }
    }

    /// The client was told that the server listens there, the port being the one that was bound: channels may be opened
    /// for it from now on.
    fn forward_granted(&mut self, address: &ForwardAddress) {}

    /// The client wants the server not to listen there any more, where it does. The library counts it as gone whatever the
    /// answer is.
    fn check_cancel_forward(
        &mut self,
        address: &ForwardAddress,
    ) -> impl Future<Output = bool> + Send {
        async { false }
    }

    /// The client has closed the session, or its program has ended.
    fn closed(&mut self, session: &Session) {}

    /// Signs with a host key that is configured as [`External`](ssh_proto::config::HostKey::External): the blob of
    /// RFC 4253 section 6.6. `None` ends the connection.
    fn sign_host_key(
        &mut self,
        request: &SignatureRequest,
    ) -> impl Future<Output = Option<Vec<u8>>> + Send {
        async { None }
    }
}

/// What runs in a session, in a task of its own: it gets the channel, and says how it ended. The channel is closed after
/// it. When the connection ends first, the channel says so, and two seconds later the task is dropped: what must be
/// cleaned up in any case belongs into destructors.
pub struct Task(TaskFn);

type TaskFn = Box<dyn FnOnce(ServerChannel) -> BoxFuture<'static, ExitStatus> + Send>;

impl Task {
    /// What runs: `Task::new(async move |channel| { .. })`.
    pub fn new<F, V>(run: F) -> Self
    where
        F: FnOnce(ServerChannel) -> V + Send + 'static,
        V: Future<Output = ExitStatus> + Send + 'static,
    {
        Self(Box::new(move |channel| Box::pin(run(channel))))
    }

    pub(super) fn run(self, channel: ServerChannel) -> BoxFuture<'static, ExitStatus> {
        (self.0)(channel)
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").finish_non_exhaustive()
    }
}

/// Deals with a channel that the client asks for.
pub type PendingFn = Box<dyn FnOnce(PendingChannel) -> BoxFuture<'static, ()> + Send>;

/// A verdict on a channel that the client asks for.
#[non_exhaustive]
pub enum OpenVerdict {
    /// It is refused.
    Refuse {
        /// Why.
        reason: OpenFailureReason,
        /// The same in words.
        description: String,
    },
    /// It is opened. This is how sessions are granted.
    Accept,
    /// A task of its own decides, and deals with the channel. This is for channels of other kinds. It ends
    /// with the connection like a [`Task`].
    Handle(PendingFn),
}

impl OpenVerdict {
    /// It is refused: administratively prohibited.
    pub const fn refuse() -> Self {
        Self::Refuse {
            reason: OpenFailureReason::ADMINISTRATIVELY_PROHIBITED,
            description: String::new(),
        }
    }

    /// A task of its own decides, and deals with the channel.
    pub fn handle<F, V>(handler: F) -> Self
    where
        F: FnOnce(PendingChannel) -> V + Send + 'static,
        V: Future<Output = ()> + Send + 'static,
    {
        Self::Handle(Box::new(move |pending| Box::pin(handler(pending))))
    }
}

impl fmt::Debug for OpenVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refuse {
                reason,
                description,
            } => write!(f, "Refuse({reason}, {description:?})"),
            Self::Accept => f.write_str("Accept"),
            Self::Handle(_) => f.write_str("Handle"),
        }
    }
}
