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

/// Who waits at one place. No more than the tasks that wait there.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    list: Vec<Waiter>,
}

impl Waiters {
    /// Registers a task that polls.
    pub(crate) fn register(&mut self, wish: Wish, waker: &Waker) {
        for waiter in &mut self.list {
            if waiter.key == 0 && waiter.waker.will_wake(waker) {
                waiter.wish = waiter.wish.and(wish);
                return;
            }
        }
        let waker = waker.clone();
        self.list.push(Waiter {
            key: 0,
            wish,
            waker,
        });
    }

    /// Registers a future by its key. What is returned is a waker that was replaced: whoever drops it must not hold the
    /// lock, since it may be what keeps a task, and with it a handle of ours, alive.
    #[must_use = "it must not be dropped under the lock"]
    pub(crate) fn insert(&mut self, key: u64, wish: Wish, waker: &Waker) -> Option<Waker> {
        if let Some(waiter) = self.list.iter_mut().find(|waiter| waiter.key == key) {
            waiter.wish = wish;
            if waiter.waker.will_wake(waker) {
                return None;
            }
            return Some(std::mem::replace(&mut waiter.waker, waker.clone()));
        }
        let waker = waker.clone();
        self.list.push(Waiter { key, wish, waker });
        None
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

    /// Wakes them. Never call it under the lock: a waker is code of others.
    pub(crate) fn wake(self) {
        for waker in self.first.into_iter().flatten().chain(self.more) {
            waker.wake();
        }
    }
}
