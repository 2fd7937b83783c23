//! Messages of the peer, by number (RFC 4254).

use crate::connection::cx::Payload;
use crate::error::{Error, PeerError, Stage};
use crate::limits::MAX_PACKET;
use crate::msg::Message;
use crate::msg::connection as msg;

use super::Stream;
use super::table::{Channels, Io, Life};

/// Number, recipient and length of CHANNEL_DATA: what lies before the data.
const DATA_AT: usize = 9;
/// The same of CHANNEL_EXTENDED_DATA, which has a type as well.
const EXTENDED_DATA_AT: usize = 13;

impl Channels {
    pub(super) fn receive(&mut self, payload: Payload<'_>, io: &mut Io<'_>) -> Result<(), Error> {
        let bytes = payload.bytes;
        let message = bytes.first().copied().unwrap_or_default();
        match self.shared.life {
            Life::Enabled => {}
            // RFC 4252 section 6: what authentication is for must not be served before it.
            Life::Locked => {
                return Err(PeerError::UnexpectedMessage {
                    message,
                    stage: Stage::Authentication,
                }
                .into());
            }
            Life::Ended => return Ok(()),
        }
        if let Some(fault) = self.shared.fault.take() {
            return Err(fault);
        }
        match message {
            msg::ChannelData::NUMBER => {
                let data = msg::ChannelData::decode(bytes)?;
                let at = payload.offset.saturating_add(DATA_AT);
                self.data(data.recipient_channel, None, data.data.len(), at, io)
            }
            msg::ChannelExtendedData::NUMBER => {
                let data = msg::ChannelExtendedData::decode(bytes)?;
                let at = payload.offset.saturating_add(EXTENDED_DATA_AT);
                let code = Some(data.data_type_code);
                self.data(data.recipient_channel, code, data.data.len(), at, io)
            }
            msg::ChannelWindowAdjust::NUMBER => {
                self.window_adjusted(&msg::ChannelWindowAdjust::decode(bytes)?, io)
            }
            msg::ChannelEof::NUMBER => self.eof(&msg::ChannelEof::decode(bytes)?, io),
            msg::ChannelClose::NUMBER => self.closed(&msg::ChannelClose::decode(bytes)?, io),
            msg::ChannelRequest::NUMBER => {
                let request = msg::ChannelRequest::decode(bytes)?;
                let (state, shared) = self.named(request.recipient_channel)?;
                state.admits(message)?;
                state.requested(&request, shared, io)
            }
            msg::ChannelSuccess::NUMBER => {
                let channel = msg::ChannelSuccess::decode(bytes)?.recipient_channel;
                self.replied(channel, message, true, io)
            }
            msg::ChannelFailure::NUMBER => {
                let channel = msg::ChannelFailure::decode(bytes)?.recipient_channel;
                self.replied(channel, message, false, io)
            }
            msg::ChannelOpen::NUMBER => self.open_requested(&msg::ChannelOpen::decode(bytes)?, io),
            msg::ChannelOpenConfirmation::NUMBER => {
                self.open_confirmed(&msg::ChannelOpenConfirmation::decode(bytes)?, io)
            }
            msg::ChannelOpenFailure::NUMBER => {
                self.open_failed(&msg::ChannelOpenFailure::decode(bytes)?, io)
            }
            msg::GlobalRequest::NUMBER => {
                let request = msg::GlobalRequest::decode(bytes)?;
                self.shared.global_requested(&request, io)
            }
            msg::RequestSuccess::NUMBER => {
                let success = msg::RequestSuccess::decode(bytes)?;
                self.shared.global_replied(Some(success.data.0), io.limits)
            }
            msg::RequestFailure::NUMBER => {
                msg::RequestFailure::decode(bytes)?;
                self.shared.global_replied(None, io.limits)
            }
            _ => Err(PeerError::UnexpectedMessage {
                message,
                stage: Stage::Connected,
            }
            .into()),
        }
    }

    /// CHANNEL_DATA, or CHANNEL_EXTENDED_DATA of a type: `len` bytes at `at` of the current block.
    fn data(
        &mut self,
        channel: u32,
        code: Option<u32>,
        len: usize,
        at: usize,
        io: &mut Io<'_>,
    ) -> Result<(), Error> {
        let (state, shared) = self.named(channel)?;
        let message = if code.is_some() {
            msg::ChannelExtendedData::NUMBER
        } else {
            msg::ChannelData::NUMBER
        };
        state.admits(message)?;
        if state.peer_eof {
            return Err(state.fault(message));
        }
        let beyond = PeerError::Window { channel };
        let len = u32::try_from(len).map_err(|_| beyond)?;
        let at = u32::try_from(at).map_err(|_| Error::Bug("a block of 4 GiB"))?;
        // RFC 4254 section 5.2: "The maximum amount of data allowed is determined by the maximum packet size for the
        // channel, and the current window size, whichever is smaller."
        if len > MAX_PACKET || !state.recv.arrived(len, io.now, &mut shared.rtt) {
            return Err(beyond.into());
        }
        if len == 0 {
            return Ok(());
        }
        // Extended data of type 0 is of no stream; type numbers are the streams' otherwise.
        let stream = match code {
            None => Stream::DATA,
            Some(0) => Stream(u32::MAX),
            Some(code) => Stream(code),
        };
        state.keep(stream, at, len, shared);
        state.send_owed(shared, io);
        Ok(())
    }

    fn window_adjusted(
        &mut self,
        message: &msg::ChannelWindowAdjust,
        io: &Io<'_>,
    ) -> Result<(), Error> {
        let channel = message.recipient_channel;
        let (state, shared) = self.named(channel)?;
        state.admits(msg::ChannelWindowAdjust::NUMBER)?;
        if !state.send.add(message.bytes_to_add) {
            return Err(PeerError::WindowOverflow { channel }.into());
        }
        if message.bytes_to_add == 0 {
            return shared.stray(io.limits);
        }
        state.unstall(shared, io.now);
        self.serve_writers(io);
        Ok(())
    }

    fn eof(&mut self, message: &msg::ChannelEof, io: &Io<'_>) -> Result<(), Error> {
        let (state, shared) = self.named(message.recipient_channel)?;
        state.admits(msg::ChannelEof::NUMBER)?;
        if state.peer_eof {
            // It says nothing new. Some peers say it twice.
            return shared.stray(io.limits);
        }
        state.peer_eof(shared);
        Ok(())
    }

    fn closed(&mut self, message: &msg::ChannelClose, io: &mut Io<'_>) -> Result<(), Error> {
        let (state, shared) = self.named(message.recipient_channel)?;
        state.admits(msg::ChannelClose::NUMBER)?;
        let id = state.id;
        io.note_of(id, || "closed by the peer".to_owned());
        state.peer_close(shared, io);
        self.reap(id);
        self.serve_writers(io);
        Ok(())
    }

    fn replied(
        &mut self,
        channel: u32,
        message: u8,
        accepted: bool,
        io: &Io<'_>,
    ) -> Result<(), Error> {
        let (state, shared) = self.named(channel)?;
        state.admits(message)?;
        state.replied(accepted, shared, io.limits)
    }
}
