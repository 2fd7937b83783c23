//! What a layer is handed besides its own state.

use std::collections::VecDeque;
use std::time::Instant;

use crate::limits::Limits;
use crate::log::Log;
use crate::packet::output::Output;

/// The ways out of a layer: bytes, events, log; and what it may ask: limits, the time.
#[derive(Debug)]
pub(crate) struct Cx<'a, E> {
    pub(crate) out: &'a mut Output,
    pub(crate) events: &'a mut Events<E>,
    pub(crate) log: &'a mut Log,
    pub(crate) limits: &'a Limits,
    pub(crate) now: Instant,
}

/// Connection events that wait for the caller. The spine reads no packet while there is no room, and one packet makes
/// at most a few events, so the queue is bounded.
#[derive(Debug)]
pub(crate) struct Events<E> {
    queue: VecDeque<E>,
    max: usize,
}

impl<E> Events<E> {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            max: max.max(1),
        }
    }

    pub(crate) fn push(&mut self, event: impl Into<E>) {
        self.queue.push_back(event.into());
    }

    pub(crate) fn has_room(&self) -> bool {
        self.queue.len() < self.max
    }

    /// Whether stopped input may go on, and not only for one more event.
    pub(crate) fn has_much_room(&self) -> bool {
        self.queue.len() <= self.max / 2
    }

    pub(crate) fn poll(&mut self) -> Option<E> {
        let event = self.queue.pop_front();
        if self.queue.is_empty() && self.queue.capacity() > 8 {
            self.queue = VecDeque::new();
        }
        event
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

/// The payload of a packet, and where it lies in the block that is being processed: a channel's data is not copied
/// but remembered as a range of that block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Payload<'a> {
    pub(crate) bytes: &'a [u8],
    /// Of `bytes[0]`, from the start of the block.
    pub(crate) offset: usize,
}
