//! When a connection must look at the clock again. Its deadlines can be stopped and go on: they count the peer's time, not
//! ours.

use std::time::{Duration, Instant};

/// The earlier of two times, of which each may be never.
#[inline]
pub(crate) fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The times of a connection.
#[derive(Debug)]
pub(super) struct Timers {
    pub(super) version: Deadline,
    pub(super) key_exchange: Deadline,
    pub(super) authentication: Deadline,
    pub(super) exchanging: bool,
    pub(super) trim: Option<Instant>,
    pub(super) last_received: Instant,
    pub(super) last_sent: Instant,
    /// The last packet of the peer, or the last keepalive: the next one is due an interval later.
    pub(super) silent_since: Instant,
    /// Keepalives without any sign of life since.
    pub(super) unanswered: u32,
    /// The peer is not read: its silence says nothing.
    pub(super) deaf: bool,
}

impl Timers {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            version: Deadline::OFF,
            key_exchange: Deadline::OFF,
            authentication: Deadline::OFF,
            exchanging: false,
            trim: None,
            last_received: now,
            last_sent: now,
            silent_since: now,
            unanswered: 0,
            deaf: false,
        }
    }

    pub(super) const fn stop(&mut self) {
        self.version.stop();
        self.key_exchange.stop();
        self.authentication.stop();
    }
}

/// A deadline of one stage.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    left: Duration,
    state: State,
}

/// ```text
/// Off ── start ──► Until ── pause ──► Paused ── resume ──► Resumed ── the next look at the clock ──► Until
/// ```
#[derive(Debug, Clone, Copy)]
enum State {
    Off,
    Until(Instant),
    Paused,
    /// It goes on, but answers are not told the time: the next one who is settles when it ends.
    Resumed,
}

impl Deadline {
    pub(crate) const OFF: Self = Self {
        left: Duration::ZERO,
        state: State::Off,
    };

    /// Starts anew; without a limit it never ends.
    pub(crate) fn start(&mut self, limit: Option<Duration>, now: Instant) {
        *self = match limit.and_then(|left| Some((left, now.checked_add(left)?))) {
            Some((left, end)) => Self {
                left,
                state: State::Until(end),
            },
            None => Self::OFF,
        };
    }

    pub(crate) const fn stop(&mut self) {
        *self = Self::OFF;
    }

    /// Stops the clock or lets it go on.
    pub(crate) fn run(&mut self, on: bool, now: Instant) {
        match self.state {
            State::Until(end) if !on => {
                self.left = end.saturating_duration_since(now);
                self.state = State::Paused;
            }
            State::Resumed if !on => self.state = State::Paused,
            State::Paused if on => self.state = State::Resumed,
            State::Off | State::Until(_) | State::Paused | State::Resumed => {}
        }
    }

    /// When to look again. `now` is the latest time that is known.
    #[inline]
    pub(crate) fn poll(&self, now: Instant) -> Option<Instant> {
        match self.state {
            State::Until(end) => Some(end),
            State::Resumed => now.checked_add(self.left),
            State::Off | State::Paused => None,
        }
    }

    /// Whether the time is over.
    pub(crate) fn has_passed(&mut self, now: Instant) -> bool {
        match self.state {
            State::Until(end) => end <= now,
            State::Resumed => {
                self.state = now.checked_add(self.left).map_or(State::Off, State::Until);
                false
            }
            State::Off | State::Paused => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a test needs a time to start from"
    )]
    fn a_pause_does_not_count() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut deadline = Deadline::OFF;
        deadline.start(Some(Duration::from_secs(10)), start);
        deadline.run(false, at(4));
        assert_eq!(deadline.poll(at(4)), None);
        assert!(!deadline.has_passed(at(100)));
        deadline.run(true, at(4));
        assert!(deadline.poll(at(4)).is_some());
        assert!(!deadline.has_passed(at(100)));
        assert_eq!(deadline.poll(at(100)), Some(at(106)));
        assert!(!deadline.has_passed(at(105)));
        assert!(deadline.has_passed(at(106)));
    }
}
