//! What a channel has to tell its caller: state, no queue, but for the few things whose order matters.

use std::collections::VecDeque;

use super::Stream;
use super::kinds::{ChannelEvent, ChannelRequest};

/// The events of a channel that were not taken.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Opened, OpenFailed, requests, replies, exit, in order. Each kind is bounded where it is pushed.
    queue: VecDeque<ChannelEvent>,
    /// Requests in the queue that want no reply and are no variables.
    unanswerable: u16,
    /// Replies in the queue.
    replies: u16,
    pub(super) data: bool,
    pub(super) stderr: bool,
    pub(super) writable: bool,
    pub(super) eow: bool,
    pub(super) eof: bool,
    pub(super) closed: bool,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        let flags =
            self.data || self.stderr || self.writable || self.eow || self.eof || self.closed;
        self.queue.is_empty() && !flags
    }

    /// Requests in the queue that want no reply and are no variables: these have a bound of their own.
    pub(super) fn unanswerable(&self) -> usize {
        self.unanswerable.into()
    }

    /// Replies in the queue.
    pub(super) fn replies(&self) -> usize {
        self.replies.into()
    }

    pub(super) fn push(&mut self, event: ChannelEvent) {
        if let Some(count) = self.count(&event) {
            *count = count.saturating_add(1);
        }
        self.queue.push_back(event);
    }

    const fn count(&mut self, event: &ChannelEvent) -> Option<&mut u16> {
        match event {
            ChannelEvent::Requested {
                request: ChannelRequest::Env { .. },
                ..
            } => None,
            ChannelEvent::Requested { token: None, .. } => Some(&mut self.unanswerable),
            ChannelEvent::Replied { .. } => Some(&mut self.replies),
            _ => None,
        }
    }

    /// A size of the terminal that was not taken yet gives way to a later one.
    pub(super) fn forget_window_change(&mut self) {
        let at = self.queue.iter().position(|event| {
            matches!(
                event,
                ChannelEvent::Requested {
                    request: ChannelRequest::WindowChange(_),
                    token: None
                }
            )
        });
        if at.and_then(|at| self.queue.remove(at)).is_some() {
            self.unanswerable = self.unanswerable.saturating_sub(1);
        }
    }

    /// The next event: Opened is the first, data comes before Eof, Eof before Closed, which is the last.
    pub(super) fn poll(&mut self) -> Option<ChannelEvent> {
        if let Some(event) = self.queue.pop_front() {
            if self.queue.is_empty() {
                self.queue = VecDeque::new();
            }
            if let Some(count) = self.count(&event) {
                *count = count.saturating_sub(1);
            }
            return Some(event);
        }
        if std::mem::take(&mut self.data) {
            return Some(ChannelEvent::Data(Stream::DATA));
        }
        if std::mem::take(&mut self.stderr) {
            return Some(ChannelEvent::Data(Stream::STDERR));
        }
        if std::mem::take(&mut self.writable) {
            return Some(ChannelEvent::Writable);
        }
        if std::mem::take(&mut self.eow) {
            return Some(ChannelEvent::EndOfWrite);
        }
        if std::mem::take(&mut self.eof) {
            return Some(ChannelEvent::Eof);
        }
        std::mem::take(&mut self.closed).then_some(ChannelEvent::Closed)
    }
}

#[cfg(test)]
impl Pending {
    pub(super) fn footprint(&self) -> usize {
        self.queue.capacity()
    }
}
