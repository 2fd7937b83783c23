//! One side of a scenario: answers what the peer asks, and plays this side's scripts. It is the only interpreter that
//! there is; backends lend it a [`Link`], tell it what the peer asks for, and do what it says.

use std::sync::{Arc, OnceLock};

use ssh_proto::{
    ChannelId, ChannelRequest, ForwardAddress, LoginAttempt, OpenFailureReason, OpenKind, Stream,
};

use super::link::{Chan, Failure, Link, Outcome, Tell};
use super::log::{Log, Pattern, describe};
use super::policy::{self, Judgement};
use super::script::{Act, ChannelScript, Deed, Exit, Kind, Scenario, Verdict, Who};
use super::world::World;

/// One side.
pub struct Side {
    who: Who,
    scenario: Arc<Scenario>,
    world: Arc<World>,
    log: Log,
    link: OnceLock<Arc<dyn Link>>,
}

/// A script that is to be played. The side is not through before it was, or was dropped.
#[must_use = "it is to be played"]
pub struct Script {
    index: usize,
    busy: Busy,
}

/// What is to be done about a channel that the peer asks for.
#[expect(clippy::exhaustive_enums, reason = "every backend does all of it")]
pub enum Opening {
    /// Refuse it.
    Refuse(OpenFailureReason, &'static str),
    /// Accept it: a program may be started on it.
    Session,
    /// Accept it with that data, and [play](Side::play_accepted) the script.
    Play(Script, &'static str),
}

/// What is to be done about a request of the peer.
#[expect(clippy::exhaustive_enums, reason = "every backend does all of it")]
pub enum Reaction {
    /// Refuse it.
    Refuse,
    /// Grant it.
    Grant,
    /// Grant it, and run the program: [`Side::run_program`].
    Run(Script),
}

impl Reaction {
    /// Whether it is granted.
    pub const fn is_granted(&self) -> bool {
        !matches!(self, Self::Refuse)
    }
}

/// Counts something that goes on.
struct Busy {
    world: Arc<World>,
    who: &'static str,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.world.end(self.who);
    }
}

impl Side {
    /// One side of a scenario.
    pub fn new(who: Who, scenario: Arc<Scenario>, world: Arc<World>) -> Arc<Self> {
        Arc::new(Self {
            who,
            scenario,
            world,
            log: Log::new(who),
            link: OnceLock::new(),
        })
    }

    /// What it saw.
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// What it shares with the other side.
    pub const fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// The scenario.
    pub const fn scenario(&self) -> &Arc<Scenario> {
        &self.scenario
    }

    fn script(&self, index: usize) -> Script {
        let busy = self.busy();
        Script { index, busy }
    }

    fn busy(&self) -> Busy {
        let who = self.who.name();
        self.world.begin(who);
        Busy {
            world: Arc::clone(&self.world),
            who,
        }
    }

    /// Waits until [`run`](Self::run) is through, whoever runs it, and all that began after it.
    pub async fn done(&self) {
        self.world.wait(&self.is_done()).await;
        self.world.idle(self.who.name()).await;
    }

    /// The latch that opens then.
    fn is_done(&self) -> String {
        format!("{} is done", self.who.name())
    }

    // What the peer asks.

    /// A key is offered.
    pub fn key_offered(&self, user: &str, key: &ssh_proto::key::PublicKey) -> bool {
        let likes = policy::likes(key);
        let verdict = if likes { "accepted" } else { "refused" };
        self.log.saw(format!("key offer of {user} {verdict}"));
        likes
    }

    /// Somebody wants to log in.
    pub fn judge(&self, attempt: &LoginAttempt) -> Judgement {
        let judgement = policy::judge(attempt);
        self.log.saw(policy::describe(attempt, &judgement));
        judgement
    }

    /// Somebody is in.
    pub fn authenticated(&self, user: &str) {
        self.log.saw(format!("{user} is in"));
        self.world.mark("in");
    }

    /// The server has shown a text.
    pub fn banner(&self, text: &str) {
        self.log.saw(format!("banner {text:?}"));
    }

    /// The peer asks for a channel.
    pub fn opening(&self, kind: &OpenKind) -> Opening {
        let refuses = |channel: &&ChannelScript| {
            channel.kind == Kind::Session && matches!(channel.verdict, Verdict::Refuse(..))
        };
        let found = match kind {
            OpenKind::Session => match self.scenario.channels.iter().position(|c| refuses(&c)) {
                Some(index) => Some(index),
                None => return Opening::Session,
            },
            _ => self.scenario.channels.iter().position(|channel| {
                channel.opener == self.who.peer() && is_kind(&channel.kind, kind)
            }),
        };
        let Some(index) = found else {
            self.log.saw(format!("unexpected {kind:?}"));
            return Opening::Refuse(OpenFailureReason::ADMINISTRATIVELY_PROHIBITED, "unexpected");
        };
        let channel = &self.scenario.channels[index];
        let asked = describe_kind(kind);
        match channel.verdict {
            Verdict::Accept(data) => {
                self.log.opened(&channel.name, format!("{asked} accepted"));
                Opening::Play(self.script(index), data)
            }
            Verdict::Refuse(reason, text) => {
                self.log.opened(&channel.name, format!("{asked} refused"));
                self.world.mark(&self.over(&channel.name));
                Opening::Refuse(reason, text)
            }
        }
    }

    /// The peer makes a request on a channel.
    pub fn requested(&self, id: ChannelId, request: &ChannelRequest) -> Reaction {
        let words = describe(request);
        let mut granted = policy::grants(request);
        let mut reaction = Reaction::Grant;
        if request.is_program() {
            let channels = &self.scenario.channels;
            let found = channels.iter().position(|channel| channel.starts(request));
            granted = found.is_some() && !words.contains(" no");
            if let (Some(index), true) = (found, granted) {
                self.name(id, &channels[index].name);
                reaction = Reaction::Run(self.script(index));
            }
        }
        let verdict = if granted { "granted" } else { "refused" };
        let line = format!("{words} {verdict}");
        if let Some(name) = self.log.requested(id, line.clone()) {
            self.world.mark(&self.asked(&name, &line));
        }
        if granted { reaction } else { Reaction::Refuse }
    }

    /// The peer makes a request about the connection. `Some` grants it.
    pub fn global(&self, name: &str, data: &[u8]) -> Option<Vec<u8>> {
        let answer = policy::global(data);
        let verdict = if answer.is_some() {
            "granted"
        } else {
            "refused"
        };
        let text = String::from_utf8_lossy(data);
        self.log.saw(format!("{name} {text:?} {verdict}"));
        answer
    }

    /// The client wants the server to listen. `Some` grants it, with the port.
    pub fn listening(&self, address: &ForwardAddress) -> Option<u16> {
        let port = policy::listens(address);
        let verdict = if port.is_some() { "granted" } else { "refused" };
        self.log.saw(format!("listen on {address} {verdict}"));
        port
    }

    /// The client wants the server to listen no more.
    pub fn listening_no_more(&self, address: &ForwardAddress) -> bool {
        self.log.saw(format!("listen on {address} cancelled"));
        true
    }

    fn name(&self, id: ChannelId, name: &str) {
        for line in self.log.name(id, name) {
            self.world.mark(&self.asked(name, &line));
        }
    }

    /// The latch that opens when the peer has asked for something.
    fn asked(&self, name: &str, line: &str) -> String {
        format!("{} {name}: {line}", self.who.name())
    }

    /// The latch that opens when a channel is over.
    fn over(&self, name: &str) -> String {
        format!("{} {name} is over", self.who.name())
    }

    /// The latch that opens when one list of a script is through.
    fn through(&self, name: &str, track: usize) -> String {
        format!("{} {name} {track} is through", self.who.name())
    }

    // What this side does.

    /// The connection is there. Scripts begin when the peer asks for something, or with [`run`](Self::run).
    pub fn attach(&self, link: Arc<dyn Link>) {
        _ = self.link.set(link);
    }

    /// Does what the scenario wants of this side, until the connection has ended and everything is over.
    pub async fn run(self: Arc<Self>) {
        let Some(link) = self.link.get().cloned() else {
            return;
        };
        let busy = self.busy();
        if self.who == Who::Client {
            for login in &self.scenario.logins {
                self.world.at(self.who.name(), format!("{login:?}"));
                let told = link.log_in(login).await;
                let (is_in, words) = told.unwrap_or_else(|failure| (true, failure.to_string()));
                self.log.did(words);
                if is_in {
                    break;
                }
            }
        }
        let deeds = self.scenario.deeds(self.who);
        if self.who == Who::Server && !deeds.is_empty() {
            self.world.wait("in").await;
        }
        for deed in deeds {
            self.world.at(self.who.name(), format!("{deed:?}"));
            if let Err(failure) = self.perform(&*link, &deed).await {
                self.log.did(format!("{deed:?}: {failure}"));
            }
        }
        self.world.at(self.who.name(), "until the end");
        let how = link.ended().await;
        self.log.ended(&how);
        self.world
            .at(self.who.name(), "until its channels are over");
        drop(busy);
        self.world.idle(self.who.name()).await;
        self.world.at(self.who.name(), "done");
        self.world.mark(&self.is_done());
    }

    async fn perform(self: &Arc<Self>, link: &dyn Link, deed: &Deed) -> Outcome {
        match deed {
            Deed::Open(name) => self.open(link, name).await?,
            Deed::OpenAtOnce(names) => {
                for name in names {
                    let (side, name, busy) = (Arc::clone(self), name.clone(), self.busy());
                    let shared = self.link.get().cloned();
                    link.spawn(Box::pin(async move {
                        if let Some(link) = shared
                            && let Err(failure) = side.open(&*link, &name).await
                        {
                            side.log.did(failure.to_string());
                        }
                        drop(busy);
                    }));
                }
            }
            Deed::Rest(time) => link.rest(*time).await,
            Deed::Join(name) => self.world.wait(&self.over(name)).await,
            Deed::Global {
                name,
                data,
                want_reply,
            } => {
                let answer = link.global(name, data.as_bytes(), *want_reply).await;
                self.log.did(match answer {
                    Ok(data) if *want_reply => {
                        format!("{name}: {:?}", String::from_utf8_lossy(&data))
                    }
                    Ok(_) => format!("{name} sent"),
                    Err(failure) => format!("{name}: {failure}"),
                });
            }
            Deed::Listen(address) => {
                let granted = link.listen(address).await;
                self.log.did(match granted {
                    Ok(bound) => format!("listening on {bound}"),
                    Err(failure) => format!("listening on {address}: {failure}"),
                });
            }
            Deed::Cancel(address) => {
                link.cancel(address).await?;
                self.log.did(format!("listening on {address} no more"));
            }
            Deed::NoMoreSessions => link.no_more_sessions().await?,
            Deed::Ping => {
                link.ping().await?;
                self.log.did("pong");
            }
            Deed::Rekey => link.rekey().await?,
            Deed::AwaitRekeys(count) => {
                link.rekeyed(*count).await?;
                self.log.did("new keys");
            }
            Deed::Mark(latch) => self.world.mark(latch),
            Deed::Await(latch) => self.world.wait(latch).await,
            Deed::Disconnect(reason, text) => link.disconnect(*reason, text).await,
            Deed::Cut => self.world.cut(),
        }
        Ok(())
    }

    async fn open(self: &Arc<Self>, link: &dyn Link, name: &str) -> Outcome {
        let found = self.scenario.channels.iter().position(|c| c.name == name);
        let index = found.ok_or_else(|| Failure::Other(format!("no channel {name:?}")))?;
        let opened = link.open(&self.scenario.channels[index].kind).await;
        match opened {
            Ok((chan, data)) => {
                let told = String::from_utf8_lossy(&data);
                let words = if data.is_empty() {
                    String::new()
                } else {
                    format!(" {told:?}")
                };
                self.log.opened(name, format!("opened{words}"));
                self.name(chan.id(), name);
                self.start(index, chan, false);
            }
            Err(failure) => {
                let words = match failure {
                    Failure::NotOpened(..) => "not opened",
                    _ => "not started",
                };
                self.log.opened(name, format!("{words}: {failure}"));
                self.world.mark(&self.over(name));
            }
        }
        Ok(())
    }

    /// Plays the script of a channel that the peer opened and that was accepted.
    pub fn play_accepted(self: &Arc<Self>, script: Script, chan: Arc<dyn Chan>) {
        self.name(chan.id(), &self.scenario.channels[script.index].name);
        self.start(script.index, chan, false);
        drop(script.busy);
    }

    /// Runs a program that was granted, until it ends so. What follows is the backend's: how it ended, EOF and CLOSE.
    pub async fn run_program(self: Arc<Self>, script: Script, chan: Arc<dyn Chan>) -> Exit {
        let Script { index, busy } = script;
        self.start(index, Arc::clone(&chan), true);
        let exit = self.track(index, 0, &*chan).await;
        let channel = &self.scenario.channels[index];
        for track in 1..channel.tracks(self.who).len() {
            self.world.wait(&self.through(&channel.name, track)).await;
        }
        drop(busy);
        exit
    }

    /// Starts the lists of a script, but for the first if that is the caller's; and watches for the end.
    fn start(self: &Arc<Self>, index: usize, chan: Arc<dyn Chan>, but_first: bool) {
        let Some(link) = self.link.get() else {
            return;
        };
        let tracks = self.scenario.channels[index].tracks(self.who).len();
        for track in usize::from(but_first)..tracks {
            let (side, chan, busy) = (Arc::clone(self), Arc::clone(&chan), self.busy());
            link.spawn(Box::pin(async move {
                side.track(index, track, &*chan).await;
                let name = &side.scenario.channels[index].name;
                side.world.mark(&side.through(name, track));
                drop(busy);
            }));
        }
        let (side, busy) = (Arc::clone(self), self.busy());
        link.spawn(Box::pin(async move {
            let name = side.scenario.channels[index].name.clone();
            while let Some(event) = chan.event().await {
                side.log.happened(&name, &event);
            }
            side.world.mark(&side.over(&name));
            drop(busy);
        }));
    }

    /// Plays one list of a script.
    async fn track(&self, index: usize, track: usize, chan: &dyn Chan) -> Exit {
        let channel = &self.scenario.channels[index];
        let acts = channel
            .tracks(self.who)
            .get(track)
            .cloned()
            .unwrap_or_default();
        let name = format!("{} {} {track}", self.who.name(), channel.name);
        let mut player = Player {
            side: self,
            channel,
            chan,
            track,
            written: [0; 2],
        };
        for act in acts {
            self.world.at(&name, format!("{act:?}"));
            if let Act::Return(exit) = act {
                self.world.at(&name, "returned");
                return exit;
            }
            if let Err(failure) = player.act(&act).await {
                player.did(format!("{}: {failure}", name_of(&act)));
            }
        }
        self.world.at(&name, "done");
        Exit::Missing
    }
}

/// Plays one list of acts on a channel.
struct Player<'a> {
    side: &'a Side,
    channel: &'a ChannelScript,
    chan: &'a dyn Chan,
    track: usize,
    /// How much of each pattern was written by this list: a stream is written to by one list only.
    written: [u64; 2],
}

/// So much is read or written at a time.
const PIECE: usize = 50_000;

impl Player<'_> {
    fn did(&self, line: String) {
        let name = &self.channel.name;
        self.side.log.did_on(name, self.track, line);
    }

    async fn act(&mut self, act: &Act) -> Outcome {
        let chan = self.chan;
        match act {
            Act::Ask(request, want_reply) => {
                let answer = chan.ask(request, *want_reply).await;
                let words = describe(request);
                match answer {
                    Ok(()) if *want_reply => self.did(format!("{words}: granted")),
                    Ok(()) => self.did(words),
                    Err(failure) => self.did(format!("{words}: {failure}")),
                }
            }
            Act::Write(stream, len) => self.write(*stream, *len).await?,
            Act::WriteUntilClosed(stream) => loop {
                match self.write(*stream, PIECE).await {
                    Ok(()) => {}
                    Err(Failure::Closed) => {
                        self.did("nobody reads".to_owned());
                        break;
                    }
                    Err(failure) => return Err(failure),
                }
            },
            Act::Read(stream, len) => {
                let mut left = *len;
                while left > 0 {
                    let bytes = self.read(*stream, left.min(PIECE)).await?;
                    if bytes.is_empty() {
                        return Err(Failure::Other(format!("eof, {left} are missing")));
                    }
                    left -= bytes.len();
                }
            }
            Act::ReadAll(stream) => while !self.read(*stream, PIECE).await?.is_empty() {},
            Act::Echo => loop {
                let bytes = self.read(Stream::DATA, PIECE).await?;
                if bytes.is_empty() {
                    break;
                }
                self.write_all(Stream::DATA, &bytes).await?;
            },
            Act::Discard(stream) => chan.tell(Tell::Discard(*stream)).await?,
            Act::CombineStderr => chan.tell(Tell::CombineStderr).await?,
            Act::Eof => chan.tell(Tell::Eof).await?,
            Act::EndOfWrite => chan.tell(Tell::EndOfWrite).await?,
            Act::Close => chan.tell(Tell::Close).await?,
            Act::Expect(words) => {
                let latch = self.side.asked(&self.channel.name, words);
                self.side.world.wait(&latch).await;
            }
            Act::Exit(exit) => chan.exit(exit).await?,
            Act::Mark(latch) => self.side.world.mark(latch),
            Act::Await(latch) => self.side.world.wait(latch).await,
            Act::Return(_) => {}
        }
        Ok(())
    }

    async fn read(&self, stream: Stream, max: usize) -> Outcome<Vec<u8>> {
        let read = self.chan.read(stream, max).await;
        // That it was read at all is worth a word, even when there was nothing.
        let bytes = read.as_deref().unwrap_or_default();
        self.side.log.read(&self.channel.name, stream, bytes);
        read
    }

    async fn write(&mut self, stream: Stream, len: usize) -> Outcome {
        let pattern = Pattern::new(&self.channel.name, self.side.who, stream);
        let mut left = len;
        while left > 0 {
            let written = &mut self.written[usize::from(stream == Stream::STDERR)];
            let bytes = pattern.bytes(*written, left.min(PIECE));
            *written += bytes.len() as u64;
            left -= bytes.len();
            self.write_all(stream, &bytes).await?;
        }
        Ok(())
    }

    async fn write_all(&self, stream: Stream, bytes: &[u8]) -> Outcome {
        let mut rest = bytes;
        while !rest.is_empty() {
            let len = self.chan.write(stream, rest).await?;
            rest = &rest[len..];
        }
        Ok(())
    }
}

/// An act that failed, in the words of the log.
fn name_of(act: &Act) -> String {
    match act {
        Act::Read(..) | Act::ReadAll(_) => "reading".to_owned(),
        Act::Write(..) | Act::WriteUntilClosed(_) => "writing".to_owned(),
        other => format!("{other:?}"),
    }
}

fn is_kind(ours: &Kind, asked: &OpenKind) -> bool {
    match (ours, asked) {
        (Kind::DirectTcpip(a, p), OpenKind::DirectTcpip { host, port, .. }) => {
            host == a && port == p
        }
        (Kind::DirectStreamlocal(a), OpenKind::DirectStreamlocal { path })
        | (Kind::ForwardedStreamlocal(a), OpenKind::ForwardedStreamlocal { path, .. }) => {
            path == a.as_bytes()
        }
        (
            Kind::ForwardedTcpip(_, p, _, from),
            OpenKind::ForwardedTcpip {
                port,
                originator_port,
                ..
            },
        ) => port == p && originator_port == from,
        (Kind::Custom(a, d), OpenKind::Custom { kind, data }) => kind == a && data == d.as_bytes(),
        _ => false,
    }
}

fn describe_kind(kind: &OpenKind) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match kind {
        OpenKind::Session => "session".to_owned(),
        OpenKind::DirectTcpip {
            host,
            port,
            originator_host,
            originator_port,
        } => format!("direct-tcpip {host}:{port} from {originator_host}:{originator_port}"),
        OpenKind::DirectStreamlocal { path } => format!("direct-streamlocal {}", text(path)),
        OpenKind::ForwardedTcpip {
            address,
            port,
            originator_host,
            originator_port,
            ..
        } => format!("forwarded-tcpip {address}:{port} from {originator_host}:{originator_port}"),
        OpenKind::ForwardedStreamlocal { path, .. } => {
            format!("forwarded-streamlocal {}", text(path))
        }
        OpenKind::Custom { kind, data } => format!("{kind} {:?}", text(data)),
        other => format!("{other:?}"),
    }
}
