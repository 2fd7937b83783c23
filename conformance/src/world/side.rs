//! One side of a world: a connection, and an application that does what is drawn.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Instant;

use ssh_proto::error::DisconnectReason;
use ssh_proto::key::{KeyKind, PrivateKey};
use ssh_proto::{
    Answer, AuthMethod, ChannelEvent, ChannelId, ChannelRequest, ClientEvent, ClientRole,
    Connection, Credential, Error, GlobalRequestKind, GlobalRequestReceived, OpenChannel,
    OpenFailureReason, OpenKind, OpenRequest, Program, PromptRound, Proof, RequestId, RequestToken,
    Role, Secret, ServerEvent, ServerRole, SignatureRequest, Stream,
};

use crate::pair::user_key;

use super::Sided;
use super::model::{Key, Model, Who};
use super::random::Random;

/// The kind of channels that both sides open.
pub(super) const KIND: &str = "world@example.com";
/// The requests that both sides make.
pub(super) const REQUEST: &str = "request@example.com";
/// What a client attempts, as far as the server has not said that something else must follow.
const METHODS: [&str; 6] = [
    "none",
    "password",
    "publickey",
    "publickey",
    "publickey",
    "keyboard-interactive",
];
/// How many channels a side opens at the most.
const CHANNELS: u32 = 10;
/// Output that waits never gets longer than this: replies have the last of it.
const OUTPUT: usize = 512 * 1024;

/// A connection and what is behind it.
pub(super) struct Side<R: Role> {
    pub(super) conn: Connection<R>,
    channels: BTreeMap<ChannelId, Mine>,
    asked: u32,
    /// Questions that are not answered yet.
    questions: Vec<R::Event>,
    tokens: Vec<(ChannelId, RequestToken, bool)>,
    requests: VecDeque<(RequestId, Vec<u8>)>,
    pub(super) authenticated: bool,
    attempting: bool,
    /// What the server said could go on. Attempts with anything else count as failures.
    methods: Option<Vec<String>>,
    refusals: u32,
    /// Channels whose reader sleeps.
    sleepy: u64,
    kind: bool,
    /// It may end the connection, as may what it asks for.
    mortal: bool,
    /// It has ended the connection by itself, and how.
    ended: Option<Error>,
    pub(super) over: Option<Error>,
    /// What the peer may have sent and not seen read, at the most: of a channel, and of all.
    window_budget: u32,
}

#[derive(Debug, Default)]
struct Mine {
    /// A server learns it from the command of a session.
    key: Option<Key>,
    /// A command that leaves a status.
    session: bool,
    exited: bool,
    /// The largest receive window that it had: credit is not taken back.
    window: u64,
    opened: bool,
    eof: bool,
    close: bool,
    closed: bool,
    peer_eof: bool,
    requests: VecDeque<(RequestId, bool)>,
    asleep: bool,
}

impl<R: Sided> Side<R>
where
    Self: Application<Event = R::Event>,
{
    pub(super) fn new(
        conn: Connection<R>,
        window_budget: u32,
        mortal: bool,
        random: &mut Random,
    ) -> Self {
        Self {
            conn,
            channels: BTreeMap::new(),
            asked: 0,
            questions: Vec::new(),
            tokens: Vec::new(),
            requests: VecDeque::new(),
            authenticated: false,
            attempting: false,
            methods: None,
            refusals: 0,
            sleepy: [2, 5, 1_000][random.below(3)],
            kind: false,
            mortal,
            ended: None,
            over: None,
            window_budget,
        }
    }

    /// From now on it reads what comes, answers what is asked, and brings everything to an end.
    pub(super) fn be_kind(&mut self) {
        self.kind = true;
        self.channels
            .values_mut()
            .for_each(|mine| mine.asleep = false);
    }

    pub(super) const fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// Whether the end that it has come to is one that something in this world explains.
    pub(super) fn is_explained(&self, cut: bool, other: Option<&Error>) -> bool {
        match (&self.over, &self.ended) {
            (None, _) => true,
            (over, Some(ended)) => over.as_ref() == Some(ended),
            // The stream ends where it is cut, and where the other side is gone.
            (Some(Error::UnexpectedEof(_)), None) => cut || other.is_some(),
            (Some(Error::Disconnected(said)), None) => {
                other.and_then(Error::disconnect_reason) == Some(said.reason)
            }
            (Some(_), None) => false,
        }
    }

    /// Nothing is left to do.
    pub(super) fn is_done(&self) -> bool {
        self.is_over()
            || (self.authenticated
                && self.channels.is_empty()
                && self.questions.is_empty()
                && self.tokens.is_empty()
                && self.requests.is_empty())
    }

    pub(super) fn check(&mut self, model: &Model) {
        assert!(
            !matches!(self.conn.closed(), Some(Error::Bug(_))),
            "{:?}\n{model}",
            self.conn.closed()
        );
        assert!(
            self.conn.output().len() < OUTPUT,
            "{} bytes of output",
            self.conn.output().len()
        );
        assert!(
            !self.is_over() || self.conn.poll_event().is_none(),
            "an event after the last"
        );
        while self.conn.poll_log().is_some() {}
        self.check_windows(model);
    }

    /// What the peer was granted and what is unread stay within the windows, whatever was changed meanwhile.
    fn check_windows(&mut self, model: &Model) {
        let mut all = 0;
        for (id, mine) in &mut self.channels {
            let Some(channel) = self.conn.channel(*id) else {
                continue;
            };
            mine.window = mine.window.max(channel.receive_window().into());
            let unread = (channel.readable(Stream::DATA) + channel.readable(Stream::STDERR)) as u64;
            let owed = u64::from(channel.receive_credit()) + unread;
            assert!(
                owed <= mine.window,
                "{owed} granted and unread, {mine:?}\n{model}"
            );
            if let Some(key) = mine.key {
                let under_way = model.unread_by(key, R::WHO);
                assert!(
                    under_way <= mine.window,
                    "{under_way} on their way, {mine:?}\n{model}"
                );
            }
            all += owed;
        }
        assert!(
            all <= u64::from(self.window_budget),
            "{all} granted and unread in all\n{model}"
        );
    }

    /// Whatever is to be done now is done: what is left has a time.
    pub(super) fn settle(&mut self, now: Instant) -> Option<Instant> {
        self.conn.handle_timeout(now);
        self.conn.poll_timeout()
    }

    /// Before the time that was asked for nothing happens.
    pub(super) fn sleeps_until(&mut self, now: Instant) {
        let before = (self.conn.output().len(), self.conn.poll_timeout());
        self.conn.handle_timeout(now);
        let after = (self.conn.output().len(), self.conn.poll_timeout());
        assert_eq!(before, after, "something was done too early");
        assert!(self.conn.poll_event().is_none(), "an event too early");
    }

    /// Whether to end the connection, if that is still to be done, with `error`.
    fn ends(&mut self, odds: u64, error: Error, random: &mut Random) -> bool {
        let ends = self.mortal && !self.kind && self.conn.closed().is_none() && random.one_in(odds);
        if ends {
            self.ended = Some(error);
        }
        ends
    }

    /// The command of a session ends: its server says so before it closes.
    fn exit(&mut self, id: ChannelId, key: Key, model: &mut Model) -> bool {
        let status = key.1 + 1;
        let due = self
            .channels
            .get(&id)
            .is_some_and(|mine| mine.session && !mine.exited && !mine.close);
        let done = due && self.send_exit_status(id, status);
        if done {
            model.said_exit(key, status);
            if let Some(mine) = self.channels.get_mut(&id) {
                mine.exited = true;
            }
        }
        done
    }

    /// Handles what happened; says whether anything did.
    pub(super) fn react(&mut self, model: &mut Model, random: &mut Random, now: Instant) -> bool {
        let mut moved = self.take_events(model, random);
        for i in (0..self.questions.len()).rev() {
            if self.kind || random.one_in(3) {
                let question = self.questions.swap_remove(i);
                self.answer(question, model, random, now);
                moved = true;
            }
        }
        for i in (0..self.tokens.len()).rev() {
            if self.kind || random.one_in(3) {
                let (id, token, accept) = self.tokens.swap_remove(i);
                if let Some(mut channel) = self.conn.channel(id) {
                    // It fails when the channel was closed in the meantime.
                    _ = channel.reply(token, accept);
                }
                moved = true;
            }
        }
        // An answer may be what earlier input waited for: nothing that came of it may leave before it was seen.
        self.take_events(model, random) | moved
    }

    fn take_events(&mut self, model: &mut Model, random: &mut Random) -> bool {
        let mut moved = false;
        while let Some(event) = self.conn.poll_event() {
            assert!(!self.is_over(), "an event after the last");
            moved = true;
            self.event(event, model, random);
        }
        moved
    }

    pub(super) fn end(&mut self, error: &Error) {
        self.over = Some(error.clone());
        self.questions.clear();
        self.tokens.clear();
    }

    pub(super) fn channel_events(&mut self, id: ChannelId, model: &mut Model, random: &mut Random) {
        while let Some(mut channel) = self.conn.channel(id) {
            let Some(event) = channel.poll_event() else {
                break;
            };
            let alive = self.conn.closed().is_none();
            let Some(mine) = self.channels.get_mut(&id) else {
                panic!("an event of a channel that is gone: {event:?}");
            };
            assert!(!mine.closed, "{event:?} after Closed");
            match event {
                ChannelEvent::Opened { .. } => {
                    assert!(!mine.opened, "opened twice");
                    mine.opened = true;
                    model.opened(mine.key.expect("its opener knows it"));
                }
                ChannelEvent::OpenFailed { .. } => {
                    assert!(!mine.opened, "refused after it was opened");
                    self.channels.remove(&id);
                    return;
                }
                ChannelEvent::Requested { request, token } => {
                    let accept = match request {
                        ChannelRequest::Exec(command) => {
                            assert!(mine.session, "a command in no session");
                            let number: u32 =
                                String::from_utf8_lossy(&command).parse().expect("a number");
                            mine.key = Some((Who::Client, number));
                            true
                        }
                        ChannelRequest::Custom { data, .. } => {
                            data.first().is_none_or(|byte| byte % 2 == 0)
                        }
                        other => panic!("{other:?}"),
                    };
                    if let Some(token) = token {
                        self.tokens.push((id, token, accept));
                    }
                }
                ChannelEvent::Replied { request, accepted } => {
                    let (expected, may_accept) =
                        mine.requests.pop_front().expect("a reply to nothing");
                    assert_eq!(request, expected, "replies out of order");
                    assert!(may_accept || !accepted, "a refused request was accepted");
                }
                ChannelEvent::Eof => {
                    assert!(!mine.peer_eof, "two EOFs");
                    mine.peer_eof = true;
                    if let Some(key) = mine.key {
                        model.heard_eof(key, R::WHO);
                    }
                }
                ChannelEvent::Closed => {
                    mine.closed = true;
                    if let (Some(key), true) = (mine.key, alive) {
                        if !mine.close {
                            // The library answers CLOSE with CLOSE.
                            mine.close = true;
                            model.said_close(key, R::WHO);
                        }
                        model.heard_close(key, R::WHO);
                    }
                }
                ChannelEvent::ExitStatus(status) => {
                    model.heard_exit(mine.key.expect("its opener knows it"), status);
                    mine.exited = true;
                }
                ChannelEvent::Data(_) | ChannelEvent::Writable => {}
                other => panic!("{other:?}"),
            }
        }
        if let Some(mine) = self.channels.get_mut(&id) {
            mine.asleep = !self.kind && random.one_in(self.sleepy);
        }
    }

    pub(super) fn answer_open(
        &mut self,
        request: OpenRequest,
        model: &mut Model,
        random: &mut Random,
    ) {
        let key = match request.kind() {
            OpenKind::Session => None,
            OpenKind::Custom { data, .. } => {
                let number = data.as_slice().try_into().expect("a number");
                Some((R::WHO.other(), u32::from_be_bytes(number)))
            }
            other => panic!("{other:?}"),
        };
        if !self.kind && random.one_in(8) {
            _ = self
                .conn
                .refuse_open(request, OpenFailureReason::RESOURCE_SHORTAGE, "not now");
            return;
        }
        if let Ok(id) = self.conn.accept_open(request, b"") {
            let mine = Mine {
                key,
                session: key.is_none(),
                opened: true,
                ..Mine::default()
            };
            assert!(self.channels.insert(id, mine).is_none(), "an id twice");
            self.channel_events(id, model, random);
        }
    }

    pub(super) fn answer_global(&mut self, request: GlobalRequestReceived) {
        let GlobalRequestKind::Custom { data, .. } = request.kind else {
            panic!("{:?}", request.kind);
        };
        if let Some(token) = request.token {
            let accept = data.first().is_none_or(|byte| byte % 2 == 0);
            let answer = if accept {
                Answer::Accept(&data)
            } else {
                Answer::Refuse
            };
            _ = self.conn.answer_global(token, answer);
        }
    }

    pub(super) fn global_replied(&mut self, request: RequestId, reply: Option<&[u8]>) {
        let (expected, data) = self.requests.pop_front().expect("a reply to nothing");
        assert_eq!(request, expected, "global replies out of order");
        if let Some(reply) = reply {
            assert_eq!(reply, data, "the reply to another request");
        }
    }

    /// Does something unasked.
    pub(super) fn act(&mut self, model: &mut Model, random: &mut Random, now: Instant) {
        if self.is_over() {
            return;
        }
        if !self.authenticated {
            self.log_in(random, now);
        }
        if self.ends(300, Error::LocallyClosed, random) {
            let reason = DisconnectReason::BY_APPLICATION;
            return self.conn.disconnect(reason, "enough", now);
        }
        match random.below(40) {
            0..=3 => self.open(model, random, now),
            4 => _ = self.conn.rekey(now),
            5 => _ = self.conn.ignore(random.len(3_000)),
            6 => _ = self.conn.ping(b"world", now),
            7 | 8 => {
                let data: Vec<u8> = (0..random.below(20))
                    .map(|_| random.below(256) as u8)
                    .collect();
                if let Ok(request) = self.conn.global_request(REQUEST, &data, true, now) {
                    self.requests.push_back((request, data));
                }
            }
            _ => self.use_channel(model, random),
        }
    }

    fn open(&mut self, model: &mut Model, random: &mut Random, now: Instant) {
        if self.asked >= CHANNELS {
            return;
        }
        let number = self.asked;
        let session = R::WHO == Who::Client && random.one_in(2);
        let data = number.to_be_bytes();
        let kind = if session {
            OpenChannel::Session
        } else {
            OpenChannel::Custom {
                kind: KIND,
                data: &data,
            }
        };
        let Ok(id) = self.conn.open(kind, now) else {
            return;
        };
        self.asked += 1;
        let key = (R::WHO, number);
        model.asked_for(key, session);
        let mut mine = Mine {
            key: Some(key),
            session,
            ..Mine::default()
        };
        if session {
            mine.requests.extend(self.start(id, number));
        }
        assert!(self.channels.insert(id, mine).is_none(), "an id twice");
    }

    /// A channel that is open, and known to the model.
    fn pick(&self, random: &mut Random) -> Option<(ChannelId, Key)> {
        let known: Vec<_> = self
            .channels
            .iter()
            .filter(|(_, mine)| mine.opened)
            .filter_map(|(id, mine)| Some((*id, mine.key?)))
            .collect();
        (!known.is_empty()).then(|| known[random.below(known.len())])
    }

    fn use_channel(&mut self, model: &mut Model, random: &mut Random) {
        let Some((id, key)) = self.pick(random) else {
            return;
        };
        let (Some(mine), Some(mut channel)) = (self.channels.get_mut(&id), self.conn.channel(id))
        else {
            panic!("a channel that was not released is gone");
        };
        match random.below(60) {
            0 => {
                channel.eof();
                mine.eof = true;
                model.said_eof(key, R::WHO);
            }
            1 => {
                channel.close();
                mine.close = true;
                model.said_close(key, R::WHO);
            }
            2 if random.one_in(3) => {
                channel.release();
                model.said_close(key, R::WHO);
                self.channels.remove(&id);
            }
            3..=6 => {
                let data: Vec<u8> = (0..random.below(20))
                    .map(|_| random.below(256) as u8)
                    .collect();
                let may_accept = data.first().is_none_or(|byte| byte % 2 == 0);
                if let Ok(request) = channel.request(REQUEST, &data, true) {
                    mine.requests.push_back((request, may_accept));
                }
            }
            7 => channel.set_receive_window(random.up_to(1 << 20) as u32),
            8 => mine.asleep = false,
            9 => _ = self.exit(id, key, model),
            _ => {
                let stream = random.below(5) / 4;
                let data = model.next_bytes(key, R::WHO, stream, random.len(120_000));
                let split = random.below(data.len() + 1);
                let parts = [&data[..split], &data[split..]];
                if let Ok(len) = channel.write_parts(Stream(stream as u32), &parts) {
                    model.wrote(key, R::WHO, stream, len);
                }
            }
        }
    }

    /// Reads something somewhere.
    pub(super) fn read(&mut self, model: &mut Model, random: &mut Random) {
        if let Some((id, key)) = self.pick(random)
            && !self.channels[&id].asleep
        {
            for stream in 0..2 {
                let most = random.len(1 << 20);
                self.read_stream(id, key, stream, most, random.below(3), model);
            }
        }
    }

    fn read_stream(
        &mut self,
        id: ChannelId,
        key: Key,
        stream: usize,
        most: usize,
        how: usize,
        model: &mut Model,
    ) -> bool {
        let Some(mut channel) = self.conn.channel(id) else {
            return false;
        };
        let of = Stream(stream as u32);
        let readable = channel.readable(of);
        let len = match how {
            0 => {
                let len = channel.chunk(of).len().min(most);
                model.read_by(key, R::WHO, stream, &channel.chunk(of)[..len]);
                channel.consume(of, len);
                len
            }
            1 => {
                let mut buf = vec![0; most.min(50_000)];
                let len = channel.read(of, &mut buf);
                model.read_by(key, R::WHO, stream, &buf[..len]);
                len
            }
            _ => {
                let Some(received) = channel.take(of) else {
                    assert_eq!(readable, 0, "nothing to take");
                    return false;
                };
                let bytes = received.to_vec();
                model.read_by(key, R::WHO, stream, &bytes);
                channel.recycle(received);
                bytes.len()
            }
        };
        assert_eq!(
            channel.readable(of),
            readable - len,
            "what was read is gone"
        );
        len > 0
    }

    /// Brings everything to its end.
    pub(super) fn finish(&mut self, model: &mut Model, random: &mut Random, now: Instant) -> bool {
        let mut moved = false;
        if self.is_over() {
            return false;
        }
        if !self.authenticated {
            moved |= self.log_in(random, now);
        }
        let ids: Vec<ChannelId> = self.channels.keys().copied().collect();
        for id in ids {
            let Some(key) = self.channels[&id].key else {
                continue;
            };
            for stream in 0..2 {
                while self.read_stream(id, key, stream, usize::MAX, 0, model) {
                    moved = true;
                }
            }
            moved |= self.exit(id, key, model);
            let (Some(mine), Some(mut channel)) =
                (self.channels.get_mut(&id), self.conn.channel(id))
            else {
                panic!("a channel that was not released is gone");
            };
            if mine.opened && !mine.eof && !mine.close {
                channel.eof();
                mine.eof = true;
                model.said_eof(key, R::WHO);
                moved = true;
            }
            if mine.peer_eof
                && !mine.close
                && (mine.exited || !mine.session)
                && mine.requests.is_empty()
                && model.all_read(key, R::WHO)
            {
                channel.close();
                mine.close = true;
                model.said_close(key, R::WHO);
                moved = true;
            }
            if mine.closed {
                channel.release();
                assert!(
                    self.conn.channel(id).is_none(),
                    "a released channel that is closed"
                );
                self.channels.remove(&id);
                moved = true;
            }
        }
        moved
    }

    pub(super) fn describe(&self) -> String {
        let mut text = format!(
            "authenticated: {}, attempting: {}, questions: {}, tokens: {}, requests: {}",
            self.authenticated,
            self.attempting,
            self.questions.len(),
            self.tokens.len(),
            self.requests.len()
        );
        for mine in self.channels.values() {
            _ = write!(text, "\n  {mine:?}");
        }
        text
    }
}

/// What only one of the roles does.
pub(super) trait Application: Sized {
    type Event;
    fn event(&mut self, event: Self::Event, model: &mut Model, random: &mut Random);
    fn answer(
        &mut self,
        question: Self::Event,
        model: &mut Model,
        random: &mut Random,
        now: Instant,
    );
    /// Attempts to get in; says whether anything was done.
    fn log_in(&mut self, random: &mut Random, now: Instant) -> bool;
    /// Starts the program of a session.
    fn start(&mut self, id: ChannelId, number: u32) -> Option<(RequestId, bool)>;
    /// Says how the program ended, if it can be said now.
    fn send_exit_status(&mut self, id: ChannelId, status: u32) -> bool;
}

impl Application for Side<ClientRole> {
    type Event = ClientEvent;

    fn event(&mut self, event: ClientEvent, model: &mut Model, random: &mut Random) {
        match event {
            ClientEvent::HostKeyOffered(_)
            | ClientEvent::PromptsReceived(_)
            | ClientEvent::PasswordChangeRequested(_)
            | ClientEvent::SignatureNeeded(_)
            | ClientEvent::OpenRequested(_)
            | ClientEvent::GlobalRequested(_) => self.questions.push(event),
            ClientEvent::Authenticated => {
                model.authenticated(Who::Client);
                assert!(!self.authenticated, "authenticated twice");
                self.authenticated = true;
            }
            ClientEvent::AuthenticationRefused { methods, .. } => {
                self.attempting = false;
                // None are known where its own signer failed before the server said any.
                if !methods.is_empty() {
                    self.methods = Some(methods);
                }
            }
            ClientEvent::Channel(id) => self.channel_events(id, model, random),
            ClientEvent::GlobalReplied { request, reply } => {
                self.global_replied(request, reply.as_deref())
            }
            ClientEvent::Disconnected(error) => self.end(&error),
            ClientEvent::Banner(_) | ClientEvent::PongReceived(_) | ClientEvent::Rekeyed => {}
            other => panic!("{other:?}"),
        }
    }

    fn answer(
        &mut self,
        question: ClientEvent,
        model: &mut Model,
        random: &mut Random,
        _: Instant,
    ) {
        match question {
            ClientEvent::HostKeyOffered(offer) => {
                let result = if self.ends(10, Error::HostKeyRejected, random) {
                    self.conn.reject_host_key(offer)
                } else {
                    self.conn.accept_host_key(offer)
                };
                result.expect("an open question");
            }
            ClientEvent::PromptsReceived(prompts) => {
                let answers = vec![Secret::from("answer"); prompts.prompts().len()];
                _ = self.conn.answer(prompts, &answers);
            }
            ClientEvent::PasswordChangeRequested(request) => {
                _ = self
                    .conn
                    .change_password(request, Secret::from("old"), Secret::from("new"));
            }
            ClientEvent::SignatureNeeded(request) => {
                // A signer that fails ends the attempt, and nothing else.
                let fails = !self.kind && random.one_in(3);
                let signature = (!fails).then(|| sign(&user_key(), &request));
                _ = self.conn.supply_signature(request, signature.as_deref());
            }
            ClientEvent::OpenRequested(request) => self.answer_open(request, model, random),
            ClientEvent::GlobalRequested(request) => self.answer_global(request),
            other => panic!("{other:?}"),
        }
    }

    fn log_in(&mut self, random: &mut Random, now: Instant) -> bool {
        if self.attempting {
            return false;
        }
        let known = self.methods.as_ref();
        let possible: Vec<&str> = METHODS
            .into_iter()
            .filter(|method| known.is_none_or(|known| known.iter().any(|known| known == method)))
            .collect();
        let credential = match random.pick(&possible) {
            "none" => Credential::None,
            "password" => Credential::password("secret"),
            "keyboard-interactive" => Credential::keyboard_interactive(),
            _ if random.one_in(3) => Credential::external(user_key().public().clone()),
            _ => Credential::public_key(user_key()),
        };
        self.attempting = self.conn.authenticate("somebody", credential, now).is_ok();
        self.attempting
    }

    fn start(&mut self, id: ChannelId, number: u32) -> Option<(RequestId, bool)> {
        let mut channel = self.conn.channel(id).expect("it was just opened");
        let command = number.to_string();
        let request = channel
            .start(Program::Exec(command.as_bytes()))
            .expect("the first program");
        Some((request, true))
    }

    fn send_exit_status(&mut self, _: ChannelId, _: u32) -> bool {
        false
    }
}

impl Application for Side<ServerRole> {
    type Event = ServerEvent;

    fn event(&mut self, event: ServerEvent, model: &mut Model, random: &mut Random) {
        match event {
            ServerEvent::SignatureNeeded(_)
            | ServerEvent::KeyOffered(_)
            | ServerEvent::LoginAttempted(_)
            | ServerEvent::OpenRequested(_)
            | ServerEvent::GlobalRequested(_) => {
                let early = matches!(
                    event,
                    ServerEvent::OpenRequested(_) | ServerEvent::GlobalRequested(_)
                );
                assert!(
                    !early || self.authenticated,
                    "{event:?} before the user is in"
                );
                self.questions.push(event);
            }
            ServerEvent::Authenticated { user } => {
                model.authenticated(Who::Server);
                assert_eq!(user, "somebody");
                assert!(!self.authenticated, "authenticated twice");
                self.authenticated = true;
            }
            ServerEvent::Channel(id) => self.channel_events(id, model, random),
            ServerEvent::GlobalReplied { request, reply } => {
                self.global_replied(request, reply.as_deref())
            }
            ServerEvent::Disconnected(error) => self.end(&error),
            ServerEvent::PongReceived(_) | ServerEvent::Rekeyed => {}
            other => panic!("{other:?}"),
        }
    }

    fn answer(
        &mut self,
        question: ServerEvent,
        model: &mut Model,
        random: &mut Random,
        _: Instant,
    ) {
        match question {
            ServerEvent::KeyOffered(offer) => {
                self.conn.accept_key(offer).expect("an open question")
            }
            ServerEvent::SignatureNeeded(request) => {
                let fails = self.ends(10, Error::SigningFailed, random);
                let signature = (!fails).then(|| sign(&world_key(), &request));
                self.conn
                    .supply_signature(request, signature.as_deref())
                    .expect("an open question");
            }
            ServerEvent::LoginAttempted(attempt) => {
                // Few enough that the limit on failures is not reached.
                if !self.kind && self.refusals < 3 && random.one_in(2) {
                    self.refusals += 1;
                    let result = match (random.below(3), attempt.proof()) {
                        (0, Proof::Password(_)) => self
                            .conn
                            .require_password_change(attempt, "another, please"),
                        (1, Proof::PublicKey(_)) => self
                            .conn
                            .partial(attempt, &[AuthMethod::Password, AuthMethod::PublicKey]),
                        _ => self.conn.refuse(attempt),
                    };
                    result.expect("an open question");
                } else if matches!(attempt.proof(), Proof::KeyboardInteractive { .. }) {
                    let round = PromptRound::new("", "").with_prompt("answer: ", false);
                    self.conn.prompt(attempt, &round).expect("an open question");
                } else {
                    model.granted();
                    self.conn.grant(attempt).expect("an open question");
                }
            }
            ServerEvent::OpenRequested(request) => self.answer_open(request, model, random),
            ServerEvent::GlobalRequested(request) => self.answer_global(request),
            other => panic!("{other:?}"),
        }
    }

    fn log_in(&mut self, _: &mut Random, _: Instant) -> bool {
        false
    }

    fn start(&mut self, _: ChannelId, _: u32) -> Option<(RequestId, bool)> {
        None
    }

    fn send_exit_status(&mut self, id: ChannelId, status: u32) -> bool {
        self.conn
            .channel(id)
            .is_some_and(|mut channel| channel.send_exit_status(status).is_ok())
    }
}

fn sign(key: &PrivateKey, request: &SignatureRequest) -> Vec<u8> {
    key.sign(request.algorithm(), request.data())
        .expect("a signature")
}

/// The host key of every world. Its signatures follow from what is signed, as all else follows from the seed: those of
/// ECDSA would not.
pub(super) fn world_key() -> Arc<PrivateKey> {
    Arc::new(PrivateKey::generate(KeyKind::Ed25519, &[7; 32]).expect("a key"))
}
