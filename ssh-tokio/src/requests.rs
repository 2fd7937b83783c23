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
    /// Cancellation: the request was sent or it was not; its answer is thrown away.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`].
    pub async fn pty(&self, pty: &PtyRequest) -> Result<(), Error> {
        let request = self.command(true, |channel| channel.pty(pty)).await?;
        request.reply("pty-req").await
    }

    /// Sets an environment variable of the program to come, and waits for the answer: servers take few of them.
    ///
    /// Cancellation: the request was sent or it was not; its answer is thrown away.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`].
    pub async fn env(&self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), Error> {
        let (name, value) = (name.as_ref(), value.as_ref());
        let request = self
            .command(true, |channel| channel.env(name, value))
            .await?;
        request.reply("env").await
    }

    /// Starts a shell, a command or a subsystem, and waits until the server says that it was started. After a refusal
    /// another one may be tried on the same channel.
    ///
    /// Cancellation: the request was sent or it was not; its answer is thrown away.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`].
    pub async fn start(&self, program: Program<'_>) -> Result<(), Error> {
        let what = match program {
            Program::Shell => "shell",
            Program::Exec(_) => "exec",
            Program::Subsystem(_) => "subsystem",
        };
        let request = self.command(true, |channel| channel.start(program)).await?;
        request.reply(what).await
    }

    /// Says that the terminal has another size.
    ///
    /// # Errors
    ///
    /// The channel has no terminal, or is gone.
    pub fn resize(&self, size: WindowSize) -> Result<(), Error> {
        self.with(|channel| channel.resize(size))
    }

    /// Sends a signal to the program.
    ///
    /// Cancellation: the signal was sent or it was not.
    ///
    /// # Errors
    ///
    /// The channel is gone.
    pub async fn signal(&self, signal: &Signal) -> Result<(), Error> {
        self.command(false, |channel| channel.signal(signal))
            .await?;
        Ok(())
    }

    /// Sends a break of that length to the program, and waits for the answer.
    ///
    /// Cancellation: the break was sent or it was not; its answer is thrown away.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when the server does not do such things.
    pub async fn send_break(&self, length: Duration) -> Result<(), Error> {
        let ms = u32::try_from(length.as_millis()).unwrap_or(u32::MAX);
        let request = self.command(true, |channel| channel.send_break(ms)).await?;
        request.reply("break").await
    }
}

impl Channel<ServerRole> {
    /// Says how the program ended. It is sent once; a second call does nothing.
    ///
    /// Cancellation: it was sent or it was not.
    ///
    /// # Errors
    ///
    /// The channel is gone.
    pub async fn send_exit(&self, status: &ExitStatus) -> Result<(), Error> {
        self.command(false, |channel| status.send(channel)).await?;
        Ok(())
    }
}
