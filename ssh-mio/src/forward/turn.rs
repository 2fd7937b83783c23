//! Readiness, deadlines, and who has something to do.
//!
//! In: mio's events, the time, the turns of sessions. Out: which sessions are to be served; steps of those connections to
//! which something happened.

use std::io;
use std::mem;
use std::ops::ControlFlow::{Break, Continue};
use std::time::{Duration, Instant};

use mio::Token;
use mio::event::Event;
use ssh_proto::socks::SocksFailure;
use ssh_proto::{ChannelId, Connection, Misuse, OpenFailureReason, OpenRequest, Role};

use super::link::{Cx, Destination, Fate, Link, Stage};
use super::owner::{Forward, Orphan, Owner, Route, Todo};
use super::slots::{Item, Listener};
use super::socket::{Acceptor, Socket};
use super::{ForwardEvent, Forwards, MAX_CONNECTIONS, NameQuestion};

/// So many connections of a listener are accepted in one turn.
const ACCEPTS: usize = 64;
/// How long a listener rests when the system has no more descriptors, and a request for which there was no room.
const RETRY: Duration = Duration::from_millis(50);

/// How a client asks its server to listen, or not to.
pub(super) type AskServer<R> =
    fn(&mut Forwards<R>, Token, &Todo, &mut Connection<R>, Instant) -> Result<(), Misuse>;

impl<R: Role> Forwards<R> {
    /// Takes note of an event; says whether it was one of these tokens'. What it makes possible is done when the session
    /// is served.
    pub fn note(&mut self, event: &Event) -> bool {
        let token = event.token();
        if !self.slots.contains(token) {
            return false;
        }
        let failed = event.is_error();
        let hung_up = event.is_read_closed() || failed;
        let readable = event.is_readable() || hung_up;
        let writable = event.is_writable() || event.is_write_closed() || failed;
        if let Some(slot) = self.slots.get_mut(token) {
            match &mut slot.item {
                Item::Listener(listener) => listener.readable |= readable,
                Item::Link(link) => {
                    link.readable |= readable;
                    link.writable |= writable;
                    link.hung_up |= hung_up;
                }
                Item::Away => {}
            }
            self.wake(token);
        }
        true
    }

    /// The next session that is to be served: wake it with [`Sessions::wake`](crate::Sessions::wake), or serve it.
    /// Those whose deadlines have passed are among them.
    pub fn poll_session(&mut self, now: Instant) -> Option<Token> {
        while let Some(token) = self.timers.expire(now) {
            if self.slots.contains(token) {
                self.wake(token);
            } else if self.owners.contains_key(&token) {
                self.due.insert(token);
            }
        }
        self.due.pop_first()
    }

    /// How long to wait for events at the most: not at all when there is something to do, else until the next deadline.
    /// `None`: there is none.
    pub fn wait_time(&self, now: Instant) -> Option<Duration> {
        if !self.due.is_empty() || !self.events.is_empty() {
            return Some(Duration::ZERO);
        }
        Some(self.timers.next()?.saturating_duration_since(now))
    }

    pub(super) const fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// A slot has something to do.
    pub(super) fn wake(&mut self, token: Token) {
        if let Some(slot) = self.slots.get_mut(token)
            && !mem::replace(&mut slot.due, true)
            && let Some(owner) = self.owners.get_mut(&slot.session)
        {
            owner.due.push(token);
            self.due.insert(slot.session);
        }
    }

    /// Whatever can be done for a session now, once. `false`: it was done, and what came of it was taken.
    pub(super) fn turn(
        &mut self,
        session: Token,
        ssh: &mut Connection<R>,
        now: Instant,
        ask_server: AskServer<R>,
    ) -> bool {
        let Some(owner) = self.owners.get_mut(&session) else {
            return false;
        };
        if mem::replace(&mut owner.served, true) {
            owner.served = false;
            if owner.is_due() {
                self.due.insert(session);
            } else {
                self.due.remove(&session);
            }
            return false;
        }
        for orphan in mem::take(&mut owner.orphans) {
            end(orphan, ssh);
        }
        for token in mem::take(&mut owner.due) {
            if let Some(slot) = self.slots.get_mut(token) {
                slot.due = false;
                self.step(token, ssh, now);
            }
        }
        self.ask(session, ssh, now, ask_server);
        true
    }

    /// The events of a channel. `false`: it is none of ours.
    pub(super) fn channel(
        &mut self,
        session: Token,
        id: ChannelId,
        ssh: &mut Connection<R>,
        now: Instant,
    ) -> bool {
        let owner = self.owners.get(&session);
        let Some(&token) = owner.and_then(|owner| owner.channels.get(&id)) else {
            return false;
        };
        let Some(Item::Link(mut link)) = self.slots.take(token) else {
            return true;
        };
        let noticed = match ssh.channel(id) {
            Some(mut channel) => link.notice(&mut channel, now),
            None => Break(Fate::Over),
        };
        if link.channel.is_none()
            && let Some(owner) = self.owners.get_mut(&session)
        {
            owner.channels.remove(&id);
        }
        match noticed {
            Continue(()) => {
                self.slots.put(token, Item::Link(link));
                self.step(token, ssh, now);
            }
            Break(_) => self.settle(session, token, link, Fate::Over, ssh),
        }
        true
    }

    /// Does what a slot can do now.
    fn step(&mut self, token: Token, ssh: &mut Connection<R>, now: Instant) {
        let Some(session) = self.slots.get_mut(token).map(|slot| slot.session) else {
            return;
        };
        match self.slots.take(token) {
            Some(Item::Listener(mut listener)) => {
                let again = self.accept(session, &mut listener, now);
                if let Some(until) = listener.rests_until {
                    self.timers.set(token, Some(until));
                }
                self.slots.put(token, Item::Listener(listener));
                if again {
                    self.wake(token);
                }
            }
            Some(Item::Link(mut link)) => {
                let before = link.channel;
                let waited = matches!(link.stage, Stage::Waiting(_));
                let fate = link.step(&mut Cx {
                    ssh,
                    registry: &self.registry,
                    draft: &mut self.draft,
                    token,
                    now,
                    resolves: self.resolves,
                });
                if let Some(owner) = self.owners.get_mut(&session)
                    && before != link.channel
                {
                    before.map(|id| owner.channels.remove(&id));
                    link.channel.map(|id| owner.channels.insert(id, token));
                }
                if !waited && matches!(link.stage, Stage::Waiting(_)) {
                    self.owner(session).todo.push_back(Todo::Open(token));
                }
                self.settle(session, token, link, fate, ssh);
            }
            Some(Item::Away) | None => {}
        }
    }

    /// What a step has led to.
    fn settle(
        &mut self,
        session: Token,
        token: Token,
        mut link: Box<Link>,
        fate: Fate,
        ssh: &mut Connection<R>,
    ) {
        if fate == Fate::Over {
            self.slots.put(token, Item::Link(link));
            for orphan in self.drop_link(session, token) {
                end(orphan, ssh);
            }
            return;
        }
        if let Some(name) = link.name_to_ask() {
            self.numbers += 1;
            name.serial = Some(self.numbers);
            self.events.push_back(ForwardEvent::NameAsked(NameQuestion {
                session,
                link: token,
                serial: self.numbers,
                host: name.host.clone(),
                port: name.port,
            }));
        }
        self.timers.set(token, link.deadline);
        self.slots.put(token, Item::Link(link));
        if fate == Fate::Again {
            self.wake(token);
        }
    }

    /// Takes a connection away; says what it leaves behind on the SSH connection.
    pub(super) fn drop_link(&mut self, session: Token, token: Token) -> Vec<Orphan> {
        let mut orphans = Vec::new();
        if let Some(link) = self.slots.link(token) {
            orphans.extend(link.take_request().map(Orphan::Request));
            orphans.extend(link.channel.map(Orphan::Channel));
            let (forward, channel) = (link.forward, link.channel);
            if let Some(owner) = self.owners.get_mut(&session) {
                owner.slots.remove(&token);
                channel.map(|id| owner.channels.remove(&id));
                if let Some(forward) = owner.forwards.get_mut(&forward) {
                    forward.links.remove(&token);
                }
            }
        }
        self.close(token);
        orphans
    }

    /// Closes whatever a token stands for, and gives it back.
    pub(super) fn close(&mut self, token: Token) {
        self.timers.remove(token);
        let Some(slot) = self.slots.remove(token) else {
            return;
        };
        match slot.item {
            Item::Listener(listener) => listener.acceptor.close(&self.registry),
            Item::Link(mut link) => {
                if let Some(socket) = &mut link.socket {
                    socket.deregister(&self.registry);
                }
            }
            Item::Away => {}
        }
    }

    // Listening.

    /// Registers a listener, whose forward is to have this key. Says its token.
    pub(super) fn listen(
        &mut self,
        session: Token,
        forward: u64,
        mut acceptor: Acceptor,
    ) -> io::Result<Token> {
        let token = self.slots.next().ok_or_else(out_of_tokens)?;
        acceptor.register(&self.registry, token)?;
        let listener = Listener {
            forward,
            acceptor,
            readable: false,
            rests_until: None,
        };
        self.slots.insert(session, Item::Listener(listener));
        self.owner(session).slots.insert(token);
        Ok(token)
    }

    pub(super) fn owner(&mut self, session: Token) -> &mut Owner {
        self.owners.entry(session).or_default()
    }

    /// Takes the connections of a listener. `true`: there may be more.
    fn accept(&mut self, session: Token, listener: &mut Listener, now: Instant) -> bool {
        if listener.rests_until.is_some_and(|until| until > now) {
            return false;
        }
        listener.rests_until = None;
        for _ in 0..ACCEPTS {
            if !listener.readable {
                return false;
            }
            match listener.acceptor.accept() {
                Ok(socket) => self.accepted(session, listener.forward, socket, now),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => listener.readable = false,
                    // It was gone before it was accepted.
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    // Out of descriptors or memory: it gets better when connections end.
                    _ => {
                        listener.rests_until = now.checked_add(RETRY);
                        return false;
                    }
                },
            }
        }
        true
    }

    /// A connection came to a listener. One too many is dropped.
    fn accepted(&mut self, session: Token, key: u64, mut socket: Socket, now: Instant) {
        let Some(token) = self.slots.next() else {
            return;
        };
        let Some(owner) = self.owners.get_mut(&session) else {
            return;
        };
        let (key, destination) = match owner.forwards.get(&key).map(|forward| &forward.route) {
            Some(Route::Local { target, .. }) => (key, target.clone().map(Destination::Target)),
            Some(Route::Listener { address, .. }) => {
                (0, Some(Destination::Address(address.clone())))
            }
            _ => return,
        };
        let served = || Forward::new(Route::Served);
        let forward = owner.forwards.entry(key).or_insert_with(served);
        if forward.links.len() >= MAX_CONNECTIONS || socket.register(&self.registry, token).is_err()
        {
            return;
        }
        forward.links.insert(token);
        owner.slots.insert(token);
        let link = Link::to_socket(key, socket, destination, now);
        self.timers.set(token, link.deadline);
        if matches!(link.stage, Stage::Waiting(_)) {
            owner.todo.push_back(Todo::Open(token));
        }
        self.slots.insert(session, Item::Link(Box::new(link)));
    }

    // Connecting.

    /// The peer asks for a connection, which is to be made as `link` says.
    pub(super) fn connect(
        &mut self,
        session: Token,
        link: Link,
        ssh: &mut Connection<R>,
        now: Instant,
    ) {
        let key = link.forward;
        let channel = link.channel;
        let token = self.slots.next();
        let owner = self.owners.entry(session).or_default();
        let served = || Forward::new(Route::Served);
        let forward = owner.forwards.entry(key).or_insert_with(served);
        let Some(token) = token.filter(|_| forward.links.len() < MAX_CONNECTIONS) else {
            let mut link = link;
            if let Some(request) = link.take_request() {
                refuse(ssh, request, OpenFailureReason::RESOURCE_SHORTAGE);
            }
            if let Some(id) = channel {
                end(Orphan::Channel(id), ssh);
            }
            return;
        };
        forward.links.insert(token);
        owner.slots.insert(token);
        channel.map(|id| owner.channels.insert(id, token));
        self.slots.insert(session, Item::Link(Box::new(link)));
        self.step(token, ssh, now);
    }

    // Asking the peer.

    /// Asks for what is to be asked for, as far as there is room.
    fn ask(
        &mut self,
        session: Token,
        ssh: &mut Connection<R>,
        now: Instant,
        ask_server: AskServer<R>,
    ) {
        if !ssh.is_authenticated() {
            return;
        }
        while let Some(todo) = self
            .owners
            .get_mut(&session)
            .and_then(|owner| owner.todo.pop_front())
        {
            let asked = match todo {
                Todo::Open(token) => self.open(session, token, ssh, now),
                Todo::Request(_) | Todo::Cancel(_) => ask_server(self, session, &todo, ssh, now),
            };
            // The session is served again when an answer of the peer makes room, and after some time at the latest.
            if let Err(Misuse::Blocked | Misuse::Limit("pending_opens" | "pending_requests")) =
                asked
            {
                self.owner(session).todo.push_front(todo);
                self.timers.set(session, now.checked_add(RETRY));
                return;
            }
        }
    }

    /// Asks for the channel of a connection.
    fn open(
        &mut self,
        session: Token,
        token: Token,
        ssh: &mut Connection<R>,
        now: Instant,
    ) -> Result<(), Misuse> {
        let Some(link) = self.slots.link(token) else {
            return Ok(());
        };
        let (Stage::Waiting(destination), Some(socket)) = (&link.stage, &link.socket) else {
            return Ok(());
        };
        let originator = socket.originator();
        let originator = (originator.0.as_str(), originator.1);
        let kind = match destination {
            Destination::Target(target) => target.channel(originator),
            Destination::Address(address) => address.channel(originator),
        };
        match ssh.open(kind, now) {
            Ok(id) => {
                link.channel = Some(id);
                link.stage = Stage::Opening;
                self.owner(session).channels.insert(id, token);
                Ok(())
            }
            Err(error @ (Misuse::Blocked | Misuse::Limit("pending_opens"))) => Err(error),
            Err(error) => {
                if link.refuse(SocksFailure::GENERAL, now).is_continue() {
                    self.step(token, ssh, now);
                } else {
                    // There is no channel to be ended.
                    _ = self.drop_link(session, token);
                }
                Err(error)
            }
        }
    }
}

/// Ends what nobody needs any more.
fn end<R: Role>(orphan: Orphan, ssh: &mut Connection<R>) {
    match orphan {
        Orphan::Channel(id) => {
            if let Some(mut channel) = ssh.channel(id) {
                channel.release();
            }
        }
        Orphan::Request(request) => {
            refuse(ssh, request, OpenFailureReason::ADMINISTRATIVELY_PROHIBITED);
        }
    }
}

pub(super) fn refuse<R: Role>(
    ssh: &mut Connection<R>,
    request: OpenRequest,
    reason: OpenFailureReason,
) {
    // It fails when the connection has ended.
    _ = ssh.refuse_open(request, reason, "");
}

fn out_of_tokens() -> io::Error {
    io::Error::other("all tokens of the forwards are in use")
}
