//! Data that is written where it will be sealed.

use std::io::IoSliceMut;

use crate::channel::Stream;
use crate::channel::recv::count_copy;
use crate::limits::PACKET_DATA_LEN;

use super::keys::Layout;
use super::sealer::HEADER_LEN;

/// How many packets a draft has: what fills one segment of a loopback socket.
const PACKETS: usize = 2;

/// A buffer laid out as two full packets of channel data. Whoever has bytes to send reads them into it, straight from a
/// file or a pipe, and hands it to [`Channel::send`](crate::Channel::send): they are sealed where they lie, and the
/// buffer becomes the output, so that not one byte is copied.
///
/// ```no_run
/// # fn example(channel: &mut ssh_proto::Channel<'_, ssh_proto::ClientRole>, file: &mut std::fs::File) -> Option<()> {
/// use std::io::Read;
/// use ssh_proto::{Draft, Stream};
///
/// let mut draft = Draft::new();
/// channel.lay_out(Stream::DATA, &mut draft);
/// let len = file.read_vectored(&mut draft.slices()).ok()?;
/// draft.fill(len);
/// channel.send(Stream::DATA, &mut draft).ok()?;
/// # Some(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Draft {
    pub(super) buf: Vec<u8>,
    pub(super) layout: Layout,
    /// The message's fields before the data.
    fields: usize,
    filled: usize,
    sent: usize,
    /// How much data there is room for: what the peer's window takes now, or will take when it leaves.
    room: usize,
}

impl Draft {
    /// A draft without memory, to be [laid out](crate::Channel::lay_out) first.
    pub const fn new() -> Self {
        Self {
            buf: Vec::new(),
            layout: Layout::PLAIN,
            fields: 0,
            filled: 0,
            sent: 0,
            room: 0,
        }
    }

    /// The room for data, to be filled in this order.
    pub fn slices(&mut self) -> [IoSliceMut<'_>; PACKETS] {
        let (offset, start, mut room) = (self.offset(), self.data_start(), self.room);
        let mut packets = self.buf.chunks_mut(offset.max(1));
        std::array::from_fn(|_| {
            let packet = packets.next().unwrap_or_default();
            let len = room.min(PACKET_DATA_LEN);
            room = room.saturating_sub(len);
            let end = start.saturating_add(len);
            IoSliceMut::new(packet.get_mut(start..end).unwrap_or_default())
        })
    }

    /// The room for data in one piece, for who cannot read into several at once. It costs half a copy, since the first
    /// packet's data then has to be moved to its place.
    pub fn whole(&mut self) -> &mut [u8] {
        let start = self.whole_start();
        let end = start.saturating_add(self.room);
        self.buf.get_mut(start..end).unwrap_or_default()
    }

    /// Says that the first `len` bytes of [`whole`](Self::whole) are to be sent.
    pub fn fill_whole(&mut self, len: usize) {
        let (from, to) = (self.whole_start(), self.data_start());
        self.fill(len);
        let first = self.filled.min(PACKET_DATA_LEN);
        let end = from.saturating_add(first);
        if from > to && end <= self.buf.len() {
            count_copy(first);
            self.buf.copy_within(from..end, to);
        }
    }

    /// Where [`whole`](Self::whole) starts: such that what belongs to the second packet is in its place.
    fn whole_start(&self) -> usize {
        let start = self.data_start();
        if self.room > PACKET_DATA_LEN {
            let between = self.offset().saturating_sub(PACKET_DATA_LEN);
            start.saturating_add(between)
        } else {
            start
        }
    }

    /// Says that the first `len` bytes of [`slices`](Self::slices) are to be sent.
    pub fn fill(&mut self, len: usize) {
        self.filled = len.min(self.room);
        self.sent = 0;
    }

    /// How many bytes are still to be sent.
    pub const fn len(&self) -> usize {
        self.filled.saturating_sub(self.sent)
    }

    /// `true` when nothing is to be sent (any more).
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is still to be sent.
    pub(crate) fn parts(&self) -> [&[u8]; PACKETS] {
        let (offset, start) = (self.offset(), self.data_start());
        let mut packets = self.buf.chunks(offset.max(1)).enumerate();
        std::array::from_fn(|_| {
            let Some((i, packet)) = packets.next() else {
                return &[][..];
            };
            let before = i.saturating_mul(PACKET_DATA_LEN);
            let from = self.sent.saturating_sub(before).min(PACKET_DATA_LEN);
            let to = self.filled.saturating_sub(before).min(PACKET_DATA_LEN);
            let range = start.saturating_add(from)..start.saturating_add(to);
            packet.get(range).unwrap_or_default()
        })
    }

    /// The first `len` of the bytes that were still to be sent were.
    pub(crate) const fn advance(&mut self, len: usize) {
        self.sent = self.sent.saturating_add(len);
    }

    /// How much data one has room for.
    pub(crate) const CAPACITY: usize = PACKETS * PACKET_DATA_LEN;

    /// Whether it can become the output: nothing of it was sent yet, and the keys are those that it was laid out for.
    pub(super) fn is_fit(&self, layout: Layout, stream: Stream) -> bool {
        self.sent == 0 && self.layout == layout && self.fields == fields_len(stream)
    }

    /// The packets in it: where each lies, and how long its data is.
    pub(super) fn packets(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (filled, offset) = (self.filled, self.offset());
        (0..PACKETS).filter_map(move |i| {
            let left = filled.saturating_sub(i.saturating_mul(PACKET_DATA_LEN));
            let len = left.min(PACKET_DATA_LEN);
            (len > 0).then(|| (i.saturating_mul(offset), len))
        })
    }

    /// Prepares the buffer for new data: for as many full packets as `window` takes, and at least one.
    pub(crate) fn lay_out(&mut self, layout: Layout, stream: Stream, window: usize) {
        let packets = window.checked_div(PACKET_DATA_LEN).unwrap_or_default();
        let room = packets.clamp(1, PACKETS).saturating_mul(PACKET_DATA_LEN);
        self.lay_out_for(layout, stream, room);
    }

    /// Prepares the buffer for no more than `room` bytes of new data.
    pub(crate) fn lay_out_for(&mut self, layout: Layout, stream: Stream, room: usize) {
        self.room = room.min(Self::CAPACITY);
        self.layout = layout;
        self.fields = fields_len(stream);
        (self.filled, self.sent) = (0, 0);
        // It only ever grows: what was zeroed once need not be again.
        let packets = self.room.div_ceil(PACKET_DATA_LEN);
        let len = self.offset().saturating_mul(packets);
        if self.buf.len() < len {
            self.buf.resize(len, 0);
        }
    }

    /// How long a full packet is.
    fn offset(&self) -> usize {
        self.layout
            .packet_len(self.fields.saturating_add(PACKET_DATA_LEN))
    }

    /// Where the data starts in a packet.
    const fn data_start(&self) -> usize {
        HEADER_LEN.saturating_add(self.fields)
    }
}

/// The fields of CHANNEL_DATA and CHANNEL_EXTENDED_DATA before the data.
pub(super) fn fields_len(stream: Stream) -> usize {
    if stream == Stream::DATA { 9 } else { 13 }
}
