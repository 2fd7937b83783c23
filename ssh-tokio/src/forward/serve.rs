//! The connections of one listener, in one future: each is polled when it was woken, whatever the others do.
//!
//! In: connections as they come. Out: their data, carried. Nothing is spawned: what is dropped takes its connections along.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use ssh_proto::Role;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::BoxFuture;
use crate::core::Shared;

/// How many connections one forward of a client, and one connection of a server, carries at once; more are dropped.
const MAX_CONNECTIONS: usize = 512;
/// How many connections are taken in a row before those that there are go on.
const ARRIVALS: usize = 16;
/// The number of whoever waits for arrivals and for the end.
const HEAD: usize = usize::MAX;

/// Places for connections.
#[derive(Clone)]
pub(super) struct Places(Arc<Semaphore>);

impl Places {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_CONNECTIONS)))
    }

    /// A place, which is free again when it is dropped; `None` when all are taken.
    pub(super) fn enter(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().ok()
    }
}

/// What came.
pub(super) enum Arrival {
    /// A connection, and what serves it.
    Serve(BoxFuture<'static, ()>),
    /// A connection that was dropped.
    Dropped,
    /// Nothing comes any more.
    Closed,
}

/// Serves what `next` says has come, until the SSH connection has ended, or until nothing comes any more and everything
/// was served. `next` is asked again after [`Poll::Pending`] when it was woken.
///
/// Cancellation: the connections are cut.
pub(super) async fn serve<R: Role>(
    shared: &Shared<R>,
    mut next: impl FnMut(&mut Context<'_>) -> Poll<Arrival>,
) {
    let mut crowd = Crowd::new();
    let head = Waker::from(Arc::clone(&crowd.head));
    let mut over = pin!(shared.over());
    let mut closed = false;
    std::future::poll_fn(|cx| {
        let mut rung = crowd.rung(cx.waker());
        for number in rung.drain(..) {
            if number != HEAD {
                crowd.poll(number);
                continue;
            }
            crowd.head.still();
            let cx = &mut Context::from_waker(&head);
            if over.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut arrivals = 0;
            while !closed && arrivals < ARRIVALS {
                match next(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Arrival::Serve(connection)) => crowd.add(connection),
                    Poll::Ready(Arrival::Dropped) => {}
                    Poll::Ready(Arrival::Closed) => closed = true,
                }
                arrivals += 1;
            }
            if arrivals == ARRIVALS {
                head.wake_by_ref();
            }
        }
        crowd.keep(rung);
        if closed && crowd.is_empty() {
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
}

/// Runs `work` until it is done, or until `end` is.
pub(super) async fn until<T>(
    end: impl Future<Output = ()>,
    work: impl Future<Output = T>,
) -> Option<T> {
    let (mut end, mut work) = (pin!(end), pin!(work));
    std::future::poll_fn(|cx| {
        if end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        work.as_mut().poll(cx).map(Some)
    })
    .await
}

/// Futures that are polled within one.
struct Crowd {
    bells: Arc<Bells>,
    head: Arc<Bell>,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    /// Memory for the next list of those that were woken.
    list: Vec<usize>,
}

struct Slot {
    future: BoxFuture<'static, ()>,
    bell: Arc<Bell>,
    waker: Waker,
}

impl Crowd {
    fn new() -> Self {
        let bells = Arc::new(Bells::default());
        let head = Bell::new(HEAD, &bells);
        Self {
            bells,
            head,
            slots: Vec::new(),
            free: Vec::new(),
            list: Vec::new(),
        }
    }

    fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    fn add(&mut self, future: BoxFuture<'static, ()>) {
        let number = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let bell = Bell::new(number, &self.bells);
        let waker = Waker::from(Arc::clone(&bell));
        if let Some(slot) = self.slots.get_mut(number) {
            *slot = Some(Slot {
                future,
                bell,
                waker,
            });
        }
    }

    /// Those that were woken since the last call. From now on `waker` is woken for them.
    fn rung(&mut self, waker: &Waker) -> Vec<usize> {
        let list = std::mem::take(&mut self.list);
        let mut state = self.bells.state();
        let known = state.waker.as_ref();
        let old = if known.is_some_and(|known| known.will_wake(waker)) {
            None
        } else {
            state.waker.replace(waker.clone())
        };
        let rung = std::mem::replace(&mut state.rung, list);
        drop(state);
        drop(old);
        rung
    }

    fn keep(&mut self, list: Vec<usize>) {
        self.list = list;
    }

    fn poll(&mut self, number: usize) {
        let Some(place) = self.slots.get_mut(number) else {
            return;
        };
        // Whoever rang may be gone.
        let Some(slot) = place else {
            return;
        };
        slot.bell.still();
        let mut cx = Context::from_waker(&slot.waker);
        if slot.future.as_mut().poll(&mut cx).is_ready() {
            *place = None;
            self.free.push(number);
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let waker = self.bells.state().waker.take();
        drop(waker);
    }
}

/// Who was woken.
#[derive(Default)]
struct Bells {
    state: Mutex<BellState>,
}

#[derive(Default)]
struct BellState {
    /// Their numbers, each bell at most once.
    rung: Vec<usize>,
    waker: Option<Waker>,
}

impl Bells {
    fn state(&self) -> MutexGuard<'_, BellState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What wakes one future.
struct Bell {
    number: usize,
    /// It is in the list.
    rung: AtomicBool,
    bells: Arc<Bells>,
}

impl Bell {
    /// A bell that has rung: its future was never polled.
    fn new(number: usize, bells: &Arc<Bells>) -> Arc<Self> {
        let bell = Arc::new(Self {
            number,
            rung: AtomicBool::new(false),
            bells: Arc::clone(bells),
        });
        bell.wake_by_ref();
        bell
    }

    /// It was heard. What happened before is seen by whoever is polled now, what happens from now on rings again.
    fn still(&self) {
        self.rung.swap(false, Ordering::AcqRel);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.rung.swap(true, Ordering::AcqRel) {
            return;
        }
        let waker = {
            let mut state = self.bells.state();
            state.rung.push(self.number);
            state.waker.clone()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
