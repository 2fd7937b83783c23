//! Everything that goes to the peer: one buffer, messages encoded and sealed in place at its tail.
//!
//! Three marks of `limits.rs` keep it bounded: above [`DATA_MARK`] channel data waits, above [`REQUEST_MARK`] our own
//! requests do, and above [`REPLY_MARK`] the connection stops reading, so that the peer cannot make it grow by asking.
//! While a key exchange of ours is under way only its own messages leave (RFC 4253 section 7.1); the rest waits
//! here, unsealed and bounded.

use crate::channel::Stream;
use crate::crypto::drbg::Drbg;
#[cfg(any(test, feature = "replay"))]
use crate::crypto::drbg::Foreign;
use crate::error::{Error, Misuse, PeerError};
use crate::limits::{
    DATA_MARK, OWN_HELD_MARK, PACKET_DATA_LEN, REPLY_MARK, REPLY_MARK_BEFORE_AUTH, REQUEST_MARK,
    RESUME_MARK, RESUME_MARK_BEFORE_AUTH,
};
use crate::log::Log;
use crate::msg::Message;
#[cfg(any(test, feature = "replay"))]
use crate::replay::{Command, Start, record::Recorder};
use crate::secret::Secret;
use crate::wire::Writer;

use zeroize::Zeroize;

use super::draft::{Draft, fields_len};
use super::keys::Layout;
use super::sealer::{HEADER_LEN, Sealer};

/// Less room than this is left alone.
const WORTH_A_PACKET: usize = 512;
/// The fields of CHANNEL_EXTENDED_DATA before its data.
const DATA_FIELDS_LEN: usize = 13;
/// What sealing adds to a payload at the most: header, padding, MAC.
const SEALING: usize = HEADER_LEN + 32 + 64;
/// What a peer is answerable for of an answer that has data of the caller's in it.
pub(crate) const BARE_ANSWER: usize = 64;

/// The bytes on their way to the peer.
#[derive(Debug)]
pub(crate) struct Output {
    buf: Vec<u8>,
    /// Where the bytes start that were not consumed yet.
    head: usize,
    sealer: Sealer,
    rng: Drbg,
    /// A key exchange of ours is under way.
    gated: bool,
    /// Payloads behind the key exchange, each with its length in front.
    held: Vec<u8>,
    /// How much of it the peer is answerable for.
    provoked: usize,
    max_held: usize,
    /// A request of ours was refused for want of room, and nobody has been told since that there is some.
    refused: bool,
    /// The user is authenticated, and more may wait.
    trusted: bool,
    /// A DISCONNECT was sent: nothing may follow it.
    ended: bool,
    failed: Option<Error>,
    /// What was sealed, where packets are recorded.
    sent: Option<Box<Log>>,
    #[cfg(any(test, feature = "replay"))]
    recorder: Option<Box<Recorder>>,
}

impl Output {
    pub(crate) const fn new(rng: Drbg, sealer: Sealer, max_held: usize) -> Self {
        Self {
            buf: Vec::new(),
            head: 0,
            sealer,
            rng,
            gated: false,
            held: Vec::new(),
            provoked: 0,
            max_held,
            refused: false,
            trusted: false,
            ended: false,
            failed: None,
            sent: None,
            #[cfg(any(test, feature = "replay"))]
            recorder: None,
        }
    }

    /// Records every packet from now on.
    pub(crate) fn record(&mut self, log: Log) {
        self.sent = Some(Box::new(log));
    }

    /// Hands over what was recorded.
    pub(crate) fn report(&mut self, log: &mut Log) {
        if let Some(sent) = &mut self.sent {
            log.adopt(sent);
        }
    }

    /// The connection's generator: every draw comes from here.
    pub(crate) const fn rng(&mut self) -> &mut Drbg {
        &mut self.rng
    }

    /// What is to be written.
    pub(crate) fn pending(&self) -> &[u8] {
        self.buf.get(self.head..).unwrap_or_default()
    }

    const fn pending_len(&self) -> usize {
        self.buf.len().saturating_sub(self.head)
    }

    /// `len` bytes were written.
    pub(crate) fn consume(&mut self, len: usize) {
        #[cfg(any(test, feature = "replay"))]
        self.leave(len);
        self.head = self.head.saturating_add(len).min(self.buf.len());
    }

    /// Exchanges the whole buffer with an empty one.
    pub(crate) fn swap(&mut self, spare: &mut Vec<u8>) {
        #[cfg(any(test, feature = "replay"))]
        self.leave(usize::MAX);
        if self.pending_len() == 0 {
            spare.clear();
        } else if self.head > 0 {
            spare.clear();
            spare.extend_from_slice(self.pending());
            self.head = self.buf.len();
        } else {
            // What the spare has in it is dead; yet its length says how much of it need not be zeroed again.
            std::mem::swap(&mut self.buf, spare);
            self.head = self.buf.len();
        }
    }

    /// Gives memory back that nothing needs now.
    pub(crate) fn trim(&mut self) {
        if self.pending_len() == 0 {
            self.buf = Vec::new();
            self.head = 0;
        }
        if self.held.is_empty() {
            self.held = Vec::new();
        }
    }

    /// How much memory [`trim`](Self::trim) would give back.
    pub(crate) const fn idle_memory(&self) -> usize {
        let buf = if self.head >= self.buf.len() {
            self.buf.capacity()
        } else {
            0
        };
        let held = if self.held.is_empty() {
            self.held.capacity()
        } else {
            0
        };
        buf.saturating_add(held)
    }

    /// Bytes that are no packet: the version line.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.make_room();
        self.buf.extend_from_slice(bytes);
    }

    /// A transport message (1 to 49): leaves at once, also during a key exchange.
    pub(crate) fn transport<'m>(&mut self, message: &impl Message<'m>) {
        self.seal(|writer| message.encode(writer));
    }

    /// A message of the transport layer that was encoded before.
    pub(crate) fn encoded(&mut self, payload: &[u8]) {
        self.seal(|writer| _ = writer.bytes(payload));
    }

    /// An answer that the peer provoked. It leaves now, or behind the key exchange that is under way. When too many
    /// wait there, the peer is at fault: it goes on asking although it must answer our KEXINIT.
    pub(crate) fn reply<'m>(&mut self, message: &impl Message<'m>) -> Result<(), Error> {
        self.answer(message, usize::MAX)
    }

    /// A reply with data of the caller's in it: the peer is answerable for no more than `provoked` bytes.
    pub(crate) fn answer<'m>(
        &mut self,
        message: &impl Message<'m>,
        provoked: usize,
    ) -> Result<(), Error> {
        if !self.gated {
            self.seal(|writer| message.encode(writer));
            return Ok(());
        }
        let before = self.held.len();
        self.hold(&message.to_payload());
        let len = self.held.len().saturating_sub(before);
        self.provoked = self.provoked.saturating_add(len.min(provoked));
        if self.provoked > self.max_held {
            return Err(PeerError::Limit("replies waiting for a key exchange").into());
        }
        Ok(())
    }

    /// A message of our own accord.
    pub(crate) fn request<'m>(&mut self, message: &impl Message<'m>) -> Result<(), Misuse> {
        if self.ended {
            return Err(Misuse::Closed);
        }
        if !self.has_request_room() {
            self.refused = true;
            return Err(Misuse::Blocked);
        }
        if self.gated {
            self.hold(&message.to_payload());
        } else {
            self.seal(|writer| message.encode(writer));
        }
        Ok(())
    }

    /// Whether there is room for a message of our own accord.
    pub(crate) const fn has_request_room(&self) -> bool {
        self.pending_len() <= REQUEST_MARK && self.held.len() <= OWN_HELD_MARK
    }

    /// Whether a request that was refused may be tried again. Says so once.
    pub(crate) const fn take_relief(&mut self) -> bool {
        let relief = self.refused && self.has_request_room() && !self.ended;
        if relief {
            self.refused = false;
        }
        relief
    }

    /// A message that the caller's own state bounds, such as EOF: only while [`is_open`](Self::is_open).
    pub(crate) fn must<'m>(&mut self, message: &impl Message<'m>) {
        if self.gated {
            self.hold(&message.to_payload());
        } else {
            self.seal(|writer| message.encode(writer));
        }
    }

    /// As [`must`](Self::must), for a message with a secret in it: nowhere does a buffer grow that holds it in clear,
    /// since that would leave a copy behind. `most` is what its payload takes at the most.
    pub(crate) fn secret<'m>(&mut self, message: &impl Message<'m>, most: usize) {
        let mut payload = Vec::with_capacity(most);
        message.encode(&mut Writer::new(&mut payload));
        debug_assert!(payload.len() <= most, "a secret in a buffer that grows");
        let payload = Secret::new(payload);
        if self.gated {
            return self.hold(payload.expose());
        }
        self.buf.reserve(payload.len().saturating_add(SEALING));
        self.seal(|writer| _ = writer.bytes(payload.expose()));
    }

    /// Whether credit, EOF and CLOSE may leave now. While they may not they stay the channel's state.
    pub(crate) fn is_open(&self) -> bool {
        !self.gated && self.pending_len() <= REQUEST_MARK
    }

    /// Whether the peer may be read: its provoked replies have room.
    pub(crate) fn has_reply_room(&self) -> bool {
        let mark = if self.trusted {
            REPLY_MARK
        } else {
            REPLY_MARK_BEFORE_AUTH
        };
        self.gated || self.pending_len() <= mark
    }

    /// The user is authenticated.
    pub(crate) const fn trust(&mut self) {
        self.trusted = true;
    }

    /// Whether so much has left that stopped input may go on, and not only for a packet or two.
    pub(crate) fn has_much_reply_room(&self) -> bool {
        let mark = if self.trusted {
            RESUME_MARK
        } else {
            RESUME_MARK_BEFORE_AUTH
        };
        self.gated || self.pending_len() <= mark
    }

    /// How many bytes of channel data may be sealed now.
    pub(crate) fn data_room(&self) -> usize {
        if self.gated || self.ended {
            return 0;
        }
        let room = DATA_MARK
            .saturating_sub(self.pending_len())
            .saturating_sub(self.sealer.max_overhead())
            .saturating_sub(DATA_FIELDS_LEN);
        // What is left behind full packets would only make a tiny one.
        if room < WORTH_A_PACKET {
            0
        } else {
            room.min(PACKET_DATA_LEN)
        }
    }

    /// Seals one packet of channel data: the `len` bytes of `parts` behind the first `skip`. The caller has asked
    /// [`data_room`](Self::data_room). This is the one copy of a data byte on its way down.
    pub(crate) fn data(
        &mut self,
        recipient: u32,
        stream: Stream,
        parts: &[&[u8]],
        skip: usize,
        len: usize,
    ) {
        self.seal(|writer| {
            writer.bytes(message_fields(&data_fields(recipient, stream, len), stream));
            let (mut skip, mut len) = (skip, len);
            for part in parts {
                let from = skip.min(part.len());
                let to = from.saturating_add(len).min(part.len());
                let piece = part.get(from..to).unwrap_or_default();
                crate::channel::recv::count_copy(piece.len());
                writer.bytes(piece);
                skip = skip.saturating_sub(part.len());
                len = len.saturating_sub(piece.len());
            }
        });
    }

    /// Seals a draft where it lies and makes it the output, if nothing else waits there. `false`: it cannot be, and
    /// nothing was done.
    pub(crate) fn data_in_place(
        &mut self,
        recipient: u32,
        stream: Stream,
        draft: &mut Draft,
    ) -> bool {
        let layout = self.sealer.layout();
        if !self.takes_draft() || !draft.is_fit(layout, stream) {
            return false;
        }
        let mut total = 0_usize;
        let fields = fields_len(stream);
        for (start, len) in draft.packets() {
            let payload = fields.saturating_add(len);
            let end = start.saturating_add(layout.packet_len(payload));
            let packet = draft.buf.get_mut(start..end).unwrap_or_default();
            let message = data_fields(recipient, stream, len);
            let room = packet.get_mut(HEADER_LEN..HEADER_LEN.saturating_add(fields));
            if let Some(room) = room {
                room.copy_from_slice(message_fields(&message, stream));
            }
            if let Err(error) = self.sealer.seal_in(packet, payload, &mut self.rng) {
                self.ended = true;
                self.failed = Some(error);
                return true;
            }
            total = end;
        }
        std::mem::swap(&mut self.buf, &mut draft.buf);
        self.buf.truncate(total);
        self.head = 0;
        true
    }

    /// Whether a draft could be sealed where it lies: nothing else is on its way out.
    pub(crate) const fn takes_draft(&self) -> bool {
        !self.gated && !self.ended && self.pending_len() == 0 && self.sent.is_none()
    }

    /// How packets are laid out now.
    pub(crate) const fn layout(&self) -> Layout {
        self.sealer.layout()
    }

    /// A key exchange of ours starts with the KEXINIT that was just sent: everything else waits.
    pub(crate) const fn shut_gate(&mut self) {
        self.gated = true;
    }

    /// Our NEWKEYS was just sent: `sealer` is in force, and what waited leaves under it.
    pub(crate) fn open_gate(&mut self, sealer: Sealer) {
        self.sealer = sealer;
        self.gated = false;
        self.provoked = 0;
        let held = Secret::new(std::mem::take(&mut self.held));
        let mut reader = crate::wire::Reader::new(held.expose());
        while let Ok(payload) = reader.string() {
            crate::steps::count_turn();
            self.buf.reserve(payload.len().saturating_add(SEALING));
            self.seal(|writer| _ = writer.bytes(payload));
        }
    }

    /// Nothing leaves any more but what is sealed already.
    pub(crate) fn end(&mut self) {
        self.ended = true;
        self.held.zeroize();
        self.held = Vec::new();
    }

    /// The sealer in force.
    pub(crate) const fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// The sealer goes on at a later packet.
    #[cfg(test)]
    pub(crate) fn skip_to(&mut self, sequence: u32) {
        self.sealer = std::mem::take(&mut self.sealer).at(sequence);
    }

    /// The sealer, to be tampered with.
    #[cfg(test)]
    pub(crate) const fn sealer_mut(&mut self) -> &mut Sealer {
        &mut self.sealer
    }

    /// All bytes that wait, behind a key exchange as well.
    #[cfg(test)]
    pub(crate) const fn waiting(&self) -> usize {
        self.pending_len().saturating_add(self.held.len())
    }

    /// A fault of the sealing itself, such as a cipher that ran out of nonces. It ends the connection.
    pub(crate) const fn take_fault(&mut self) -> Option<Error> {
        self.failed.take()
    }

    /// Keeps a message until the key exchange is over.
    fn hold(&mut self, payload: &[u8]) {
        if self.ended {
            return;
        }
        let len = payload.len().saturating_add(4);
        // A password may be among them: what grows is wiped.
        if self.held.capacity().saturating_sub(self.held.len()) < len {
            let room = self.held.len().max(len).saturating_mul(2);
            crate::steps::count_bytes(self.held.len());
            let mut larger = Vec::with_capacity(room.saturating_add(len));
            larger.extend_from_slice(&self.held);
            self.held.zeroize();
            self.held = larger;
        }
        Writer::new(&mut self.held).string(payload);
    }

    fn seal(&mut self, encode: impl FnOnce(&mut Writer<'_>)) {
        if self.ended {
            return;
        }
        self.make_room();
        let start = self.buf.len();
        self.buf.extend_from_slice(&[0; HEADER_LEN]);
        encode(&mut Writer::new(&mut self.buf));
        if let Some(sent) = &mut self.sent {
            let payload = self.buf.get(start.saturating_add(HEADER_LEN)..);
            sent.packet("sent", payload.unwrap_or_default());
        }
        if let Err(error) = self.sealer.seal(&mut self.buf, start, &mut self.rng) {
            self.buf.truncate(start);
            self.ended = true;
            self.failed = Some(error);
        }
    }

    /// A writer that never quite catches up would let the buffer creep along: its live end is moved to the front
    /// once the dead part is as long as it and the buffer would have to grow.
    fn make_room(&mut self) {
        let live = self.pending_len();
        if live == 0 {
            self.buf.clear();
            self.head = 0;
        } else if self.head >= live
            && self.buf.len().saturating_add(PACKET_DATA_LEN) > self.buf.capacity()
            && self.head > 0
        {
            crate::steps::count_bytes(live);
            self.buf.copy_within(self.head.., 0);
            self.buf.truncate(live);
            self.head = 0;
        }
    }
}

/// The fields of CHANNEL_DATA or CHANNEL_EXTENDED_DATA before `len` bytes of data, as the end of an array.
fn data_fields(recipient: u32, stream: Stream, len: usize) -> [u8; DATA_FIELDS_LEN] {
    let len = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    let [a, b, c, d] = recipient.to_be_bytes();
    let [l0, l1, l2, l3] = len;
    if stream == Stream::DATA {
        return [0, 0, 0, 0, 94, a, b, c, d, l0, l1, l2, l3];
    }
    let [e, f, g, h] = stream.0.to_be_bytes();
    [95, a, b, c, d, e, f, g, h, l0, l1, l2, l3]
}

/// The part of [`data_fields`] that the message has.
fn message_fields(fields: &[u8; DATA_FIELDS_LEN], stream: Stream) -> &[u8] {
    let start = DATA_FIELDS_LEN.saturating_sub(fields_len(stream));
    fields.get(start..).unwrap_or_default()
}

/// The recorder stands here because every command and every byte passes here.
#[cfg(any(test, feature = "replay"))]
impl Output {
    /// Records from now on.
    pub(crate) fn attach(&mut self, recorder: Recorder) {
        self.recorder = Some(Box::new(recorder));
    }

    pub(crate) const fn is_recorded(&self) -> bool {
        self.recorder.is_some()
    }

    /// A command is about to be carried out; `data` belongs to it.
    pub(crate) fn note(&mut self, command: impl FnOnce(Start) -> Command, data: &[&[u8]]) {
        self.settle();
        self.note_late(command, data);
    }

    /// A command was carried out, and [`settle`](Self::settle) was called before.
    pub(crate) fn note_late(&mut self, command: impl FnOnce(Start) -> Command, data: &[&[u8]]) {
        if let Some(recorder) = &mut self.recorder {
            recorder.note(command, data);
        }
    }

    /// What came of the last command is complete.
    pub(crate) fn settle(&mut self) {
        if let Some(recorder) = &mut self.recorder {
            let pending = self.buf.get(self.head..).unwrap_or_default();
            recorder.settle(pending, self.rng.foreign_draws());
        }
    }

    /// The recorder, and what came of the last command is complete.
    pub(crate) fn recorder(&mut self) -> Option<&mut Recorder> {
        self.settle();
        self.recorder.as_deref_mut()
    }

    /// Records no more.
    pub(crate) fn detach(&mut self) {
        self.recorder = None;
        *self.rng.foreign_draws() = Foreign::Off;
    }

    fn leave(&mut self, len: usize) {
        if let Some(recorder) = &mut self.recorder {
            recorder.consumed(len);
        }
    }
}
