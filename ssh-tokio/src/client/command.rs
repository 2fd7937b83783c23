//! Commands and shells: started like `tokio::process`, with handles for the three streams and an exit status.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ssh_proto::{ClientRole, OpenChannel, Program, PtyRequest, Signal, Stream, WindowSize};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Error;
use crate::ExitStatus;
use crate::channel::{Channel, Stderr};
use crate::core::Core;
use crate::split::{ReadHalf, WriteHalf};
use crate::waiters::Wish;

use super::{Client, within};

/// How often a `wait` looks whether the command is stuck on output that nobody reads.
const STUCK: Duration = Duration::from_millis(50);

/// A remote command or shell that was not started yet.
///
/// ```no_run
/// # async fn f(client: &ssh_tokio::Client) -> Result<(), ssh_tokio::Error> {
/// let output = client.exec("sort").input(b"b\na\n").output().await?;
/// assert!(output.status.success());
/// assert_eq!(output.stdout, b"a\nb\n");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "nothing was sent yet"]
pub struct Command {
    client: Client,
    /// `None`: the user's shell.
    command: Option<Vec<u8>>,
    env: Vec<(Vec<u8>, Vec<u8>)>,
    pty: Option<PtyRequest>,
    /// It is to run without one as well.
    pty_is_optional: bool,
    combine_stderr: bool,
    input: Vec<u8>,
    timeout: Option<Duration>,
}

impl Command {
    pub(super) fn exec(client: Client, command: &[u8]) -> Self {
        Self {
            command: Some(command.to_vec()),
            ..Self::shell(client)
        }
    }

    pub(super) const fn shell(client: Client) -> Self {
        Self {
            client,
            command: None,
            env: Vec::new(),
            pty: None,
            pty_is_optional: false,
            combine_stderr: false,
            input: Vec::new(),
            timeout: None,
        }
    }

    /// Sets an environment variable. Servers take few of them, and those that are refused are left out silently, as
    /// OpenSSH does it.
    pub fn env(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.env
            .push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// Runs on a terminal of its own, or not at all: the command is sent when the server has given the terminal, which
    /// takes one round trip more.
    pub fn pty(mut self, pty: PtyRequest) -> Self {
        self.pty = Some(pty);
        self.pty_is_optional = false;
        self
    }

    /// Runs on a terminal of its own if the server gives one, and without otherwise, as OpenSSH's client does it for a
    /// shell that was not asked to have one. Nothing is waited for; [`Child::has_pty`] tells.
    pub fn try_pty(mut self, pty: PtyRequest) -> Self {
        self.pty = Some(pty);
        self.pty_is_optional = true;
        self
    }

    /// Has stderr come within stdout, in the order in which both arrive.
    pub const fn combine_stderr(mut self) -> Self {
        self.combine_stderr = true;
        self
    }

    /// What [`output`](Self::output) and [`status`](Self::status) feed the command.
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// How long [`output`](Self::output) and [`status`](Self::status) may take.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Starts it, and waits until the server says that it was started.
    ///
    /// Cancellation: the channel is closed, also while it is being opened; most servers then end the command.
    ///
    /// # Errors
    ///
    /// [`Error::OpenFailed`] when the server gives no channel, [`Error::Refused`] when it gives no terminal that is
    /// needed or does not start the command.
    pub async fn spawn(&self) -> Result<Child, Error> {
        let channel = self.client.open(OpenChannel::Session).await?;
        if self.combine_stderr {
            channel.combine_stderr()?;
        }
        // Everything is sent at once, behind the open: that is one round trip less for each.
        let mut pty = match &self.pty {
            Some(pty) => Some(channel.command(true, |channel| channel.pty(pty)).await?),
            None => None,
        };
        let mut has_pty = false;
        if let Some(pty) = pty.take_if(|_| !self.pty_is_optional) {
            // But servers run a command whose terminal they refused.
            pty.reply("pty-req").await?;
            has_pty = true;
        }
        for (name, value) in &self.env {
            channel
                .command(false, |channel| channel.env(name, value))
                .await?;
        }
        let (program, what) = match &self.command {
            Some(command) => (Program::Exec(command), "exec"),
            None => (Program::Shell, "shell"),
        };
        let start = channel
            .command(true, |channel| channel.start(program))
            .await?;
        if let Some(pty) = pty {
            has_pty = match pty.reply("pty-req").await {
                Err(Error::Refused(_)) => false,
                granted => granted.map(|()| true)?,
            };
        }
        start.reply(what).await?;
        let (stdout, stdin) = channel.clone().into_split();
        Ok(Child {
            has_pty,
            stdin: Some(ChildStdin(stdin)),
            stdout: Some(ChildStdout(stdout)),
            stderr: Some(ChildStderr(channel.stderr())),
            channel: channel.clone(),
        })
    }

    /// Starts it, feeds it the [`input`](Self::input), reads stdout and stderr at the same time, and waits for its
    /// end.
    ///
    /// Cancellation: the channel is closed, and what was read is lost.
    ///
    /// # Errors
    ///
    /// Those of [`spawn`](Self::spawn), and [`Error::TimedOut`].
    pub async fn output(&self) -> Result<Output, Error> {
        within(self.timeout, async {
            self.spawn().await?.collect(&self.input).await
        })
        .await
        .map_err(named)
    }

    /// Starts it, feeds it the [`input`](Self::input), throws its output away, and waits for its end.
    ///
    /// Cancellation: the channel is closed.
    ///
    /// # Errors
    ///
    /// Those of [`spawn`](Self::spawn), and [`Error::TimedOut`].
    pub async fn status(&self) -> Result<ExitStatus, Error> {
        within(self.timeout, async {
            self.spawn().await?.run(&self.input, None).await
        })
        .await
        .map_err(named)
    }
}

fn named(error: Error) -> Error {
    match error {
        Error::TimedOut(_) => Error::TimedOut("the command to end"),
        error => error,
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is run may hold secrets, and so may the environment.
        f.debug_struct("Command")
            .field("pty", &self.pty.is_some())
            .finish_non_exhaustive()
    }
}

/// What a command left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error.
    pub stderr: Vec<u8>,
}

/// A running remote command. The handles of its streams can be taken out and used by different tasks at once.
///
/// When it and the handles are dropped, the channel is closed; most servers then end the command.
#[derive(Debug)]
pub struct Child {
    /// What the command reads. Dropping it sends EOF.
    pub stdin: Option<ChildStdin>,
    /// What the command writes.
    pub stdout: Option<ChildStdout>,
    /// What the command complains of.
    pub stderr: Option<ChildStderr>,
    channel: Channel,
    has_pty: bool,
}

impl Child {
    /// The channel below.
    pub const fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Whether it runs on a terminal: it was asked for, and the server has given it.
    pub const fn has_pty(&self) -> bool {
        self.has_pty
    }

    /// Sends EOF to the command, if [`stdin`](Self::stdin) was not taken, and waits for its end.
    ///
    /// A stream that was not taken does not keep the command from ending: what fits the window waits to be read
    /// afterwards; when a stream is full, all of it is thrown away, and reading it later is
    /// [`Error::OutputDiscarded`].
    ///
    /// Cancellation: EOF was sent; it can be called again.
    ///
    /// # Errors
    ///
    /// The connection has ended.
    pub async fn wait(&mut self) -> Result<ExitStatus, Error> {
        drop(self.stdin.take());
        let unread = [
            self.stdout.is_some().then_some(Stream::DATA),
            self.stderr.is_some().then_some(Stream::STDERR),
        ];
        if unread == [None, None] {
            return self.end().await;
        }
        loop {
            if let Ok(end) = tokio::time::timeout(STUCK, self.end()).await {
                return end;
            }
            self.make_way(unread.into_iter().flatten());
        }
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    ///
    /// The connection has ended before the command did.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.channel.shared().act(|core| match self.ended(core) {
            Some(status) => Ok(Some(status)),
            None => core.over.clone().map_or(Ok(None), Err),
        })
    }

    /// Sends it a signal. Not every server passes signals on.
    ///
    /// Cancellation: the signal was sent or it was not.
    ///
    /// # Errors
    ///
    /// The channel is gone.
    pub async fn signal(&self, signal: &Signal) -> Result<(), Error> {
        self.channel.signal(signal).await
    }

    /// Says that its terminal has another size.
    ///
    /// # Errors
    ///
    /// It has no terminal.
    pub fn resize(&self, size: WindowSize) -> Result<(), Error> {
        self.channel.resize(size)
    }

    /// Sends EOF, reads both streams to their ends, and waits for the command's end.
    ///
    /// Cancellation: the channel is closed, and what was read is lost.
    ///
    /// # Errors
    ///
    /// The connection has ended.
    pub async fn wait_with_output(self) -> Result<Output, Error> {
        self.collect(&[]).await
    }

    /// Throws unread output away when the command cannot go on for it.
    fn make_way(&self, unread: impl Iterator<Item = Stream>) {
        self.channel.shared().act(|core| {
            let id = self.channel.id();
            let Some(mut channel) = core.conn.channel(id) else {
                return;
            };
            if channel.receive_credit() > 0 {
                return;
            }
            for stream in unread {
                if channel.readable(stream) > 0 {
                    channel.discard(stream);
                    if let Some(state) = core.channels.get_mut(id) {
                        state.discarded[usize::from(stream == Stream::STDERR)] = true;
                    }
                }
            }
        });
    }

    async fn end(&self) -> Result<ExitStatus, Error> {
        self.channel
            .shared()
            .wait(self.channel.interest(Wish::STATE), |core| self.ended(core))
            .await
    }

    fn ended(&self, core: &mut Core<ClientRole>) -> Option<ExitStatus> {
        self.channel.state(core, |state| match &state.exit {
            Some(status) => Some(status.clone()),
            None => state.closed.then_some(ExitStatus::Missing),
        })
    }

    async fn collect(self, input: &[u8]) -> Result<Output, Error> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let status = self.run(input, Some((&mut stdout, &mut stderr))).await?;
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    }

    /// Feeds `input`, reads both streams or throws them away, and waits for the end: all at once, in one task.
    async fn run(
        mut self,
        input: &[u8],
        mut streams: Option<(&mut Vec<u8>, &mut Vec<u8>)>,
    ) -> Result<ExitStatus, Error> {
        let mut stdin = self.stdin.take();
        if let Some(stdin) = &mut stdin {
            stdin.0.leave_open();
        }
        // A caller who took it feeds the command.
        let mut feeding = stdin.is_some();
        let mut fed = 0;
        let id = self.channel.id();
        self.channel
            .shared()
            .wait(self.channel.interest(Wish::ANY), |core| {
                let mut channel = core.conn.channel(id)?;
                for stream in [Stream::DATA, Stream::STDERR] {
                    let output = match &mut streams {
                        None => {
                            channel.discard(stream);
                            continue;
                        }
                        Some((stdout, _)) if stream == Stream::DATA => &mut **stdout,
                        Some((_, stderr)) => &mut **stderr,
                    };
                    loop {
                        let chunk = channel.chunk(stream);
                        let len = chunk.len();
                        if len == 0 {
                            break;
                        }
                        output.extend_from_slice(chunk);
                        channel.consume(stream, len);
                    }
                }
                while feeding && fed < input.len() {
                    match channel.write(Stream::DATA, input.get(fed..).unwrap_or_default()) {
                        Ok(len) => fed += len,
                        Err(ssh_proto::WriteError::Blocked) => break,
                        // A command may end without having read everything.
                        Err(_) => feeding = false,
                    }
                }
                if feeding && fed == input.len() {
                    feeding = false;
                    channel.eof();
                }
                let status = self.ended(core)?;
                let state = core.channels.get(id)?;
                (state.closed || state.eof).then_some(status)
            })
            .await
    }
}

/// The standard input of a remote command. Dropping it sends EOF.
#[derive(Debug)]
pub struct ChildStdin(WriteHalf);

impl ChildStdin {
    /// Writes everything that `reader` has: see [`Channel::copy_from`].
    ///
    /// # Errors
    ///
    /// Those of `reader`, and those of writing.
    pub async fn copy_from(
        &self,
        reader: &mut (impl AsyncRead + Unpin + ?Sized),
    ) -> io::Result<u64> {
        self.0.channel().copy_from(reader).await
    }
}

/// The standard output of a remote command.
#[derive(Debug)]
pub struct ChildStdout(ReadHalf);

impl ChildStdout {
    /// Writes everything up to EOF to `writer`: see [`Channel::copy_to`].
    ///
    /// # Errors
    ///
    /// Those of reading, and those of `writer`.
    pub async fn copy_to(
        &self,
        writer: &mut (impl AsyncWrite + Unpin + ?Sized),
    ) -> io::Result<u64> {
        self.0.channel().copy_to(writer).await
    }
}

/// The standard error of a remote command.
#[derive(Debug)]
pub struct ChildStderr(Stderr);

impl ChildStderr {
    /// Writes everything up to EOF to `writer`: see [`Channel::copy_to`].
    ///
    /// # Errors
    ///
    /// Those of reading, and those of `writer`.
    pub async fn copy_to(
        &mut self,
        writer: &mut (impl AsyncWrite + Unpin + ?Sized),
    ) -> io::Result<u64> {
        self.0.copy_to(writer).await
    }
}

impl AsyncWrite for ChildStdin {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl AsyncRead for ChildStdout {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncRead for ChildStderr {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}
