//! Who waits for what, and wakers on their way out of the lock.

use std::task::Waker;

/// What somebody waits for. Several can be joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish(u8);

impl Wish {
    /// Data of the channel's own stream, or EOF.
    pub(crate) const READ: Self = Self(1);
    /// Data of stderr, or EOF.
    pub(crate) const STDERR: Self = Self(2);
    /// Room to write.
    pub(crate) const WRITE: Self = Self(4);
    /// Open confirmations, replies, the exit status, EOF, CLOSE; of a connection whatever is not about a channel.
    pub(crate) const STATE: Self = Self(8);
    /// There is room for requests of ours again, or an answer may have come that the next one waits for.
    pub(crate) const ROOM: Self = Self(16);
    pub(crate) const ANY: Self = Self(31);

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

#[derive(Debug)]
struct Waiter {
    /// 0: of a `poll_` method, which has nothing that could take it back.
    key: u64,
    wish: Wish,
    waker: Waker,
}

/// How many tasks that poll can wait at one place, as far as they can be told apart.
const MAX_TASKS: usize = 64;

/// Who waits at one place. No more than the tasks that wait there.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    list: Vec<Waiter>,
}

impl Waiters {
    /// Registers a task that polls. When there are very many, the first of them is woken, and will look again: wakers
    /// need not tell that they are the same.
    pub(crate) fn register(&mut self, wish: Wish, waker: &Waker, wakes: &mut Wakes) {
        if self.join(wish, waker) {
            return;
        }
        // The waker of a context and its clones may differ, since the compiler may make the table of a waker's functions
        // more than once. Clones of clones are alike.
        let waker = waker.clone();
        if self.join(wish, &waker) {
            return;
        }
        if self.list.iter().filter(|waiter| waiter.key == 0).count() >= MAX_TASKS
            && let Some(at) = self.list.iter().position(|waiter| waiter.key == 0)
        {
            wakes.add(self.list.remove(at).waker);
        }
        self.list.push(Waiter {
            key: 0,
            wish,
            waker,
        });
    }

    /// Adds to what a task waits for already.
    fn join(&mut self, wish: Wish, waker: &Waker) -> bool {
        let same = |waiter: &&mut Waiter| waiter.key == 0 && waiter.waker.will_wake(waker);
        let Some(waiter) = self.list.iter_mut().find(same) else {
            return false;
        };
        waiter.wish = waiter.wish.and(wish);
        true
    }

    /// Registers a future by its key. A waker that was replaced is dropped with `wakes`: it may be what keeps a task, and
    /// with it a handle of ours, alive, and must not be dropped under the lock.
    pub(crate) fn insert(&mut self, key: u64, wish: Wish, waker: &Waker, wakes: &mut Wakes) {
        if let Some(waiter) = self.list.iter_mut().find(|waiter| waiter.key == key) {
            waiter.wish = wish;
            if !waiter.waker.will_wake(waker) {
                let waker = waker.clone();
                if !waiter.waker.will_wake(&waker) {
                    wakes.drop_later(std::mem::replace(&mut waiter.waker, waker));
                }
            }
            return;
        }
        let waker = waker.clone();
        self.list.push(Waiter { key, wish, waker });
    }

    #[must_use = "it must not be dropped under the lock"]
    pub(crate) fn remove(&mut self, key: u64) -> Option<Waker> {
        let at = self.list.iter().position(|waiter| waiter.key == key)?;
        let waiter = self.list.swap_remove(at);
        if self.list.is_empty() && self.list.capacity() > 8 {
            self.list = Vec::new();
        }
        Some(waiter.waker)
    }

    /// Takes out all who wait for any part of `wish`.
    pub(crate) fn wake(&mut self, wish: Wish, wakes: &mut Wakes) {
        let mut at = 0;
        while let Some(waiter) = self.list.get(at) {
            if waiter.wish.0 & wish.0 == 0 {
                at += 1;
            } else {
                wakes.add(self.list.swap_remove(at).waker);
            }
        }
    }
}

/// Wakers to be woken when the lock is released. The first few need no memory.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    first: [Option<Waker>; 3],
    more: Vec<Waker>,
    /// Not to be woken.
    stale: Vec<Waker>,
}

impl Wakes {
    pub(crate) fn add(&mut self, waker: Waker) {
        for slot in &mut self.first {
            match slot {
                None => {
                    *slot = Some(waker);
                    return;
                }
                Some(other) if other.will_wake(&waker) => return,
                Some(_) => {}
            }
        }
        self.more.push(waker);
    }

    /// Drops a waker when the lock is released.
    pub(crate) fn drop_later(&mut self, waker: Waker) {
        self.stale.push(waker);
    }

    /// Whether nobody is to be woken.
    pub(crate) const fn is_empty(&self) -> bool {
        self.first[0].is_none()
    }

    /// Whether there is nothing to wake or to drop either.
    pub(crate) const fn is_done(&self) -> bool {
        self.is_empty() && self.stale.is_empty()
    }

    /// Wakes them. Never call it under the lock: a waker is code of others.
    pub(crate) fn wake(self) {
        for waker in self.first.into_iter().flatten().chain(self.more) {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_task_that_polls_again_and_again_waits_once() {
        let (mut waiters, mut wakes) = (Waiters::default(), Wakes::default());
        let waker = Waker::from(Arc::new(Task::default()));
        for _ in 0..1_000 {
            waiters.register(Wish::STDERR, &waker, &mut wakes);
            waiters.insert(7, Wish::STATE, &waker, &mut wakes);
        }
        assert_eq!(waiters.list.len(), 2);
        assert!(wakes.is_empty());
    }

    #[test]
    fn wakers_that_do_not_tell_that_they_are_the_same_do_not_pile_up() {
        let (mut waiters, mut wakes) = (Waiters::default(), Wakes::default());
        let tasks: Vec<Arc<Task>> = (0..1_000).map(|_| Arc::default()).collect();
        for task in &tasks {
            let waker = Waker::from(Arc::clone(task));
            waiters.register(Wish::READ, &waker, &mut wakes);
        }
        assert_eq!(waiters.list.len(), MAX_TASKS);
        waiters.wake(Wish::READ, &mut wakes);
        wakes.wake();
        // Nobody who might wait was forgotten.
        let woken = |task: &Arc<Task>| task.0.load(Ordering::Relaxed) == 1;
        assert!(tasks.iter().all(woken));
    }

    #[test]
    fn a_waker_that_is_replaced_is_dropped_and_not_woken() {
        let (mut waiters, mut wakes) = (Waiters::default(), Wakes::default());
        let [old, new]: [Arc<Task>; 2] = Default::default();
        for task in [&old, &new] {
            let waker = Waker::from(Arc::clone(task));
            waiters.insert(7, Wish::READ, &waker, &mut wakes);
        }
        assert!(wakes.is_empty());
        wakes.wake();
        assert_eq!(old.0.load(Ordering::Relaxed), 0);
        assert_eq!(Arc::strong_count(&old), 1);
    }
}
