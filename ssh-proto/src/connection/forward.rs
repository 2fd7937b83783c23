//! The facade of forwarding, and what else of OpenSSH's requests about the connection only one role makes.

use std::time::Instant;

use crate::channel::{Answer, ForwardAddress, GlobalRequestToken, RequestId};
use crate::error::Misuse;
use crate::note::note;
#[cfg(any(test, feature = "replay"))]
use crate::replay::Command;

use super::cx::Cx;
use super::role::{ClientRole as R, RoleParts};
use super::spine::cx;
use super::{Client, Server};

impl Client {
    /// Asks the server to listen, and to open a channel for each connection that comes: `tcpip-forward` (RFC 4254 section
    /// 7.1) or `streamlocal-forward@openssh.com`. [`GlobalReplied`](crate::ClientEvent::GlobalReplied) follows; when it
    /// says that it was granted, [`forward`](Self::forward) tells where the server listens. The channels come as
    /// [`OpenRequested`](crate::ClientEvent::OpenRequested), each with this request in its
    /// [`OpenKind`](crate::OpenKind); any other channel of such a kind is refused by the library.
    pub fn request_forward(
        &mut self,
        address: ForwardAddress,
        now: Instant,
    ) -> Result<RequestId, Misuse> {
        note!(self.out, |start| Command::RequestForward {
            at: start.at(now),
            address: address.clone()
        });
        self.clock(now);
        self.require_open()?;
        let id = self.channels.request_forward(address, &mut cx!(self));
        self.after();
        id
    }

    /// Where the server listens because of that request: the port is the one that was bound. `None` while it is not
    /// granted, and after [`cancel_forward`](Self::cancel_forward).
    pub fn forward(&self, forward: RequestId) -> Option<&ForwardAddress> {
        self.channels.forward(forward)
    }

    /// Asks the server not to listen there any more; the reply is another
    /// [`GlobalReplied`](crate::ClientEvent::GlobalReplied). From now on the channels that still come of it are refused;
    /// those that are open stay.
    pub fn cancel_forward(
        &mut self,
        forward: RequestId,
        now: Instant,
    ) -> Result<RequestId, Misuse> {
        note!(self.out, |start| Command::CancelForward {
            at: start.at(now),
            forward
        });
        self.clock(now);
        self.require_open()?;
        let id = self.channels.cancel_forward(forward, &mut cx!(self));
        self.after();
        id
    }

    /// Promises that no session will be opened any more (`no-more-sessions@openssh.com`): who gets hold of this client
    /// cannot start another program. OpenSSH sends it to OpenSSH only, because other servers were seen to fail on it.
    pub fn no_more_sessions(&mut self, now: Instant) -> Result<(), Misuse> {
        note!(self.out, |start| Command::NoMoreSessions {
            at: start.at(now)
        });
        self.clock(now);
        self.require_open()?;
        let result = self.channels.no_more_sessions(&mut cx!(self));
        self.after();
        result
    }
}

impl Server {
    /// Grants a [`Forward`](crate::GlobalRequestKind::Forward): this side listens there. `bound_port` is told to a client
    /// that asked for port 0; for others it does not matter. [`answer_global`](Self::answer_global) refuses it.
    pub fn accept_forward(
        &mut self,
        token: GlobalRequestToken,
        bound_port: u16,
    ) -> Result<(), Misuse> {
        let port = u32::from(bound_port).to_be_bytes();
        let data = if token.wants_port() { &port[..] } else { &[] };
        self.answer_global(token, Answer::Accept(data))
    }
}
