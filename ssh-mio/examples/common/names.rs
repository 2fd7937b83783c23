//! Names are looked up in threads of their own, since the system's resolver waits.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use ssh_mio::mio::{Registry, Token, Waker};
use ssh_mio::ssh_proto::Role;
use ssh_mio::{ForwardEvent, Forwards, NameQuestion};

/// So many names are looked up at once.
const THREADS: usize = 4;

/// Questions go out to threads, answers come back.
pub(crate) struct Names {
    questions: Sender<NameQuestion>,
    answers: Receiver<(NameQuestion, Vec<SocketAddr>)>,
}

impl Names {
    /// `token` is the waker's: its events say only that there is an answer.
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let waker = Arc::new(Waker::new(registry, token)?);
        let (questions, asked) = channel::<NameQuestion>();
        let (answer, answers) = channel();
        let asked = Arc::new(Mutex::new(asked));
        for _ in 0..THREADS {
            let (asked, answer) = (Arc::clone(&asked), answer.clone());
            let waker = Arc::clone(&waker);
            thread::Builder::new().name("names".into()).spawn(move || {
                loop {
                    let question = asked.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(question) = question else { return };
                    let found = (question.host(), question.port()).to_socket_addrs();
                    let addresses = found.map(Iterator::collect).unwrap_or_default();
                    if answer.send((question, addresses)).is_err() || waker.wake().is_err() {
                        return;
                    }
                }
            })?;
        }
        Ok(Self { questions, answers })
    }

    /// Has a name looked up, if that is what it is about.
    pub(crate) fn ask(&self, event: ForwardEvent) {
        if let ForwardEvent::NameAsked(question) = event {
            // The threads end with this value.
            _ = self.questions.send(question);
        }
    }

    /// Hands on what was found.
    pub(crate) fn answer<R: Role>(&self, forwards: &mut Forwards<R>) {
        while let Ok((question, addresses)) = self.answers.try_recv() {
            // It is stale when the connection is gone.
            _ = forwards.supply_addresses(question, &addresses);
        }
    }
}
