//! How a server serves what its policy grants.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use mio::Token;
use ssh_proto::{
    Answer, ForwardAddress, ForwardPolicy, ForwardTarget, GlobalRequestKind, GlobalRequestToken,
    ListenOn, OpenFailureReason, OpenKind, OpenRequest, Server, ServerEvent, ServerRole,
};

use crate::session::ServerSession;
use crate::transport::Transport;

use super::Forwards;
use super::connect::Connecting;
use super::link::Link;
use super::owner::{Forward, Route};
use super::socket::Acceptor;
use super::turn::refuse;

impl Forwards<ServerRole> {
    /// What the client of a session may have forwarded, from now on: nothing without it. To be called when the user is
    /// authenticated, at the latest.
    pub fn allow(&mut self, session: Token, policy: ForwardPolicy) {
        self.owner(session).policy = policy;
    }

    /// Takes the next event of a session, in place of [`Session::poll_event`](crate::Session::poll_event). What concerns
    /// forwarding is dealt with here, and refused unless it was [allowed](Self::allow); the rest is handed on. Call it
    /// until there is nothing more, as it also moves the bytes of the connections to which something happened.
    pub fn serve<S: Transport>(
        &mut self,
        token: Token,
        session: &mut ServerSession<S>,
        now: Instant,
    ) -> Option<ServerEvent> {
        loop {
            while let Some(event) = session.poll_event() {
                let event = self.handle(token, session.connection(), event, now);
                if event.is_some() {
                    return event;
                }
            }
            if !self.turn(token, session.connection(), now, |_, _, _, _, _| Ok(())) {
                return None;
            }
        }
    }

    fn handle(
        &mut self,
        token: Token,
        ssh: &mut Server,
        event: ServerEvent,
        now: Instant,
    ) -> Option<ServerEvent> {
        match event {
            ServerEvent::Channel(id) if self.channel(token, id, ssh, now) => None,
            ServerEvent::OpenRequested(request) => match request.kind() {
                OpenKind::DirectTcpip { .. } | OpenKind::DirectStreamlocal { .. } => {
                    self.direct(token, request, ssh, now);
                    None
                }
                _ => Some(ServerEvent::OpenRequested(request)),
            },
            ServerEvent::GlobalRequested(request) => match &request.kind {
                GlobalRequestKind::Forward(address) => {
                    self.forward(token, address, request.token, ssh);
                    None
                }
                GlobalRequestKind::CancelForward(address) => {
                    self.cancel(token, address, request.token, ssh);
                    None
                }
                _ => Some(ServerEvent::GlobalRequested(request)),
            },
            ServerEvent::Disconnected(error) => {
                self.remove(token);
                Some(ServerEvent::Disconnected(error))
            }
            other => Some(other),
        }
    }

    /// The client wants a connection made.
    fn direct(&mut self, session: Token, request: OpenRequest, ssh: &mut Server, now: Instant) {
        let policy = self.owners.get(&session).map(|owner| &owner.policy);
        let target = ForwardTarget::of(request.kind())
            .filter(|target| policy.is_some_and(|policy| policy.may_connect(target)));
        let Some(target) = target else {
            return refuse(ssh, request, OpenFailureReason::ADMINISTRATIVELY_PROHIBITED);
        };
        let connecting = Connecting::new(target, Some(request));
        self.connect(session, Link::to_target(0, connecting, now), ssh, now);
    }

    /// The client wants this server to listen.
    fn forward(
        &mut self,
        session: Token,
        address: &ForwardAddress,
        token: Option<GlobalRequestToken>,
        ssh: &mut Server,
    ) {
        // Such a question always has a token.
        let Some(token) = token else { return };
        // Both answers fail only when the connection has ended, and with it all this.
        _ = match self.bind(session, address) {
            Some(port) => ssh.accept_forward(token, port),
            None => ssh.answer_global(token, Answer::Refuse),
        };
    }

    /// Listens if that is granted; says on which port.
    fn bind(&mut self, session: Token, address: &ForwardAddress) -> Option<u16> {
        let acceptor = match self.owners.get(&session)?.policy.listen(address)? {
            ListenOn::Tcp { hosts, port } => bind_first(&hosts, port).ok()?,
            ListenOn::Path(path) => Acceptor::bind_path(&path).ok()?,
            _ => return None,
        };
        let port = acceptor.address().ok()?.map_or(0, |address| address.port());
        let key = self.number();
        let listener = self.listen(session, key, acceptor).ok()?;
        let route = Route::Listener {
            listener,
            address: address.bound(port),
        };
        self.owner(session)
            .forwards
            .insert(key, Forward::new(route));
        Some(port)
    }

    /// Listens no more. Connections that exist go on.
    fn cancel(
        &mut self,
        session: Token,
        cancelled: &ForwardAddress,
        token: Option<GlobalRequestToken>,
        ssh: &mut Server,
    ) {
        let mut found = None;
        if let Some(owner) = self.owners.get_mut(&session) {
            // There are a handful at the most.
            found = owner
                .forwards
                .iter()
                .find_map(|(key, forward)| match &forward.route {
                    Route::Listener { listener, address } if address == cancelled => {
                        Some((*key, *listener))
                    }
                    _ => None,
                });
            if let Some((key, listener)) = found {
                owner.forwards.remove(&key);
                owner.slots.remove(&listener);
                self.close(listener);
            }
        }
        if let Some(token) = token {
            let answer = match found {
                Some(_) => Answer::Accept(&[]),
                None => Answer::Refuse,
            };
            // It fails only when the connection has ended.
            _ = ssh.answer_global(token, answer);
        }
    }
}

/// Listens on the first of these hosts that can be had. Names are not looked up.
fn bind_first(hosts: &[&str], port: u16) -> io::Result<Acceptor> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for host in hosts {
        let bound = match host.parse::<IpAddr>() {
            Ok(host) => Acceptor::bind(SocketAddr::new(host, port)),
            Err(_) => continue,
        };
        match bound {
            Ok(acceptor) => return Ok(acceptor),
            // Whoever has the port is the one that the client's users would find there.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => last = error,
        }
    }
    Err(last)
}
