//! Connecting to a target without waiting for it.
//!
//! In: a target, addresses of a name that somebody else looks up. Out: a connected socket, or why there is none.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::ControlFlow::{self, Break, Continue};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ssh_proto::{ForwardTarget, OpenFailureReason, OpenRequest, Role};

use super::link::{Cx, Fate, Link, Stage};
use super::socket::Socket;

/// How long a connection to a target may take, its name included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long until a Unix socket is tried again that too many wait at.
const RETRY: Duration = Duration::from_millis(50);

/// A connection to a target that is being made.
#[derive(Debug)]
pub(super) struct Connecting {
    /// The peer's question, where it is answered by what comes of this.
    pub(super) request: Option<OpenRequest>,
    /// Until when it may take.
    until: Option<Instant>,
    to: To,
    /// Why the last address could not be reached.
    error: Option<io::Error>,
}

#[derive(Debug)]
enum To {
    Target(ForwardTarget),
    /// The caller looks it up.
    Name(Name),
    /// These are left to be tried.
    Addresses(VecDeque<SocketAddr>),
    Path(PathBuf),
}

/// A name that is looked up.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) host: String,
    pub(super) port: u16,
    /// The question, once it was asked.
    pub(super) serial: Option<u64>,
}

impl Connecting {
    pub(super) const fn new(target: ForwardTarget, request: Option<OpenRequest>) -> Self {
        Self {
            request,
            until: None,
            to: To::Target(target),
            error: None,
        }
    }

    /// Whether the addresses of a name were asked for with this number.
    pub(super) const fn is_asked(&self, serial: u64) -> bool {
        matches!(&self.to, To::Name(Name { serial: Some(asked), .. }) if *asked == serial)
    }

    /// The name has these addresses.
    pub(super) fn named(&mut self, addresses: &[SocketAddr]) {
        self.to = To::Addresses(addresses.iter().copied().collect());
    }
}

impl Link {
    /// What is being connected.
    pub(super) const fn connecting_to(&mut self) -> Option<&mut Connecting> {
        match &mut self.stage {
            Stage::Connecting(connecting) => Some(connecting),
            _ => None,
        }
    }

    /// The name that is to be looked up and was not asked for yet.
    pub(super) const fn name_to_ask(&mut self) -> Option<&mut Name> {
        match &mut self.stage {
            Stage::Connecting(Connecting {
                to: To::Name(name @ Name { serial: None, .. }),
                ..
            }) => Some(name),
            _ => None,
        }
    }

    pub(super) fn connect(&mut self, mut connecting: Connecting, now: Instant) {
        connecting.until = now.checked_add(CONNECT_TIMEOUT);
        self.deadline = connecting.until;
        self.stage = Stage::Connecting(connecting);
    }

    /// Goes on connecting.
    pub(super) fn connecting<R: Role>(
        &mut self,
        cx: &mut Cx<'_, R>,
        overdue: bool,
    ) -> ControlFlow<Fate> {
        let Stage::Connecting(connecting) = &mut self.stage else {
            return Break(Fate::Over);
        };
        if overdue && connecting.until.is_some_and(|until| until <= cx.now) {
            return self.not_connected(&io::ErrorKind::TimedOut.into(), cx);
        }
        self.deadline = connecting.until;
        if let Some(mut socket) = self.socket.take() {
            match socket.is_connected() {
                Ok(true) => {
                    self.socket = Some(socket);
                    return self.connected(cx);
                }
                Ok(false) => {
                    self.socket = Some(socket);
                    return Break(Fate::Keep);
                }
                Err(error) => {
                    socket.deregister(cx.registry);
                    connecting.error = Some(error);
                }
            }
        }
        let started = match &mut connecting.to {
            To::Target(target) => match resolve(target, cx.resolves) {
                Ok(to) => {
                    connecting.to = to;
                    return Continue(());
                }
                Err(error) => Err(error),
            },
            To::Name(_) => return Break(Fate::Keep),
            To::Addresses(addresses) => match addresses.pop_front() {
                Some(address) => Socket::connect(address),
                None => {
                    let unknown = || io::Error::new(io::ErrorKind::NotFound, "no such host");
                    let error = connecting.error.take().unwrap_or_else(unknown);
                    return self.not_connected(&error, cx);
                }
            },
            To::Path(path) => match Socket::connect_path(path) {
                // A listener with a crowd in front of it, which does not say when there is room.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let retry = cx.now.checked_add(RETRY);
                    self.deadline = retry.min(connecting.until);
                    return Break(Fate::Keep);
                }
                Err(error) => return self.not_connected(&error, cx),
                connected => connected,
            },
        };
        match started {
            Ok(mut socket) => {
                if let Err(error) = socket.register(cx.registry, cx.token) {
                    return self.not_connected(&error, cx);
                }
                self.socket = Some(socket);
                (self.readable, self.writable, self.hung_up) = (false, false, false);
                // A Unix socket, or one of this machine, may be connected already.
                Continue(())
            }
            Err(error) => {
                let last = !matches!(connecting.to, To::Addresses(_));
                if last {
                    return self.not_connected(&error, cx);
                }
                connecting.error = Some(error);
                Continue(())
            }
        }
    }

    fn connected<R: Role>(&mut self, cx: &mut Cx<'_, R>) -> ControlFlow<Fate> {
        if let Some(request) = self.take_request() {
            match cx.ssh.accept_open(request, &[]) {
                Ok(id) => self.channel = Some(id),
                // The connection has ended.
                Err(_) => return Break(Fate::Over),
            }
        }
        if let Some(proxy) = &mut self.proxy {
            // The question is open, or nothing would have been connected.
            _ = proxy.accept();
        }
        let Some(mut channel) = self.channel.and_then(|id| cx.ssh.channel(id)) else {
            return Break(Fate::Over);
        };
        self.open(&mut channel);
        (self.readable, self.writable) = (true, true);
        Continue(())
    }

    fn not_connected<R: Role>(
        &mut self,
        error: &io::Error,
        cx: &mut Cx<'_, R>,
    ) -> ControlFlow<Fate> {
        if let Some(mut socket) = self.socket.take() {
            socket.deregister(cx.registry);
        }
        if let Some(request) = self.take_request() {
            let reason = OpenFailureReason::CONNECT_FAILED;
            // It fails when the connection has ended.
            _ = cx.ssh.refuse_open(request, reason, &error.to_string());
        }
        self.refuse(error.kind().into(), cx.now)
    }
}

/// What can be told about a target without asking anybody. A name other than `localhost` is for the caller to look up.
fn resolve(target: &ForwardTarget, resolves: bool) -> io::Result<To> {
    match target {
        ForwardTarget::Tcp { host, port } => {
            if let Ok(address) = host.parse::<IpAddr>() {
                return Ok(To::Addresses([(address, *port).into()].into()));
            }
            if host.eq_ignore_ascii_case("localhost") {
                let both = [
                    SocketAddr::from((Ipv4Addr::LOCALHOST, *port)),
                    SocketAddr::from((Ipv6Addr::LOCALHOST, *port)),
                ];
                return Ok(To::Addresses(both.into()));
            }
            if resolves {
                return Ok(To::Name(Name {
                    host: host.clone(),
                    port: *port,
                    serial: None,
                }));
            }
            let why = "names are not looked up here";
            Err(io::Error::new(io::ErrorKind::Unsupported, why))
        }
        ForwardTarget::Path(path) => Ok(To::Path(path.clone())),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}
