//! A channel that the peer asks for, until it is decided about; in either role.

use std::fmt;
use std::sync::Arc;

use ssh_proto::{Misuse, OpenFailureReason, OpenKind, OpenRequest, Role, ServerRole};

use crate::Error;
use crate::channel::{Channel, Owner};

/// A channel that the peer has asked for and that is not decided about. Dropping it refuses.
#[must_use = "the peer waits for the verdict"]
pub struct PendingChannel<R: Role = ServerRole> {
    pending: Pending<R>,
    kind: OpenKind,
}

impl<R: Role> PendingChannel<R> {
    pub(crate) fn new(owner: Arc<Owner<R>>, request: OpenRequest) -> Self {
        Self {
            kind: request.kind().clone(),
            pending: Pending::new(owner, request),
        }
    }

    /// What was asked for.
    pub const fn kind(&self) -> &OpenKind {
        &self.kind
    }

    /// Opens the channel.
    ///
    /// # Errors
    ///
    /// The connection has ended.
    pub fn accept(self) -> Result<Channel<R>, Error> {
        self.accept_with(&[])
    }

    /// Opens the channel; `data` goes into the confirmation.
    ///
    /// # Errors
    ///
    /// The connection has ended; or `data` is longer than
    /// [`request_len`](ssh_proto::limits::Limits::request_len).
    pub fn accept_with(mut self, data: &[u8]) -> Result<Channel<R>, Error> {
        self.pending.accept(data)
    }

    /// Refuses the channel.
    pub fn refuse(mut self, reason: OpenFailureReason, description: &str) {
        self.pending.refuse(reason, description);
    }
}

impl<R: Role> fmt::Debug for PendingChannel<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PendingChannel").field(&self.kind).finish()
    }
}

/// The question itself. Dropping it refuses.
pub(crate) struct Pending<R: Role> {
    owner: Arc<Owner<R>>,
    request: Option<OpenRequest>,
}

impl<R: Role> Pending<R> {
    pub(crate) const fn new(owner: Arc<Owner<R>>, request: OpenRequest) -> Self {
        Self {
            owner,
            request: Some(request),
        }
    }

    /// Opens the channel; `data` goes into the confirmation.
    pub(crate) fn accept(&mut self, data: &[u8]) -> Result<Channel<R>, Error> {
        let Some(request) = self.request.take() else {
            return Err(Error::Misuse(Misuse::StaleToken));
        };
        let (id, gate) = self.owner.shared.command(|core| {
            let id = core.conn.accept_open(request, data)?;
            Ok((id, core.add_channel(id, true)))
        })?;
        Ok(Channel::new(Arc::clone(&self.owner), id, gate))
    }

    /// Refuses the channel.
    pub(crate) fn refuse(&mut self, reason: OpenFailureReason, description: &str) {
        if let Some(request) = self.request.take() {
            self.owner.shared.act(|core| {
                // It fails only when the connection has ended.
                _ = core.conn.refuse_open(request, reason, description);
            });
        }
    }
}

impl<R: Role> Drop for Pending<R> {
    fn drop(&mut self) {
        self.refuse(OpenFailureReason::ADMINISTRATIVELY_PROHIBITED, "");
    }
}
