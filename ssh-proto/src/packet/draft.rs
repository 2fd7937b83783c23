//! Data that is written where it will be sealed.

use std::io::IoSliceMut;
use std::ops::Range;

use crate::channel::Stream;
use crate::limits::PACKET_DATA_LEN;

use super::keys::Layout;
use super::sealer::HEADER_LEN;

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
        }
    }

    /// The room for data, to be filled in this order.
    pub fn slices(&mut self) -> [IoSliceMut<'_>; 2] {
        let [first, second] = self.slots();
        let (head, tail) = self.buf.split_at_mut_checked(first.end).unwrap_or_default();
        let offset = first.end;
        [
            IoSliceMut::new(head.get_mut(first).unwrap_or_default()),
            IoSliceMut::new(
                tail.get_mut(
                    second.start.saturating_sub(offset)..second.end.saturating_sub(offset),
                )
                .unwrap_or_default(),
            ),
        ]
    }

    /// Says that the first `len` bytes of [`slices`](Self::slices) are to be sent.
    pub fn fill(&mut self, len: usize) {
        let room = if self.buf.is_empty() {
            0
        } else {
            PACKET_DATA_LEN.saturating_mul(2)
        };
        self.filled = len.min(room);
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
    pub(crate) fn parts(&self) -> [&[u8]; 2] {
        let [first, second] = self.slots();
        let cut = |slot: Range<usize>, before: usize| {
            let from = self.sent.saturating_sub(before).min(slot.len());
            let to = self.filled.saturating_sub(before).min(slot.len());
            let slot = self.buf.get(slot).unwrap_or_default();
            slot.get(from..to).unwrap_or_default()
        };
        [cut(first, 0), cut(second, PACKET_DATA_LEN)]
    }

    /// The first `len` of the bytes that were still to be sent were.
    pub(crate) const fn advance(&mut self, len: usize) {
        self.sent = self.sent.saturating_add(len);
    }

    /// Whether it can become the output: nothing of it was sent yet, and the keys are those that it was laid out for.
    pub(super) fn is_fit(&self, layout: Layout, stream: Stream) -> bool {
        self.sent == 0 && self.layout == layout && self.fields == fields_len(stream)
    }

    /// The packets in it: where each lies, and how long its data is.
    pub(super) fn packets(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let first = self.filled.min(PACKET_DATA_LEN);
        let second = self.filled.saturating_sub(first);
        let offset = self.offset();
        [(0, first), (offset, second)]
            .into_iter()
            .filter(|&(_, len)| len > 0)
    }

    /// Prepares the buffer for new data.
    pub(crate) fn lay_out(&mut self, layout: Layout, stream: Stream) {
        self.layout = layout;
        self.fields = fields_len(stream);
        (self.filled, self.sent) = (0, 0);
        let len = self.offset().saturating_mul(2);
        self.buf.resize(len, 0);
    }

    /// Where the second packet starts.
    fn offset(&self) -> usize {
        self.layout
            .packet_len(self.fields.saturating_add(PACKET_DATA_LEN))
    }

    fn slots(&self) -> [Range<usize>; 2] {
        let start = HEADER_LEN.saturating_add(self.fields);
        let end = start.saturating_add(PACKET_DATA_LEN);
        let offset = self.offset();
        [
            start..end,
            start.saturating_add(offset)..end.saturating_add(offset),
        ]
    }
}

/// The fields of CHANNEL_DATA and CHANNEL_EXTENDED_DATA before the data.
pub(super) fn fields_len(stream: Stream) -> usize {
    if stream == Stream::DATA { 9 } else { 13 }
}
