//! Everything that goes to the peer: one buffer, messages encoded and sealed in place at its tail.
//!
//! Three marks keep it bounded: above [`DATA_MARK`] channel data waits, above [`REQUEST_MARK`] our own requests do,
//! and above [`REPLY_MARK`] the connection stops reading, so that the peer cannot make it grow by asking.
//! While a key exchange of ours is under way only its own messages leave (RFC 4253 section 7.1); the rest waits
//! here, unsealed and bounded.

use zeroize::Zeroize;

use crate::channel::Stream;
use crate::crypto::drbg::Drbg;
use crate::error::{Error, Misuse, PeerError};
use crate::limits::PACKET_DATA_LEN;
use crate::msg::Message;
use crate::wire::Writer;

use super::sealer::{HEADER_LEN, Sealer};

/// Channel data stops here: what one write to a socket takes at best. Loopback's segments hold 65,483 bytes, and two
/// full packets fit one of them whatever the cipher.
pub(crate) const DATA_MARK: usize = 65_480;
/// Our own requests stop here.
pub(crate) const REQUEST_MARK: usize = DATA_MARK + 16 * 1024;
/// Input stops here: replies always have room below it.
pub(crate) const REPLY_MARK: usize = DATA_MARK + 128 * 1024;
/// Less room than this is left alone.
const WORTH_A_PACKET: usize = 512;
/// The fields of CHANNEL_EXTENDED_DATA before its data.
const DATA_FIELDS_LEN: usize = 13;
/// Our own messages behind a key exchange stop here.
const OWN_HELD_MARK: usize = 16 * 1024;

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
    max_held: usize,
    /// A DISCONNECT was sent: nothing may follow it.
    ended: bool,
    failed: Option<Error>,
    /// Payloads that were sealed and are still to be logged; `None` when packets are not logged.
    trace: Option<Trace>,
}

/// What is logged of packets that left.
#[derive(Debug)]
struct Trace {
    payloads: Vec<Vec<u8>>,
    max: usize,
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
            max_held,
            ended: false,
            failed: None,
            trace: None,
        }
    }

    /// Keeps the payloads of the last `max` packets for [`drain_trace`](Self::drain_trace).
    pub(crate) fn trace(&mut self, max: usize) {
        self.trace = Some(Trace {
            payloads: Vec::new(),
            max,
        });
    }

    /// The payloads that left since the last call. The log drops what may be secret in them.
    pub(crate) fn drain_trace(&mut self, mut log: impl FnMut(&[u8])) {
        if let Some(trace) = &mut self.trace {
            for mut payload in trace.payloads.drain(..) {
                log(&payload);
                payload.zeroize();
            }
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

    fn pending_len(&self) -> usize {
        self.buf.len().saturating_sub(self.head)
    }

    /// `len` bytes were written.
    pub(crate) fn consume(&mut self, len: usize) {
        self.head = self.head.saturating_add(len).min(self.buf.len());
        if self.head == self.buf.len() {
            self.buf.clear();
            self.head = 0;
        }
    }

    /// Exchanges the whole buffer with an empty one.
    pub(crate) fn swap(&mut self, spare: &mut Vec<u8>) {
        spare.clear();
        if self.head > 0 {
            spare.extend_from_slice(self.pending());
            self.buf.clear();
            self.head = 0;
        } else {
            std::mem::swap(&mut self.buf, spare);
        }
    }

    /// Gives memory back that nothing needs now.
    pub(crate) fn trim(&mut self) {
        if self.buf.is_empty() {
            self.buf = Vec::new();
        }
        if self.held.is_empty() {
            self.held = Vec::new();
        }
    }

    /// How much memory [`trim`](Self::trim) would give back.
    pub(crate) const fn idle_memory(&self) -> usize {
        let buf = if self.buf.is_empty() {
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
        self.buf.extend_from_slice(bytes);
    }

    /// A transport message (1 to 49): leaves at once, also during a key exchange.
    pub(crate) fn transport<'m>(&mut self, message: &impl Message<'m>) {
        self.seal(|writer| message.encode(writer));
    }

    /// An answer that the peer provoked. It leaves now, or behind the key exchange that is under way. When too many
    /// wait there, the peer is at fault: it goes on asking although it must answer our KEXINIT.
    pub(crate) fn reply<'m>(&mut self, message: &impl Message<'m>) -> Result<(), Error> {
        if !self.gated {
            self.seal(|writer| message.encode(writer));
            return Ok(());
        }
        self.hold(message);
        if self.held.len() > self.max_held {
            return Err(PeerError::Limit("replies waiting for a key exchange").into());
        }
        Ok(())
    }

    /// A message of our own accord.
    pub(crate) fn request<'m>(&mut self, message: &impl Message<'m>) -> Result<(), Misuse> {
        if self.ended {
            return Err(Misuse::Closed);
        }
        if self.pending_len() > REQUEST_MARK || self.held.len() > OWN_HELD_MARK {
            return Err(Misuse::Blocked);
        }
        if self.gated {
            self.hold(message);
        } else {
            self.seal(|writer| message.encode(writer));
        }
        Ok(())
    }

    /// A message that the caller's own state bounds, such as EOF: only while [`is_open`](Self::is_open).
    pub(crate) fn must<'m>(&mut self, message: &impl Message<'m>) {
        if self.gated {
            self.hold(message);
        } else {
            self.seal(|writer| message.encode(writer));
        }
    }

    /// Whether credit, EOF and CLOSE may leave now. While they may not they stay the channel's state.
    pub(crate) fn is_open(&self) -> bool {
        !self.gated && self.pending_len() <= REQUEST_MARK
    }

    /// Whether the peer may be read: its provoked replies have room.
    pub(crate) fn has_reply_room(&self) -> bool {
        self.gated || self.pending_len() <= REPLY_MARK
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
            if stream == Stream::DATA {
                writer.byte(94).uint32(recipient);
            } else {
                writer.byte(95).uint32(recipient).uint32(stream.0);
            }
            writer.uint32(u32::try_from(len).unwrap_or(u32::MAX));
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

    /// A key exchange of ours starts with the KEXINIT that was just sent: everything else waits.
    pub(crate) const fn shut_gate(&mut self) {
        self.gated = true;
    }

    /// Our NEWKEYS was just sent: `sealer` is in force, and what waited leaves under it.
    pub(crate) fn open_gate(&mut self, sealer: Sealer) {
        self.sealer = sealer;
        self.gated = false;
        let held = std::mem::take(&mut self.held);
        let mut reader = crate::wire::Reader::new(&held);
        while let Ok(payload) = reader.string() {
            self.seal(|writer| _ = writer.bytes(payload));
        }
    }

    /// Nothing leaves any more but what is sealed already.
    pub(crate) fn end(&mut self) {
        self.ended = true;
        self.held = Vec::new();
    }

    /// The sealer in force.
    pub(crate) const fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// A fault of the sealing itself, such as a cipher that ran out of nonces. It ends the connection.
    pub(crate) const fn take_fault(&mut self) -> Option<Error> {
        self.failed.take()
    }

    fn hold<'m>(&mut self, message: &impl Message<'m>) {
        if !self.ended {
            Writer::new(&mut self.held).nested(|writer| message.encode(writer));
        }
    }

    fn seal(&mut self, encode: impl FnOnce(&mut Writer<'_>)) {
        if self.ended {
            return;
        }
        self.make_room();
        let start = self.buf.len();
        self.buf.extend_from_slice(&[0; HEADER_LEN]);
        encode(&mut Writer::new(&mut self.buf));
        if let Some(trace) = &mut self.trace
            && trace.payloads.len() < trace.max
        {
            let payload = self.buf.get(start.saturating_add(HEADER_LEN)..);
            trace.payloads.push(payload.unwrap_or_default().to_vec());
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
        if self.head >= live
            && self.buf.len().saturating_add(PACKET_DATA_LEN) > self.buf.capacity()
            && self.head > 0
        {
            self.buf.copy_within(self.head.., 0);
            self.buf.truncate(live);
            self.head = 0;
        }
    }
}
