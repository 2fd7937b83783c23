//! The application of the connection under test, in both roles.

use std::time::Instant;

use ssh_proto::{
    Answer, ChannelEvent, ChannelId, ClientEvent, ClientRole, Connection, Credential, LoginAttempt,
    Prompts, Role, Secret, ServerEvent, ServerRole, Stream,
};

/// What an application does.
#[derive(Debug)]
pub struct Manners {
    /// It lets users in, and otherwise refuses them.
    pub grants: bool,
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
    /// Of a client.
    Prompts(Prompts),
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            grants: true,
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
            ClientEvent::AuthenticationRefused { .. } if manners.answers => {
                conn.authenticate("alice", Credential::keyboard_interactive(), now)
                    .expect("the next attempt");
            }
            ClientEvent::PromptsReceived(prompts) if manners.answers => {
                let answers = vec![Secret::from("answer"); prompts.prompts().len()];
                conn.answer(prompts, &answers).expect("an open question");
            }
            ClientEvent::PromptsReceived(prompts) => manners.held = Some(Held::Prompts(prompts)),
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
}

impl Victim for ServerRole {
    const IS_CLIENT: bool = false;

    fn begin(_: &mut Connection<Self>, _: Instant) {}

    fn event(conn: &mut Connection<Self>, event: ServerEvent, manners: &mut Manners, _: Instant) {
        manners.events += 1;
        match event {
            ServerEvent::KeyOffered(offer) => conn.accept_key(offer).expect("an open question"),
            ServerEvent::LoginAttempted(attempt) => {
                if !manners.answers {
                    manners.held = Some(Held::Attempt(attempt));
                } else if manners.grants {
                    conn.grant(attempt).expect("an open question");
                } else {
                    conn.refuse(attempt).expect("an open question");
                }
            }
            ServerEvent::Channel(id) => manners.channel(conn, id),
            ServerEvent::OpenRequested(request) if manners.accepts => {
                let id = conn.accept_open(request, b"").expect("an open question");
                manners.channels.push(id);
            }
            ServerEvent::GlobalRequested(request) => {
                if let Some(token) = request.token {
                    conn.answer_global(token, Answer::Accept(&[]))
                        .expect("an open question");
                }
            }
            _ => {}
        }
    }
}

impl Manners {
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
