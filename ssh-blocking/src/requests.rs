//! Requests about a session: what a client asks for and tells, what a server says in the end (RFC 4254 section 6).

use std::time::Duration;

use ssh_proto::{ClientRole, Program, PtyRequest, ServerRole, Signal, WindowSize};

use crate::Error;
use crate::ExitStatus;
use crate::channel::Channel;

impl Channel<ClientRole> {
    /// Asks for a terminal, and waits for the answer. It is for a session of
    /// [`Client::open_session`](crate::Client::open_session), before a program is started on it.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`].
    pub fn pty(&self, pty: &PtyRequest) -> Result<(), Error> {
        let request = self.command(true, |channel| channel.pty(pty))?;
        self.reply(request, "pty-req", None)
    }

    /// Sets an environment variable of the program to come, and waits for the answer: servers take few of them.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`].
    pub fn env(&self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), Error> {
        let request = self.command(true, |channel| channel.env(name.as_ref(), value.as_ref()))?;
        self.reply(request, "env", None)
    }

    /// Starts a shell, a command or a subsystem, and waits until the server says that it was started. After a refusal
    /// another one may be tried on the same channel.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`].
    pub fn start(&self, program: Program<'_>) -> Result<(), Error> {
        let what = match program {
            Program::Shell => "shell",
            Program::Exec(_) => "exec",
            Program::Subsystem(_) => "subsystem",
        };
        let request = self.command(true, |channel| channel.start(program))?;
        self.reply(request, what, None)
    }

    /// Says that the terminal has another size.
    ///
    /// # Errors
    ///
    /// The channel has no terminal, or is gone.
    pub fn resize(&self, size: WindowSize) -> Result<(), Error> {
        self.command(false, |channel| channel.resize(size))
    }

    /// Sends a signal to the program.
    ///
    /// # Errors
    ///
    /// The channel is gone.
    pub fn signal(&self, signal: &Signal) -> Result<(), Error> {
        self.command(false, |channel| channel.signal(signal))
    }

    /// Sends a break of that length to the program, and waits for the answer.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when the server does not do such things.
    pub fn send_break(&self, length: Duration) -> Result<(), Error> {
        let ms = u32::try_from(length.as_millis()).unwrap_or(u32::MAX);
        let request = self.command(true, |channel| channel.send_break(ms))?;
        self.reply(request, "break", None)
    }
}

impl Channel<ServerRole> {
    /// Says how the program ended. It is sent once; a second call does nothing.
    ///
    /// # Errors
    ///
    /// The channel is gone.
    pub fn send_exit(&self, status: &ExitStatus) -> Result<(), Error> {
        self.command(false, |channel| status.send(channel))
    }
}
