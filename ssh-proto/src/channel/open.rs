//! Opening channels, both ways (RFC 4254 sections 5.1, 6.1 and 7.2).

use crate::connection::cx::Cx;
use crate::connection::role::Side;
use crate::error::{Error, Misuse, PeerError, Stage, printable};
use crate::limits::MAX_PACKET;
use crate::log::{LogLayer, LogLevel, LogSubject};
use crate::msg::connection as msg;
use crate::msg::{Message, Rest};
use crate::packet::output::BARE_ANSWER;
use crate::wire::Malformed;

use super::forward::{
    self, DIRECT_STREAMLOCAL, DIRECT_TCPIP, FORWARDED_STREAMLOCAL, FORWARDED_TCPIP,
};
use super::kinds::{ChannelEvent, OpenChannel, OpenFailureReason, OpenKind, OpenRequest, is_name};
use super::state::{Phase, State};
use super::table::{Channels, Io};
use super::window::{RecvWindow, SendWindow};
use super::{ChannelId, Notice};

const SESSION: &str = "session";

impl Channels {
    /// Asks the peer for a channel. [`ChannelEvent::Opened`] or [`ChannelEvent::OpenFailed`] follows.
    pub(crate) fn open<E>(
        &mut self,
        kind: OpenChannel<'_>,
        cx: &mut Cx<'_, E>,
    ) -> Result<ChannelId, Misuse> {
        let Self { slots, shared } = self;
        shared.usable()?;
        if shared.no_more_sessions && kind == OpenChannel::Session {
            return Err(Misuse::Argument("there were to be no more sessions"));
        }
        let (channel_type, data) = encode(kind, shared.side)?;
        if data.len() > cx.limits.request_len {
            return Err(Misuse::Limit("request_len"));
        }
        if shared.opening.len() >= cx.limits.pending_opens {
            return Err(Misuse::Limit("pending_opens"));
        }
        if slots.len() >= cx.limits.channels {
            return Err(Misuse::Limit("channels"));
        }
        let id = slots.next_id();
        let window = shared.first_window(cx.limits);
        cx.out.request(&msg::ChannelOpen {
            channel_type,
            sender_channel: id.slot,
            initial_window_size: window.target(),
            maximum_packet_size: MAX_PACKET,
            data: Rest(&data),
        })?;
        shared.add_window(&window);
        let session = matches!(kind, OpenChannel::Session);
        let state = State::new(id, Phase::Asked, session, window);
        slots.insert(state);
        shared.opening.push(id, cx.now);
        shared.probe_open(cx.now, id);
        Io::of(cx).note_about(|| {
            let text = format!("channel {}: asked for {channel_type}", id.slot);
            (opened(id, channel_type), text)
        });
        Ok(id)
    }

    /// Opens a channel that the peer asked for; `data` follows in the confirmation.
    pub(crate) fn accept_open<E>(
        &mut self,
        request: &OpenRequest,
        data: &[u8],
        cx: &mut Cx<'_, E>,
    ) -> Result<ChannelId, Misuse> {
        let id = self.asked(request)?;
        if data.len() > cx.limits.request_len {
            // The question is spent: nobody could answer it any more.
            self.refuse_open(request, OpenFailureReason::RESOURCE_SHORTAGE, "", cx)?;
            return Err(Misuse::Limit("request_len"));
        }
        let (state, shared) = self.split(id).ok_or(Misuse::StaleToken)?;
        state.recv = shared.first_window(cx.limits);
        shared.add_window(&state.recv);
        state.phase = Phase::Open;
        Io::of(cx).note_of(id, || "accepted".to_owned());
        shared.open_questions = shared.open_questions.saturating_sub(1);
        let confirmation = msg::ChannelOpenConfirmation {
            recipient_channel: state.peer,
            sender_channel: id.slot,
            initial_window_size: state.recv.target(),
            maximum_packet_size: MAX_PACKET,
            data: Rest(data),
        };
        let sent = cx.out.answer(&confirmation, BARE_ANSWER);
        if let Err(fault) = sent {
            shared.fault.get_or_insert(fault);
        }
        Ok(id)
    }

    /// Refuses a channel that the peer asked for.
    pub(crate) fn refuse_open<E>(
        &mut self,
        request: &OpenRequest,
        reason: OpenFailureReason,
        description: &str,
        cx: &mut Cx<'_, E>,
    ) -> Result<(), Misuse> {
        let id = self.asked(request)?;
        let (state, shared) = self.split(id).ok_or(Misuse::StaleToken)?;
        shared.open_questions = shared.open_questions.saturating_sub(1);
        let peer = state.peer;
        Io::of(cx).note_last_of(id, || "refused".to_owned());
        if let Err(fault) = refuse(&mut Io::of(cx), peer, reason, description) {
            shared.fault.get_or_insert(fault);
        }
        self.free(id);
        Ok(())
    }

    /// The channel of an open question.
    fn asked(&self, request: &OpenRequest) -> Result<ChannelId, Misuse> {
        self.shared.usable()?;
        self.slots
            .get(request.id)
            .filter(|state| state.phase == Phase::Asking)
            .map(|state| state.id)
            .ok_or(Misuse::StaleToken)
    }

    /// CHANNEL_OPEN.
    pub(super) fn open_requested(
        &mut self,
        message: &msg::ChannelOpen<'_>,
        io: &mut Io<'_>,
    ) -> Result<(), Error> {
        let peer = message.sender_channel;
        // A channel that no data fits through is none.
        check_max_packet(msg::ChannelOpen::NUMBER, message.maximum_packet_size)?;
        let kind = match self.decode(message, io)? {
            Ok(kind) => kind,
            Err(reason) => return refuse(io, peer, reason, ""),
        };
        let Self { slots, shared } = self;
        if shared.open_questions >= io.limits.pending_opens || slots.len() >= io.limits.channels {
            return refuse(
                io,
                peer,
                OpenFailureReason::RESOURCE_SHORTAGE,
                "too many channels",
            );
        }
        let id = slots.next_id();
        io.note_about(|| {
            let kind = printable(message.channel_type.as_bytes(), 64);
            let text = format!("channel {}: the peer asks for {kind}", id.slot);
            (opened(id, &kind), text)
        });
        let mut state = State::new(
            id,
            Phase::Asking,
            kind == OpenKind::Session,
            RecvWindow::none(),
        );
        state.peer = peer;
        state.send = SendWindow::new(message.initial_window_size, message.maximum_packet_size);
        slots.insert(state);
        shared.open_questions = shared.open_questions.saturating_add(1);
        shared
            .ready
            .push_back(Notice::OpenRequested(OpenRequest { id, kind }));
        Ok(())
    }

    /// What the peer asks for, or why it is refused without asking anybody.
    fn decode(
        &self,
        message: &msg::ChannelOpen<'_>,
        io: &Io<'_>,
    ) -> Result<Result<OpenKind, OpenFailureReason>, Error> {
        let name = message.channel_type;
        let data = message.data.0;
        let own = self.shared.own.channel_kinds.iter().any(|own| own == name);
        if data.len() > io.limits.request_len {
            return Ok(Err(OpenFailureReason::RESOURCE_SHORTAGE));
        }
        if matches!(
            (name, self.shared.side),
            (FORWARDED_TCPIP | FORWARDED_STREAMLOCAL, Side::Client)
        ) && let Some(kind) = self.shared.globals.forwards.forwarded(name, data)?
        {
            return Ok(Ok(kind));
        }
        Ok(match (name, self.shared.side) {
            (SESSION, Side::Server) if self.shared.no_more_sessions => {
                Err(OpenFailureReason::ADMINISTRATIVELY_PROHIBITED)
            }
            (SESSION, Side::Server) => Ok(OpenKind::Session),
            (DIRECT_TCPIP | DIRECT_STREAMLOCAL, Side::Server) => Ok(forward::direct(name, data)?),
            _ if own => Ok(OpenKind::Custom {
                kind: name.to_owned(),
                data: data.to_vec(),
            }),
            // RFC 4254 section 6.1: "Client implementations SHOULD reject any session channel open requests to make
            // it more difficult for a corrupt server to attack the client." Section 7.2 says the same of direct-tcpip,
            // and of forwarded-tcpip: "Implementations MUST reject these messages unless they have previously requested a
            // remote TCP/IP port forwarding with the given port number."
            (
                SESSION
                | DIRECT_TCPIP
                | DIRECT_STREAMLOCAL
                | FORWARDED_TCPIP
                | FORWARDED_STREAMLOCAL,
                Side::Client,
            ) => Err(OpenFailureReason::ADMINISTRATIVELY_PROHIBITED),
            _ => Err(OpenFailureReason::UNKNOWN_CHANNEL_TYPE),
        })
    }

    /// CHANNEL_OPEN_CONFIRMATION.
    pub(super) fn open_confirmed(
        &mut self,
        message: &msg::ChannelOpenConfirmation<'_>,
        io: &mut Io<'_>,
    ) -> Result<(), Error> {
        check_max_packet(
            msg::ChannelOpenConfirmation::NUMBER,
            message.maximum_packet_size,
        )?;
        if message.data.0.len() > io.limits.request_len {
            return Err(PeerError::Limit("data of an open confirmation").into());
        }
        let (state, shared) = self.named(message.recipient_channel)?;
        if !matches!(state.phase, Phase::Asked | Phase::Expired) {
            return Err(state.fault(msg::ChannelOpenConfirmation::NUMBER));
        }
        let id = state.id;
        let expired = state.phase == Phase::Expired;
        io.note_of(id, || "open".to_owned());
        shared.opening.remove(id);
        shared.open_answered(io.now, id);
        state.phase = Phase::Open;
        state.peer = message.sender_channel;
        state.send = SendWindow::new(message.initial_window_size, message.maximum_packet_size);
        if expired {
            // Too late: the caller was told that it failed.
            state.release(shared, io);
        } else {
            let data = message.data.0.to_vec();
            state.push_event(ChannelEvent::Opened { data }, shared);
        }
        state.unstall(shared, io.now);
        state.send_owed(shared, io);
        self.serve_writers(io);
        Ok(())
    }

    /// CHANNEL_OPEN_FAILURE.
    pub(super) fn open_failed(
        &mut self,
        message: &msg::ChannelOpenFailure<'_>,
        io: &mut Io<'_>,
    ) -> Result<(), Error> {
        let (state, shared) = self.named(message.recipient_channel)?;
        if !matches!(state.phase, Phase::Asked | Phase::Expired) {
            return Err(state.fault(msg::ChannelOpenFailure::NUMBER));
        }
        let id = state.id;
        shared.opening.remove(id);
        shared.open_answered(io.now, id);
        let expired = state.phase == Phase::Expired;
        io.note_last_of(id, || {
            let reason = OpenFailureReason(message.reason_code);
            format!("not opened: {reason}")
        });
        state.phase = Phase::Failed;
        state.give_up_writing(shared);
        if !expired {
            let reason = OpenFailureReason(message.reason_code);
            let description = printable(message.description, io.limits.text_len);
            state.push_event(
                ChannelEvent::OpenFailed {
                    reason,
                    description,
                },
                shared,
            );
        }
        self.reap(id);
        Ok(())
    }

    /// Opens whose time is up fail; a late answer of the peer is dealt with when it comes.
    pub(super) fn expire_opens(&mut self, io: &mut Io<'_>) {
        let Self { slots, shared } = self;
        while let Some(id) = shared.opening.next_late(io.now) {
            let Some(state) = slots.get_mut(id) else {
                continue;
            };
            state.phase = Phase::Expired;
            state.give_up_writing(shared);
            io.log.add_about(LogLevel::Info, LogLayer::Connection, || {
                let late = Error::TimedOut(Stage::ChannelOpen);
                let text = format!("channel {}: {late}", id.slot);
                (LogSubject::Channel(id.slot), text)
            });
            state.push_event(
                ChannelEvent::OpenFailed {
                    reason: OpenFailureReason::TIMED_OUT,
                    description: Error::TimedOut(Stage::ChannelOpen).to_string(),
                },
                shared,
            );
        }
    }
}

/// What the record of a channel's beginning is about.
fn opened(id: ChannelId, kind: &str) -> LogSubject {
    LogSubject::ChannelOpened {
        number: id.slot,
        kind: kind.to_owned(),
    }
}

fn refuse(
    io: &mut Io<'_>,
    recipient_channel: u32,
    reason: OpenFailureReason,
    description: &str,
) -> Result<(), Error> {
    io.note(|| format!("a channel was refused: {reason}"));
    io.out.reply(&msg::ChannelOpenFailure {
        recipient_channel,
        reason_code: reason.0,
        description: description.as_bytes(),
        language_tag: b"",
    })
}

fn check_max_packet(message: u8, size: u32) -> Result<(), Error> {
    if size == 0 {
        return Err(PeerError::Malformed {
            message,
            field: "maximum_packet_size",
            problem: Malformed::Value,
        }
        .into());
    }
    Ok(())
}

/// Name and fields of what we ask for.
fn encode(kind: OpenChannel<'_>, side: Side) -> Result<(&str, Vec<u8>), Misuse> {
    match (kind, side) {
        (OpenChannel::Custom { kind, data }, _) if is_name(kind) => Ok((kind, data.to_vec())),
        (OpenChannel::Custom { .. }, _) => Err(Misuse::Argument("kind of a channel")),
        (OpenChannel::Session, Side::Client) => Ok((SESSION, Vec::new())),
        (OpenChannel::DirectTcpip { .. } | OpenChannel::DirectStreamlocal { .. }, Side::Client)
        | (
            OpenChannel::ForwardedTcpip { .. } | OpenChannel::ForwardedStreamlocal { .. },
            Side::Server,
        ) => forward::encode_open(kind),
        (_, Side::Server) => Err(Misuse::Argument("only a client opens such a channel")),
        (_, Side::Client) => Err(Misuse::Argument("only a server opens such a channel")),
    }
}
