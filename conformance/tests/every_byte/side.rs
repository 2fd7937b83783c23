//! What a side of a session has come to, and what it must have come to when it heard only so much.
//!
//! Neither side says anything more before it has an answer. So how much was heard when a step was done is how much must be
//! heard for it, to the byte.

use std::io::ErrorKind;
use std::sync::{Arc, Condvar, Mutex, OnceLock};

use ssh_proto::adapter::Error;
use ssh_proto::config::{ClientConfig, HostKey, ServerConfig};
use ssh_proto::error::Stage;
use ssh_proto::key::{KeyKind, PrivateKey};
use ssh_proto::names::{Kex, Preference};

use crate::line::{Cut, End, Heard};

/// What the client says on the channel, one after the other; the server says it back.
pub(crate) const WORDS: [&str; 2] = ["one", "two"];

/// How long the two packets are that a client needs to know how a program ended: EOF or CLOSE, and the status.
const LAST: usize = 36 + 52;

pub(crate) const CONNECTED: &str = "connected";
pub(crate) const LET_IN: &str = "let in";
/// The server has been shown the proof.
pub(crate) const PROVEN: &str = "proven";
pub(crate) const STARTED: &str = "started";
pub(crate) const ENDED: &str = "ended";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Client,
    Server,
}

/// A side as it notes what it has come to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Side {
    pub(crate) heard: Heard,
    /// Each with how much was heard by then.
    steps: Arc<Mutex<Vec<(&'static str, usize)>>>,
    /// How what runs on the server's channel ended.
    program: Arc<Mutex<Option<Result<(), Error>>>>,
    program_is_over: Arc<Condvar>,
}

impl Side {
    pub(crate) fn did(&self, step: &'static str) {
        let at = self.heard.len();
        self.steps.lock().unwrap().push((step, at));
    }

    pub(crate) fn program_ended(&self, end: Result<(), Error>) {
        *self.program.lock().unwrap() = Some(end);
        self.program_is_over.notify_all();
    }

    /// Waits for a program that runs on a thread of its own, if one was started.
    pub(crate) fn wait_for_program(&self) {
        if self.names().contains(&STARTED) {
            let program = self.program.lock().unwrap();
            let over = self
                .program_is_over
                .wait_while(program, |end| end.is_none());
            drop(over.unwrap());
        }
    }

    pub(crate) fn names(&self) -> Vec<&'static str> {
        let steps = self.steps.lock().unwrap();
        steps.iter().map(|(step, _)| *step).collect()
    }
}

/// A session that is over.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Side,
    pub(crate) server: Side,
    /// Of the call that was under way at the end.
    pub(crate) client_end: Result<(), Error>,
    pub(crate) server_end: Result<(), Error>,
}

/// How much a side must hear for what.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    who: Who,
    version: usize,
    newkeys: usize,
    steps: Vec<(&'static str, usize)>,
}

impl Session {
    fn side(&self, who: Who) -> (&Side, &Result<(), Error>) {
        match who {
            Who::Client => (&self.client, &self.client_end),
            Who::Server => (&self.server, &self.server_end),
        }
    }

    /// Of a session that nothing has disturbed.
    pub(crate) fn plan(&self, who: Who) -> Plan {
        assert!(
            self.client_end.is_ok() && self.server_end.is_ok(),
            "{self:?}"
        );
        let (side, _) = self.side(who);
        let heard = side.heard.bytes();
        let (version, signed, newkeys) = in_clear(&heard);
        let mut steps = side.steps.lock().unwrap().clone();
        // A client is done with the exchange when it trusts who has signed it. What follows in the same flight is not needed
        // for that.
        // The same holds for what ends a channel.
        let said = steps.iter().find(|(step, _)| *step == WORDS[1]).unwrap().1;
        for (step, at) in &mut steps {
            let needed = match (who, *step) {
                (Who::Client, CONNECTED) => signed,
                (Who::Client, ENDED) => said + LAST,
                _ => continue,
            };
            assert!(*at >= needed);
            *at = needed;
        }
        // It is told later than the proof is looked at, and the client goes on meanwhile.
        steps.retain(|(step, _)| who == Who::Client || *step != LET_IN);
        Plan {
            who,
            version,
            newkeys,
            steps,
        }
    }
}

impl Plan {
    /// How much a side must hear until it has done everything.
    pub(crate) fn len(&self) -> usize {
        self.steps.last().unwrap().1
    }

    fn at(&self, wanted: &str) -> usize {
        let found = self.steps.iter().find(|(step, _)| *step == wanted);
        found.unwrap_or_else(|| panic!("no {wanted:?}")).1
    }

    /// Whether a connection may be in `stage` when it has heard so much.
    fn allows(&self, stage: Stage, heard: usize) -> bool {
        match stage {
            Stage::VersionExchange => heard < self.version,
            Stage::KeyExchange => (self.version..self.newkeys).contains(&heard),
            Stage::Authentication => {
                // The end may be there before the server's verdict is.
                let end = match self.who {
                    Who::Client => self.at(LET_IN),
                    Who::Server => self.at(STARTED),
                };
                (self.newkeys..end).contains(&heard)
            }
            Stage::Connected => {
                let begin = match self.who {
                    Who::Client => self.at(LET_IN),
                    Who::Server => self.at(PROVEN),
                };
                heard >= begin
            }
            _ => false,
        }
    }

    /// Whether an error says how the line ended, and at which stage.
    fn tells(&self, cut: Cut, error: &Error) -> bool {
        match (cut.end, error) {
            (End::Eof, Error::Connection(ssh_proto::Error::UnexpectedEof(stage))) => {
                self.allows(*stage, cut.after)
            }
            (End::Failure, Error::Io(error)) => error.kind() == ErrorKind::ConnectionReset,
            _ => false,
        }
    }

    pub(crate) fn judge(&self, cut: Cut, session: &Session) {
        let (side, end) = session.side(self.who);
        assert_eq!(side.heard.len(), cut.after, "{cut:?}: {session:?}");
        let done = self.steps.iter().filter(|(_, at)| *at <= cut.after);
        let done: Vec<_> = done.map(|(step, _)| *step).collect();
        let mut names = side.names();
        if self.who == Who::Server {
            let let_in = names.contains(&LET_IN);
            assert!(!let_in || done.contains(&PROVEN), "{cut:?}: {names:?}");
            assert!(let_in || !done.contains(&STARTED), "{cut:?}: {names:?}");
            names.retain(|name| *name != LET_IN);
        }
        assert_eq!(names, done, "{cut:?}: {session:?}, {self:?}");
        let error = end.as_ref().expect_err("a session that was cut off");
        assert!(self.tells(cut, error), "{cut:?}: {session:?}, {self:?}");
        if self.who == Who::Server && done.contains(&STARTED) {
            let program = side.program.lock().unwrap();
            assert!(
                matches!(&*program, Some(Err(error)) if self.tells(cut, error)),
                "{cut:?}: {program:?}"
            );
        }
    }
}

/// Where the version line, the message before NEWKEYS, and NEWKEYS of a side end.
fn in_clear(said: &[u8]) -> (usize, usize, usize) {
    let version = said.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let mut at = version;
    loop {
        let length = u32::from_be_bytes(said[at..at + 4].try_into().unwrap()) as usize;
        let end = at + 4 + length;
        if said[at + 5] == 21 {
            return (version, at, end);
        }
        at = end;
    }
}

/// The host key and the user's.
pub(crate) fn keys() -> &'static (Arc<PrivateKey>, Arc<PrivateKey>) {
    static KEYS: OnceLock<(Arc<PrivateKey>, Arc<PrivateKey>)> = OnceLock::new();
    KEYS.get_or_init(|| {
        let new = |byte| Arc::new(PrivateKey::generate(KeyKind::Ed25519, &[byte; 32]).unwrap());
        (new(1), new(2))
    })
}

/// The shortest exchange.
pub(crate) fn client_config() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.transport.algorithms.kex = Preference::new([Kex::Curve25519Sha256]).unwrap();
    config
}

pub(crate) fn server_config() -> ServerConfig {
    let mut config = ServerConfig::new(vec![HostKey::Private(Arc::clone(&keys().0))]);
    config.transport.algorithms.kex = Preference::new([Kex::Curve25519Sha256]).unwrap();
    config
}
