//! Received data: queues of ranges in the blocks that the reader filled. Nothing else knows how it is kept.
//!
//! A data packet is decrypted where it lies and remembered as a range; nothing is copied and nothing allocated.
//! A block lives until all its ranges are consumed, then serves the next read. Small remains, and ranges of blocks that
//! are mostly dead, are copied to the tail of their queue, so that a slow reader does not pin a block for a few bytes.

use std::collections::VecDeque;

use crate::limits::{BLOCK_WASTE, SPARE_BLOCKS, TAIL_KEPT};
use crate::packet::Input;
use crate::steps::{count_bytes, count_turn};

/// A block with no more live bytes than this, and no more than a quarter of its capacity, is handed back at once.
const SMALL: usize = 2 * 1024;
/// The list of a block's pieces is used again when it has room for no more than this.
const PIECES_KEPT: usize = 16;

/// Counts the copies of payload bytes when the library is tested, and is nothing otherwise.
#[cfg(not(any(test, feature = "copy-counter")))]
pub(crate) const fn count_copy(_len: usize) {}

#[cfg(any(test, feature = "copy-counter"))]
pub(crate) use counter::count_copy;

/// The copy counter: how many payload bytes this thread has copied. For tests.
#[cfg_attr(
    not(feature = "copy-counter"),
    expect(unreachable_pub, reason = "public with the feature")
)]
#[cfg(any(test, feature = "copy-counter"))]
pub mod counter {
    use std::cell::Cell;

    thread_local! {
        static COPIED: Cell<u64> = const { Cell::new(0) };
    }

    pub(crate) fn count_copy(len: usize) {
        COPIED.with(|copied| {
            copied.set(
                copied
                    .get()
                    .saturating_add(u64::try_from(len).unwrap_or(u64::MAX)),
            );
        });
    }

    /// The bytes of channel data that this thread copied so far, in both directions.
    pub fn copied() -> u64 {
        COPIED.with(Cell::get)
    }
}

/// A block that has live ranges.
#[derive(Debug, Default)]
struct Block {
    input: Input,
    /// Bytes that are not consumed yet; 0 when the entry is free.
    live: usize,
}

/// The blocks of a connection.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    blocks: Vec<Block>,
    free: Vec<u32>,
    /// Free blocks for the next reads.
    stash: Vec<Input>,
    /// Memory for the list of the next block that is taken out.
    list: Vec<(usize, usize)>,
    /// The entry of the block that is being processed, once a range of it is kept; its bytes are with the spine.
    current: Option<u32>,
    /// Memory of kept blocks, and live bytes in them.
    held: usize,
    live: usize,
    /// Data came since the last trim.
    stirred: bool,
}

impl Blocks {
    /// The entry of the current block, for one more range of `len` bytes.
    fn register(&mut self, len: usize) -> u32 {
        self.stirred = true;
        let index = self.current.unwrap_or_else(|| {
            self.free.pop().unwrap_or_else(|| {
                self.blocks.push(Block::default());
                u32::try_from(self.blocks.len().saturating_sub(1)).unwrap_or(TAIL)
            })
        });
        self.current = Some(index);
        if let Some(block) = self.get_mut(index) {
            block.live = block.live.saturating_add(len);
        }
        index
    }

    /// `len` bytes of a block were consumed. A block without live bytes is kept for the next read.
    fn release(&mut self, index: u32, len: usize) {
        let current = self.current == Some(index);
        let Some(block) = self.get_mut(index) else {
            return;
        };
        block.live = block.live.saturating_sub(len);
        if current {
            return;
        }
        let done = block.live == 0;
        self.live = self.live.saturating_sub(len);
        if done {
            let input = self.take(index);
            self.held = self.held.saturating_sub(input.capacity());
            self.put_by(input);
        }
    }

    /// Frees an entry.
    fn take(&mut self, index: u32) -> Input {
        self.free.push(index);
        self.get_mut(index)
            .map(std::mem::take)
            .unwrap_or_default()
            .input
    }

    /// Puts the block of data that was taken out by for the next read.
    pub(crate) fn recycle(&mut self, received: Received) {
        if received.ranges.capacity() <= PIECES_KEPT {
            self.list = received.ranges;
        }
        // A copy of one piece is no block.
        if received.input.capacity() >= SMALL.saturating_mul(4) {
            self.put_by(received.input);
        }
    }

    fn put_by(&mut self, mut input: Input) {
        self.stirred = true;
        if self.stash.len() < SPARE_BLOCKS && !input.is_of_pieces() {
            input.clear();
            self.stash.push(input);
        }
    }

    /// The spine is done with a block: keeps it when ranges of it are live, and hands it back otherwise. `unblock`
    /// copies all ranges of an entry to the tails of their queues.
    pub(crate) fn settle(
        &mut self,
        input: Input,
        unblock: impl FnOnce(&mut Self, u32),
    ) -> Option<Input> {
        let Some(index) = self.current.take() else {
            return Some(input);
        };
        let capacity = input.capacity();
        let Some(block) = self.get_mut(index) else {
            return Some(input);
        };
        let live = block.live;
        block.input = input;
        if live == 0 {
            return Some(self.take(index));
        }
        if live <= SMALL && live < capacity / 4 {
            // Still the current one, so that nothing else takes the block when its last range goes.
            self.current = Some(index);
            unblock(self, index);
            self.current = None;
            return Some(self.take(index));
        }
        self.held = self.held.saturating_add(capacity);
        self.live = self.live.saturating_add(live);
        None
    }

    /// Whether kept blocks hold much more memory than data.
    pub(crate) fn is_wasteful(&self) -> bool {
        self.held.saturating_sub(self.live) > self.live.max(BLOCK_WASTE)
    }

    fn is_sparse(&self, index: u32) -> bool {
        self.current != Some(index)
            && self
                .get(index)
                .is_some_and(|block| block.live < block.input.capacity() / 2)
    }

    pub(crate) fn spare(&mut self) -> Option<Input> {
        self.stash.pop()
    }

    /// How much [`trim`](Self::trim) and the trimming of the queues would give back, about. Nothing when that was done
    /// and nothing happened since.
    pub(crate) fn idle_memory(&self) -> usize {
        /// Queues of ranges keep a little memory each.
        const QUEUES: usize = 1024;
        if !self.stirred {
            return 0;
        }
        let stash: usize = self.stash.iter().map(Input::capacity).sum();
        let waste = self.held.saturating_sub(self.live);
        stash.saturating_add(waste).saturating_add(QUEUES)
    }

    pub(crate) const fn is_stirred(&self) -> bool {
        self.stirred
    }

    pub(crate) fn trim(&mut self) {
        self.stash = Vec::new();
        self.list = Vec::new();
        self.stirred = false;
        if self.current.is_none() && self.live == 0 {
            self.blocks = Vec::new();
            self.free = Vec::new();
        }
    }

    fn bytes(&self, index: u32, start: u32, len: u32) -> &[u8] {
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        let end = start.saturating_add(usize::try_from(len).unwrap_or(usize::MAX));
        self.get(index)
            .and_then(|block| block.input.memory().get(start..end))
            .unwrap_or_default()
    }

    fn get(&self, index: u32) -> Option<&Block> {
        self.blocks.get(usize::try_from(index).ok()?)
    }

    fn get_mut(&mut self, index: u32) -> Option<&mut Block> {
        self.blocks.get_mut(usize::try_from(index).ok()?)
    }
}

/// Received data that has an owner of its own: whole packets' worth of it, in the block in which they were decrypted.
///
/// It is there for who writes data elsewhere without holding the connection meanwhile, and without copying it first.
/// [`Channel::recycle`](crate::Channel::recycle) gives the block back for the next read.
#[derive(Debug, Default)]
pub struct Received {
    input: Input,
    ranges: Vec<(usize, usize)>,
    len: usize,
}

impl Received {
    /// The data, piece by piece in order: one for each packet.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let memory = self.input.memory();
        self.ranges
            .iter()
            .map(move |&(start, end)| memory.get(start..end).unwrap_or_default())
    }

    /// How many bytes there are.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// `true` when there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes in one vector: a copy.
    pub fn to_vec(&self) -> Vec<u8> {
        count_copy(self.len);
        self.pieces().collect::<Vec<_>>().concat()
    }
}

/// Instead of a block: the front of the queue's own tail.
const TAIL: u32 = u32::MAX;

/// A range of received data.
#[derive(Debug, Clone, Copy)]
struct Range {
    block: u32,
    start: u32,
    len: u32,
}

/// The unread data of one stream, in order.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    ranges: VecDeque<Range>,
    /// Copied data. Its ranges are in order, so each begins where the one before it ended.
    tail: Vec<u8>,
    /// Where the unread part of `tail` starts.
    tail_head: usize,
    len: usize,
    /// Everything is dropped and credited, now and from now on.
    discard: bool,
}

impl Queue {
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) const fn discards(&self) -> bool {
        self.discard
    }

    /// Remembers `len` bytes at `start` of the block that is being processed. `true` when it is the first range of
    /// this queue in that block.
    pub(crate) fn push(&mut self, blocks: &mut Blocks, start: u32, len: u32) -> bool {
        let size = to_usize(len);
        let block = blocks.register(size);
        let first = self.ranges.back().is_none_or(|last| last.block != block);
        self.ranges.push_back(Range { block, start, len });
        self.len = self.len.saturating_add(size);
        first
    }

    /// The front of the data, as long as it lies in one piece.
    pub(crate) fn chunk<'a>(&'a self, blocks: &'a Blocks) -> &'a [u8] {
        match self.ranges.front() {
            None => &[],
            Some(range) if range.block == TAIL => {
                let end = self.tail_head.saturating_add(to_usize(range.len));
                self.tail.get(self.tail_head..end).unwrap_or_default()
            }
            Some(range) => blocks.bytes(range.block, range.start, range.len),
        }
    }

    /// Drops the first `len` bytes. Says how many there were.
    pub(crate) fn consume(&mut self, blocks: &mut Blocks, len: usize) -> usize {
        let wanted = len.min(self.len);
        let mut left = wanted;
        while left > 0 {
            count_turn();
            let Some(range) = self.ranges.front_mut() else {
                break;
            };
            let size = to_usize(range.len);
            let step = size.min(left);
            let (block, whole) = (range.block, step == size);
            let step32 = u32::try_from(step).unwrap_or(u32::MAX);
            range.start = range.start.saturating_add(step32);
            range.len = range.len.saturating_sub(step32);
            if whole {
                self.ranges.pop_front();
            }
            if block == TAIL {
                self.tail_head = self.tail_head.saturating_add(step);
            } else {
                blocks.release(block, step);
            }
            left = left.saturating_sub(step);
        }
        self.len = self.len.saturating_sub(wanted);
        if self.tail_head >= self.tail.len() {
            self.tail_head = 0;
            self.tail.clear();
            if self.tail.capacity() > TAIL_KEPT {
                self.tail = Vec::new();
            }
        }
        wanted
    }

    /// Drops everything. Says how much there was.
    pub(crate) fn clear(&mut self, blocks: &mut Blocks) -> usize {
        self.consume(blocks, usize::MAX)
    }

    pub(crate) fn discard(&mut self, blocks: &mut Blocks) -> usize {
        self.discard = true;
        self.clear(blocks)
    }

    /// Takes the front of the data out: the whole block when all that is live in it is the front of this queue, and a
    /// copy of one piece otherwise.
    pub(crate) fn take(&mut self, blocks: &mut Blocks) -> Received {
        let Some(&Range { block, .. }) = self.ranges.front() else {
            return Received::default();
        };
        let same = |range: &&Range| range.block == block;
        let live: usize = self
            .ranges
            .iter()
            .take_while(same)
            .map(|range| to_usize(range.len))
            .sum();
        let whole = block != TAIL
            && blocks.current != Some(block)
            && blocks.get(block).is_some_and(|kept| kept.live == live);
        if !whole {
            let piece = self.chunk(blocks).to_vec();
            count_copy(piece.len());
            self.consume(blocks, piece.len());
            let len = piece.len();
            return Received {
                input: Input::from(piece),
                ranges: vec![(0, len)],
                len,
            };
        }
        let mut ranges = std::mem::take(&mut blocks.list);
        ranges.clear();
        while let Some(range) = self
            .ranges
            .front()
            .copied()
            .filter(|range| range.block == block)
        {
            let start = to_usize(range.start);
            ranges.push((start, start.saturating_add(to_usize(range.len))));
            self.ranges.pop_front();
        }
        self.len = self.len.saturating_sub(live);
        blocks.live = blocks.live.saturating_sub(live);
        let input = blocks.take(block);
        blocks.held = blocks.held.saturating_sub(input.capacity());
        Received {
            input,
            ranges,
            len: live,
        }
    }

    /// Copies the front of the data to `out` and drops it.
    pub(crate) fn read(&mut self, blocks: &mut Blocks, out: &mut [u8]) -> usize {
        let mut done: usize = 0;
        while let Some(to) = out.get_mut(done..)
            && !to.is_empty()
        {
            let chunk = self.chunk(blocks);
            let len = chunk.len().min(to.len());
            let (Some(to), Some(from)) = (to.get_mut(..len), chunk.get(..len)) else {
                break;
            };
            if len == 0 {
                break;
            }
            count_copy(len);
            to.copy_from_slice(from);
            self.consume(blocks, len);
            done = done.saturating_add(len);
        }
        done
    }

    /// Copies the ranges of one block, which are the last ones, to the tail.
    pub(crate) fn unblock(&mut self, blocks: &mut Blocks, block: u32) {
        let count = self
            .ranges
            .iter()
            .rev()
            .take_while(|range| range.block == block)
            .count();
        let keep = self.ranges.len().saturating_sub(count);
        for at in keep..self.ranges.len() {
            count_turn();
            let Some(&range) = self.ranges.get(at) else {
                break;
            };
            self.make_room(to_usize(range.len));
            count_copy(to_usize(range.len));
            self.tail
                .extend_from_slice(blocks.bytes(block, range.start, range.len));
        }
        let moved: u32 = self
            .ranges
            .drain(keep..)
            .fold(0, |sum, range| sum.saturating_add(range.len));
        self.push_tail_range(moved);
        blocks.release(block, to_usize(moved));
    }

    fn push_tail_range(&mut self, len: u32) {
        match self.ranges.back_mut() {
            Some(last) if last.block == TAIL => last.len = last.len.saturating_add(len),
            _ if len > 0 => self.ranges.push_back(Range {
                block: TAIL,
                start: 0,
                len,
            }),
            _ => {}
        }
    }

    /// Drops the read part of the tail where it would have to grow otherwise and that part is the larger one.
    fn make_room(&mut self, len: usize) {
        let live = self.tail.len().saturating_sub(self.tail_head);
        if self.tail.len().saturating_add(len) > self.tail.capacity() && self.tail_head >= live {
            count_copy(live);
            count_bytes(live);
            self.tail.drain(..self.tail_head);
            self.tail_head = 0;
        }
    }

    /// Copies the ranges of sparse blocks into a tail of the right size.
    pub(crate) fn compact(&mut self, blocks: &mut Blocks) {
        let moves = |range: &Range| range.block == TAIL || blocks.is_sparse(range.block);
        if !self
            .ranges
            .iter()
            .any(|range| blocks.is_sparse(range.block))
        {
            return;
        }
        let size: usize = self
            .ranges
            .iter()
            .filter(|range| moves(range))
            .map(|range| to_usize(range.len))
            .sum();
        let mut tail = Vec::with_capacity(size);
        let mut at = self.tail_head;
        let old = std::mem::take(&mut self.ranges);
        for range in old {
            count_turn();
            count_bytes(to_usize(range.len));
            let len = to_usize(range.len);
            if range.block == TAIL {
                let end = at.saturating_add(len);
                tail.extend_from_slice(self.tail.get(at..end).unwrap_or_default());
                at = end;
            } else if blocks.is_sparse(range.block) {
                tail.extend_from_slice(blocks.bytes(range.block, range.start, range.len));
                blocks.release(range.block, len);
            } else {
                self.ranges.push_back(range);
                continue;
            }
            count_copy(len);
            self.push_tail_range(range.len);
        }
        self.tail = tail;
        self.tail_head = 0;
    }

    /// Appends all that another queue has.
    pub(crate) fn append(&mut self, other: &mut Self) {
        let mut at = other.tail_head;
        for range in std::mem::take(&mut other.ranges) {
            count_turn();
            if range.block == TAIL {
                let end = at.saturating_add(to_usize(range.len));
                let bytes = other.tail.get(at..end).unwrap_or_default();
                self.make_room(bytes.len());
                count_copy(bytes.len());
                self.tail.extend_from_slice(bytes);
                self.push_tail_range(range.len);
                at = end;
            } else {
                self.ranges.push_back(range);
            }
        }
        self.len = self.len.saturating_add(std::mem::take(&mut other.len));
        other.tail = Vec::new();
        other.tail_head = 0;
    }

    /// Gives memory back that nothing is in.
    pub(crate) fn trim(&mut self) {
        self.ranges.shrink_to_fit();
        if self.tail_head > 0 {
            self.tail.drain(..self.tail_head);
            self.tail_head = 0;
        }
        self.tail.shrink_to_fit();
    }
}

fn to_usize(len: u32) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

#[cfg(test)]
impl Queue {
    pub(super) fn footprint(&self) -> usize {
        self.ranges.capacity() + self.tail.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_memory_is_tolerated_up_to_its_bound_or_as_much_as_there_is_data() {
        let is_wasteful = |dead, live| {
            let blocks = Blocks {
                held: live + dead,
                live,
                ..Blocks::default()
            };
            blocks.is_wasteful()
        };
        for live in [0, 1, BLOCK_WASTE] {
            assert!(!is_wasteful(BLOCK_WASTE, live), "{live}");
            assert!(is_wasteful(BLOCK_WASTE + 1, live), "{live}");
        }
        let live = BLOCK_WASTE + 1;
        assert!(!is_wasteful(live, live));
        assert!(is_wasteful(live + 1, live));
    }

    #[test]
    fn an_emptied_tail_keeps_its_memory_up_to_its_bound() {
        for (capacity, is_kept) in [
            (TAIL_KEPT - 1, true),
            (TAIL_KEPT, true),
            (TAIL_KEPT + 1, false),
        ] {
            let mut queue = Queue {
                tail: Vec::with_capacity(capacity),
                len: 1,
                ..Queue::default()
            };
            queue.tail.push(7);
            queue.push_tail_range(1);
            assert_eq!(queue.consume(&mut Blocks::default(), 1), 1);
            assert_eq!(queue.tail.capacity() == capacity, is_kept, "{capacity}");
        }
    }
}
