//! When a new key exchange is due, and how often the peer may start one (RFC 4253 section 9, RFC 4344 section 3).

use std::time::Instant;

use crate::error::PeerError;
use crate::limits::{CHEAP_REKEY_BYTES, CHEAP_REKEY_TIME, Limits, REKEY_PACKETS, RekeyLimits};
use crate::packet::sealer::Traffic;

/// When the last exchange was, and how many cheap ones the peer started.
#[derive(Debug)]
pub(crate) struct Rekey {
    limits: RekeyLimits,
    last: Instant,
    cheap: u32,
}

impl Rekey {
    pub(crate) fn new(limits: RekeyLimits, now: Instant) -> Self {
        Self {
            limits: RekeyLimits {
                bytes: limits.bytes.max(RekeyLimits::LEAST_BYTES),
                packets: limits
                    .packets
                    .clamp(RekeyLimits::LEAST_PACKETS, REKEY_PACKETS),
                time: limits.time.map(|time| time.max(RekeyLimits::LEAST_TIME)),
            },
            last: now,
            cheap: 0,
        }
    }

    /// An exchange ended.
    pub(crate) const fn done(&mut self, now: Instant) {
        self.last = now;
    }

    /// When the keys are too old.
    #[inline]
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.limits
            .time
            .and_then(|time| self.last.checked_add(time))
    }

    /// Whether one direction has seen enough, or the keys are too old.
    pub(crate) fn is_due(&self, sent: Traffic, received: Traffic, now: Instant) -> bool {
        let full = |traffic: Traffic| {
            traffic.bytes >= self.limits.bytes || traffic.packets >= self.limits.packets
        };
        full(sent) || full(received) || self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// The peer starts an exchange.
    pub(crate) fn peer_starts(
        &mut self,
        sent: Traffic,
        received: Traffic,
        limits: &Limits,
        now: Instant,
    ) -> Result<(), PeerError> {
        if now.saturating_duration_since(self.last) < CHEAP_REKEY_TIME
            && sent.bytes.max(received.bytes) < CHEAP_REKEY_BYTES
        {
            self.cheap = self.cheap.saturating_add(1);
            if self.cheap > limits.cheap_rekeys {
                return Err(PeerError::Limit(
                    "key exchanges that follow one another too fast",
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "a test needs a time to start from"
)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn no_limit_is_above_two_to_the_31_packets() {
        let start = Instant::now();
        let limits = RekeyLimits {
            bytes: u64::MAX,
            packets: u64::MAX,
            time: None,
        };
        let rekey = Rekey::new(limits, start);
        for (packets, due) in [((1 << 31) - 1, false), (1 << 31, true)] {
            let much = Traffic { bytes: 0, packets };
            assert_eq!(rekey.is_due(much, NOTHING, start), due);
            assert_eq!(rekey.is_due(NOTHING, much, start), due);
        }
    }

    #[test]
    fn an_exchange_is_cheap_within_ten_seconds_and_16_kib() {
        let start = Instant::now();
        let limits = Limits {
            cheap_rekeys: 0,
            ..Limits::default()
        };
        let much = |bytes| Traffic { bytes, packets: 1 };
        let mut rekey = Rekey::new(RekeyLimits::default(), start);
        for (millis, sent, received, cheap) in [
            (9_999, CHEAP_REKEY_BYTES - 1, CHEAP_REKEY_BYTES - 1, true),
            (10_000, 0, 0, false),
            (0, CHEAP_REKEY_BYTES, 0, false),
            (0, 0, CHEAP_REKEY_BYTES, false),
        ] {
            let now = start + Duration::from_millis(millis);
            let outcome = rekey.peer_starts(much(sent), much(received), &limits, now);
            assert_eq!(outcome.is_err(), cheap);
        }
    }

    const FULL_PACKET: Traffic = Traffic {
        bytes: 32 * 1024,
        packets: 1,
    };
    const NOTHING: Traffic = Traffic {
        bytes: 100,
        packets: 1,
    };

    #[test]
    fn a_peer_that_rekeys_after_every_packet_of_either_direction_may_do_so() {
        let now = Instant::now();
        let mut rekey = Rekey::new(RekeyLimits::default(), now);
        for (sent, received) in [(FULL_PACKET, NOTHING), (NOTHING, FULL_PACKET)] {
            for _ in 0..1_000 {
                rekey
                    .peer_starts(sent, received, &Limits::default(), now)
                    .unwrap();
                rekey.done(now);
            }
        }
    }

    #[test]
    fn a_peer_that_does_nothing_but_rekey_is_cut_off() {
        let mut now = Instant::now();
        let limits = Limits::default();
        let mut rekey = Rekey::new(RekeyLimits::default(), now);
        // Now and then is fine.
        for _ in 0..1_000 {
            now += CHEAP_REKEY_TIME;
            rekey.peer_starts(NOTHING, NOTHING, &limits, now).unwrap();
            rekey.done(now);
        }
        for _ in 0..limits.cheap_rekeys {
            rekey.peer_starts(NOTHING, NOTHING, &limits, now).unwrap();
            rekey.done(now);
        }
        assert!(rekey.peer_starts(NOTHING, NOTHING, &limits, now).is_err());
    }
}
