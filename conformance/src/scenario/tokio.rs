//! The backend `ssh-tokio`, each side on a runtime of its own.

use std::collections::BTreeMap;
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ssh_proto::error::DisconnectReason;
use ssh_proto::key::PublicKey;
use ssh_proto::{
    ChannelId, ChannelRequest, ClientConfig, ClientRole, ForwardAddress, LoginAttempt, OpenKind,
    Program, Prompts, PtyRequest, RequestId, Role, Secret, ServerConfig, ServerRole, Signal,
    Stream, WindowSize,
};
use ssh_tokio::{
    AuthOutcome, Channel, ChannelEvents, Child, Client, ClientOptions, Error, Events, ExitStatus,
    Handler, HostKeyPolicy, OpenVerdict, PendingChannel, Server, ServerChannel, ServerConnection,
    ServerOptions, Session, Task, Verdict,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::disturbed::{Disturbed, Line};
use super::link::{
    BoxFuture, CUT, Chan, Event, Failure, Link, Opened, Outcome, Tell, ending, told,
};
use super::policy::{Judgement, sign};
use super::script::{Exit, Kind, Login, Run};
use super::side::{Opening, Reaction, Script, Side};
use crate::pair::user_key;

/// Plays the client's side.
pub(super) fn client(side: Arc<Side>, line: Line, config: ClientConfig) {
    let (opens, requests, globals, shows) = (
        Arc::clone(&side),
        Arc::clone(&side),
        Arc::clone(&side),
        Arc::clone(&side),
    );
    let options = ClientOptions::new(HostKeyPolicy::AcceptAny)
        .config(config)
        .on_banner(move |text| shows.banner(text))
        .on_channel_open(move |pending| match opens.opening(pending.kind()) {
            Opening::Play(script, data) => accept(&opens, pending, script, data),
            Opening::Refuse(reason, text) => pending.refuse(reason, text),
            Opening::Session => drop(pending),
        })
        .check_channel_request(move |id, name, data| {
            requests.requested(id, &custom(name, data)).is_granted()
        })
        .check_global_request(move |name, data| globals.global(name, data));
    on_a_runtime(line, async |stream| {
        let connected = Client::connect_stream(stream, options).await;
        let (client, driver) = connected.expect("a key exchange");
        let driver = driver.spawn();
        side.attach(Arc::new(ClientLink {
            client,
            forwards: Mutex::default(),
        }));
        side.run().await;
        // How it ended is in the log.
        _ = driver.await.expect("the driver");
    });
}

/// Plays the server's side.
pub(super) fn server(side: Arc<Side>, line: Line, config: ServerConfig) {
    let handled = Arc::clone(&side);
    let options = ServerOptions::new(config, move |_| Handles(Arc::clone(&handled)));
    on_a_runtime(line, async |stream| {
        // How it ends is in the log.
        _ = Server::new(options).serve_stream(stream, None).await;
        side.done().await;
    });
}

/// A stream as it is, or one that is disturbed.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

fn on_a_runtime(line: Line, run: impl AsyncFnOnce(Box<dyn Duplex>)) {
    let stream = line.stream;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        stream.set_nonblocking(true).expect("non-blocking");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        let stream = TcpStream::from_std(stream).expect("a stream");
        run(match line.disturbance {
            None => Box::new(stream),
            Some(disturbance) => Box::new(Disturbed::new(stream, disturbance)),
        })
        .await;
    });
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn custom(name: &str, data: &[u8]) -> ChannelRequest {
    ChannelRequest::Custom {
        name: name.to_owned(),
        data: data.to_vec(),
    }
}

fn spawn(task: BoxFuture<'static, ()>) {
    drop(tokio::spawn(task));
}

/// The end of a connection, in the words of the log.
fn end(error: &Error) -> String {
    match error {
        Error::Connection(error) => ending(error),
        Error::Io(_) => CUT.to_owned(),
        other => other.to_string(),
    }
}

/// Waits for the end of a connection; how it was.
async fn over<R: Role>(events: &mut Events<R>) -> String {
    loop {
        match events.next().await {
            Some(ssh_tokio::Event::Disconnected(error)) => return end(&error),
            Some(_) => {}
            None => return String::new(),
        }
    }
}

fn failed(error: impl Into<Error>) -> Failure {
    match error.into() {
        error @ (Error::Connection(_) | Error::Io(_)) => Failure::Over(end(&error)),
        Error::OpenFailed {
            reason,
            description,
        } => Failure::NotOpened(reason, description.to_string()),
        Error::Refused(_) => Failure::Refused,
        Error::ChannelClosed => Failure::Closed,
        Error::Misuse(misuse) => Failure::Misuse(misuse),
        other => Failure::Other(other.to_string()),
    }
}

fn status(exit: &Exit) -> ExitStatus {
    match exit {
        Exit::Code(code) => ExitStatus::Code(*code),
        Exit::Signal(signal) => ExitStatus::Signal(signal.clone()),
        Exit::Missing => ExitStatus::Missing,
    }
}

/// Opens a channel that the peer asks for, and plays its script.
fn accept<R: TokioRole>(side: &Arc<Side>, pending: PendingChannel<R>, script: Script, data: &str) {
    // It fails when the connection has ended.
    if let Ok(channel) = pending.accept_with(data.as_bytes()) {
        side.play_accepted(script, TokioChan::boxed(channel, None));
    }
}

/// What only one of the roles does on a channel.
trait TokioRole: Role {
    fn ask<'a>(
        channel: &'a Channel<Self>,
        request: &'a ChannelRequest,
    ) -> BoxFuture<'a, Result<(), Error>>
    where
        Self: Sized;
    fn exit<'a>(channel: &'a Channel<Self>, exit: &'a Exit) -> BoxFuture<'a, Result<(), Error>>
    where
        Self: Sized;
}

impl TokioRole for ClientRole {
    fn ask<'a>(
        channel: &'a Channel,
        request: &'a ChannelRequest,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            match request {
                ChannelRequest::Pty(pty) => channel.pty(pty).await,
                ChannelRequest::Env { name, value } => channel.env(name, value).await,
                ChannelRequest::Shell => channel.start(Program::Shell).await,
                ChannelRequest::Exec(command) => channel.start(Program::Exec(command)).await,
                ChannelRequest::Subsystem(name) => channel.start(Program::Subsystem(name)).await,
                ChannelRequest::WindowChange(size) => channel.resize(*size),
                ChannelRequest::Signal(signal) => channel.signal(signal).await,
                ChannelRequest::Break { ms } => {
                    let length = Duration::from_millis((*ms).into());
                    channel.send_break(length).await
                }
                _ => Err(Error::Refused("no such request")),
            }
        })
    }

    fn exit<'a>(_: &'a Channel, _: &'a Exit) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(ready(Ok(())))
    }
}

impl TokioRole for ServerRole {
    fn ask<'a>(_: &'a ServerChannel, _: &'a ChannelRequest) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(ready(Err(Error::Refused("a client's request"))))
    }

    fn exit<'a>(channel: &'a ServerChannel, exit: &'a Exit) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move { channel.send_exit(&status(exit)).await })
    }
}

struct TokioChan<R: Role> {
    channel: Channel<R>,
    events: tokio::sync::Mutex<ChannelEvents<R>>,
    /// Dropping it would send EOF.
    _child: Option<Child>,
}

impl<R: TokioRole> TokioChan<R> {
    fn boxed(channel: Channel<R>, child: Option<Child>) -> Arc<dyn Chan> {
        Arc::new(Self {
            events: tokio::sync::Mutex::new(channel.events()),
            channel,
            _child: child,
        })
    }
}

impl<R: TokioRole> Chan for TokioChan<R> {
    fn id(&self) -> ChannelId {
        self.channel.id()
    }

    fn read(&self, stream: Stream, max: usize) -> BoxFuture<'_, Outcome<Vec<u8>>> {
        Box::pin(async move {
            let mut bytes = vec![0; max];
            let len = if stream == Stream::STDERR {
                self.channel.stderr().read(&mut bytes).await
            } else {
                self.channel.clone().read(&mut bytes).await
            };
            bytes.truncate(len.map_err(failed)?);
            Ok(bytes)
        })
    }

    fn write<'a>(&'a self, stream: Stream, bytes: &'a [u8]) -> BoxFuture<'a, Outcome<usize>> {
        Box::pin(async move {
            let len = if stream == Stream::STDERR {
                self.channel.stderr().write(bytes).await
            } else {
                self.channel.clone().write(bytes).await
            };
            len.map_err(failed)
        })
    }

    fn ask<'a>(&'a self, request: &'a ChannelRequest, want_reply: bool) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let answer = match request {
                ChannelRequest::Custom { name, data } => {
                    self.channel.request(name, data, want_reply).await
                }
                _ => R::ask(&self.channel, request).await,
            };
            answer.map_err(failed)
        })
    }

    fn exit<'a>(&'a self, exit: &'a Exit) -> BoxFuture<'a, Outcome> {
        Box::pin(async move { R::exit(&self.channel, exit).await.map_err(failed) })
    }

    fn tell(&self, what: Tell) -> BoxFuture<'_, Outcome> {
        Box::pin(async move {
            let told = match what {
                Tell::Eof => self.channel.shutdown_write(),
                Tell::EndOfWrite => self.channel.shutdown_read().await,
                Tell::CombineStderr => self.channel.combine_stderr(),
                Tell::Discard(stream) => self.channel.discard(stream),
                Tell::Close => {
                    self.channel.close();
                    Ok(())
                }
            };
            told.map_err(failed)
        })
    }

    fn event(&self) -> BoxFuture<'_, Option<Event>> {
        Box::pin(async move {
            use ssh_tokio::ChannelEvent;
            Some(match self.events.lock().await.next().await? {
                ChannelEvent::Exited(ExitStatus::Code(code)) => Event::Exited(Exit::Code(code)),
                ChannelEvent::Exited(ExitStatus::Signal(signal)) => {
                    Event::Exited(Exit::Signal(signal))
                }
                ChannelEvent::Eof => Event::Eof,
                ChannelEvent::Closed => Event::Closed,
                _ => Event::Exited(Exit::Missing),
            })
        })
    }
}

struct ClientLink {
    client: Client,
    /// Listeners that were granted.
    forwards: Mutex<BTreeMap<ForwardAddress, RequestId>>,
}

impl ClientLink {
    async fn open_now(&self, kind: &Kind) -> Result<Opened, Error> {
        let client = &self.client;
        let mut data = Vec::new();
        let mut child = None;
        let channel = match kind {
            Kind::Session => client.open_session().await?,
            Kind::Program {
                run: Run::Subsystem(name),
                ..
            } => client.subsystem(name).await?,
            Kind::Program {
                run,
                pty,
                env,
                combine_stderr,
            } => {
                let mut command = match run {
                    Run::Exec(command) => client.exec(command),
                    _ => client.shell(),
                };
                if let Some(pty) = pty {
                    command = command.pty(pty.clone());
                }
                for (name, value) in env {
                    command = command.env(name, value);
                }
                if *combine_stderr {
                    command = command.combine_stderr();
                }
                child.insert(command.spawn().await?).channel().clone()
            }
            Kind::DirectTcpip(host, port) => client.direct_tcpip(host, *port).await?,
            Kind::DirectStreamlocal(path) => client.direct_streamlocal(path).await?,
            Kind::Custom(kind, words) => {
                let (channel, confirmation) = client.open_custom(kind, words.as_bytes()).await?;
                data = confirmation;
                channel
            }
            Kind::ForwardedTcpip(..) | Kind::ForwardedStreamlocal(_) => {
                return Err(Error::Refused("a server's channel"));
            }
        };
        Ok((TokioChan::boxed(channel, child), data))
    }

    async fn log_in_now(&self, login: Login) -> Result<(bool, String), Error> {
        let client = &self.client;
        let mut words = String::new();
        let outcome = match login {
            Login::None(user) => client.auth_none(user).await,
            Login::Password(user, password) => client.auth_password(user, password).await,
            Login::Change(user, old, new) => {
                let change = |prompt: &str| {
                    words += &told::change(prompt);
                    ready(Some(new.into()))
                };
                client.auth_password_with_change(user, old, change).await
            }
            Login::Key(user) => client.auth_public_key(user, user_key()).await,
            Login::External(user) => {
                let key = user_key().public().clone();
                client
                    .auth_external(user, key, |request| ready(Some(sign(request))))
                    .await
            }
            Login::Answers(user, rounds) => {
                let mut rounds = rounds.iter();
                let answer = |prompts: &Prompts| {
                    words += &told::asked(prompts);
                    let answers = rounds.next().map(|answers| answers.iter());
                    ready(answers.map(|answers| answers.map(|a| Secret::from(*a)).collect()))
                };
                client.auth_keyboard_interactive(user, answer).await
            }
        }?;
        Ok(match outcome {
            AuthOutcome::Refused {
                methods,
                partial_success,
            } => (false, words + &told::refused(&methods, partial_success)),
            AuthOutcome::PasswordExpired { prompt } => (false, words + &told::expired(&prompt)),
            _ => (true, words + told::IN),
        })
    }
}

impl Link for ClientLink {
    fn open<'a>(&'a self, kind: &'a Kind) -> BoxFuture<'a, Outcome<Opened>> {
        Box::pin(async move { self.open_now(kind).await.map_err(failed) })
    }

    fn global<'a>(
        &'a self,
        name: &'a str,
        data: &'a [u8],
        want_reply: bool,
    ) -> BoxFuture<'a, Outcome<Vec<u8>>> {
        Box::pin(async move {
            let answer = self.client.global_request(name, data, want_reply).await;
            answer.map_err(failed)
        })
    }

    fn listen<'a>(&'a self, address: &'a ForwardAddress) -> BoxFuture<'a, Outcome<ForwardAddress>> {
        Box::pin(async move {
            let granted = self.client.request_forward(address.clone()).await;
            let (forward, bound) = granted.map_err(failed)?;
            lock(&self.forwards).insert(bound.clone(), forward);
            Ok(bound)
        })
    }

    fn cancel<'a>(&'a self, address: &'a ForwardAddress) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let forward = lock(&self.forwards).remove(address);
            let forward = forward.ok_or_else(|| Failure::Other("no such listener".into()))?;
            self.client.cancel_forward(forward).await.map_err(failed)
        })
    }

    fn no_more_sessions(&self) -> BoxFuture<'_, Outcome> {
        Box::pin(async { self.client.no_more_sessions().await.map_err(failed) })
    }

    fn ping(&self) -> BoxFuture<'_, Outcome> {
        Box::pin(async { self.client.ping(b"are you there").await.map_err(failed) })
    }

    fn log_in<'a>(&'a self, login: &'a Login) -> BoxFuture<'a, Outcome<(bool, String)>> {
        Box::pin(async move { self.log_in_now(*login).await.map_err(failed) })
    }

    fn rekey(&self) -> BoxFuture<'_, Outcome> {
        Box::pin(async { self.client.rekey().map_err(failed) })
    }

    fn rekeyed(&self, count: u64) -> BoxFuture<'_, Outcome> {
        Box::pin(async move {
            while self.client.rekeys() < count {
                if let Some(error) = self.client.closed() {
                    return Err(failed(error));
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok(())
        })
    }

    fn rest(&self, time: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(time))
    }

    fn disconnect<'a>(&'a self, reason: DisconnectReason, text: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move { self.client.disconnect_with(reason, text) })
    }

    fn ended(&self) -> BoxFuture<'_, String> {
        let mut events = self.client.events();
        Box::pin(async move { over(&mut events).await })
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        spawn(task);
    }
}

struct ServerLink(ServerConnection);

impl ServerLink {
    async fn open_now(&self, kind: &Kind) -> Result<Opened, Error> {
        let mut data = Vec::new();
        let channel = match kind {
            Kind::ForwardedTcpip(address, port, host, from) => {
                let address = ForwardAddress::tcpip(*address, *port);
                self.0.open_forwarded(&address, (host, *from)).await?
            }
            Kind::ForwardedStreamlocal(path) => {
                let address = ForwardAddress::streamlocal(*path);
                self.0.open_forwarded(&address, ("", 0)).await?
            }
            Kind::Custom(kind, words) => {
                let (channel, confirmation) = self.0.open_custom(kind, words.as_bytes()).await?;
                data = confirmation;
                channel
            }
            _ => return Err(Error::Refused("a client's channel")),
        };
        Ok((TokioChan::boxed(channel, None), data))
    }
}

impl Link for ServerLink {
    fn open<'a>(&'a self, kind: &'a Kind) -> BoxFuture<'a, Outcome<Opened>> {
        Box::pin(async move { self.open_now(kind).await.map_err(failed) })
    }

    fn global<'a>(
        &'a self,
        name: &'a str,
        data: &'a [u8],
        want_reply: bool,
    ) -> BoxFuture<'a, Outcome<Vec<u8>>> {
        Box::pin(async move {
            self.0
                .global_request(name, data, want_reply)
                .await
                .map_err(failed)
        })
    }

    fn rekey(&self) -> BoxFuture<'_, Outcome> {
        Box::pin(async { self.0.rekey().map_err(failed) })
    }

    fn rekeyed(&self, count: u64) -> BoxFuture<'_, Outcome> {
        Box::pin(async move {
            while self.0.rekeys() < count {
                if let Some(error) = self.0.closed() {
                    return Err(failed(error));
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok(())
        })
    }

    fn rest(&self, time: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(time))
    }

    fn disconnect<'a>(&'a self, reason: DisconnectReason, text: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async move { self.0.disconnect_with(reason, text) })
    }

    fn ended(&self) -> BoxFuture<'_, String> {
        let mut events = self.0.events();
        Box::pin(async move { over(&mut events).await })
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        spawn(task);
    }
}

/// The server's author: asks the side.
struct Handles(Arc<Side>);

impl Handles {
    fn judge(&self, attempt: &LoginAttempt) -> Verdict {
        match self.0.judge(attempt) {
            Judgement::Accept => Verdict::Accept,
            Judgement::Refuse => Verdict::Refuse,
            Judgement::Partial(methods) => Verdict::Partial(methods),
            Judgement::Prompt(round) => Verdict::Prompt(round),
            Judgement::Expired(text) => Verdict::PasswordExpired(text.to_owned()),
        }
    }

    fn grants(&self, id: ChannelId, request: &ChannelRequest) -> bool {
        self.0.requested(id, request).is_granted()
    }

    fn runs(&self, session: &Session, run: &Run) -> Option<Task> {
        let Reaction::Run(script) = self.0.requested(session.channel, &run.request()) else {
            return None;
        };
        let side = Arc::clone(&self.0);
        Some(Task::new(async move |channel| {
            let chan = TokioChan::boxed(channel, None);
            status(&side.run_program(script, chan).await)
        }))
    }
}

impl Handler for Handles {
    fn connected(&mut self, connection: &ServerConnection) {
        self.0.attach(Arc::new(ServerLink(connection.clone())));
        spawn(Box::pin(Arc::clone(&self.0).run()));
    }

    async fn check_auth_none(&mut self, attempt: &LoginAttempt) -> Verdict {
        self.judge(attempt)
    }

    async fn check_auth_password(&mut self, attempt: &LoginAttempt, _: &Secret) -> Verdict {
        self.judge(attempt)
    }

    async fn check_password_change(
        &mut self,
        attempt: &LoginAttempt,
        _: &Secret,
        _: &Secret,
    ) -> Verdict {
        self.judge(attempt)
    }

    async fn check_key_offer(&mut self, user: &str, key: &PublicKey) -> bool {
        self.0.key_offered(user, key)
    }

    async fn check_auth_public_key(&mut self, attempt: &LoginAttempt, _: &PublicKey) -> Verdict {
        self.judge(attempt)
    }

    async fn check_auth_interactive(&mut self, attempt: &LoginAttempt, _: &str) -> Verdict {
        self.judge(attempt)
    }

    async fn check_auth_answers(&mut self, attempt: &LoginAttempt, _: &[Secret]) -> Verdict {
        self.judge(attempt)
    }

    fn authenticated(&mut self, user: &str) {
        self.0.authenticated(user);
    }

    async fn check_channel_open(&mut self, kind: &OpenKind) -> OpenVerdict {
        match self.0.opening(kind) {
            Opening::Refuse(reason, text) => OpenVerdict::Refuse {
                reason,
                description: text.to_owned(),
            },
            Opening::Session => OpenVerdict::Accept,
            Opening::Play(script, data) => {
                let side = Arc::clone(&self.0);
                OpenVerdict::handle(async move |pending| accept(&side, pending, script, data))
            }
        }
    }

    async fn check_pty(&mut self, session: &Session, pty: &PtyRequest) -> bool {
        self.grants(session.channel, &ChannelRequest::Pty(pty.clone()))
    }

    async fn check_env(&mut self, session: &Session, name: &[u8], value: &[u8]) -> bool {
        let request = ChannelRequest::Env {
            name: name.to_vec(),
            value: value.to_vec(),
        };
        self.grants(session.channel, &request)
    }

    async fn check_shell(&mut self, session: &Session) -> Option<Task> {
        self.runs(session, &Run::Shell)
    }

    async fn check_exec(&mut self, session: &Session, command: &[u8]) -> Option<Task> {
        let command = String::from_utf8_lossy(command).into_owned();
        self.runs(session, &Run::Exec(command))
    }

    async fn check_subsystem(&mut self, session: &Session, name: &str) -> Option<Task> {
        self.runs(session, &Run::Subsystem(name.to_owned()))
    }

    fn window_change(&mut self, session: &Session, size: WindowSize) {
        self.grants(session.channel, &ChannelRequest::WindowChange(size));
    }

    fn signal(&mut self, session: &Session, signal: &Signal) {
        self.grants(session.channel, &ChannelRequest::Signal(signal.clone()));
    }

    async fn check_break(&mut self, session: &Session, ms: u32) -> bool {
        self.grants(session.channel, &ChannelRequest::Break { ms })
    }

    async fn check_channel_request(&mut self, channel: ChannelId, name: &str, data: &[u8]) -> bool {
        self.grants(channel, &custom(name, data))
    }

    async fn check_global_request(&mut self, name: &str, data: &[u8]) -> Option<Vec<u8>> {
        self.0.global(name, data)
    }

    async fn check_forward(&mut self, address: &ForwardAddress) -> Option<u16> {
        self.0.listening(address)
    }

    async fn check_cancel_forward(&mut self, address: &ForwardAddress) -> bool {
        self.0.listening_no_more(address)
    }
}
