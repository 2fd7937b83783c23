//! What a connection reads into: a buffer that the state machine lends, and memory that it may lend.
//!
//! In: buffers that the state machine gives back. Out: the buffer for the next read. While nothing of a packet is in a
//! buffer, the connections of a worker share it.

use std::cell::Cell;

use ssh_proto::{Input, Role};

use crate::core::Core;

/// What is read into first, and again after a time of rest: most connections say little.
pub(crate) const SMALL: usize = 16 * 1024;

thread_local! {
    /// The buffer that the connections of a worker share while none of them has the start of a packet in it.
    static SHARED: Cell<Option<Input>> = const { Cell::new(None) };
}

/// Gives a buffer to the connections of this worker. The largest one stays: it serves who says little as well as who says
/// much, who would have to ask for a larger one each time.
fn share(back: Input) {
    if back.capacity() > 0 {
        let largest = [SHARED.take(), Some(back)].into_iter().flatten();
        SHARED.set(largest.max_by_key(Input::capacity));
    }
}

pub(crate) struct Buffers {
    /// A buffer that the state machine has lent for the next read.
    lent: Option<Input>,
    spare: Input,
    /// The state machine took no input when it was asked last.
    paused: bool,
    /// The next buffer is the first after a time of rest.
    rested: bool,
}

impl Buffers {
    pub(crate) fn new() -> Self {
        Self {
            lent: None,
            spare: Input::new(),
            paused: false,
            rested: true,
        }
    }

    /// Has the state machine lend a buffer for the next read, if it takes input and has not lent one.
    pub(crate) fn borrow<R: Role>(&mut self, core: &mut Core<R>) {
        self.paused = !core.may_read() || !core.conn.wants_input();
        if self.paused || self.lent.is_some() {
            return;
        }
        if std::mem::take(&mut self.rested) && self.spare.capacity() == 0 {
            self.spare = SHARED.take().unwrap_or_else(|| Input::with_capacity(SMALL));
        }
        match core.conn.take_input(std::mem::take(&mut self.spare)) {
            Ok(lent) => self.lent = Some(lent),
            Err(spare) => {
                self.spare = spare;
                self.paused = true;
            }
        }
    }

    /// Whether the state machine took no input when it was asked last.
    pub(crate) const fn is_paused(&self) -> bool {
        self.paused
    }

    /// The buffer to read into, if there is to be a read. It goes back by [`unread`](Self::unread), or to the state machine.
    pub(crate) fn take(&mut self) -> Option<Input> {
        self.lent.take_if(|_| !self.paused)
    }

    /// Nothing is read any more.
    pub(crate) fn drop_lent(&mut self) {
        self.lent = None;
    }

    /// There was nothing to read. Unless `soon` there will be, or it holds the start of a packet, others can use the
    /// buffer meanwhile: the state machine need not know.
    pub(crate) fn unread(&mut self, input: Input, soon: bool) {
        if soon || !input.filled().is_empty() {
            self.lent = Some(input);
        } else {
            share(input);
            self.rested = true;
        }
    }

    /// What the state machine gave back may be lent again.
    pub(crate) fn give_back(&mut self, back: Option<Input>) {
        self.spare = back.unwrap_or_default();
    }

    /// More is coming than a buffer of the first size takes: the state machine is to lend a larger one.
    pub(crate) fn enlarge(&mut self) {
        if self.spare.capacity() < Input::DEFAULT_CAPACITY {
            self.spare = Input::new();
        }
    }

    /// Lets other connections use what is not in use.
    pub(crate) fn share(&mut self) {
        // Without a spare buffer the state machine has kept what was read, and lends a block of the same size next time.
        if self.spare.capacity() > 0 {
            share(std::mem::take(&mut self.spare));
            self.rested = true;
        }
    }

    pub(crate) const fn hold_memory(&self) -> bool {
        self.lent.is_some() || self.spare.capacity() > 0
    }

    /// Gives all memory back, and what was lent to the state machine.
    pub(crate) fn release(&mut self) -> Option<Input> {
        self.spare = Input::new();
        self.rested = true;
        self.lent.take()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ssh_proto::error::DisconnectReason;
    use ssh_proto::{Client, ClientConfig, ClientRole};

    use super::*;
    use crate::core::{Shared, Sorted, now, seed};

    fn client() -> Shared<ClientRole> {
        let conn = Client::new(Arc::new(ClientConfig::new()), seed().unwrap(), now());
        Shared::new(conn, Sorted::Question, false)
    }

    #[test]
    fn nothing_is_read_while_the_state_machine_takes_no_input_even_into_a_buffer_that_it_lent_before()
     {
        let shared = client();
        let mut core = shared.lock();
        let mut buffers = Buffers::new();
        buffers.borrow(&mut core);
        let lent = buffers.take().unwrap();
        buffers.unread(lent, true);
        core.conn
            .disconnect(DisconnectReason::BY_APPLICATION, "", now());
        buffers.borrow(&mut core);
        assert!(buffers.is_paused());
        assert!(buffers.take().is_none());
        assert!(buffers.release().is_some());
    }

    #[test]
    fn a_buffer_with_the_start_of_a_packet_stays_and_an_empty_one_is_shared() {
        let shared = client();
        let mut core = shared.lock();
        let mut buffers = Buffers::new();
        buffers.borrow(&mut core);
        let lent = buffers.take().unwrap();
        buffers.unread(lent, false);
        assert!(!buffers.hold_memory());
        buffers.borrow(&mut core);
        let mut lent = buffers.take().unwrap();
        lent.unfilled()[..4].copy_from_slice(b"SSH-");
        lent.advance(4);
        buffers.unread(lent, false);
        assert_eq!(buffers.take().unwrap().filled(), b"SSH-");
    }
}
