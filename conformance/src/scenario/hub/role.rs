//! What only one of the roles does: its own events, logging in, requests of sessions, listeners.

use std::sync::Arc;
use std::time::Instant;

use ssh_proto::{
    Channel, ChannelId, ChannelRequest, Client, ClientEvent, ClientRole, Connection, Credential,
    ForwardAddress, GlobalRequestReceived, GlobalRequestToken, Misuse, OpenRequest, PasswordChange,
    Program, Prompts, PtyRequest, RequestId, Role, Secret, Server, ServerEvent, ServerRole,
    SignatureRequest,
};

use super::Desk;
use crate::pair::user_key;
use crate::scenario::link::{BoxFuture, Failure, Outcome, told};
use crate::scenario::policy::{Judgement, sign};
use crate::scenario::script::{Exit, Login};
use crate::scenario::side::Side;

/// What only one of the roles does.
pub trait HubRole: Role + Sized {
    /// Sorts an event, or deals with it.
    fn sort(event: Self::Event, side: &Side, conn: &mut Connection<Self>) -> Sorted;
    /// Makes a request, if it is one of this role's.
    fn ask(
        channel: &mut Channel<'_, Self>,
        request: &ChannelRequest,
    ) -> Option<Result<Option<RequestId>, Misuse>>;
    /// Says how a program ended.
    fn exit(channel: &mut Channel<'_, Self>, exit: &Exit);
    /// Asks for a terminal.
    fn pty(channel: &mut Channel<'_, Self>, pty: &PtyRequest) -> Result<RequestId, Misuse>;
    /// Sets an environment variable.
    fn env(channel: &mut Channel<'_, Self>, name: &str, value: &str) -> Result<RequestId, Misuse>;
    /// Starts a program.
    fn start(channel: &mut Channel<'_, Self>, run: Program<'_>) -> Result<RequestId, Misuse>;
    /// Grants a listener.
    fn accept_forward(conn: &mut Connection<Self>, token: GlobalRequestToken, port: u16);
    /// Asks for a listener.
    fn request_forward(
        conn: &mut Connection<Self>,
        address: ForwardAddress,
        now: Instant,
    ) -> Result<RequestId, Misuse>;
    /// Where it listens.
    fn forward(conn: &Connection<Self>, forward: RequestId) -> Option<ForwardAddress>;
    /// Wants it no more.
    fn cancel_forward(
        conn: &mut Connection<Self>,
        forward: RequestId,
        now: Instant,
    ) -> Result<RequestId, Misuse>;
    /// Promises to open no more sessions.
    fn no_more_sessions(conn: &mut Connection<Self>, now: Instant) -> Result<(), Misuse>;
    /// Tries to log in.
    fn log_in(desk: &Arc<Desk<Self>>, login: Login) -> BoxFuture<'_, Outcome<(bool, String)>>;
}

/// An event of either role.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "the loop's own")]
pub enum Sorted {
    /// Something happened on a channel.
    Channel(ChannelId),
    /// The peer asks for a channel.
    Opening(OpenRequest),
    /// The peer asks for something about the connection.
    Asked(GlobalRequestReceived),
    /// The peer has answered such a request.
    Replied(RequestId, Option<Vec<u8>>),
    /// A PING was answered.
    Pong,
    /// New keys are in force.
    Rekeyed,
    /// Something for whoever logs in.
    Login(LoginEvent),
    /// The end.
    Over(ssh_proto::Error),
    /// It was dealt with.
    Done,
}

/// Something for whoever logs in.
#[derive(Debug)]
#[expect(clippy::exhaustive_enums, reason = "the hub's own")]
pub enum LoginEvent {
    /// The user is in.
    In,
    /// Not yet.
    Refused(Vec<String>, bool),
    /// A round of questions.
    Prompts(Prompts),
    /// The password has expired.
    Expired(PasswordChange),
    /// A signature is wanted.
    Sign(SignatureRequest),
}

impl HubRole for ClientRole {
    fn sort(event: ClientEvent, side: &Side, conn: &mut Client) -> Sorted {
        match event {
            ClientEvent::HostKeyOffered(offer) => {
                _ = conn.accept_host_key(offer);
                Sorted::Done
            }
            ClientEvent::Banner(text) => {
                side.banner(&text);
                Sorted::Done
            }
            ClientEvent::AuthenticationRefused {
                methods,
                partial_success,
            } => Sorted::Login(LoginEvent::Refused(methods, partial_success)),
            ClientEvent::PromptsReceived(prompts) => Sorted::Login(LoginEvent::Prompts(prompts)),
            ClientEvent::PasswordChangeRequested(change) => {
                Sorted::Login(LoginEvent::Expired(change))
            }
            ClientEvent::SignatureNeeded(request) => Sorted::Login(LoginEvent::Sign(request)),
            ClientEvent::Authenticated => Sorted::Login(LoginEvent::In),
            ClientEvent::Channel(id) => Sorted::Channel(id),
            ClientEvent::OpenRequested(request) => Sorted::Opening(request),
            ClientEvent::GlobalRequested(request) => Sorted::Asked(request),
            ClientEvent::GlobalReplied { request, reply } => Sorted::Replied(request, reply),
            ClientEvent::PongReceived(_) => Sorted::Pong,
            ClientEvent::Rekeyed => Sorted::Rekeyed,
            ClientEvent::Disconnected(error) => Sorted::Over(error),
            _ => Sorted::Done,
        }
    }

    fn ask(
        channel: &mut Channel<'_, Self>,
        request: &ChannelRequest,
    ) -> Option<Result<Option<RequestId>, Misuse>> {
        Some(match request {
            ChannelRequest::Pty(pty) => channel.pty(pty).map(Some),
            ChannelRequest::Env { name, value } => channel.env(name, value).map(Some),
            ChannelRequest::Shell => channel.start(Program::Shell).map(Some),
            ChannelRequest::Exec(command) => channel.start(Program::Exec(command)).map(Some),
            ChannelRequest::Subsystem(name) => channel.start(Program::Subsystem(name)).map(Some),
            ChannelRequest::WindowChange(size) => channel.resize(*size).map(|()| None),
            ChannelRequest::Signal(signal) => channel.signal(signal).map(|()| None),
            ChannelRequest::Break { ms } => channel.send_break(*ms).map(Some),
            _ => return None,
        })
    }

    fn exit(_: &mut Channel<'_, Self>, _: &Exit) {}

    fn pty(channel: &mut Channel<'_, Self>, pty: &PtyRequest) -> Result<RequestId, Misuse> {
        channel.pty(pty)
    }

    fn env(channel: &mut Channel<'_, Self>, name: &str, value: &str) -> Result<RequestId, Misuse> {
        channel.env(name.as_bytes(), value.as_bytes())
    }

    fn start(channel: &mut Channel<'_, Self>, run: Program<'_>) -> Result<RequestId, Misuse> {
        channel.start(run)
    }

    fn accept_forward(_: &mut Client, _: GlobalRequestToken, _: u16) {}

    fn request_forward(
        conn: &mut Client,
        address: ForwardAddress,
        now: Instant,
    ) -> Result<RequestId, Misuse> {
        conn.request_forward(address, now)
    }

    fn forward(conn: &Client, forward: RequestId) -> Option<ForwardAddress> {
        conn.forward(forward).cloned()
    }

    fn cancel_forward(
        conn: &mut Client,
        forward: RequestId,
        now: Instant,
    ) -> Result<RequestId, Misuse> {
        conn.cancel_forward(forward, now)
    }

    fn no_more_sessions(conn: &mut Client, now: Instant) -> Result<(), Misuse> {
        conn.no_more_sessions(now)
    }

    fn log_in(desk: &Arc<Desk<Self>>, login: Login) -> BoxFuture<'_, Outcome<(bool, String)>> {
        Box::pin(log_in(desk, login))
    }
}

/// Who tries, and how.
fn attempt(login: Login) -> (&'static str, Credential) {
    match login {
        Login::None(user) => (user, Credential::None),
        Login::Password(user, password) | Login::Change(user, password, _) => {
            (user, Credential::password(password))
        }
        Login::Key(user) => (user, Credential::public_key(user_key())),
        Login::External(user) => (user, Credential::external(user_key().public().clone())),
        Login::Answers(user, _) => (user, Credential::keyboard_interactive()),
    }
}

async fn log_in(desk: &Arc<Desk<ClientRole>>, login: Login) -> Outcome<(bool, String)> {
    let (user, credential) = attempt(login);
    let started = desk.until(move |conn, state, now| {
        Some(match conn.authenticate(user, credential.clone(), now) {
            Err(Misuse::Blocked) => return None,
            Err(misuse) => Err(state.over().unwrap_or(Failure::Misuse(misuse))),
            Ok(()) => Ok(()),
        })
    });
    started.await?;
    let mut rounds = match login {
        Login::Answers(_, rounds) => rounds,
        _ => &[],
    };
    let mut words = String::new();
    loop {
        let next = desk.until(|_, state, _| match state.logins.pop_front() {
            Some(event) => Some(Ok(event)),
            None => state.over().map(Err),
        });
        match next.await? {
            LoginEvent::In => return Ok((true, words + told::IN)),
            LoginEvent::Refused(methods, partial) => {
                return Ok((false, words + &told::refused(&methods, partial)));
            }
            LoginEvent::Prompts(prompts) => {
                words += &told::asked(&prompts);
                let Some((answers, rest)) = rounds.split_first() else {
                    return Ok((false, words + "no answer"));
                };
                rounds = rest;
                let answers: Vec<Secret> = answers.iter().map(|answer| (*answer).into()).collect();
                desk.post(move |conn, _, _| _ = conn.answer(prompts, &answers));
            }
            LoginEvent::Expired(request) => {
                let Login::Change(_, old, new) = login else {
                    return Ok((false, words + &told::expired(request.prompt())));
                };
                words += &told::change(request.prompt());
                desk.post(move |conn, _, _| {
                    _ = conn.change_password(request, old.into(), new.into());
                });
            }
            LoginEvent::Sign(request) => desk.post(move |conn, _, _| {
                let signature = sign(&request);
                _ = conn.supply_signature(request, Some(&signature));
            }),
        }
    }
}

impl HubRole for ServerRole {
    fn sort(event: ServerEvent, side: &Side, conn: &mut Server) -> Sorted {
        match event {
            ServerEvent::KeyOffered(offer) => {
                _ = if side.key_offered(offer.user(), offer.key()) {
                    conn.accept_key(offer)
                } else {
                    conn.refuse_key(offer)
                };
                Sorted::Done
            }
            ServerEvent::LoginAttempted(attempt) => {
                _ = match side.judge(&attempt) {
                    Judgement::Accept => conn.grant(attempt),
                    Judgement::Refuse => conn.refuse(attempt),
                    Judgement::Partial(methods) => conn.partial(attempt, &methods),
                    Judgement::Prompt(round) => conn.prompt(attempt, &round),
                    Judgement::Expired(text) => conn.require_password_change(attempt, text),
                };
                Sorted::Done
            }
            ServerEvent::Authenticated { user } => {
                side.authenticated(&user);
                Sorted::Done
            }
            ServerEvent::Channel(id) => Sorted::Channel(id),
            ServerEvent::OpenRequested(request) => Sorted::Opening(request),
            ServerEvent::GlobalRequested(request) => Sorted::Asked(request),
            ServerEvent::GlobalReplied { request, reply } => Sorted::Replied(request, reply),
            ServerEvent::PongReceived(_) => Sorted::Pong,
            ServerEvent::Rekeyed => Sorted::Rekeyed,
            ServerEvent::Disconnected(error) => Sorted::Over(error),
            _ => Sorted::Done,
        }
    }

    fn ask(
        _: &mut Channel<'_, Self>,
        _: &ChannelRequest,
    ) -> Option<Result<Option<RequestId>, Misuse>> {
        None
    }

    fn exit(channel: &mut Channel<'_, Self>, exit: &Exit) {
        // It fails when the channel is closed already.
        _ = match exit {
            Exit::Code(status) => channel.send_exit_status(*status),
            Exit::Signal(signal) => channel.send_exit_signal(signal),
            Exit::Missing => Ok(()),
        };
    }

    fn pty(_: &mut Channel<'_, Self>, _: &PtyRequest) -> Result<RequestId, Misuse> {
        CLIENTS_ONLY
    }

    fn env(_: &mut Channel<'_, Self>, _: &str, _: &str) -> Result<RequestId, Misuse> {
        CLIENTS_ONLY
    }

    fn start(_: &mut Channel<'_, Self>, _: Program<'_>) -> Result<RequestId, Misuse> {
        CLIENTS_ONLY
    }

    fn accept_forward(conn: &mut Server, token: GlobalRequestToken, port: u16) {
        // It fails when the connection has ended.
        _ = conn.accept_forward(token, port);
    }

    fn request_forward(_: &mut Server, _: ForwardAddress, _: Instant) -> Result<RequestId, Misuse> {
        CLIENTS_ONLY
    }

    fn forward(_: &Server, _: RequestId) -> Option<ForwardAddress> {
        None
    }

    fn cancel_forward(_: &mut Server, _: RequestId, _: Instant) -> Result<RequestId, Misuse> {
        CLIENTS_ONLY
    }

    fn no_more_sessions(_: &mut Server, _: Instant) -> Result<(), Misuse> {
        Err(Misuse::Argument("clients only"))
    }

    fn log_in(_: &Arc<Desk<Self>>, _: Login) -> BoxFuture<'_, Outcome<(bool, String)>> {
        Box::pin(std::future::ready(Err(Failure::Other(
            "clients only".into(),
        ))))
    }
}

const CLIENTS_ONLY: Result<RequestId, Misuse> = Err(Misuse::Argument("clients only"));
