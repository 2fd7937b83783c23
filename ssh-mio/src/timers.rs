//! The deadlines of all sessions of a thread, in order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use mio::Token;

/// Deadlines by token, in one ordered structure: setting one, and finding those that have passed, costs the logarithm
/// of their number; nothing is ever scanned.
///
/// A deadline that moves *later* is not moved here: it fires at the old time, finds nothing to do, and is set again
/// ([`Session::timeout`](crate::Session::timeout) may be called early). So a busy session, whose deadlines move with
/// every packet, costs a look-up and no more.
///
/// ```
/// use std::time::{Duration, Instant};
/// use mio::Token;
/// use ssh_mio::Timers;
///
/// let now = Instant::now();
/// let mut timers = Timers::new();
/// timers.set(Token(1), Some(now + Duration::from_secs(2)));
/// timers.set(Token(2), Some(now + Duration::from_secs(1)));
/// assert_eq!(timers.next(), Some(now + Duration::from_secs(1)));
/// assert_eq!(timers.expire(now), None);
/// assert_eq!(timers.expire(now + Duration::from_secs(3)), Some(Token(2)));
/// assert_eq!(timers.expire(now + Duration::from_secs(3)), Some(Token(1)));
/// assert_eq!(timers.next(), None);
/// ```
#[derive(Debug, Default)]
pub struct Timers {
    order: BTreeSet<(Instant, Token)>,
    armed: BTreeMap<Token, Instant>,
}

impl Timers {
    /// No deadlines.
    pub const fn new() -> Self {
        Self {
            order: BTreeSet::new(),
            armed: BTreeMap::new(),
        }
    }

    /// Sets the deadline of a session, as told by [`Session::deadline`](crate::Session::deadline) after whatever was
    /// done with it. One that is there and earlier stays: it fires once for nothing.
    pub fn set(&mut self, token: Token, deadline: Option<Instant>) {
        let Some(deadline) = deadline else {
            return;
        };
        if let Some(&armed) = self.armed.get(&token) {
            if armed <= deadline {
                return;
            }
            self.order.remove(&(armed, token));
        }
        self.armed.insert(token, deadline);
        self.order.insert((deadline, token));
    }

    /// Forgets the deadline of a session that is gone.
    pub fn remove(&mut self, token: Token) {
        if let Some(armed) = self.armed.remove(&token) {
            self.order.remove(&(armed, token));
        }
    }

    /// The earliest deadline: when to stop waiting for events.
    pub fn next(&self) -> Option<Instant> {
        self.order.first().map(|&(deadline, _)| deadline)
    }

    /// Takes the earliest deadline out if it has passed at `now`. Call [`Session::timeout`](crate::Session::timeout),
    /// and set the deadline that follows.
    pub fn expire(&mut self, now: Instant) -> Option<Token> {
        let &(deadline, token) = self.order.first()?;
        if deadline > now {
            return None;
        }
        self.order.pop_first();
        self.armed.remove(&token);
        Some(token)
    }

    /// How many sessions have a deadline.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none has one.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_earlier_deadline_replaces_a_later_one_and_not_the_other_way_round() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut timers = Timers::new();
        timers.set(Token(7), Some(at(5)));
        timers.set(Token(7), Some(at(9)));
        assert_eq!(timers.next(), Some(at(5)));
        timers.set(Token(7), Some(at(2)));
        timers.set(Token(7), None);
        assert_eq!((timers.next(), timers.len()), (Some(at(2)), 1));
        assert_eq!(timers.expire(at(2)), Some(Token(7)));
        assert_eq!(timers.expire(at(60)), None);
    }

    #[test]
    fn a_session_that_is_gone_does_not_fire() {
        let now = Instant::now();
        let mut timers = Timers::new();
        timers.set(Token(1), Some(now));
        timers.set(Token(2), Some(now));
        timers.remove(Token(1));
        assert_eq!(timers.expire(now), Some(Token(2)));
        assert!(timers.is_empty());
    }
}
