//! What scripts do with a channel of a hub: the words of [`Chan`] as closures on the core.

use std::sync::{Arc, Mutex};

use ssh_proto::{Channel, ChannelId, ChannelRequest, Misuse, Stream, WriteError};

use super::{ChannelState, Desk, HubRole, State, lock};
use crate::scenario::link::{BoxFuture, Chan, Event, Failure, Outcome, Tell};
use crate::scenario::script::Exit;

/// How a command went that may have to wait: for room, or until the peer has answered others.
pub(super) fn tried<T>(result: Result<T, Misuse>, state: &State) -> Option<Outcome<T>> {
    match result {
        Err(Misuse::Blocked | Misuse::Limit("pending_opens" | "pending_requests")) => None,
        Err(misuse) => Some(Err(state.over().unwrap_or(Failure::Misuse(misuse)))),
        Ok(done) => Some(Ok(done)),
    }
}

/// A channel of a hub.
pub(super) struct HubChan<R: HubRole> {
    desk: Arc<Desk<R>>,
    id: ChannelId,
    /// Which events were taken: how the program ended, EOF, the last one.
    taken: Mutex<[bool; 3]>,
}

impl<R: HubRole> HubChan<R> {
    pub(super) fn new(desk: &Arc<Desk<R>>, id: ChannelId) -> Self {
        Self {
            desk: Arc::clone(desk),
            id,
            taken: Mutex::default(),
        }
    }

    fn waits<T: Send + 'static>(
        &self,
        mut ready: impl FnMut(&mut Channel<'_, R>, &mut ChannelState) -> Option<Outcome<T>>
        + Send
        + 'static,
    ) -> BoxFuture<'static, Outcome<T>> {
        let id = self.id;
        self.desk.until(move |conn, state, _| {
            let (Some(mut channel), Some(known)) = (conn.channel(id), state.channels.get_mut(&id))
            else {
                return Some(Err(state.over().unwrap_or(Failure::Closed)));
            };
            ready(&mut channel, known).or_else(|| state.over().map(Err))
        })
    }
}

impl<R: HubRole> Drop for HubChan<R> {
    fn drop(&mut self) {
        let id = self.id;
        self.desk.post(move |conn, state, _| {
            if let Some(mut channel) = conn.channel(id) {
                channel.release();
            }
            state.channels.remove(&id);
        });
    }
}

impl<R: HubRole> Chan for HubChan<R> {
    fn id(&self) -> ChannelId {
        self.id
    }

    fn read(&self, stream: Stream, max: usize) -> BoxFuture<'_, Outcome<Vec<u8>>> {
        self.waits(move |channel, state| {
            let chunk = channel.chunk(stream);
            let bytes = chunk[..chunk.len().min(max)].to_vec();
            channel.consume(stream, bytes.len());
            let ended = state.eof || channel.is_closed_by_peer();
            (!bytes.is_empty() || ended).then_some(Ok(bytes))
        })
    }

    fn write<'a>(&'a self, stream: Stream, bytes: &'a [u8]) -> BoxFuture<'a, Outcome<usize>> {
        let bytes = bytes.to_vec();
        self.waits(move |channel, state| {
            if state.unread && stream == Stream::DATA {
                return Some(Err(Failure::Closed));
            }
            match channel.write(stream, &bytes) {
                Ok(len) => Some(Ok(len)),
                Err(WriteError::Blocked) => None,
                Err(_) if state.closed && !channel.is_closed_by_peer() => None,
                Err(_) => Some(Err(Failure::Closed)),
            }
        })
    }

    fn ask<'a>(&'a self, request: &'a ChannelRequest, want_reply: bool) -> BoxFuture<'a, Outcome> {
        let id = self.id;
        let request = request.clone();
        Box::pin(async move {
            let sent = self.desk.until(move |conn, state, _| {
                let Some(mut channel) = conn.channel(id) else {
                    return Some(Err(state.over().unwrap_or(Failure::Closed)));
                };
                let result = match R::ask(&mut channel, &request) {
                    Some(result) => result,
                    None => match &request {
                        ChannelRequest::Custom { name, data } => {
                            let sent = channel.request(name, data, want_reply);
                            sent.map(|request| want_reply.then_some(request))
                        }
                        _ => return Some(Err(Failure::Other("a client's request".into()))),
                    },
                };
                tried(result, state)
            });
            let Some(request) = sent.await? else {
                return Ok(());
            };
            let answer = self.waits(move |_, state| match state.replies.remove(&request) {
                Some(accepted) => Some(Ok(accepted)),
                None => state.closed.then_some(Ok(false)),
            });
            if answer.await? {
                Ok(())
            } else {
                Err(Failure::Refused)
            }
        })
    }

    fn exit<'a>(&'a self, exit: &'a Exit) -> BoxFuture<'a, Outcome> {
        let exit = exit.clone();
        self.waits(move |channel, _| {
            R::exit(channel, &exit);
            Some(Ok(()))
        })
    }

    fn tell(&self, what: Tell) -> BoxFuture<'_, Outcome> {
        let id = self.id;
        self.desk.until(move |conn, _, _| {
            let Some(mut channel) = conn.channel(id) else {
                return Some(Ok(()));
            };
            match what {
                Tell::Eof => channel.eof(),
                Tell::Close => channel.close(),
                Tell::CombineStderr => channel.combine_stderr(),
                Tell::Discard(stream) => channel.discard(stream),
                Tell::EndOfWrite => {
                    // It fails when the channel is closing.
                    _ = channel.end_of_write();
                    channel.discard(Stream::DATA);
                }
            }
            Some(Ok(()))
        })
    }

    fn event(&self) -> BoxFuture<'_, Option<Event>> {
        let id = self.id;
        let mut taken = *lock(&self.taken);
        Box::pin(async move {
            if taken[2] {
                return None;
            }
            let next = self.desk.until(move |_, state, _| {
                let over = state.over.is_some();
                let Some(state) = state.channels.get(&id) else {
                    taken[2] = true;
                    return Some((Event::Closed, taken));
                };
                let event = if let (Some(exit), false) = (&state.exited, taken[0]) {
                    taken[0] = true;
                    Event::Exited(exit.clone())
                } else if state.eof && !taken[1] {
                    taken[1] = true;
                    Event::Eof
                } else if state.closed || over {
                    taken[2] = true;
                    Event::Closed
                } else {
                    return None;
                };
                Some((event, taken))
            });
            let (event, taken) = next.await;
            *lock(&self.taken) = taken;
            Some(event)
        })
    }
}
