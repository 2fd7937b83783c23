//! Opens of this side that the peer has not answered, and the time that it has for that.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::ChannelId;
use crate::connection::timers::Deadline;

#[derive(Debug)]
pub(super) struct Opening {
    /// [`Deadlines::channel_open`](crate::limits::Deadlines::channel_open).
    limit: Option<Duration>,
    /// All have the same time, so that the oldest comes first.
    opens: VecDeque<(Deadline, ChannelId)>,
    /// The peer's time does not run: what it says is not read.
    is_stopped: bool,
    /// It runs again, from the next look at the clock on.
    is_resumed: bool,
}

impl Opening {
    pub(super) const fn new(limit: Option<Duration>) -> Self {
        Self {
            limit,
            opens: VecDeque::new(),
            is_stopped: false,
            is_resumed: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.opens.len()
    }

    pub(super) fn push(&mut self, id: ChannelId, now: Instant) {
        let mut deadline = Deadline::OFF;
        deadline.start(self.limit, now);
        deadline.run(!self.is_stopped, now);
        self.opens.push_back((deadline, id));
    }

    pub(super) fn remove(&mut self, id: ChannelId) {
        self.opens.retain(|(_, other)| *other != id);
    }

    /// Stops the peer's time, or lets it go on.
    pub(super) fn run(&mut self, on: bool, now: Instant) {
        if on == self.is_stopped {
            self.is_stopped = !on;
            self.is_resumed = on;
            for (deadline, _) in &mut self.opens {
                deadline.run(on, now);
            }
        }
    }

    /// When to look again.
    pub(super) fn poll(&self, now: Instant) -> Option<Instant> {
        self.opens.front()?.0.poll(now)
    }

    /// The next one whose time is up, which is not waited for any more.
    pub(super) fn next_late(&mut self, now: Instant) -> Option<ChannelId> {
        if std::mem::take(&mut self.is_resumed) {
            for (deadline, _) in &mut self.opens {
                // None has passed: each now gets its end.
                _ = deadline.has_passed(now);
            }
        }
        let (deadline, id) = self.opens.front_mut()?;
        let id = deadline.has_passed(now).then_some(*id)?;
        self.opens.pop_front();
        Some(id)
    }

    pub(super) fn clear(&mut self) {
        self.opens = VecDeque::new();
    }

    pub(super) fn trim(&mut self) {
        self.opens.shrink_to_fit();
    }

    #[cfg(test)]
    pub(super) fn footprint(&self) -> usize {
        self.opens.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 60;

    fn id(slot: u32) -> ChannelId {
        ChannelId {
            slot,
            generation: 0,
        }
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a test needs a time to start from"
    )]
    fn the_time_of_each_open_rests_while_the_peers_does() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut opening = Opening::new(Some(Duration::from_secs(LIMIT)));
        opening.push(id(0), at(0));
        opening.push(id(1), at(10));
        opening.run(false, at(20));
        opening.push(id(2), at(100));
        assert_eq!(opening.poll(at(100)), None);
        assert_eq!(opening.next_late(at(1_000)), None);
        // When it goes on is not known before the next look at the clock.
        opening.run(true, at(100));
        assert!(opening.poll(at(100)).is_some());
        assert_eq!(opening.next_late(at(2_000)), None);
        for (seconds, number) in [(40, 0), (50, 1), (60, 2)] {
            assert_eq!(opening.poll(at(2_000)), Some(at(2_000 + seconds)));
            assert_eq!(opening.next_late(at(1_999 + seconds)), None);
            assert_eq!(opening.next_late(at(2_000 + seconds)), Some(id(number)));
        }
        assert_eq!(opening.next_late(at(9_000)), None);
    }
}
