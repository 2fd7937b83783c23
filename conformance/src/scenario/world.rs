//! What both sides of a scenario share besides the wire: latches, and the scissors.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// What both sides share.
#[derive(Default)]
pub struct World {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    open: BTreeSet<String>,
    waiting: BTreeMap<String, Vec<Waker>>,
    /// Things that are going on, by side; who waits for none.
    busy: BTreeMap<&'static str, usize>,
    /// What each script is at, for whoever looks into a hang.
    at: BTreeMap<String, String>,
    cut: bool,
    scissors: Option<Box<dyn FnOnce() + Send>>,
}

impl World {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a latch, for good.
    pub fn mark(&self, latch: &str) {
        let mut inner = self.lock();
        inner.open.insert(latch.to_owned());
        let wakers = inner.waiting.remove(latch).unwrap_or_default();
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Waits for a latch.
    pub async fn wait(&self, latch: &str) {
        poll_fn(|cx| {
            let mut inner = self.lock();
            if inner.open.contains(latch) {
                return Poll::Ready(());
            }
            let waiting = inner.waiting.entry(latch.to_owned()).or_default();
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// Something begins on a side.
    pub fn begin(&self, who: &'static str) {
        *self.lock().busy.entry(who).or_default() += 1;
    }

    /// Something has ended on a side.
    pub fn end(&self, who: &'static str) {
        let mut inner = self.lock();
        let busy = inner.busy.entry(who).or_default();
        *busy -= 1;
        if *busy == 0 {
            let wakers = inner.waiting.remove(who).unwrap_or_default();
            drop(inner);
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// Waits until nothing goes on on a side.
    pub async fn idle(&self, who: &'static str) {
        poll_fn(|cx| {
            let mut inner = self.lock();
            if inner.busy.get(who).is_none_or(|busy| *busy == 0) {
                return Poll::Ready(());
            }
            let waiting = inner.waiting.entry(who.to_owned()).or_default();
            if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// Notes what a script is at.
    pub fn at(&self, script: &str, what: impl Into<String>) {
        self.lock().at.insert(script.to_owned(), what.into());
    }

    /// What each script is at, or was at last.
    pub fn report(&self) -> String {
        let lines = self.lock().at.clone().into_iter();
        lines
            .map(|(script, what)| format!("  {script}: {what}\n"))
            .collect()
    }

    /// How the wire is cut.
    pub fn set_scissors(&self, scissors: impl FnOnce() + Send + 'static) {
        self.lock().scissors = Some(Box::new(scissors));
    }

    /// Cuts the wire.
    pub fn cut(&self) {
        let mut inner = self.lock();
        inner.cut = true;
        let scissors = inner.scissors.take();
        drop(inner);
        if let Some(scissors) = scissors {
            scissors();
        }
    }

    /// Whether the wire was cut.
    pub fn is_cut(&self) -> bool {
        self.lock().cut
    }
}
