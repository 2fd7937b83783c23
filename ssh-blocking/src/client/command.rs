//! Commands and shells: started like `std::process`, with handles for the three streams and an exit status.

use std::fmt;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use ssh_proto::{OpenChannel, Program, PtyRequest, Signal, Stream, WindowSize};

use crate::Error;
use crate::ExitStatus;
use crate::channel::{Channel, after};
use crate::core::{Core, Wish};

use super::Client;

/// How often a `wait` looks whether the command is stuck on output that nobody reads.
const STUCK: Duration = Duration::from_millis(50);

/// A remote command or shell that was not started yet.
///
/// ```no_run
/// # fn f(client: &ssh_blocking::Client) -> Result<(), ssh_blocking::Error> {
/// let output = client.exec("sort").input(b"b\na\n").output()?;
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
    /// # Errors
    ///
    /// [`Error::OpenFailed`] when the server gives no channel, [`Error::Refused`] when it gives no terminal that is
    /// needed or does not start the command.
    pub fn spawn(&self) -> Result<Child, Error> {
        self.spawn_until(None)
    }

    fn spawn_until(&self, deadline: Option<Instant>) -> Result<Child, Error> {
        let channel = self.client.open(OpenChannel::Session)?;
        if self.combine_stderr {
            channel.combine_stderr()?;
        }
        // Everything is sent at once, behind the open: that is one round trip less for each.
        let mut pty = match &self.pty {
            Some(pty) => Some(channel.command(true, |channel| channel.pty(pty))?),
            None => None,
        };
        let mut has_pty = false;
        if let Some(pty) = pty.take_if(|_| !self.pty_is_optional) {
            // But servers run a command whose terminal they refused.
            channel.reply(pty, "pty-req", deadline)?;
            has_pty = true;
        }
        for (name, value) in &self.env {
            channel.command(false, |channel| channel.env(name, value))?;
        }
        let (program, what) = match &self.command {
            Some(command) => (Program::Exec(command), "exec"),
            None => (Program::Shell, "shell"),
        };
        let start = channel.command(true, |channel| channel.start(program))?;
        if let Some(pty) = pty {
            has_pty = match channel.reply(pty, "pty-req", deadline) {
                Err(Error::Refused(_)) => false,
                granted => granted.map(|()| true)?,
            };
        }
        channel.reply(start, what, deadline)?;
        Ok(Child {
            has_pty,
            stdin: Some(ChildStdin {
                channel: channel.clone(),
                open: true,
            }),
            stdout: Some(ChildStdout(channel.clone())),
            stderr: Some(ChildStderr(channel.clone())),
            channel,
        })
    }

    /// Starts it, feeds it the [`input`](Self::input), reads stdout and stderr at the same time, and waits for its
    /// end.
    ///
    /// # Errors
    ///
    /// Those of [`spawn`](Self::spawn), and [`Error::TimedOut`].
    pub fn output(&self) -> Result<Output, Error> {
        let deadline = after(self.timeout);
        let child = self.spawn_until(deadline)?;
        let mut output = Output {
            status: ExitStatus::Missing,
            stdout: Vec::new(),
            stderr: Vec::new(),
        };
        let streams = Some((&mut output.stdout, &mut output.stderr));
        let status = child.run(&self.input, deadline, streams)?;
        output.status = status;
        Ok(output)
    }

    /// Starts it, feeds it the [`input`](Self::input), throws its output away, and waits for its end.
    ///
    /// # Errors
    ///
    /// Those of [`spawn`](Self::spawn), and [`Error::TimedOut`].
    pub fn status(&self) -> Result<ExitStatus, Error> {
        let deadline = after(self.timeout);
        let child = self.spawn_until(deadline)?;
        child.run(&self.input, deadline, None)
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

/// A running remote command. The handles of its streams can be taken out and used by different threads at once.
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
    /// # Errors
    ///
    /// The connection has ended.
    pub fn wait(&mut self) -> Result<ExitStatus, Error> {
        self.wait_until(None)
    }

    /// The same, but for so long at the most.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`].
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<ExitStatus, Error> {
        self.wait_until(after(Some(timeout)))
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    ///
    /// The connection has ended before the command did.
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, Error> {
        match self.end(Some(Instant::now())) {
            Ok(status) => Ok(Some(status)),
            Err(Error::TimedOut(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends it a signal. Not every server passes signals on.
    ///
    /// # Errors
    ///
    /// The channel is gone.
    pub fn signal(&self, signal: &Signal) -> Result<(), Error> {
        self.channel.signal(signal)
    }

    /// Says that its terminal has another size.
    ///
    /// # Errors
    ///
    /// It has no terminal.
    pub fn resize(&self, size: WindowSize) -> Result<(), Error> {
        self.channel.resize(size)
    }

    /// Sends the rest of the input, reads both streams to their ends, and waits for the command's end.
    ///
    /// # Errors
    ///
    /// The connection has ended.
    pub fn wait_with_output(self) -> Result<Output, Error> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let status = self.run(&[], None, Some((&mut stdout, &mut stderr)))?;
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    }

    fn wait_until(&mut self, deadline: Option<Instant>) -> Result<ExitStatus, Error> {
        drop(self.stdin.take());
        let unread: Vec<Stream> = [
            self.stdout.is_some().then_some(Stream::DATA),
            self.stderr.is_some().then_some(Stream::STDERR),
        ]
        .into_iter()
        .flatten()
        .collect();
        if unread.is_empty() {
            return self.end(deadline);
        }
        loop {
            let slice = after(Some(STUCK));
            let until = crate::driver::earlier(slice, deadline);
            match self.end(until) {
                Err(Error::TimedOut(what)) if until == deadline => {
                    return Err(Error::TimedOut(what));
                }
                Err(Error::TimedOut(_)) => self.make_way(&unread),
                result => return result,
            }
        }
    }

    /// Throws unread output away when the command cannot go on for it.
    fn make_way(&self, unread: &[Stream]) {
        self.channel.shared().act(|core| {
            let id = self.channel.id();
            let Some(mut channel) = core.conn.channel(id) else {
                return;
            };
            if channel.receive_credit() > 0 {
                return;
            }
            for &stream in unread {
                if channel.readable(stream) > 0 {
                    channel.discard(stream);
                    if let Some(state) = core.channels.get_mut(&id) {
                        state.discarded[usize::from(stream == Stream::STDERR)] = true;
                    }
                }
            }
        });
    }

    fn end(&self, deadline: Option<Instant>) -> Result<ExitStatus, Error> {
        self.channel.shared().wait(
            self.channel.interest(Wish::State),
            deadline,
            "the command to end",
            |core| self.ended(core),
        )
    }

    fn ended(&self, core: &mut Core<ssh_proto::ClientRole>) -> Option<ExitStatus> {
        self.channel.state(core, |state| match &state.exit {
            Some(status) => Some(status.clone()),
            None => state.closed.then_some(ExitStatus::Missing),
        })
    }

    /// Feeds `input`, reads both streams or throws them away, and waits for the end: all at once, in one thread.
    fn run(
        mut self,
        input: &[u8],
        deadline: Option<Instant>,
        mut streams: Option<(&mut Vec<u8>, &mut Vec<u8>)>,
    ) -> Result<ExitStatus, Error> {
        let mut stdin = self.stdin.take();
        let mut fed = 0;
        let id = self.channel.id();
        let mut broken = false;
        self.channel.shared().wait(
            self.channel.interest(Wish::Any),
            deadline,
            "the command to end",
            |core| {
                for stream in [Stream::DATA, Stream::STDERR] {
                    let Some(mut channel) = core.conn.channel(id) else {
                        break;
                    };
                    match &mut streams {
                        None => channel.discard(stream),
                        Some((stdout, stderr)) => {
                            let output = if stream == Stream::DATA {
                                &mut **stdout
                            } else {
                                &mut **stderr
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
                    }
                }
                while fed < input.len() && !broken {
                    match core.write(id, Stream::DATA, &input[fed..]) {
                        Some(Ok(len)) => fed += len,
                        // A command may end without having read everything.
                        Some(Err(_)) => broken = true,
                        None => break,
                    }
                }
                if (fed == input.len() || broken)
                    && let Some(mut stdin) = stdin.take()
                {
                    stdin.open = false;
                    if let Some(mut channel) = core.conn.channel(id) {
                        channel.eof();
                    }
                }
                let status = self.ended(core)?;
                let state = core.channels.get(&id)?;
                (state.closed || state.eof).then_some(status)
            },
        )
    }
}

/// The standard input of a remote command. Dropping it sends EOF.
#[derive(Debug)]
pub struct ChildStdin {
    channel: Channel,
    /// EOF is to be sent.
    open: bool,
}

impl ChildStdin {
    /// Writes everything that `reader` has: see [`Channel::copy_from`].
    ///
    /// # Errors
    ///
    /// Those of `reader`, and those of [`write`](Write::write).
    pub fn copy_from(&self, reader: &mut (impl Read + ?Sized)) -> io::Result<u64> {
        self.channel.copy_from(reader)
    }
}

impl Drop for ChildStdin {
    fn drop(&mut self) {
        // It fails when the channel is gone: then there is nobody to tell.
        if self.open {
            _ = self.channel.shutdown_write();
        }
    }
}

impl Write for ChildStdin {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.channel.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The standard output of a remote command.
#[derive(Debug)]
pub struct ChildStdout(Channel);

impl ChildStdout {
    /// Writes everything up to EOF to `writer`: see [`Channel::copy_to`].
    ///
    /// # Errors
    ///
    /// Those of [`read`](Read::read), and those of `writer`.
    pub fn copy_to(&self, writer: &mut (impl Write + ?Sized)) -> io::Result<u64> {
        self.0.copy_to(writer)
    }
}

impl Read for ChildStdout {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

/// The standard error of a remote command.
#[derive(Debug)]
pub struct ChildStderr(Channel);

impl ChildStderr {
    /// Writes everything up to EOF to `writer`: see [`Channel::copy_to`].
    ///
    /// # Errors
    ///
    /// Those of [`read`](Read::read), and those of `writer`.
    pub fn copy_to(&self, writer: &mut (impl Write + ?Sized)) -> io::Result<u64> {
        self.0.copy_stream(Stream::STDERR, writer)
    }
}

impl Read for ChildStderr {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(self.0.read_stream(Stream::STDERR, buf)?)
    }
}
