//! A channel that the peer asks for, until it is decided about; in either role.

use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread;

use ssh_proto::error::DisconnectReason;
use ssh_proto::{Misuse, OpenFailureReason, OpenKind, OpenRequest, Role, ServerRole};

use crate::channel::{Channel, Owner};
use crate::error::Error;

/// A verdict on a channel that the peer asks for.
#[non_exhaustive]
pub enum OpenVerdict<R: Role = ServerRole> {
    /// It is refused.
    Refuse {
        /// Why.
        reason: OpenFailureReason,
        /// The same in words.
        description: String,
    },
    /// It is opened. This is how a server grants sessions; any other channel would have nobody who holds it, and is
    /// closed at once.
    Accept,
    /// A thread of its own decides, and deals with the channel. This is for channels of other kinds.
    Handle(Box<dyn FnOnce(PendingChannel<R>) + Send>),
}

impl<R: Role> OpenVerdict<R> {
    /// It is refused: administratively prohibited.
    pub const fn refuse() -> Self {
        Self::Refuse {
            reason: OpenFailureReason::ADMINISTRATIVELY_PROHIBITED,
            description: String::new(),
        }
    }

    /// A thread of its own decides, and deals with the channel.
    pub fn handle(handler: impl FnOnce(PendingChannel<R>) + Send + 'static) -> Self {
        Self::Handle(Box::new(handler))
    }
}

impl<R: Role> fmt::Debug for OpenVerdict<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refuse {
                reason,
                description,
            } => write!(f, "Refuse({reason}, {description:?})"),
            Self::Accept => f.write_str("Accept"),
            Self::Handle(_) => f.write_str("Handle"),
        }
    }
}

/// A channel that the peer has asked for and that is not decided about. Dropping it refuses.
#[must_use = "the peer waits for the verdict"]
pub struct PendingChannel<R: Role = ServerRole> {
    pending: Pending<R>,
    kind: OpenKind,
}

impl<R: Role> PendingChannel<R> {
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
    /// The connection has ended.
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
        let (id, gate) = self.owner.shared.act(|core| {
            let id = core.conn.accept_open(request, data)?;
            Ok::<_, Misuse>((id, core.add_channel(id, true)))
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

/// Does what a verdict says. Given back: a channel that was opened and that nobody holds yet.
pub(crate) fn decide<R: Role>(
    owner: Arc<Owner<R>>,
    request: OpenRequest,
    verdict: OpenVerdict<R>,
) -> Option<Channel<R>> {
    let kind = request.kind().clone();
    let mut pending = Pending::new(owner, request);
    match verdict {
        OpenVerdict::Refuse {
            reason,
            description,
        } => pending.refuse(reason, &description),
        // It fails only when the connection has ended.
        OpenVerdict::Accept => return pending.accept(&[]).ok(),
        OpenVerdict::Handle(handle) => {
            let owner = Arc::clone(&pending.owner);
            let pending = PendingChannel { pending, kind };
            // When no thread can be had, `pending` is dropped, which refuses.
            _ = thread::Builder::new()
                .name("ssh channel".into())
                .spawn(move || {
                    guarded(&owner, || handle(pending));
                });
        }
    }
    None
}

/// Runs what an author wrote. A panic ends this connection and no other.
pub(crate) fn guarded<R: Role, T>(owner: &Owner<R>, run: impl FnOnce() -> T) -> Option<T> {
    match panic::catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => Some(result),
        Err(_) => {
            owner
                .shared
                .disconnect(DisconnectReason::BY_APPLICATION, "internal error");
            None
        }
    }
}
