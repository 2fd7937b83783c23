//! The buffer that a reader fills and lends to the connection, which decrypts it in place.

use std::fmt;

/// A buffer of this size or more starts with a page. Large blocks of an allocator start a few bytes behind the start of
/// one, and x86's string moves, with which Linux copies out of sockets, are slow to where lies 1 to 31 bytes further in its
/// page than what is copied, which mostly starts near the start of its own: 32 KiB took 15 to 25 us instead of 5 on an AMD
/// EPYC.
const LARGE: usize = 64 * 1024;
const PAGE: usize = 4096;

/// A reader's buffer: bytes are read into it by whoever owns the socket, and processed where they lie.
///
/// ```
/// use ssh_proto::Input;
///
/// let mut input = Input::with_capacity(64 * 1024);
/// input.unfilled()[..5].copy_from_slice(b"SSH-2"); // what `read(2)` would do
/// input.advance(5);
/// assert_eq!(input.filled(), b"SSH-2");
/// ```
#[derive(Default)]
pub struct Input {
    /// All of it is initialised, so a reader can be given any part.
    buf: Vec<u8>,
    /// Where the memory that is used starts. All other places are counted from here.
    start: usize,
    filled: usize,
    /// How many of the bytes are the connection's own copy of what it waits to see completed.
    held: usize,
    /// Which state of that the copy was made of; 0: none.
    edition: u32,
    /// So many bytes there may be, if that is less than the memory.
    limit: Option<usize>,
    /// It was made of pieces that were gathered: its size is that of a packet, and no reason to read as much again.
    gathered: bool,
}

impl Input {
    /// How much a reader asks for where it has no reason to ask for something else: four packets with 32 KiB of data each
    /// fill it, whatever the cipher, so that no start of a fifth has to be copied to the next buffer.
    pub const DEFAULT_CAPACITY: usize = 128 * 1024 + 512;

    /// A buffer without memory: a connection that is handed it gives one of its own when it has one.
    pub const fn new() -> Self {
        Self {
            buf: Vec::new(),
            start: 0,
            filled: 0,
            held: 0,
            edition: 0,
            limit: None,
            gathered: false,
        }
    }

    /// A buffer with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        let lead = if capacity < LARGE { 0 } else { PAGE };
        let mut buf = vec![0; capacity.saturating_add(lead)];
        let start = buf.as_ptr().align_offset(PAGE);
        let start = if start < lead { start } else { 0 };
        buf.truncate(start.saturating_add(capacity));
        Self {
            buf,
            start,
            ..Self::new()
        }
    }

    /// The part to read into. Empty when the buffer is full or has no memory. Before authentication it may be less than
    /// the rest of the memory.
    pub fn unfilled(&mut self) -> &mut [u8] {
        let (filled, end) = (self.filled, self.end());
        self.memory_mut().get_mut(filled..end).unwrap_or_default()
    }

    fn end(&self) -> usize {
        self.limit.unwrap_or(usize::MAX).min(self.capacity())
    }

    /// Says that the first `len` bytes of [`unfilled`](Self::unfilled) are there now. What exceeds it is not counted.
    pub fn advance(&mut self, len: usize) {
        self.filled = self.filled.saturating_add(len).min(self.end());
    }

    /// The bytes that are there.
    pub fn filled(&self) -> &[u8] {
        self.memory().get(..self.filled).unwrap_or_default()
    }

    /// How many bytes the buffer has room for.
    pub const fn capacity(&self) -> usize {
        self.buf.len().saturating_sub(self.start)
    }

    /// Forgets the bytes and keeps the memory.
    pub const fn clear(&mut self) {
        self.filled = 0;
        self.held = 0;
        self.edition = 0;
        self.limit = None;
    }

    /// Starts with a copy of what the connection holds; `edition` names its state.
    pub(crate) fn lend(&mut self, held: &[u8], edition: u32) {
        self.clear();
        self.held = self.extend(held);
        self.edition = edition;
    }

    /// A buffer of pieces that were gathered.
    pub(crate) fn of_pieces(bytes: Vec<u8>) -> Self {
        Self {
            gathered: true,
            ..Self::from(bytes)
        }
    }

    /// Whether it is one that nobody reads into.
    pub(crate) const fn is_of_pieces(&self) -> bool {
        self.gathered
    }

    /// No more than `room` further bytes are read into it.
    pub(crate) const fn confine(&mut self, room: usize) {
        self.limit = Some(self.filled.saturating_add(room));
    }

    /// How many bytes at the start are the copy that [`lend`](Self::lend) made.
    pub(crate) const fn held(&self) -> usize {
        self.held
    }

    /// The state that the copy was made of.
    pub(crate) const fn edition(&self) -> u32 {
        self.edition
    }

    /// All memory of the buffer: what was filled before it was cleared is still there.
    pub(crate) fn memory(&self) -> &[u8] {
        self.buf.get(self.start..).unwrap_or_default()
    }

    fn memory_mut(&mut self) -> &mut [u8] {
        self.buf.get_mut(self.start..).unwrap_or_default()
    }

    pub(crate) fn filled_mut(&mut self) -> &mut [u8] {
        let filled = self.filled;
        self.memory_mut().get_mut(..filled).unwrap_or_default()
    }

    /// Appends what fits; says how much that was.
    pub(crate) fn extend(&mut self, bytes: &[u8]) -> usize {
        let unfilled = self.unfilled();
        let len = bytes.len().min(unfilled.len());
        crate::steps::count_bytes(len);
        if let (Some(to), Some(from)) = (unfilled.get_mut(..len), bytes.get(..len)) {
            to.copy_from_slice(from);
        }
        self.advance(len);
        len
    }
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input")
            .field("filled", &self.filled)
            .field("capacity", &self.capacity())
            .finish()
    }
}

impl From<Vec<u8>> for Input {
    /// A buffer whose bytes are all there already.
    fn from(buf: Vec<u8>) -> Self {
        Self {
            filled: buf.len(),
            buf,
            ..Self::new()
        }
    }
}

impl Input {
    /// The memory without the bytes.
    pub(crate) fn into_empty_vec(self) -> Vec<u8> {
        let mut buf = self.buf;
        buf.clear();
        buf
    }
}
