//! What happens on a channel, one thing after the other. It is a view of the state, not a queue: nothing is lost when it
//! is read late, and nothing piles up when it is not read.

use std::fmt;

use ssh_proto::{ClientRole, Role};

use crate::ExitStatus;
use crate::channel::Channel;
use crate::core::Wish;

/// Something that happened on a channel besides data.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChannelEvent {
    /// The program has ended.
    Exited(ExitStatus),
    /// The peer sends no more data. What is unread stays readable.
    Eof,
    /// Both sides have closed the channel, or the connection has ended. The last event.
    Closed,
}

/// The events of one channel, each once: [`Channel::events`]. Taking the next one waits for it.
pub struct ChannelEvents<R: Role = ClientRole> {
    channel: Channel<R>,
    exited: bool,
    eof: bool,
    closed: bool,
}

impl<R: Role> ChannelEvents<R> {
    pub(crate) const fn new(channel: Channel<R>) -> Self {
        Self {
            channel,
            exited: false,
            eof: false,
            closed: false,
        }
    }
}

impl<R: Role> Iterator for ChannelEvents<R> {
    type Item = ChannelEvent;

    fn next(&mut self) -> Option<ChannelEvent> {
        if self.closed {
            return None;
        }
        let (exited, eof) = (self.exited, self.eof);
        let channel = &self.channel;
        let next = channel
            .shared()
            .wait(channel.interest(Wish::State), None, "an event", |core| {
                channel.state(core, |state| {
                    if let Some(status) = state.exit.clone().filter(|_| !exited) {
                        return Some(ChannelEvent::Exited(status));
                    }
                    if state.eof && !eof {
                        return Some(ChannelEvent::Eof);
                    }
                    state.closed.then_some(ChannelEvent::Closed)
                })
            })
            // The connection has ended.
            .unwrap_or(ChannelEvent::Closed);
        match next {
            ChannelEvent::Exited(_) => self.exited = true,
            ChannelEvent::Eof => self.eof = true,
            ChannelEvent::Closed => self.closed = true,
        }
        Some(next)
    }
}

impl<R: Role> fmt::Debug for ChannelEvents<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ChannelEvents")
            .field(&self.channel.id())
            .finish()
    }
}
