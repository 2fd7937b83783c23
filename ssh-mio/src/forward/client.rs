//! The forwards of a client.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use mio::Token;
use ssh_proto::{
    Client, ClientEvent, ClientRole, ForwardAddress, ForwardTarget, Misuse, OpenFailureReason,
    OpenKind, OpenRequest, RequestId,
};

use crate::session::ClientSession;
use crate::transport::Transport;

use super::connect::Connecting;
use super::link::Link;
use super::owner::{Forward, Orphan, Route, Todo};
use super::socket::Acceptor;
use super::turn::refuse;
use super::{ForwardEvent, ForwardId, Forwards};

/// Commands take a session by its token, at any time: what is to be said on its connection is said when it is served and
/// authenticated. Connections that come sooner wait.
impl Forwards<ClientRole> {
    /// Takes the next event of a session, in place of [`Session::poll_event`](crate::Session::poll_event). What concerns
    /// forwarding is dealt with here; the rest is handed on. Call it until there is nothing more, as it also moves the
    /// bytes of the connections to which something happened.
    pub fn serve<S: Transport>(
        &mut self,
        token: Token,
        session: &mut ClientSession<S>,
        now: Instant,
    ) -> Option<ClientEvent> {
        loop {
            while let Some(event) = session.poll_event() {
                let event = self.handle(token, session.connection(), event, now);
                if event.is_some() {
                    return event;
                }
            }
            if !self.turn(token, session.connection(), now, Self::ask_server) {
                return None;
            }
        }
    }

    fn handle(
        &mut self,
        token: Token,
        ssh: &mut Client,
        event: ClientEvent,
        now: Instant,
    ) -> Option<ClientEvent> {
        match event {
            ClientEvent::Channel(id) if self.channel(token, id, ssh, now) => None,
            ClientEvent::OpenRequested(request) => self
                .connected(token, request, ssh, now)
                .map(ClientEvent::OpenRequested),
            ClientEvent::GlobalReplied { request, reply } => {
                if self.replied(token, request, reply.is_some(), ssh) {
                    return None;
                }
                Some(ClientEvent::GlobalReplied { request, reply })
            }
            ClientEvent::Disconnected(error) => {
                self.remove(token);
                Some(ClientEvent::Disconnected(error))
            }
            other => Some(other),
        }
    }

    /// Listens here on a TCP port, and has the server connect to `target` for each connection that comes (`ssh -L`). Port
    /// 0 takes a free one: [`port`](Self::port) tells which.
    ///
    /// # Errors
    /// The address cannot be listened on, or all tokens are in use. That the target cannot be reached shows in each
    /// connection only.
    pub fn forward_local(
        &mut self,
        session: Token,
        bind: SocketAddr,
        target: impl Into<ForwardTarget>,
    ) -> io::Result<ForwardId> {
        self.listen_here(session, Acceptor::bind(bind)?, Some(target.into()))
    }

    /// The same from a Unix socket, which must not exist yet, can be used by its owner only, and is removed in the end.
    ///
    /// # Errors
    /// Those of [`forward_local`](Self::forward_local).
    pub fn forward_local_path(
        &mut self,
        session: Token,
        path: impl AsRef<Path>,
        target: impl Into<ForwardTarget>,
    ) -> io::Result<ForwardId> {
        let acceptor = Acceptor::bind_path(path.as_ref())?;
        self.listen_here(session, acceptor, Some(target.into()))
    }

    /// Listens here on a TCP port for SOCKS 4, 4a and 5, and has the server connect to wherever each connection asks for
    /// (`ssh -D`).
    ///
    /// # Errors
    /// Those of [`forward_local`](Self::forward_local).
    pub fn forward_dynamic(&mut self, session: Token, bind: SocketAddr) -> io::Result<ForwardId> {
        self.listen_here(session, Acceptor::bind(bind)?, None)
    }

    /// Has the server listen on a TCP port, and connects to `target` from here for each connection that comes
    /// (`ssh -R`). What the address means is told at [`ForwardAddress::Tcpip`]; port 0 lets the server choose.
    /// [`ForwardEvent::Listening`] or [`ForwardEvent::Refused`] follows.
    pub fn forward_remote(
        &mut self,
        session: Token,
        bind: (&str, u16),
        target: impl Into<ForwardTarget>,
    ) -> ForwardId {
        let address = ForwardAddress::tcpip(bind.0, bind.1);
        self.listen_there(session, address, Some(target.into()))
    }

    /// The same from a Unix socket of the server.
    pub fn forward_remote_path(
        &mut self,
        session: Token,
        path: impl AsRef<Path>,
        target: impl Into<ForwardTarget>,
    ) -> ForwardId {
        let path = path.as_ref().as_os_str().as_encoded_bytes();
        let address = ForwardAddress::streamlocal(path);
        self.listen_there(session, address, Some(target.into()))
    }

    /// Has the server listen on a TCP port for SOCKS 4, 4a and 5, and connects from here to wherever each connection asks
    /// for (`ssh -R` with nothing but a port).
    pub fn forward_remote_dynamic(&mut self, session: Token, bind: (&str, u16)) -> ForwardId {
        self.listen_there(session, ForwardAddress::tcpip(bind.0, bind.1), None)
    }

    /// The address that is listened on here; `None` when it is a path, or listened on at the server.
    pub fn address(&self, forward: ForwardId) -> Option<SocketAddr> {
        match self.route(forward)? {
            Route::Local { address, .. } => *address,
            _ => None,
        }
    }

    /// The port that is listened on, here or at the server: port 0 was replaced by the one that was free.
    pub fn port(&self, forward: ForwardId) -> Option<u16> {
        match self.route(forward)? {
            Route::Local { address, .. } => address.map(|address| address.port()),
            Route::Remote {
                address,
                granted: true,
                ..
            } => address.port(),
            _ => None,
        }
    }

    /// Ends a forward: nobody listens here any more, its connections are cut, and when the session is served next the
    /// server is told. No event follows. One that is gone is passed over.
    pub fn stop(&mut self, forward: ForwardId) {
        let session = forward.session;
        let Some(owner) = self.owners.get_mut(&session) else {
            return;
        };
        let Some(Forward { route, links }) = owner.forwards.remove(&forward.key) else {
            return;
        };
        match route {
            Route::Local { listener, .. } => {
                owner.slots.remove(&listener);
                self.close(listener);
            }
            Route::Remote {
                request: Some(request),
                granted,
                ..
            } => {
                owner.requests.insert(request, None);
                if granted {
                    owner.todo.push_back(Todo::Cancel(request));
                }
            }
            // It was not asked for yet, and will not be.
            _ => {}
        }
        let orphans: Vec<Orphan> = links
            .into_iter()
            .flat_map(|link| self.drop_link(session, link))
            .collect();
        self.owner(session).orphans.extend(orphans);
        self.due.insert(session);
    }

    fn route(&self, forward: ForwardId) -> Option<&Route> {
        let owner = self.owners.get(&forward.session)?;
        Some(&owner.forwards.get(&forward.key)?.route)
    }

    fn listen_here(
        &mut self,
        session: Token,
        acceptor: Acceptor,
        target: Option<ForwardTarget>,
    ) -> io::Result<ForwardId> {
        let address = acceptor.address()?;
        let key = self.number();
        let listener = self.listen(session, key, acceptor)?;
        let route = Route::Local {
            listener,
            address,
            target,
        };
        self.owner(session)
            .forwards
            .insert(key, Forward::new(route));
        Ok(ForwardId { session, key })
    }

    fn listen_there(
        &mut self,
        session: Token,
        address: ForwardAddress,
        target: Option<ForwardTarget>,
    ) -> ForwardId {
        let key = self.number();
        let route = Route::Remote {
            address,
            request: None,
            granted: false,
            target,
        };
        let owner = self.owner(session);
        owner.forwards.insert(key, Forward::new(route));
        owner.todo.push_back(Todo::Request(key));
        self.due.insert(session);
        ForwardId { session, key }
    }

    fn ask_server(
        &mut self,
        session: Token,
        todo: &Todo,
        ssh: &mut Client,
        now: Instant,
    ) -> Result<(), Misuse> {
        let owner = self.owner(session);
        match todo {
            Todo::Request(key) => {
                // One that was stopped is not asked for.
                let Some(Forward {
                    route:
                        Route::Remote {
                            address, request, ..
                        },
                    ..
                }) = owner.forwards.get_mut(key)
                else {
                    return Ok(());
                };
                match ssh.request_forward(address.clone(), now) {
                    Ok(asked) => {
                        *request = Some(asked);
                        owner.requests.insert(asked, Some(*key));
                        Ok(())
                    }
                    Err(error @ (Misuse::Blocked | Misuse::Limit("pending_requests"))) => {
                        Err(error)
                    }
                    Err(error) => {
                        self.refused(session, *key);
                        Err(error)
                    }
                }
            }
            Todo::Cancel(request) => {
                let cancelled = ssh.cancel_forward(*request, now);
                if !matches!(
                    cancelled,
                    Err(Misuse::Blocked | Misuse::Limit("pending_requests"))
                ) {
                    owner.requests.remove(request);
                }
                owner.requests.insert(cancelled?, None);
                Ok(())
            }
            Todo::Open(_) => Ok(()),
        }
    }

    fn refused(&mut self, session: Token, key: u64) {
        self.owner(session).forwards.remove(&key);
        let forward = ForwardId { session, key };
        self.events.push_back(ForwardEvent::Refused(forward));
    }

    /// The server answered a request. `false`: it is none of ours.
    fn replied(
        &mut self,
        session: Token,
        request: RequestId,
        accepted: bool,
        ssh: &Client,
    ) -> bool {
        let Some(owner) = self.owners.get_mut(&session) else {
            return false;
        };
        let Some(&key) = owner.requests.get(&request) else {
            return false;
        };
        let Some(key) = key else {
            // It was stopped before the server had granted it; or this is the answer to that.
            if accepted && ssh.forward(request).is_some() {
                owner.todo.push_back(Todo::Cancel(request));
            } else {
                owner.requests.remove(&request);
            }
            return true;
        };
        if let Some(Forward {
            route: Route::Remote {
                address, granted, ..
            },
            ..
        }) = owner.forwards.get_mut(&key)
            && let Some(bound) = ssh.forward(request).filter(|_| accepted)
        {
            *granted = true;
            *address = bound.clone();
            let forward = ForwardId { session, key };
            self.events.push_back(ForwardEvent::Listening(forward));
        } else {
            owner.requests.remove(&request);
            self.refused(session, key);
        }
        true
    }

    /// A connection came to a listener of the server. Given back: it is none of ours.
    fn connected(
        &mut self,
        session: Token,
        request: OpenRequest,
        ssh: &mut Client,
        now: Instant,
    ) -> Option<OpenRequest> {
        let forward = match request.kind() {
            OpenKind::ForwardedTcpip { forward, .. }
            | OpenKind::ForwardedStreamlocal { forward, .. } => *forward,
            _ => return Some(request),
        };
        let owner = self.owners.get(&session);
        let Some(key) = owner.and_then(|owner| owner.requests.get(&forward)) else {
            return Some(request);
        };
        let route = key.and_then(|key| Some((key, &owner?.forwards.get(&key)?.route)));
        let Some((key, Route::Remote { target, .. })) = route else {
            // It was stopped, and the server does not know yet.
            refuse(ssh, request, OpenFailureReason::ADMINISTRATIVELY_PROHIBITED);
            return None;
        };
        let link = match target {
            Some(target) => {
                let connecting = Connecting::new(target.clone(), Some(request));
                Link::to_target(key, connecting, now)
            }
            None => match ssh.accept_open(request, &[]) {
                Ok(id) => Link::to_channel(key, id, now),
                // The connection has ended.
                Err(_) => return None,
            },
        };
        self.connect(session, link, ssh, now);
        None
    }
}
