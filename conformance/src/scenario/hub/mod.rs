//! The core itself as a backend, for whoever owns a [`Connection`] and turns it: the pair in memory, a loop on a socket,
//! mio's sessions.
//!
//! Scripts are futures, and the connection belongs to the loop: so what a script wants of it is posted, as a closure that
//! is tried in each turn until it has a result.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use ssh_proto::{
    Answer, ChannelEvent, ChannelId, ChannelRequest, Connection, GlobalRequestKind,
    GlobalRequestReceived, OpenRequest, RequestId, RequestToken, Role,
};

use super::link::{BoxFuture, Chan, Failure, Outcome, Tell, ending};
use super::script::Exit;
use super::side::{Opening, Reaction, Side};

mod chan;
mod connection;
mod role;

use chan::HubChan;
use connection::HubLink;
pub use role::{HubRole, LoginEvent, Sorted};

/// A connection and its events, however they are kept.
pub trait Core<R: Role> {
    /// The next event.
    fn poll_event(&mut self) -> Option<R::Event>;
    /// The connection.
    fn connection(&mut self) -> &mut Connection<R>;
}

impl<R: Role> Core<R> for Connection<R> {
    fn poll_event(&mut self) -> Option<R::Event> {
        Self::poll_event(self)
    }

    fn connection(&mut self) -> &mut Self {
        self
    }
}

/// What is known besides what the connection knows.
#[derive(Default)]
pub struct State {
    channels: BTreeMap<ChannelId, ChannelState>,
    replies: BTreeMap<RequestId, Option<Vec<u8>>>,
    logins: VecDeque<LoginEvent>,
    pongs: u64,
    rekeys: u64,
    over: Option<String>,
}

#[derive(Default)]
struct ChannelState {
    opened: Option<Outcome<Vec<u8>>>,
    replies: BTreeMap<RequestId, bool>,
    exited: Option<Exit>,
    eof: bool,
    closed: bool,
    /// The peer reads no more.
    unread: bool,
    pty: bool,
    /// A session without a program: nobody else holds it.
    held: Option<Arc<dyn Chan>>,
}

impl State {
    /// The end of the connection, if it has ended.
    fn over(&self) -> Option<Failure> {
        self.over.clone().map(Failure::Over)
    }

    /// A channel that the peer has confirmed, or will.
    fn add(&mut self, id: ChannelId) {
        self.channels.insert(id, ChannelState::default());
    }
}

/// Something to be tried in each turn; whether it is through.
type Op<R> = Box<dyn FnMut(&mut Connection<R>, &mut State, Instant) -> bool + Send>;

/// What scripts see of the hub.
pub struct Desk<R: Role> {
    posted: Mutex<Vec<Op<R>>>,
    spawned: Mutex<Vec<BoxFuture<'static, ()>>>,
    /// Gets the loop to turn.
    waker: Waker,
}

impl<R: Role> Desk<R> {
    /// Has something tried in each turn until it has a result.
    pub fn until<T: Send + 'static>(
        &self,
        mut ready: impl FnMut(&mut Connection<R>, &mut State, Instant) -> Option<T> + Send + 'static,
    ) -> BoxFuture<'static, T> {
        let slot = Arc::new(Mutex::new((None, None::<Waker>)));
        let filled = Arc::clone(&slot);
        lock(&self.posted).push(Box::new(move |conn, state, now| {
            let Some(result) = ready(conn, state, now) else {
                return false;
            };
            let mut filled = lock(&filled);
            filled.0 = Some(result);
            if let Some(waker) = filled.1.take() {
                waker.wake();
            }
            true
        }));
        self.waker.wake_by_ref();
        Box::pin(poll_fn(move |cx| {
            let mut slot = lock(&slot);
            match slot.0.take() {
                Some(result) => Poll::Ready(result),
                None => {
                    slot.1 = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        }))
    }

    /// Has something done in the next turn.
    pub fn post(&self, act: impl FnOnce(&mut Connection<R>, &mut State, Instant) + Send + 'static) {
        let mut act = Some(act);
        lock(&self.posted).push(Box::new(move |conn, state, now| {
            if let Some(act) = act.take() {
                act(conn, state, now);
            }
            true
        }));
        self.waker.wake_by_ref();
    }

    /// Has a future run.
    pub fn spawn(&self, task: BoxFuture<'static, ()>) {
        lock(&self.spawned).push(task);
        self.waker.wake_by_ref();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A task is to be polled, and the loop to be woken for it.
struct TaskWaker {
    woken: AtomicBool,
    waker: Waker,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.waker.wake_by_ref();
    }
}

/// Runs one side of a scenario on a connection that somebody else turns.
pub struct Hub<R: HubRole> {
    side: Arc<Side>,
    desk: Arc<Desk<R>>,
    state: State,
    ops: Vec<Op<R>>,
    tasks: Vec<(BoxFuture<'static, ()>, Arc<TaskWaker>)>,
}

impl<R: HubRole> Hub<R> {
    /// A hub for one side. `waker` gets the loop to [`turn`](Self::turn).
    pub fn new(side: Arc<Side>, waker: Waker) -> Self {
        let desk = Arc::new(Desk {
            posted: Mutex::default(),
            spawned: Mutex::default(),
            waker,
        });
        side.attach(Arc::new(HubLink::new(&desk)));
        desk.spawn(Box::pin(Arc::clone(&side).run()));
        Self {
            side,
            desk,
            state: State::default(),
            ops: Vec::new(),
            tasks: Vec::new(),
        }
    }

    /// Whether everything is over.
    pub fn is_done(&self) -> bool {
        self.tasks.is_empty() && lock(&self.desk.spawned).is_empty()
    }

    /// Takes what happened, and does what the scripts want, until nothing moves. Whether anything did.
    pub fn turn(&mut self, core: &mut impl Core<R>, now: Instant) -> bool {
        let mut any = false;
        loop {
            let mut moved = false;
            while let Some(event) = core.poll_event() {
                moved = true;
                self.event(core.connection(), event);
            }
            self.ops.append(&mut lock(&self.desk.posted));
            let (conn, state) = (core.connection(), &mut self.state);
            let before = self.ops.len();
            self.ops.retain_mut(|op| !op(conn, state, now));
            moved |= self.ops.len() < before;
            moved |= self.poll_tasks();
            if !moved {
                return any;
            }
            any = true;
        }
    }

    fn poll_tasks(&mut self) -> bool {
        for task in lock(&self.desk.spawned).drain(..) {
            let waker = TaskWaker {
                woken: AtomicBool::new(true),
                waker: self.desk.waker.clone(),
            };
            self.tasks.push((task, Arc::new(waker)));
        }
        let mut moved = false;
        self.tasks.retain_mut(|(task, waker)| {
            if !waker.woken.swap(false, Ordering::AcqRel) {
                return true;
            }
            moved = true;
            let std_waker = Waker::from(Arc::clone(waker));
            let mut cx = Context::from_waker(&std_waker);
            task.as_mut().poll(&mut cx).is_pending()
        });
        moved
    }

    fn event(&mut self, conn: &mut Connection<R>, event: R::Event) {
        match R::sort(event, &self.side, conn) {
            Sorted::Channel(id) => self.channel(conn, id),
            Sorted::Opening(request) => self.opening(conn, request),
            Sorted::Asked(request) => self.asked(conn, request),
            Sorted::Replied(request, reply) => {
                self.state.replies.insert(request, reply);
            }
            Sorted::Pong => self.state.pongs += 1,
            Sorted::Rekeyed => self.state.rekeys += 1,
            Sorted::Login(event) => self.state.logins.push_back(event),
            Sorted::Over(error) => {
                self.state.over = Some(ending(&error));
                for channel in self.state.channels.values_mut() {
                    channel.closed = true;
                    channel.held = None;
                }
            }
            Sorted::Done => {}
        }
    }

    // What is refused below, because the channel or the connection is gone, concerns nobody any more.

    fn opening(&mut self, conn: &mut Connection<R>, request: OpenRequest) {
        match self.side.opening(request.kind()) {
            Opening::Refuse(reason, text) => {
                _ = conn.refuse_open(request, reason, text);
            }
            Opening::Session => {
                if let Ok(id) = conn.accept_open(request, b"") {
                    let held = self.accepted(id);
                    if let Some(channel) = self.state.channels.get_mut(&id) {
                        channel.held = Some(held);
                    }
                }
            }
            Opening::Play(script, data) => {
                if let Ok(id) = conn.accept_open(request, data.as_bytes()) {
                    let chan = self.accepted(id);
                    self.side.play_accepted(script, chan);
                }
            }
        }
    }

    fn accepted(&mut self, id: ChannelId) -> Arc<dyn Chan> {
        self.state.add(id);
        Arc::new(HubChan::new(&self.desk, id))
    }

    fn asked(&self, conn: &mut Connection<R>, request: GlobalRequestReceived) {
        let GlobalRequestReceived { kind, token, .. } = request;
        let answer = match kind {
            GlobalRequestKind::Forward(address) => {
                let port = self.side.listening(&address);
                match (port, token) {
                    (Some(port), Some(token)) => R::accept_forward(conn, token, port),
                    (None, Some(token)) => _ = conn.answer_global(token, Answer::Refuse),
                    (_, None) => {}
                }
                return;
            }
            GlobalRequestKind::CancelForward(address) => {
                self.side.listening_no_more(&address).then(Vec::new)
            }
            GlobalRequestKind::Custom { name, data } => self.side.global(&name, &data),
            _ => None,
        };
        if let Some(token) = token {
            let answer = answer.as_deref().map_or(Answer::Refuse, Answer::Accept);
            _ = conn.answer_global(token, answer);
        }
    }

    fn channel(&mut self, conn: &mut Connection<R>, id: ChannelId) {
        while let Some(event) = conn
            .channel(id)
            .and_then(|mut channel| channel.poll_event())
        {
            let Some(state) = self.state.channels.get_mut(&id) else {
                continue;
            };
            match event {
                ChannelEvent::Opened { data } => state.opened = Some(Ok(data)),
                ChannelEvent::OpenFailed {
                    reason,
                    description,
                } => state.opened = Some(Err(Failure::NotOpened(reason, description))),
                ChannelEvent::Replied { request, accepted } => {
                    state.replies.insert(request, accepted);
                }
                ChannelEvent::ExitStatus(status) => state.exited = Some(Exit::Code(status)),
                ChannelEvent::ExitSignal(signal) => state.exited = Some(Exit::Signal(signal)),
                ChannelEvent::EndOfWrite => state.unread = true,
                ChannelEvent::Eof => state.eof = true,
                ChannelEvent::Closed => {
                    state.closed = true;
                    state.held = None;
                }
                ChannelEvent::Requested { request, token } => {
                    self.requested(conn, id, &request, token);
                }
                _ => {}
            }
        }
    }

    fn requested(
        &mut self,
        conn: &mut Connection<R>,
        id: ChannelId,
        request: &ChannelRequest,
        token: Option<RequestToken>,
    ) {
        let pty = self.state.channels.get(&id).is_some_and(|state| state.pty);
        // The size of a terminal that is not there concerns nobody.
        let reaction = match request {
            ChannelRequest::WindowChange(_) if !pty => Reaction::Refuse,
            _ => self.side.requested(id, request),
        };
        if let (Some(token), Some(mut channel)) = (token, conn.channel(id)) {
            _ = channel.reply(token, reaction.is_granted());
        }
        let Some(state) = self.state.channels.get_mut(&id) else {
            return;
        };
        state.pty |= reaction.is_granted() && matches!(request, ChannelRequest::Pty(_));
        if let Reaction::Run(script) = reaction
            && let Some(chan) = state.held.take()
        {
            let program = Arc::clone(&self.side).run_program(script, Arc::clone(&chan));
            self.desk.spawn(Box::pin(async move {
                let exit = program.await;
                // They fail when the program has closed the channel itself.
                _ = chan.exit(&exit).await;
                _ = chan.tell(Tell::Eof).await;
                _ = chan.tell(Tell::Close).await;
            }));
        }
    }
}
