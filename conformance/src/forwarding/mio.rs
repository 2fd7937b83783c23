//! The client on mio, with a thread of its own for its loop.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

use ssh_mio::mio::{Events, Poll, Token, Waker};
use ssh_mio::ssh_proto::adapter::{Error, HostKeyPin, judge_host_key};
use ssh_mio::ssh_proto::{
    ChannelEvent, ChannelId, ClientConfig, ClientEvent, ClientRole, Credential, DisconnectReason,
    ForwardTarget, Misuse, OpenChannel,
};
use ssh_mio::{ClientForwards, ClientSession, ForwardEvent, ForwardId, Sessions};

use crate::ours::{host_key_pins, private_key};
use crate::peers::{KeyPair, Sshd};

use crate::tcp::{ANY, wait_for};

use super::{Forwarded, Forwarder};

const WAKER: Token = Token(0);
const SESSIONS: Token = Token(1);
const FORWARDS: Token = Token(16);
const FORWARDS_END: Token = Token(1 << 16);

/// Something to be done in the loop.
type Task = Box<dyn FnOnce(&mut Loop) + Send>;

/// What the thread has.
struct Loop {
    sessions: Sessions<ClientRole, ()>,
    forwards: ClientForwards,
    session: Token,
    authenticated: bool,
    /// What the server said to remote forwards.
    granted: BTreeMap<ForwardId, bool>,
    /// The first event of channels that were opened by hand.
    opened: BTreeMap<ChannelId, ChannelEvent>,
}

/// A client of `ssh-mio`.
pub struct MioClient {
    /// `None` in the end.
    tasks: Option<Sender<Task>>,
    waker: Arc<Waker>,
}

/// A forward of [`MioClient`].
pub struct MioForward {
    id: ForwardId,
    port: Option<u16>,
    client: MioClient,
}

impl fmt::Debug for MioClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MioClient").finish_non_exhaustive()
    }
}

impl fmt::Debug for MioForward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MioForward")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl MioClient {
    /// Does something in the loop, and says what came of it.
    #[track_caller]
    fn call<T: Send + 'static>(&self, task: impl FnOnce(&mut Loop) -> T + Send + 'static) -> T {
        let (answer, answers) = channel();
        let sent = self.send(Box::new(move |this: &mut Loop| {
            // Nobody waits any more when the test has failed.
            _ = answer.send(task(this));
        }));
        assert!(sent, "the loop has ended");
        answers
            .recv()
            .unwrap_or_else(|error| panic!("the loop has ended: {error}"))
    }

    /// `false`: the loop has ended.
    fn send(&self, task: Task) -> bool {
        self.tasks
            .as_ref()
            .is_some_and(|tasks| tasks.send(task).is_ok() && self.waker.wake().is_ok())
    }

    fn another(&self) -> Self {
        Self {
            tasks: self.tasks.clone(),
            waker: Arc::clone(&self.waker),
        }
    }

    #[track_caller]
    fn here(
        &self,
        start: impl FnOnce(&mut ClientForwards, Token) -> io::Result<ForwardId> + Send + 'static,
    ) -> Result<MioForward, Error> {
        let (id, port) = self.call(|this| {
            let id = start(&mut this.forwards, this.session)?;
            Ok::<_, io::Error>((id, this.forwards.port(id)))
        })?;
        let client = self.another();
        Ok(MioForward { id, port, client })
    }

    #[track_caller]
    fn there(
        &self,
        start: impl FnOnce(&mut ClientForwards, Token) -> ForwardId + Send + 'static,
    ) -> Result<MioForward, Error> {
        let id = self.call(|this| start(&mut this.forwards, this.session));
        let granted = wait_for("answer of the server", || {
            self.call(move |this| this.granted.get(&id).copied())
        });
        if !granted {
            return Err(Error::Refused("forwarding"));
        }
        let port = self.call(move |this| this.forwards.port(id));
        let client = self.another();
        Ok(MioForward { id, port, client })
    }
}

impl Drop for MioForward {
    fn drop(&mut self) {
        let id = self.id;
        // With the loop the forward has ended.
        self.client
            .send(Box::new(move |this: &mut Loop| this.forwards.stop(id)));
    }
}

impl Forwarded for MioForward {
    fn port(&self) -> Option<u16> {
        self.port
    }

    fn stop(self) {
        let id = self.id;
        self.client.call(move |this| this.forwards.stop(id));
    }
}

impl Drop for MioClient {
    fn drop(&mut self) {
        // The loop ends when the last sender has gone, which it has to notice.
        self.tasks = None;
        _ = self.waker.wake();
    }
}

impl Forwarder for MioClient {
    type Forward = MioForward;

    fn log_in(sshd: &Sshd, key: &KeyPair) -> Self {
        let pins: Vec<_> = host_key_pins(sshd);
        let credential = Credential::public_key(private_key(key));
        let address = sshd.address();
        let (ready, started) = channel();
        thread::spawn(move || {
            let result = Loop::start(address, credential);
            match result {
                Ok((mut this, poll, tasks, client)) => {
                    _ = ready.send(Ok(client));
                    this.run(poll, &tasks, &pins);
                }
                Err(error) => _ = ready.send(Err(error)),
            }
        });
        let client: Self = started
            .recv()
            .unwrap_or_else(|error| panic!("no thread: {error}"))
            .unwrap_or_else(|error| panic!("no loop: {error}"));
        wait_for("login", || {
            client.call(|this| this.authenticated).then_some(())
        });
        client
    }

    fn local(&self, target: impl Into<ForwardTarget>) -> Result<Self::Forward, Error> {
        let target = target.into();
        self.here(|forwards, session| forwards.forward_local(session, ANY.into(), target))
    }

    fn local_path(
        &self,
        path: &Path,
        target: impl Into<ForwardTarget>,
    ) -> Result<Self::Forward, Error> {
        let (path, target) = (path.to_owned(), target.into());
        self.here(|forwards, session| forwards.forward_local_path(session, path, target))
    }

    fn dynamic(&self) -> Result<Self::Forward, Error> {
        self.here(|forwards, session| forwards.forward_dynamic(session, ANY.into()))
    }

    fn remote(
        &self,
        bind: (&str, u16),
        target: impl Into<ForwardTarget>,
    ) -> Result<Self::Forward, Error> {
        let (host, port, target) = (bind.0.to_owned(), bind.1, target.into());
        self.there(move |forwards, session| forwards.forward_remote(session, (&host, port), target))
    }

    fn remote_path(
        &self,
        path: &Path,
        target: impl Into<ForwardTarget>,
    ) -> Result<Self::Forward, Error> {
        let (path, target) = (path.to_owned(), target.into());
        self.there(|forwards, session| forwards.forward_remote_path(session, path, target))
    }

    fn remote_dynamic(&self) -> Result<Self::Forward, Error> {
        self.there(|forwards, session| forwards.forward_remote_dynamic(session, ("localhost", 0)))
    }

    fn direct_streamlocal(&self, path: &Path) -> Result<(), Error> {
        let path = path.as_os_str().as_encoded_bytes().to_vec();
        let id =
            self.call(move |this| this.open(OpenChannel::DirectStreamlocal { path: &path }))?;
        let event = wait_for("answer about a channel", || {
            self.call(move |this| this.opened.remove(&id))
        });
        match event {
            ChannelEvent::OpenFailed {
                reason,
                description,
            } => Err(Error::OpenFailed {
                reason,
                description: description.into(),
            }),
            _ => Ok(()),
        }
    }

    fn no_more_sessions(&self) -> Result<(), Error> {
        let said = self.call(|this| match this.sessions.get_mut(this.session) {
            Some((session, ())) => session.connection().no_more_sessions(Instant::now()),
            None => Err(Misuse::Closed),
        });
        Ok(said?)
    }

    fn exec(&self, _: &str) -> Result<(), Error> {
        self.call(|this| this.open(OpenChannel::Session)).map(drop)
    }

    fn is_alive(&self) -> bool {
        self.call(|this| !this.sessions.is_empty())
    }
}

impl Loop {
    fn start(
        address: std::net::SocketAddr,
        credential: Credential,
    ) -> io::Result<(Self, Poll, Receiver<Task>, MioClient)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let config = Arc::new(ClientConfig::new());
        let mut session = ClientSession::connect(address, config, Instant::now())?;
        session
            .connection()
            .authenticate(Sshd::USER, credential, Instant::now())
            .map_err(io::Error::other)?;
        let mut sessions = Sessions::new(SESSIONS);
        let this = Self {
            session: sessions.insert(poll.registry(), session, ())?,
            sessions,
            forwards: ClientForwards::new(poll.registry(), FORWARDS..FORWARDS_END)?,
            authenticated: false,
            granted: BTreeMap::new(),
            opened: BTreeMap::new(),
        };
        let (sender, tasks) = channel();
        let client = MioClient {
            tasks: Some(sender),
            waker,
        };
        Ok((this, poll, tasks, client))
    }

    fn open(&mut self, kind: OpenChannel<'_>) -> Result<ChannelId, Error> {
        let (session, ()) = self.sessions.get_mut(self.session).ok_or(Misuse::Closed)?;
        Ok(session.connection().open(kind, Instant::now())?)
    }

    /// Until nobody has the client any more, and the connection has ended.
    fn run(&mut self, mut poll: Poll, tasks: &Receiver<Task>, pins: &[HostKeyPin]) {
        let mut events = Events::with_capacity(64);
        let mut left = false;
        while !(left && self.sessions.is_empty()) {
            let now = Instant::now();
            let waits = [self.sessions.wait_time(now), self.forwards.wait_time(now)];
            let polled = poll.poll(&mut events, waits.into_iter().flatten().min());
            if polled.is_err_and(|error| error.kind() != io::ErrorKind::Interrupted) {
                return;
            }
            let now = Instant::now();
            for event in &events {
                if !self.forwards.note(event) {
                    self.sessions.note(event);
                }
            }
            loop {
                match tasks.try_recv() {
                    Ok(task) => task(self),
                    Err(std::sync::mpsc::TryRecvError::Empty) => break,
                    Err(std::sync::mpsc::TryRecvError::Disconnected) => {
                        let reason = DisconnectReason::BY_APPLICATION;
                        self.sessions.disconnect_all(reason, "", now);
                        left = true;
                        break;
                    }
                }
            }
            self.turn(&poll, pins, now);
        }
    }

    fn turn(&mut self, poll: &Poll, pins: &[HostKeyPin], now: Instant) {
        while let Some(session) = self.forwards.poll_session(now) {
            self.sessions.wake(session);
        }
        let Self {
            forwards,
            authenticated,
            opened,
            ..
        } = self;
        self.sessions
            .run(poll.registry(), now, |token, session, ()| {
                while let Some(event) = forwards.serve(token, session, now) {
                    match event {
                        ClientEvent::HostKeyOffered(offer) => {
                            // Either fails only when the connection has ended.
                            _ = match judge_host_key(pins, offer.key()) {
                                Ok(()) => session.connection().accept_host_key(offer),
                                Err(_) => session.connection().reject_host_key(offer),
                            };
                        }
                        ClientEvent::Authenticated => *authenticated = true,
                        ClientEvent::Channel(id) => {
                            if let Some(mut channel) = session.channel(id)
                                && let Some(event) = channel.poll_event()
                            {
                                channel.release();
                                opened.insert(id, event);
                            }
                        }
                        _ => {}
                    }
                }
            });
        while let Some(event) = self.forwards.poll_event() {
            match event {
                ForwardEvent::Listening(id) => self.granted.insert(id, true),
                ForwardEvent::Refused(id) => self.granted.insert(id, false),
                _ => None,
            };
        }
    }
}
