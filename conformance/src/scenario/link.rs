//! What a script needs of whatever carries it: the connection and its channels, as each backend has them. In: words of
//! the script. Out: outcomes in the words of the log, the same from all backends.

use std::fmt;
use std::future::{Future, ready};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use ssh_proto::error::DisconnectReason;
use ssh_proto::{
    ChannelId, ChannelRequest, Error, ForwardAddress, Misuse, OpenFailureReason, Stream,
};

use super::script::{Exit, Kind, Login};

/// A future on the heap.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How something went.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Why something did not go as it was wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// The peer did not open a channel.
    NotOpened(OpenFailureReason, String),
    /// The peer refused a request.
    Refused,
    /// The channel is closed for writing.
    Closed,
    /// The connection has ended, in the words of [`ending`].
    Over(String),
    /// The call does not fit.
    Misuse(Misuse),
    /// The backend cannot do that at all, or something that no script provides for.
    Other(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOpened(reason, text) if text.is_empty() => write!(f, "{}", reason.0),
            Self::NotOpened(reason, text) => write!(f, "{} {text:?}", reason.0),
            Self::Refused => f.write_str("refused"),
            Self::Closed => f.write_str("closed"),
            Self::Over(why) => f.write_str(why),
            Self::Misuse(misuse) => write!(f, "misuse: {misuse}"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// The end of a connection, in the words of the log.
pub fn ending(error: &Error) -> String {
    match error {
        Error::LocallyClosed => "disconnected".to_owned(),
        Error::Disconnected(said) => {
            format!(
                "disconnected by the peer: {} {:?}",
                said.reason.0, said.description
            )
        }
        Error::UnexpectedEof(_) => CUT.to_owned(),
        other => other.to_string(),
    }
}

/// The end of a connection whose stream failed.
pub const CUT: &str = "cut";

/// Something that happened on a channel besides data.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "as in the adapters")]
pub enum Event {
    /// The program has ended.
    Exited(Exit),
    /// The peer sends no more data.
    Eof,
    /// Both sides have closed, or the connection has ended. The last event.
    Closed,
}

/// Something that is done without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tell {
    /// Nothing more will be written.
    Eof,
    /// Nothing more will be read.
    EndOfWrite,
    /// The channel is closed.
    Close,
    /// stderr is to come within the data.
    CombineStderr,
    /// What comes on a stream is to be thrown away.
    Discard(Stream),
}

/// A channel, as a backend has it.
pub trait Chan: Send + Sync {
    /// Its id.
    fn id(&self) -> ChannelId;
    /// Reads some bytes, at most so many. None: EOF.
    fn read(&self, stream: Stream, max: usize) -> BoxFuture<'_, Outcome<Vec<u8>>>;
    /// Writes some of the bytes; says how many.
    fn write<'a>(&'a self, stream: Stream, bytes: &'a [u8]) -> BoxFuture<'a, Outcome<usize>>;
    /// Makes a request.
    fn ask<'a>(&'a self, request: &'a ChannelRequest, want_reply: bool) -> BoxFuture<'a, Outcome>;
    /// Says how a program ended.
    fn exit<'a>(&'a self, exit: &'a Exit) -> BoxFuture<'a, Outcome>;
    /// Does something that has no answer.
    fn tell(&self, what: Tell) -> BoxFuture<'_, Outcome>;
    /// The next event; `None` after the last one. One caller at a time.
    fn event(&self) -> BoxFuture<'_, Option<Event>>;
}

/// A channel that was opened, and the data of its confirmation.
pub type Opened = (Arc<dyn Chan>, Vec<u8>);

/// A connection, as a backend has it.
pub trait Link: Send + Sync {
    /// Opens a channel; with the data of the confirmation.
    fn open<'a>(&'a self, kind: &'a Kind) -> BoxFuture<'a, Outcome<Opened>>;
    /// Makes a request about the connection; the data of the answer.
    fn global<'a>(
        &'a self,
        name: &'a str,
        data: &'a [u8],
        want_reply: bool,
    ) -> BoxFuture<'a, Outcome<Vec<u8>>>;
    /// Starts a key exchange.
    fn rekey(&self) -> BoxFuture<'_, Outcome>;
    /// Waits until so many key exchanges are done, besides the first.
    fn rekeyed(&self, count: u64) -> BoxFuture<'_, Outcome>;
    /// Lets time pass.
    fn rest(&self, time: Duration) -> BoxFuture<'_, ()>;
    /// Ends the connection.
    fn disconnect<'a>(&'a self, reason: DisconnectReason, text: &'a str) -> BoxFuture<'a, ()>;
    /// Waits until the connection has ended; how.
    fn ended(&self) -> BoxFuture<'_, String>;
    /// Has something run beside the caller.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    // What only clients do.

    /// Tries to log in; whether the client is in, and what it was told.
    fn log_in<'a>(&'a self, _: &'a Login) -> BoxFuture<'a, Outcome<(bool, String)>> {
        clients_only()
    }
    /// Has the server listen; where it does.
    fn listen<'a>(&'a self, _: &'a ForwardAddress) -> BoxFuture<'a, Outcome<ForwardAddress>> {
        clients_only()
    }
    /// Has it listen no more; the address is the one that was granted.
    fn cancel<'a>(&'a self, _: &'a ForwardAddress) -> BoxFuture<'a, Outcome> {
        clients_only()
    }
    /// Promises to open no more sessions.
    fn no_more_sessions(&self) -> BoxFuture<'_, Outcome> {
        clients_only()
    }
    /// Sends a PING and waits for the answer.
    fn ping(&self) -> BoxFuture<'_, Outcome> {
        clients_only()
    }
}

fn clients_only<'a, T: Send + 'a>() -> BoxFuture<'a, Outcome<T>> {
    Box::pin(ready(Err(Failure::Other("clients only".to_owned()))))
}

/// The words of an [`Login`]'s outcome.
pub mod told {
    /// The user is in.
    pub const IN: &str = "in";

    /// Not yet.
    pub fn refused(methods: &[String], partial_success: bool) -> String {
        let partial = if partial_success {
            ", partial success"
        } else {
            ""
        };
        format!("refused, {}{partial}", methods.join(","))
    }

    /// The password has expired and there is no other.
    pub fn expired(prompt: &str) -> String {
        format!("expired, {prompt:?}")
    }

    /// The password has expired, and another one is given.
    pub fn change(prompt: &str) -> String {
        format!("told {prompt:?}, ")
    }

    /// A round of questions.
    pub fn asked(prompts: &ssh_proto::Prompts) -> String {
        let questions = prompts
            .prompts()
            .iter()
            .map(|prompt| prompt.text.trim_end());
        let questions: Vec<&str> = questions.collect();
        format!("{} asked {}, ", prompts.name(), questions.join(" "))
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut cx) {
            return result;
        }
        thread::park();
    }
}
