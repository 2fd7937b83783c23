//! A channel that the peer asks for, until it is decided about.

use std::sync::Arc;

use ssh_proto::{Misuse, OpenFailureReason, OpenRequest, Role};

use crate::Error;
use crate::channel::{Channel, Owner};

/// A channel that the peer has asked for and that is not decided about. Dropping it refuses.
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

    pub(crate) const fn owner(&self) -> &Arc<Owner<R>> {
        &self.owner
    }

    /// Opens the channel; `data` goes into the confirmation.
    pub(crate) fn accept(&mut self, data: &[u8]) -> Result<Channel<R>, Error> {
        let Some(request) = self.request.take() else {
            return Err(Error::Misuse(Misuse::StaleToken));
        };
        let id = self.owner.shared.act(|core| {
            let id = core.conn.accept_open(request, data)?;
            core.add_channel(id, true);
            Ok::<_, Misuse>(id)
        })?;
        Ok(Channel::new(Arc::clone(&self.owner), id))
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
