//! Replies in the order of the requests, whatever the order of the answers.
//!
//! RFC 4254 section 4: "it is REQUIRED that replies to SSH_MSG_GLOBAL_REQUESTS MUST be sent in the same order as the
//! corresponding request messages." Section 5.4 demands the same of the requests of one channel.

use std::collections::VecDeque;

use crate::limits::{Limits, REFUSALS_PER_QUESTION};

/// A request of the peer that wants a reply.
#[derive(Debug)]
enum Entry {
    /// The caller has been asked.
    Open { serial: u32, program: bool },
    /// Accepted behind an open one; the data of the reply.
    Accepted(Box<[u8]>),
    /// So many refused in a row behind an open one.
    Refused(u32),
}

/// A reply whose turn has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Accepted(Box<[u8]>),
    Refused,
}

/// The requests of the peer on one channel, or on the connection, from the oldest that is not answered.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    queue: VecDeque<Entry>,
    open: u16,
    refused: u32,
}

impl Questions {
    /// Questions that the caller has not answered.
    pub(crate) fn open(&self) -> usize {
        usize::from(self.open)
    }

    /// The caller is asked.
    pub(crate) fn ask(&mut self, serial: u32, program: bool) {
        self.open = self.open.saturating_add(1);
        self.queue.push_back(Entry::Open { serial, program });
    }

    /// Whether more refusals wait behind an open question than any correct peer provokes.
    pub(crate) fn overflows(&self, limits: &Limits) -> bool {
        let most = limits
            .open_questions
            .saturating_add(1)
            .saturating_mul(REFUSALS_PER_QUESTION);
        usize::try_from(self.refused).is_ok_and(|refused| refused > most)
    }

    /// The library accepts. It is sent with the next [`poll`](Self::poll)s.
    pub(crate) fn accept(&mut self) {
        self.queue.push_back(Entry::Accepted(Box::default()));
    }

    /// The library refuses. It is sent with the next [`poll`](Self::poll)s.
    pub(crate) fn refuse(&mut self) {
        self.refused = self.refused.saturating_add(1);
        match self.queue.back_mut() {
            Some(Entry::Refused(count)) => *count = count.saturating_add(1),
            _ => self.queue.push_back(Entry::Refused(1)),
        }
    }

    /// The caller's answer: accepted with data, or refused. Says whether it was about a program; `None` when there is
    /// no such question.
    pub(crate) fn answer(&mut self, serial: u32, answer: Option<&[u8]>) -> Option<bool> {
        let entry = self
            .queue
            .iter_mut()
            .find(|entry| matches!(entry, Entry::Open { serial: other, .. } if *other == serial))?;
        let Entry::Open { program, .. } = *entry else {
            return None;
        };
        *entry = match answer {
            Some(data) => Entry::Accepted(data.into()),
            None => {
                self.refused = self.refused.saturating_add(1);
                Entry::Refused(1)
            }
        };
        self.open = self.open.saturating_sub(1);
        Some(program)
    }

    /// The next reply that may leave.
    pub(crate) fn poll(&mut self) -> Option<Reply> {
        let reply = match self.queue.front_mut()? {
            Entry::Open { .. } => return None,
            Entry::Refused(count) if *count > 1 => {
                *count = count.saturating_sub(1);
                self.refused = self.refused.saturating_sub(1);
                return Some(Reply::Refused);
            }
            Entry::Refused(_) => {
                self.refused = self.refused.saturating_sub(1);
                Reply::Refused
            }
            Entry::Accepted(data) => Reply::Accepted(std::mem::take(data)),
        };
        self.queue.pop_front();
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        Some(reply)
    }

    /// All questions are withdrawn.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_leave_in_the_order_of_the_requests() {
        let mut questions = Questions::default();
        questions.ask(1, true);
        questions.refuse();
        questions.refuse();
        questions.ask(2, false);
        assert_eq!(questions.answer(2, Some(b"two")), Some(false));
        assert_eq!(questions.poll(), None);
        assert_eq!(questions.answer(1, None), Some(true));
        assert_eq!(questions.answer(1, None), None, "answered once");
        let replies: Vec<_> = std::iter::from_fn(|| questions.poll()).collect();
        assert_eq!(
            replies,
            [
                Reply::Refused,
                Reply::Refused,
                Reply::Refused,
                Reply::Accepted(b"two"[..].into())
            ]
        );
        assert_eq!((questions.open(), questions.refused), (0, 0));
    }
}
