//! What scripts do with the connection of a hub: the words of [`Link`] as closures on the core.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ssh_proto::error::DisconnectReason;
use ssh_proto::{ForwardAddress, OpenChannel, RequestId};

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
            let mut requests = Vec::new();
            if let Kind::Program { .. } = &kind {
                // Everything behind the open, as a client that is in a hurry does it.
                let asked = self.desk.until(move |conn, state, _| {
                    Some(match conn.channel(id) {
                        Some(mut channel) => ask_all(&mut channel, &kind).map_err(Failure::Misuse),
                        None => Err(state.over().unwrap_or(Failure::Closed)),
                    })
                });
                requests = asked.await?;
            }
            let data = self.desk.until(move |_, state, _| {
                let known = state.channels.get_mut(&id);
                let opened = known.and_then(|known| known.opened.take());
                opened.or_else(|| state.over().map(Err))
            });
            let data = data.await?;
            for request in requests {
                let granted = self.desk.until(move |_, state, _| {
                    let known = state.channels.get_mut(&id)?;
                    let reply = known.replies.remove(&request);
                    let closed = known.closed.then_some(false);
                    reply.or(closed).map(Ok).or_else(|| state.over().map(Err))
                });
                if !granted.await? {
                    return Err(Failure::Refused);
                }
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

/// Asks for a program and what belongs to it; the requests whose answers matter.
fn ask_all<R: HubRole>(
    channel: &mut ssh_proto::Channel<'_, R>,
    kind: &Kind,
) -> Result<Vec<RequestId>, ssh_proto::Misuse> {
    let Kind::Program {
        run,
        pty,
        env,
        combine_stderr,
    } = kind
    else {
        return Ok(Vec::new());
    };
    if *combine_stderr {
        channel.combine_stderr();
    }
    let mut requests = Vec::new();
    if let Some(pty) = pty {
        requests.push(R::pty(channel, pty)?);
    }
    for (name, value) in env {
        R::env(channel, name, value)?;
    }
    requests.push(R::start(channel, run.program())?);
    Ok(requests)
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
