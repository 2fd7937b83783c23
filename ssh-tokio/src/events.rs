//! What happens, as streams. They are views of the state, not queues: nothing is lost when they are read late, and
//! nothing piles up when they are not read.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use ssh_proto::{ClientRole, Role};

use crate::Error;
use crate::ExitStatus;
use crate::channel::{Channel, Owner};
use crate::waiters::Wish;

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

/// The events of one channel, each once: [`Channel::events`].
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

    /// The next event; `None` after the last one.
    ///
    /// Cancellation: no event is lost.
    pub async fn next(&mut self) -> Option<ChannelEvent> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl<R: Role> Stream for ChannelEvents<R> {
    type Item = ChannelEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ChannelEvent>> {
        if self.closed {
            return Poll::Ready(None);
        }
        let this = &mut *self;
        let id = this.channel.id();
        this.channel.shared().act(|core| {
            let over = core.over.is_some();
            let Some(state) = core.channels.get_mut(id) else {
                this.closed = true;
                return Poll::Ready(Some(ChannelEvent::Closed));
            };
            if let Some(status) = state.exit.clone().filter(|_| !this.exited) {
                this.exited = true;
                return Poll::Ready(Some(ChannelEvent::Exited(status)));
            }
            if state.eof && !this.eof {
                this.eof = true;
                return Poll::Ready(Some(ChannelEvent::Eof));
            }
            if state.closed || over {
                this.closed = true;
                return Poll::Ready(Some(ChannelEvent::Closed));
            }
            state
                .waiters
                .register(Wish::STATE, cx.waker(), &mut core.wakes);
            Poll::Pending
        })
    }
}

impl<R: Role> fmt::Debug for ChannelEvents<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ChannelEvents")
            .field(&self.channel.id())
            .finish()
    }
}

/// Something that happened to the connection as a whole.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// New keys are in force; so many times since the connection began, or since this was told last.
    Rekeyed(u64),
    /// The connection has ended, and this is why. The last event.
    Disconnected(Error),
}

/// The events of a connection, from the call on: [`Client::events`](crate::Client::events),
/// [`ServerConnection::events`](crate::ServerConnection::events).
pub struct Events<R: Role = ClientRole> {
    owner: Arc<Owner<R>>,
    rekeys: u64,
    over: bool,
}

impl<R: Role> Events<R> {
    pub(crate) fn new(owner: Arc<Owner<R>>) -> Self {
        let rekeys = owner.shared.lock().rekeys;
        Self {
            owner,
            rekeys,
            over: false,
        }
    }

    /// The next event; `None` after the last one.
    ///
    /// Cancellation: no event is lost.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl<R: Role> Stream for Events<R> {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.over {
            return Poll::Ready(None);
        }
        let this = &mut *self;
        this.owner.shared.act(|core| {
            if core.rekeys > this.rekeys {
                let new = core.rekeys - this.rekeys;
                this.rekeys = core.rekeys;
                return Poll::Ready(Some(Event::Rekeyed(new)));
            }
            if let Some(error) = &core.over {
                this.over = true;
                return Poll::Ready(Some(Event::Disconnected(error.clone())));
            }
            core.waiters
                .register(Wish::STATE, cx.waker(), &mut core.wakes);
            Poll::Pending
        })
    }
}

impl<R: Role> fmt::Debug for Events<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}
