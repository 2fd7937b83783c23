//! The application of the connection under test, in both roles.

use std::time::Instant;

use ssh_proto::{
    Answer, AuthMethod, ChannelEvent, ChannelId, ClientEvent, ClientRole, Connection, Credential,
    KeyOffer, LoginAttempt, PasswordChange, PromptRound, Prompts, Proof, Role, Secret, ServerEvent,
    ServerRole, Stream,
};

/// What follows a partial success.
const NEXT: [AuthMethod; 3] = [
    AuthMethod::Password,
    AuthMethod::PublicKey,
    AuthMethod::KeyboardInteractive,
];

/// What a server's application says of an attempt to log in. Where nothing is proven yet it puts its round of prompts first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The user is let in.
    Grant,
    /// The user is not, and not prompted either.
    Refuse,
    /// Another method must follow.
    Partial,
    /// Answers are not enough: the same round again. Other methods are refused.
    Prompt,
    /// The password has expired, and so has the one that comes instead. Other methods are refused.
    ChangePassword,
}

/// What an application does.
#[derive(Debug)]
pub struct Manners {
    /// What a server says of attempts.
    pub verdict: Verdict,
    /// What a server asks those who want to be asked.
    pub round: PromptRound,
    /// What a client shows after a refusal.
    pub next: Credential,
    /// It answers the questions of a login.
    pub answers: bool,
    /// It reads data of channels.
    pub reads: bool,
    /// It takes channels that the peer asks for.
    pub accepts: bool,
    /// Its channels.
    pub channels: Vec<ChannelId>,
    /// How many events there were.
    pub events: u64,
    /// A question that it holds back.
    pub held: Option<Held>,
}

/// A question of a login that was not answered.
#[derive(Debug)]
pub enum Held {
    /// Of a server.
    Attempt(LoginAttempt),
    /// Of a server.
    Key(KeyOffer),
    /// Of a client.
    Prompts(Prompts),
    /// Of a client.
    PasswordChange(PasswordChange),
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            verdict: Verdict::Grant,
            round: PromptRound::new("", "").with_prompt("p", false),
            next: Credential::keyboard_interactive(),
            answers: true,
            reads: true,
            accepts: true,
            channels: Vec::with_capacity(64),
            events: 0,
            held: None,
        }
    }
}

/// A role under test.
pub trait Victim: Role {
    /// Whether it is the client; then the peer is the server.
    const IS_CLIENT: bool;
    /// What the application does at once.
    fn begin(conn: &mut Connection<Self>, now: Instant);
    /// What it does when something happens.
    fn event(conn: &mut Connection<Self>, event: Self::Event, manners: &mut Manners, now: Instant);
    /// What it answers to a question of a login.
    fn answer(conn: &mut Connection<Self>, question: Held, manners: &Manners);
}

impl Victim for ClientRole {
    const IS_CLIENT: bool = true;

    fn begin(conn: &mut Connection<Self>, now: Instant) {
        conn.authenticate("alice", Credential::password("secret"), now)
            .expect("the first attempt");
    }

    fn event(conn: &mut Connection<Self>, event: ClientEvent, manners: &mut Manners, now: Instant) {
        manners.events += 1;
        match event {
            ClientEvent::HostKeyOffered(offer) => {
                conn.accept_host_key(offer).expect("an open question");
            }
            ClientEvent::AuthenticationRefused { .. }
                if manners.answers && conn.closed().is_none() =>
            {
                conn.authenticate("alice", manners.next.clone(), now)
                    .expect("the next attempt");
            }
            ClientEvent::PromptsReceived(prompts) => {
                manners.asked(conn, Held::Prompts(prompts));
            }
            ClientEvent::PasswordChangeRequested(request) => {
                manners.asked(conn, Held::PasswordChange(request));
            }
            ClientEvent::Channel(id) => manners.channel(conn, id),
            ClientEvent::OpenRequested(request) if manners.accepts => {
                let id = conn.accept_open(request, b"").expect("an open question");
                manners.channels.push(id);
            }
            ClientEvent::GlobalRequested(request) => {
                if let Some(token) = request.token {
                    conn.answer_global(token, Answer::Accept(&[]))
                        .expect("an open question");
                }
            }
            _ => {}
        }
    }

    fn answer(conn: &mut Connection<Self>, question: Held, _: &Manners) {
        let answered = match question {
            Held::Prompts(prompts) => {
                let answers = vec![Secret::from("answer"); prompts.prompts().len()];
                conn.answer(prompts, &answers)
            }
            Held::PasswordChange(request) => {
                conn.change_password(request, Secret::from("secret"), Secret::from("another"))
            }
            Held::Attempt(_) | Held::Key(_) => unreachable!("a server's question"),
        };
        answered.expect("an open question");
    }
}

impl Victim for ServerRole {
    const IS_CLIENT: bool = false;

    fn begin(_: &mut Connection<Self>, _: Instant) {}

    fn event(conn: &mut Connection<Self>, event: ServerEvent, manners: &mut Manners, _: Instant) {
        manners.events += 1;
        match event {
            ServerEvent::KeyOffered(offer) => manners.asked(conn, Held::Key(offer)),
            ServerEvent::LoginAttempted(attempt) => manners.asked(conn, Held::Attempt(attempt)),
            ServerEvent::Channel(id) => manners.channel(conn, id),
            ServerEvent::OpenRequested(request) if manners.accepts => {
                let id = conn.accept_open(request, b"").expect("an open question");
                manners.channels.push(id);
            }
            ServerEvent::GlobalRequested(request) => {
                if let Some(token) = request.token {
                    conn.accept_forward(token, 4_022).expect("an open question");
                }
            }
            _ => {}
        }
    }

    fn answer(conn: &mut Connection<Self>, question: Held, manners: &Manners) {
        let answered = match question {
            Held::Key(offer) => conn.accept_key(offer),
            Held::Attempt(attempt) => match (manners.verdict, attempt.proof()) {
                (Verdict::Refuse, _) => conn.refuse(attempt),
                (_, Proof::KeyboardInteractive { .. }) | (Verdict::Prompt, Proof::Answers(_)) => {
                    conn.prompt(attempt, &manners.round)
                }
                (Verdict::ChangePassword, Proof::Password(_) | Proof::PasswordChange { .. }) => {
                    conn.require_password_change(attempt, "another")
                }
                (Verdict::Grant, _) => conn.grant(attempt),
                (Verdict::Partial, _) => conn.partial(attempt, &NEXT),
                (Verdict::Prompt | Verdict::ChangePassword, _) => conn.refuse(attempt),
            },
            Held::Prompts(_) | Held::PasswordChange(_) => unreachable!("a client's question"),
        };
        answered.expect("an open question");
    }
}

impl Manners {
    fn asked<R: Victim>(&mut self, conn: &mut Connection<R>, question: Held) {
        if !self.answers {
            self.held = Some(question);
        } else if conn.closed().is_none() {
            R::answer(conn, question, self);
        }
    }

    fn channel<R: Role>(&mut self, conn: &mut Connection<R>, id: ChannelId) {
        while let Some(mut channel) = conn.channel(id) {
            let Some(event) = channel.poll_event() else {
                break;
            };
            match event {
                ChannelEvent::Data(stream) if self.reads => {
                    while !channel.chunk(stream).is_empty() {
                        let len = channel.chunk(stream).len();
                        channel.consume(stream, len);
                    }
                }
                ChannelEvent::Requested {
                    token: Some(token), ..
                } => {
                    channel.reply(token, true).expect("an open question");
                }
                ChannelEvent::Closed => {
                    channel.release();
                    self.channels.retain(|channel| *channel != id);
                }
                _ => {}
            }
        }
        if self.reads
            && let Some(mut channel) = conn.channel(id)
        {
            for stream in [Stream::DATA, Stream::STDERR] {
                while !channel.chunk(stream).is_empty() {
                    let len = channel.chunk(stream).len();
                    channel.consume(stream, len);
                }
            }
        }
    }
}
