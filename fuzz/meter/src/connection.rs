//! One connection under the meter.
//!
//! In: everything that is done to a connection, through [`Cost::hear`], [`Cost::act`] and [`Cost::wait`]. Out: a panic when
//! a call cost more than what had come by then explains.

use std::time::Instant;

use ssh_proto::{Connection, Input, Role};

use crate::{heap, is_counting, steps};

/// What one look at input may allocate, in bytes, whatever is in it: a key exchange and its tables, an event, a first block
/// of a queue.
const LOOK: u64 = 96 * 1024;
/// And for each byte that the peer has sent, up to a packet: copies of a payload, buffers that double.
const LOOK_PER_BYTE: u64 = 6;
/// No packet is longer, with what is around it, so no more of what came lies unread in the connection.
const PACKET: u64 = 300 * 1024;
/// Bytes that a block to read into has at the least, as the connection makes them.
const BLOCK: u64 = Input::DEFAULT_CAPACITY as u64;
/// Output for each byte of input, and for each connection: answers to what little of it is an answer's worth. A CHANNEL_OPEN
/// of 48 bytes that is refused with a reason of 64 is the most.
const OUTPUT_PER_BYTE: u64 = 4;
/// Output that a connection has without any cause: version, KEXINIT, a host key of RSA and its signature, a banner, what
/// its own requests come to.
const OUTPUT: u64 = 64 * 1024;
/// Output for each call of the application: what it asked for may wait for the peer, as behind a key exchange.
const OUTPUT_PER_ACT: u64 = 1024;
/// Steps for each byte of input, for each call, and in all. Packets have 16 bytes and more.
const STEPS_PER_BYTE: u64 = 1;
const STEPS_PER_CALL: u64 = 64;
const STEPS: u64 = 8 * 1024;
/// The reader's buffer.
const SPARE: usize = 4 * 1024;
/// A call tells no more events than this: `Limits::events`, and those that tell of channels.
const EVENTS: u32 = 4_096;

/// What a connection has cost so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes of the peer that were taken.
    pub received: u64,
    /// Calls with some of them.
    pub looks: u64,
    /// What the application did.
    pub acts: u64,
    /// Bytes of output that came of what the peer sent.
    pub provoked: u64,
    /// Steps of work that came of it.
    pub steps: u64,
    /// The most that one look allocated, in bytes.
    pub largest_look: u64,
    /// The most that was in use during a look beyond what was in use when measuring began: an upper bound, since what was
    /// freed within the look counts as if it had not been.
    pub peak: i64,
}

/// Measures a connection and holds it to what [`Usage`] may be.
#[derive(Debug)]
pub struct Cost {
    usage: Usage,
    /// Bytes that calls have left in use: the connection's, and what came of it and still lives.
    owned: i64,
    spare: Input,
    reader: usize,
    events: u32,
}

impl Cost {
    /// Begins to measure: what the connection has already is not counted.
    pub fn new() -> Self {
        Self::since(heap().live)
    }

    /// As [`new`](Self::new), when `live` bytes were in use before the connection was made.
    pub fn since(live: i64) -> Self {
        Self {
            usage: Usage::default(),
            owned: heap().live - live,
            spare: Input::with_capacity(SPARE),
            reader: SPARE,
            events: 0,
        }
    }

    /// The reader's buffer has so many bytes. It is not the connection's, and not counted.
    pub fn set_reader(&mut self, capacity: usize) {
        self.reader = capacity;
        self.spare = Input::with_capacity(capacity);
    }

    /// The most that one look allocated since this was asked last.
    pub const fn take_largest_look(&mut self) -> u64 {
        std::mem::replace(&mut self.usage.largest_look, 0)
    }

    /// What it has cost so far.
    pub const fn usage(&self) -> Usage {
        self.usage
    }

    /// Bytes in use. What came of a call, such as an event, counts until it is dropped within another.
    pub const fn live(&self) -> i64 {
        self.owned
    }

    /// Bytes of the peer, as a reader hands them over; says how many were taken.
    pub fn hear<R: Role>(&mut self, conn: &mut Connection<R>, bytes: &[u8], now: Instant) -> usize {
        let mut taken = 0;
        while taken < bytes.len() {
            let before = heap();
            let own = self.spare.capacity();
            let mut input = match conn.take_input(std::mem::take(&mut self.spare)) {
                Ok(input) => input,
                Err(spare) => {
                    self.spare = spare;
                    break;
                }
            };
            let lent = heap().allocated - before.allocated;
            let room = BLOCK + 2 * self.recent();
            assert!(lent <= room, "{lent} bytes for a block, {:?}", self.usage);
            let is_own = lent == 0 && input.capacity() == own;
            let unfilled = input.unfilled();
            let len = unfilled.len().min(bytes.len() - taken);
            unfilled[..len].copy_from_slice(&bytes[taken..taken + len]);
            input.advance(len);
            taken += len;
            let made = heap().live - before.live;
            let back = self.look(conn, len, made, |conn| conn.handle_input(input, now));
            // A reader has a buffer of its own, which is small here; one that the connection made is not kept.
            let back = back.filter(|back| is_own && back.capacity() == own);
            if back.is_none() {
                // Kept by the connection, or dropped by it: it was made outside.
                self.owned += own as i64;
            }
            self.owned += heap().live - before.live;
            self.spare = back.unwrap_or_else(|| Input::with_capacity(self.reader));
        }
        self.events = 0;
        taken
    }

    /// The end of the stream.
    pub fn end<R: Role>(&mut self, conn: &mut Connection<R>, now: Instant) {
        let before = heap().live;
        self.look(conn, 0, 0, |conn| conn.handle_eof(now));
        self.owned += heap().live - before;
    }

    fn look<R: Role, T>(
        &mut self,
        conn: &mut Connection<R>,
        len: usize,
        made: i64,
        call: impl FnOnce(&mut Connection<R>) -> T,
    ) -> T {
        let (memory, work, waiting) = (heap(), steps(), conn.output().len());
        let result = call(conn);
        let (after, usage) = (heap(), &mut self.usage);
        let allocated = after.allocated - memory.allocated;
        usage.looks += 1;
        usage.received += len as u64;
        usage.steps += steps() - work;
        usage.provoked += conn.output().len().saturating_sub(waiting) as u64;
        usage.largest_look = usage.largest_look.max(allocated);
        usage.peak = usage.peak.max(self.owned + made + allocated.cast_signed());
        assert!(
            allocated <= LOOK + LOOK_PER_BYTE * self.recent(),
            "{allocated} bytes for {len} of input, {:?}",
            self.usage
        );
        self.check();
        result
    }

    /// Something that the application does, that time does, or that a writer does.
    pub fn act<R: Role, T>(
        &mut self,
        conn: &mut Connection<R>,
        call: impl FnOnce(&mut Connection<R>) -> T,
    ) -> T {
        let (before, work) = (heap().live, steps());
        let result = call(conn);
        self.usage.acts += 1;
        self.usage.steps += steps() - work;
        self.owned += heap().live - before;
        self.usage.peak = self.usage.peak.max(self.owned);
        self.check();
        result
    }

    /// The time is `now`. A timer that has fired must not ask for the same time again: that would be a loop.
    pub fn wait<R: Role>(&mut self, conn: &mut Connection<R>, now: Instant) {
        self.act(conn, |conn| conn.handle_timeout(now));
        let next = conn.poll_timeout();
        assert!(
            next.is_none_or(|next| next > now),
            "a timer that has fired is due again"
        );
    }

    /// An event was taken.
    pub fn event(&mut self) {
        self.events += 1;
        assert!(self.events <= EVENTS, "events without end");
    }

    /// What came lately and may lie in the connection.
    fn recent(&self) -> u64 {
        self.usage.received.min(PACKET)
    }

    fn check(&self) {
        let Usage {
            received,
            looks,
            acts,
            provoked,
            steps,
            ..
        } = self.usage;
        let most = OUTPUT + OUTPUT_PER_BYTE * received + OUTPUT_PER_ACT * acts;
        assert!(provoked <= most, "output without cause: {:?}", self.usage);
        let most = STEPS + STEPS_PER_BYTE * received + STEPS_PER_CALL * (looks + acts);
        assert!(steps <= most, "work without cause: {:?}", self.usage);
    }

    /// Asserts that no more than `most` bytes were ever in use, where they are counted.
    pub fn assert_peak(&self, most: i64) {
        assert!(
            !is_counting() || self.usage.peak.max(self.live()) <= most,
            "{} bytes in use, {} now, {:?}",
            self.usage.peak,
            self.live(),
            self.usage
        );
    }
}

impl Default for Cost {
    fn default() -> Self {
        Self::new()
    }
}
