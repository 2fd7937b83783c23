//! What scripts do with the connection of a hub: the words of [`Link`] as closures on the core.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ssh_proto::error::DisconnectReason;
use ssh_proto::{Channel, ChannelId, ForwardAddress, Misuse, OpenChannel, RequestId};

use super::chan::{HubChan, tried};
use super::{Desk, HubRole, lock};
use crate::scenario::link::{BoxFuture, Chan, Failure, Link, Opened, Outcome};
use crate::scenario::script::{Kind, Login};

/// The connection of a hub.
pub(super) struct HubLink<R: HubRole> {
    desk: Arc<Desk<R>>,
    /// Listeners that were granted.
    forwards: Mutex<BTreeMap<ForwardAddress, RequestId>>,
}

impl<R: HubRole> HubLink<R> {
    pub(super) fn new(desk: &Arc<Desk<R>>) -> Self {
        Self {
            desk: Arc::clone(desk),
            forwards: Mutex::default(),
        }
    }

    /// Something that is done to a channel at once.
    async fn on<T: Send + 'static>(
        &self,
        id: ChannelId,
        act: impl FnOnce(&mut Channel<'_, R>) -> Result<T, Misuse> + Send + 'static,
    ) -> Outcome<T> {
        let mut act = Some(act);
        let done = self.desk.until(move |conn, state, _| {
            Some(match (conn.channel(id), act.take()) {
                (Some(mut channel), Some(act)) => act(&mut channel).map_err(Failure::Misuse),
                _ => Err(state.over().unwrap_or(Failure::Closed)),
            })
        });
        done.await
    }

    /// Waits until a request on a channel is answered, or the channel is not opened.
    async fn granted(&self, id: ChannelId, request: RequestId) -> Outcome {
        let granted = self.desk.until(move |_, state, _| {
            let over = state.over();
            let known = state.channels.get_mut(&id)?;
            if let Some(Err(_)) = &known.opened {
                return known.opened.take().map(|opened| opened.map(|_| false));
            }
            let reply = known.replies.remove(&request);
            let closed = known.closed.then_some(false);
            reply.or(closed).map(Ok).or_else(|| over.map(Err))
        });
        granted.await?.then_some(()).ok_or(Failure::Refused)
    }

    async fn reply(&self, request: RequestId) -> Outcome<Vec<u8>> {
        let reply = self.desk.until(move |_, state, _| {
            let reply = state.replies.remove(&request);
            reply.map(Ok).or_else(|| state.over().map(Err))
        });
        reply.await?.ok_or(Failure::Refused)
    }
}

impl<R: HubRole> Link for HubLink<R> {
    fn open<'a>(&'a self, kind: &'a Kind) -> BoxFuture<'a, Outcome<Opened>> {
        let kind = kind.clone();
        Box::pin(async move {
            let asked = kind.clone();
            let id = self.desk.until(move |conn, state, now| {
                let id = tried(conn.open(open_kind(&asked), now), state)?;
                Some(id.inspect(|id| state.add(*id)))
            });
            let id = id.await?;
            let chan: Arc<dyn Chan> = Arc::new(HubChan::new(&self.desk, id));
            let mut start = None;
            if let Kind::Program {
                run,
                pty,
                env,
                combine_stderr,
            } = kind
            {
                if combine_stderr {
                    self.on(id, |channel| {
                        channel.combine_stderr();
                        Ok(())
                    })
                    .await?;
                }
                if let Some(pty) = pty {
                    // The one answer that is waited for: servers run a command whose terminal they refused.
                    let request = self.on(id, move |channel| R::pty(channel, &pty)).await?;
                    self.granted(id, request).await?;
                }
                // Everything else behind the open, as a client that is in a hurry does it.
                let request = self.on(id, move |channel| {
                    for (name, value) in &env {
                        R::env(channel, name, value)?;
                    }
                    R::start(channel, run.program())
                });
                start = Some(request.await?);
            }
            let data = self.desk.until(move |_, state, _| {
                let known = state.channels.get_mut(&id);
                let opened = known.and_then(|known| known.opened.take());
                opened.or_else(|| state.over().map(Err))
            });
            let data = data.await?;
            if let Some(start) = start {
                self.granted(id, start).await?;
            }
            Ok((chan, data))
        })
    }

    fn global<'a>(
        &'a self,
        name: &'a str,
        data: &'a [u8],
        want_reply: bool,
    ) -> BoxFuture<'a, Outcome<Vec<u8>>> {
        let (name, data) = (name.to_owned(), data.to_vec());
        Box::pin(async move {
            let sent = self.desk.until(move |conn, state, now| {
                tried(conn.global_request(&name, &data, want_reply, now), state)
            });
            let request = sent.await?;
            if want_reply {
                self.reply(request).await
            } else {
                Ok(Vec::new())
            }
        })
    }

    fn listen<'a>(&'a self, address: &'a ForwardAddress) -> BoxFuture<'a, Outcome<ForwardAddress>> {
        let address = address.clone();
        Box::pin(async move {
            let sent = self.desk.until(move |conn, state, now| {
                tried(R::request_forward(conn, address.clone(), now), state)
            });
            let request = sent.await?;
            self.reply(request).await?;
            let bound = self.desk.until(move |conn, _, _| {
                let bound = R::forward(conn, request);
                Some(bound.ok_or_else(|| Failure::Other("granted, but not listed".into())))
            });
            let bound = bound.await?;
            lock(&self.forwards).insert(bound.clone(), request);
            Ok(bound)
        })
    }

    fn cancel<'a>(&'a self, address: &'a ForwardAddress) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let forward = lock(&self.forwards).remove(address);
            let forward = forward.ok_or_else(|| Failure::Other("no such listener".into()))?;
            let sent = self
                .desk
                .until(move |conn, state, now| tried(R::cancel_forward(conn, forward, now), state));
            let request = sent.await?;
            self.reply(request).await?;
            Ok(())
        })
    }

    fn no_more_sessions(&self) -> BoxFuture<'_, Outcome> {
        Box::pin(
            self.desk
                .until(|conn, state, now| tried(R::no_more_sessions(conn, now), state)),
        )
    }

    fn ping(&self) -> BoxFuture<'_, Outcome> {
        Box::pin(async {
            let before = self.desk.until(|conn, state, now| {
                let sent = tried(conn.ping(b"are you there", now), state)?;
                Some(sent.map(|()| state.pongs))
            });
            let before = before.await?;
            let pong = self.desk.until(move |_, state, _| {
                let pong = state.pongs > before;
                pong.then_some(Ok(())).or_else(|| state.over().map(Err))
            });
            pong.await
        })
    }

    fn log_in<'a>(&'a self, login: &'a Login) -> BoxFuture<'a, Outcome<(bool, String)>> {
        R::log_in(&self.desk, *login)
    }

    fn rekey(&self) -> BoxFuture<'_, Outcome> {
        Box::pin(
            self.desk
                .until(|conn, state, now| tried(conn.rekey(now), state)),
        )
    }

    fn rekeyed(&self, count: u64) -> BoxFuture<'_, Outcome> {
        Box::pin(self.desk.until(move |_, state, _| {
            let done = state.rekeys >= count;
            done.then_some(Ok(())).or_else(|| state.over().map(Err))
        }))
    }

    fn rest(&self, time: Duration) -> BoxFuture<'_, ()> {
        let mut until = None;
        self.desk.until(move |_, _, now| {
            let until = *until.get_or_insert(now + time);
            (now >= until).then_some(())
        })
    }

    fn disconnect<'a>(&'a self, reason: DisconnectReason, text: &'a str) -> BoxFuture<'a, ()> {
        let text = text.to_owned();
        Box::pin(self.desk.until(move |conn, _, now| {
            conn.disconnect(reason, &text, now);
            Some(())
        }))
    }

    fn ended(&self) -> BoxFuture<'_, String> {
        Box::pin(self.desk.until(|_, state, _| state.over.clone()))
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.desk.spawn(task);
    }
}

fn open_kind(kind: &Kind) -> OpenChannel<'_> {
    match kind {
        Kind::Session | Kind::Program { .. } => OpenChannel::Session,
        Kind::DirectTcpip(host, port) => OpenChannel::DirectTcpip {
            host,
            port: *port,
            originator: ("127.0.0.1", 0),
        },
        Kind::DirectStreamlocal(path) => OpenChannel::DirectStreamlocal {
            path: path.as_bytes(),
        },
        Kind::ForwardedTcpip(address, port, host, from) => OpenChannel::ForwardedTcpip {
            address,
            port: *port,
            originator: (host, *from),
        },
        Kind::ForwardedStreamlocal(path) => OpenChannel::ForwardedStreamlocal {
            path: path.as_bytes(),
        },
        Kind::Custom(kind, data) => OpenChannel::Custom {
            kind,
            data: data.as_bytes(),
        },
    }
}
