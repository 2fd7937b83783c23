//! Windows: how much each side may still send (RFC 4254 section 5.2). Pure arithmetic.
//!
//! What a channel may cost this side is `granted + unread + owed`, which is the window's target (plus the debt of a
//! target that was lowered): credit comes back only by consumption, so a reader that stops bounds its sender.
//!
//! The budget of a connection, with the default limits: 64 MiB, of which half is shared equally (32 KiB for each of 1,024
//! channels) and the other half goes to whoever needs more. A channel begins with 2 MiB while there is plenty, and grows
//! up to 32 MiB while its window is what limits the sender: enough for 335 MB/s on a path of 100 ms, where 2 MiB allow
//! 21. A window that has grown and is not used any more shrinks again. Credit cannot be taken back: it is not given again
//! when it was used, unless the rate shows that it is needed.

use std::time::{Duration, Instant};

use crate::limits::{FIRST_WINDOW, Limits, MAX_PACKET, SURE_WINDOW};

/// A WINDOW_ADJUST never waits for more than this: the sender of a large window would stand still meanwhile.
const MOST_OWED: u32 = 512 * 1024;
/// A window that has grown is looked at so often: when less than a whole of it was consumed since, it is too large.
pub(crate) const REVIEW: Duration = Duration::from_secs(10);

/// What is left of a peer's window is a remainder where the window was so many times as large as what is to be sent.
const MUCH_MORE: usize = 16;

/// The window that every channel gets, however many there are: half of the budget is set aside for that.
pub(crate) fn sure_window(limits: &Limits) -> u32 {
    let channels = u32::try_from(limits.channels).unwrap_or(u32::MAX);
    let share = (limits.window_budget / 2).checked_div(channels);
    let (least, most) = SURE_WINDOW.into_inner();
    share.unwrap_or(most).clamp(least, most).min(limits.window)
}

/// The first window of a channel when the connection's budget has `left` bytes for whoever needs more than it is sure
/// of.
pub(crate) fn first_window(left: u64, limits: &Limits) -> u32 {
    let share = u32::try_from(left / 8).unwrap_or(u32::MAX);
    let sure = sure_window(limits);
    share.clamp(sure, FIRST_WINDOW.max(sure)).min(limits.window)
}

/// What the peer may send on a channel.
///
/// ```text
/// granted ── data ──► unread ── consume ──► owed ── WINDOW_ADJUST ──► granted
/// ```
///
/// It grows while it is what limits the sender: when a whole window was consumed within two round trips. A round trip
/// is the shortest time that credit took from its WINDOW_ADJUST until the first byte that needed it.
#[derive(Debug)]
pub(crate) struct RecvWindow {
    granted: u32,
    unread: u32,
    owed: u32,
    /// What the next consumption does not give back, because the target was lowered.
    debt: u32,
    target: u32,
    /// The target at first.
    first: u32,
    none: bool,
    /// The caller chose the target.
    fixed: bool,
    received: u64,
    consumed: u64,
    /// A grant on its way: bytes received when its first use is seen, and when it was sent.
    probe: Option<(u64, Instant)>,
    /// Bytes consumed when the current measurement of the rate began, and when.
    epoch: Option<(u64, Instant)>,
    /// Bytes consumed at the last review. `None`: there is nothing to review.
    reviewed: Option<u64>,
    /// It was what limited the sender since the last review.
    limited: bool,
}

impl RecvWindow {
    /// That of a channel that the caller has not accepted.
    pub(crate) const fn none() -> Self {
        Self {
            none: true,
            ..Self::new(0)
        }
    }

    pub(crate) const fn new(size: u32) -> Self {
        Self {
            none: false,
            granted: size,
            unread: 0,
            owed: 0,
            debt: 0,
            target: size,
            first: size,
            fixed: false,
            received: 0,
            consumed: 0,
            probe: None,
            epoch: None,
            reviewed: None,
            limited: false,
        }
    }

    /// What the peer may still send.
    pub(crate) const fn granted(&self) -> u32 {
        self.granted
    }

    pub(crate) const fn is_none(&self) -> bool {
        self.none
    }

    /// What the window costs the connection's budget.
    pub(crate) fn charge(&self) -> u64 {
        u64::from(self.target).saturating_add(u64::from(self.debt))
    }

    /// Data came. `false`: more than was granted, and nothing changed.
    pub(crate) fn arrived(&mut self, len: u32, now: Instant, rtt: &mut Option<Duration>) -> bool {
        let Some(granted) = self.granted.checked_sub(len) else {
            return false;
        };
        self.granted = granted;
        self.unread = self.unread.saturating_add(len);
        self.received = self.received.saturating_add(u64::from(len));
        if self.epoch.is_none() {
            self.epoch = Some((self.consumed, now));
        }
        if let Some((limit, at)) = self.probe
            && self.received > limit
        {
            sample(rtt, now.saturating_duration_since(at));
            self.probe = None;
        }
        true
    }

    /// Data was read, or dropped: its credit is owed to the peer. Says by how much less the budget is charged.
    pub(crate) fn consume(&mut self, len: u32) -> u32 {
        let len = len.min(self.unread);
        self.unread = self.unread.saturating_sub(len);
        self.consumed = self.consumed.saturating_add(u64::from(len));
        let paid = len.min(self.debt);
        self.debt = self.debt.saturating_sub(paid);
        self.owed = self.owed.saturating_add(len.saturating_sub(paid));
        paid
    }

    /// Whether so much is owed that a WINDOW_ADJUST is worth its packet: a quarter of the window, but no more than
    /// [`MOST_OWED`], or three packets where that is more, but never above half, so that a sender on a long path gets
    /// its credit in time and a reader that consumed everything never leaves it waiting.
    pub(crate) fn credit_due(&self) -> bool {
        let three = MAX_PACKET.saturating_mul(3);
        let quarter = (self.target / 4).min(MOST_OWED);
        self.owed > 0 && self.owed >= (self.target / 2).min(three).max(quarter)
    }

    /// Whether anything is to be done about the window: credit is due, or it was lowered and is used by the whole, so
    /// that it may have to grow again.
    pub(crate) fn is_due(&self) -> bool {
        self.credit_due() || (self.debt > 0 && !self.fixed && self.is_measured())
    }

    /// A whole window was consumed since the measurement of the rate began.
    fn is_measured(&self) -> bool {
        self.epoch
            .is_some_and(|(start, _)| self.consumed.saturating_sub(start) >= u64::from(self.target))
    }

    /// Turns what is owed into a grant, which is to be sent now.
    pub(crate) fn grant(&mut self, now: Instant) -> u32 {
        if self.probe.is_none() {
            let limit = self.received.saturating_add(u64::from(self.granted));
            self.probe = Some((limit, now));
        }
        self.granted = self.granted.saturating_add(self.owed);
        std::mem::take(&mut self.owed)
    }

    /// Whether the last whole window was consumed within two round trips. Asked whenever something is due.
    pub(crate) fn limits_sender(&mut self, now: Instant, rtt: Option<Duration>) -> bool {
        let Some((_, at)) = self.epoch.filter(|_| !self.fixed && self.is_measured()) else {
            return false;
        };
        self.epoch = Some((self.consumed, now));
        rtt.is_some_and(|rtt| now.saturating_duration_since(at) <= rtt.saturating_mul(2))
    }

    /// Enlarges the window to `target`.
    pub(crate) fn grow(&mut self, target: u32) {
        let more = target.saturating_sub(self.target);
        let paid = more.min(self.debt);
        self.debt = self.debt.saturating_sub(paid);
        self.owed = self.owed.saturating_add(more.saturating_sub(paid));
        self.target = self.target.max(target);
    }

    /// The window limits its sender. Whether it is larger than at first, and was not on the list of those that are
    /// reviewed.
    pub(crate) const fn begin_review(&mut self) -> bool {
        self.limited = true;
        let begins = self.reviewed.is_none() && self.target > self.first;
        if begins {
            self.reviewed = Some(self.consumed);
        }
        begins
    }

    /// Shrinks the window to its first size when it did not limit its sender, and less than a whole was consumed, since
    /// the last review. Whether it is to be reviewed again.
    pub(crate) fn review(&mut self) -> bool {
        let Some(last) = self.reviewed.take() else {
            return false;
        };
        if self.fixed || self.target <= self.first {
            return false;
        }
        let limited = std::mem::take(&mut self.limited);
        if !limited && self.consumed.saturating_sub(last) < u64::from(self.target) {
            self.lower(self.first);
            // The next measurement is one of the new target.
            self.epoch = None;
            return false;
        }
        self.reviewed = Some(self.consumed);
        true
    }

    /// Sets the target for good. What was granted cannot be taken back: a lower target holds back later credit.
    pub(crate) fn fix(&mut self, target: u32) {
        self.fixed = true;
        self.grow(target);
        self.lower(target);
    }

    fn lower(&mut self, target: u32) {
        let less = self.target.saturating_sub(target);
        let unpaid = less.saturating_sub(self.owed.min(less));
        self.owed = self.owed.saturating_sub(less);
        self.debt = self.debt.saturating_add(unpaid);
        self.target = target;
    }

    pub(crate) const fn target(&self) -> u32 {
        self.target
    }

    /// By how much the target may grow without a charge to the budget.
    pub(crate) const fn debt(&self) -> u32 {
        self.debt
    }
}

/// Keeps the shortest round trip. One that took no time was not measured: both ends were told the same time.
pub(crate) fn sample(rtt: &mut Option<Duration>, sample: Duration) {
    if !sample.is_zero() {
        *rtt = Some(rtt.map_or(sample, |least| least.min(sample)));
    }
}

/// What this side may send on a channel.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SendWindow {
    window: u32,
    max_packet: u32,
    /// The most that it ever was.
    largest: u32,
}

impl SendWindow {
    pub(crate) const fn new(window: u32, max_packet: u32) -> Self {
        Self {
            window,
            max_packet,
            largest: window,
        }
    }

    pub(crate) const fn window(self) -> u32 {
        self.window
    }

    pub(crate) const fn max_packet(self) -> u32 {
        self.max_packet
    }

    /// WINDOW_ADJUST. `false`: RFC 4254 section 5.2, "Implementations MUST correctly handle window sizes of up to
    /// 2^32 - 1 bytes. The window MUST NOT be increased above 2^32 - 1 bytes."
    pub(crate) fn add(&mut self, bytes: u32) -> bool {
        match self.window.checked_add(bytes) {
            Some(window) => {
                self.window = window;
                self.largest = self.largest.max(window);
                true
            }
            None => false,
        }
    }

    /// Whether the window takes less than `len` bytes, and has taken so much more that the peer is sure to have most of it
    /// still to give back.
    pub(crate) fn is_remainder(self, len: usize) -> bool {
        let large = |window| usize::try_from(window).unwrap_or(usize::MAX);
        large(self.window) < len && large(self.largest) / MUCH_MORE >= len
    }

    /// The longest data packet that may leave now.
    pub(crate) fn next_packet(self) -> usize {
        usize::try_from(self.window.min(self.max_packet)).unwrap_or(usize::MAX)
    }

    pub(crate) fn sent(&mut self, len: usize) {
        self.window = self
            .window
            .saturating_sub(u32::try_from(len).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u32 = 1024 * 1024;

    #[test]
    fn the_first_window_is_a_share_of_the_budget() {
        let limits = Limits::default();
        assert_eq!(first_window(64 << 20, &limits), 2 * MIB);
        assert_eq!(first_window(8 << 20, &limits), MIB);
        assert_eq!(first_window(0, &limits), 32 * 1024, "what each is sure of");
        let small = Limits {
            window: 1000,
            ..limits
        };
        assert_eq!(first_window(64 << 20, &small), 1000);
    }

    /// A sender that always uses its whole window, on a path with this round trip and rate (bytes per millisecond).
    fn settled_window(round_trip: u64, rate: u64) -> u32 {
        let start = crate::channel::tests::start();
        let mut window = RecvWindow::new(2 * MIB);
        let mut rtt = None;
        let mut credit = std::collections::VecDeque::from([(0_u64, u64::from(2 * MIB))]);
        let mut may_send = 0;
        for ms in 0..20_000_u64 {
            let now = start + Duration::from_millis(ms);
            while credit.front().is_some_and(|(at, _)| *at <= ms) {
                may_send += credit.pop_front().map_or(0, |(_, bytes)| bytes);
            }
            let mut budget = rate.min(may_send);
            may_send -= budget;
            while budget > 0 {
                let len = budget.min(u64::from(MAX_PACKET));
                budget -= len;
                assert!(window.arrived(len as u32, now, &mut rtt));
                window.consume(len as u32);
                if window.credit_due() {
                    if window.limits_sender(now, rtt) {
                        window.grow((window.target() * 2).min(32 * MIB));
                    }
                    credit.push_back((ms + round_trip, u64::from(window.grant(now))));
                }
            }
        }
        window.target()
    }

    #[test]
    fn a_long_fat_path_grows_the_window_and_a_short_one_does_not() {
        assert!(
            settled_window(100, 100_000) >= 10 * MIB,
            "100 ms at 100 MB/s"
        );
        assert!(settled_window(1, 100_000) <= 4 * MIB, "1 ms at 100 MB/s");
        assert!(settled_window(100, 1_000) <= 4 * MIB, "100 ms at 1 MB/s");
    }

    #[test]
    fn a_lowered_target_holds_credit_back_until_it_is_reached() {
        let mut window = RecvWindow::new(1000);
        let now = crate::channel::tests::start();
        window.fix(400);
        assert!(window.arrived(1000, now, &mut None));
        window.consume(600);
        assert!(!window.credit_due());
        assert_eq!(window.charge(), 400);
        window.consume(400);
        assert_eq!(window.grant(now), 400);
    }

    #[test]
    fn credit_is_due_at_a_quarter_of_the_window_and_never_for_less_than_three_packets_or_half() {
        let cases = [
            (0, None),
            (1, Some(1)),
            (1_000, Some(500)),
            (256 * 1024, Some(3 * 32 * 1024)),
            (MIB, Some(256 * 1024)),
            (2 * MIB, Some(512 * 1024)),
            (32 * MIB, Some(512 * 1024)),
        ];
        let now = crate::channel::tests::start();
        for (size, due) in cases {
            let mut window = RecvWindow::new(size);
            assert!(!window.credit_due(), "{size}: nothing is owed");
            assert!(window.arrived(size, now, &mut None));
            let Some(due) = due else { continue };
            window.consume(due - 1);
            assert!(!window.credit_due(), "{size}: one byte less");
            window.consume(1);
            assert!(window.credit_due(), "{size}");
        }
    }

    #[test]
    fn a_window_of_its_first_size_is_not_reviewed() {
        let mut window = RecvWindow::new(1_000);
        assert!(!window.begin_review());
        window.grow(1_001);
        assert!(window.begin_review());
        assert!(!window.begin_review(), "it is already");
    }

    /// A window of 1,000 bytes that has grown to 4,000 and, since nobody used that much, was lowered again.
    fn lowered() -> RecvWindow {
        let mut window = RecvWindow::new(1_000);
        window.grow(4_000);
        assert_eq!(window.grant(crate::channel::tests::start()), 3_000);
        assert!(window.begin_review());
        assert!(window.review(), "it limited its sender");
        assert!(!window.review(), "it did not");
        assert_eq!((window.target(), window.debt()), (1_000, 3_000));
        window
    }

    #[test]
    fn a_lowered_window_is_due_when_a_whole_one_is_used_without_credit() {
        let now = crate::channel::tests::start();
        let mut window = lowered();
        assert!(!window.is_due(), "nothing was used");
        for (used, due) in [(999, false), (1, true)] {
            assert!(window.arrived(used, now, &mut None));
            window.consume(used);
            assert!(
                !window.credit_due(),
                "what was granted too much is paid first"
            );
            assert_eq!(window.is_due(), due);
        }
        let mut fixed = lowered();
        fixed.fix(1_000);
        assert!(fixed.arrived(1_000, now, &mut None));
        fixed.consume(1_000);
        assert!(!fixed.is_due(), "it is not to grow");
    }

    #[test]
    fn a_window_of_which_a_whole_was_used_and_one_that_is_fixed_are_not_lowered() {
        let now = crate::channel::tests::start();
        let grown = || {
            let mut window = RecvWindow::new(1_000);
            window.grow(4_000);
            window.grant(now);
            assert!(window.begin_review());
            window
        };
        let mut used = grown();
        assert!(used.review(), "it limited its sender");
        assert!(used.arrived(4_000, now, &mut None));
        used.consume(4_000);
        assert!(used.review(), "a whole one was used");
        assert_eq!(used.target(), 4_000);
        let mut fixed = grown();
        fixed.fix(4_000);
        assert!(!fixed.review(), "it is not looked at again");
        assert_eq!(fixed.target(), 4_000);
    }

    #[test]
    fn a_window_that_was_not_lowered_is_due_for_credit_only() {
        let now = crate::channel::tests::start();
        let mut window = RecvWindow::new(1_000);
        for _ in 0..2 {
            assert!(window.arrived(500, now, &mut None));
            window.consume(500);
            assert_eq!(window.grant(now), 500);
        }
        assert!(
            !window.is_due(),
            "a whole window was used, and nothing is owed"
        );
    }

    #[test]
    fn a_window_beyond_32_bits_is_refused() {
        let mut window = SendWindow::new(u32::MAX, 1);
        assert!(window.add(0));
        assert!(!window.add(1));
    }

    proptest! {
        #[test]
        fn no_credit_is_lost_or_invented(steps in prop::collection::vec((0_u8..7, 0_u32..40_000), 1..200)) {
            let now = crate::channel::tests::start();
            let mut window = RecvWindow::new(100_000);
            let (mut sent, mut granted, mut consumed) = (0_u64, 100_000_u64, 0_u64);
            for (step, len) in steps {
                match step {
                    0 | 1 => {
                        let fits = sent + u64::from(len) <= granted;
                        prop_assert_eq!(window.arrived(len, now, &mut None), fits);
                        if fits { sent += u64::from(len) }
                    }
                    2 => {
                        let len = u64::from(len).min(sent - consumed);
                        let before = window.charge();
                        let paid = window.consume(len as u32);
                        prop_assert_eq!(window.charge() + u64::from(paid), before);
                        consumed += len;
                    }
                    3 if window.credit_due() => granted += u64::from(window.grant(now)),
                    4 => window.fix(len * 4),
                    5 if window.target() < 1_000_000 => {
                        window.grow(window.target() + len);
                        window.begin_review();
                    }
                    6 => _ = window.review(),
                    _ => {}
                }
                prop_assert_eq!(granted - sent, u64::from(window.granted()));
                // What the peer may send plus what is unread and owed is what the budget is charged.
                let owed = u64::from(window.owed);
                prop_assert_eq!(granted - sent + (sent - consumed) + owed, window.charge());
            }
        }
    }
}
