//! The read buffer that all sessions of a thread share.

use ssh_proto::Input;

/// The buffer that a thread reads into, whatever session it reads for.
///
/// It is lent to a session for a read and comes back with the next call of that session, so that thousands of sessions
/// need one. Only a session with unread channel data keeps it, for as long as that data is unread; then the thread goes
/// on with another.
#[derive(Debug)]
pub struct ReadBuffer {
    capacity: usize,
    spare: Option<Input>,
}

impl ReadBuffer {
    /// A buffer of [`Input::DEFAULT_CAPACITY`].
    pub fn new() -> Self {
        Self::with_capacity(Input::DEFAULT_CAPACITY)
    }

    /// A buffer of `capacity` bytes, at least 4 KiB. A session reads that much at once. Memory is taken when it is
    /// first needed.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(4 * 1024),
            spare: None,
        }
    }

    /// Gives the memory back to the system, until the next read: for a thread with nothing to do.
    pub fn trim(&mut self) {
        self.spare = None;
    }

    pub(crate) fn take(&mut self) -> Input {
        self.spare
            .take()
            .unwrap_or_else(|| Input::with_capacity(self.capacity))
    }

    pub(crate) const fn is_away(&self) -> bool {
        self.spare.is_none()
    }

    /// Takes a buffer back. One is kept, never a smaller one, nor one that a long packet made much larger.
    pub(crate) fn put(&mut self, mut input: Input) {
        let usual = self.capacity..=self.capacity.saturating_mul(2);
        if self.spare.is_none() && usual.contains(&input.capacity()) {
            input.clear();
            self.spare = Some(input);
        }
    }
}

impl Default for ReadBuffer {
    fn default() -> Self {
        Self::new()
    }
}
