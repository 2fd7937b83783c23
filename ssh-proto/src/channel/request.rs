//! Requests about a channel: ours and the peer's, typed (RFC 4254 sections 5.4 and 6, RFC 4335).

use crate::connection::role::Side;
use crate::error::{Error, Misuse, PeerError, printable};
use crate::limits::Limits;
use crate::msg::Message;
use crate::msg::connection as msg;
use crate::msg::modes::TerminalModes;
use crate::wire::{Malformed, Reader, Writer};

use super::RequestToken;
use super::kinds::{
    ChannelEvent, ChannelRequest, ExitSignal, Program, PtyRequest, RequestId, Signal, WindowSize,
};
use super::state::{Awaited, Phase, Queued, Say, Started, State, send_request};
use super::table::{Io, Shared};

/// OpenSSH's PROTOCOL section 2.1.
pub(super) const END_OF_WRITE: &str = "eow@openssh.com";

impl State {
    /// Sends a request of ours, or lets it wait for the open.
    pub(super) fn request(
        &mut self,
        name: &str,
        data: &[u8],
        want_reply: bool,
        program: bool,
        shared: &mut Shared,
        io: &mut Io<'_>,
    ) -> Result<RequestId, Misuse> {
        // Answers that the caller has not taken count: they are kept, too.
        let unanswered = self.awaited.len().saturating_add(self.pending.replies());
        if want_reply && unanswered >= io.limits.pending_requests {
            return Err(Misuse::Limit("pending_requests"));
        }
        if self.phase == Phase::Open && self.queued.is_empty() {
            if data.len() > io.limits.request_len {
                return Err(Misuse::Limit("request_len"));
            }
            send_request(io, self.peer, name, want_reply, data)?;
        } else {
            self.enqueue(name, data, want_reply, io.limits)?;
        }
        shared.next_request = shared.next_request.saturating_add(1);
        let request = RequestId(shared.next_request);
        if program {
            self.started = Started::Asked;
        }
        if want_reply {
            self.awaited.push_back(Awaited { request, program });
        }
        Ok(request)
    }

    /// Lets a request of ours wait; [`send_owed`](State::send_owed) sends it.
    pub(super) fn enqueue(
        &mut self,
        name: &str,
        data: &[u8],
        want_reply: bool,
        limits: &Limits,
    ) -> Result<(), Misuse> {
        if data.len() > limits.request_len {
            return Err(Misuse::Limit("request_len"));
        }
        let waiting: usize = self.queued.iter().map(|queued| queued.data.len()).sum();
        if self.queued.len() >= limits.pending_requests
            || waiting.saturating_add(data.len()) > limits.deferred_len
        {
            return Err(Misuse::Limit("pending_requests"));
        }
        self.queued.push_back(Queued {
            name: name.into(),
            want_reply,
            data: data.to_vec(),
        });
        Ok(())
    }

    /// CHANNEL_SUCCESS or CHANNEL_FAILURE: about the oldest request that has no answer.
    pub(super) fn replied(
        &mut self,
        accepted: bool,
        shared: &mut Shared,
        limits: &Limits,
    ) -> Result<(), Error> {
        let Some(Awaited { request, program }) = self.awaited.pop_front() else {
            return shared.stray(limits);
        };
        if self.awaited.is_empty() {
            self.awaited = std::collections::VecDeque::new();
        }
        if program {
            self.started = if accepted { Started::Yes } else { Started::No };
        }
        self.push_event(ChannelEvent::Replied { request, accepted }, shared);
        Ok(())
    }

    /// CHANNEL_REQUEST.
    pub(super) fn requested(
        &mut self,
        message: &msg::ChannelRequest<'_>,
        shared: &mut Shared,
        io: &mut Io<'_>,
    ) -> Result<(), Error> {
        // After our CLOSE there is nothing to be said, and nobody to ask.
        if self.local_close != Say::No {
            return Ok(());
        }
        let parsed = parse(message, self.session, shared, io.limits)?;
        let event = match parsed {
            Parsed::Exit(event) if !self.exit_known => {
                self.exit_known = true;
                self.push_event(event, shared);
                None
            }
            Parsed::Request(request) if self.takes(&request, message.want_reply, io.limits) => {
                Some(request)
            }
            Parsed::EndOfWrite => {
                self.pending.eow = !self.released;
                self.note(shared);
                None
            }
            Parsed::Exit(_) | Parsed::Request(_) | Parsed::Refused => None,
        };
        match event {
            Some(request) => {
                io.note_of(self.id, || format!("{} request", message.request_type));
                self.ask(request, message.want_reply, shared);
            }
            None if message.want_reply => {
                io.note_of(self.id, || {
                    let name = printable(message.request_type.as_bytes(), 64);
                    format!("{name} request refused")
                });
                self.questions.refuse();
                self.send_replies(io)?;
                if self.questions.overflows(io.limits) {
                    return Err(PeerError::Limit("requests behind an unanswered one").into());
                }
            }
            None => {}
        }
        Ok(())
    }

    /// Whether a request is passed on to the caller. Otherwise it is refused.
    fn takes(&mut self, request: &ChannelRequest, want_reply: bool, limits: &Limits) -> bool {
        if request.is_program() && self.started != Started::No {
            return false;
        }
        if matches!(request, ChannelRequest::Env { .. }) {
            self.variables = self.variables.saturating_add(1);
            if usize::from(self.variables) > limits.env_variables {
                return false;
            }
            // Variables have a bound of their own when nobody waits for an answer.
            return !want_reply || self.has_room_to_ask(limits);
        }
        if matches!(request, ChannelRequest::WindowChange(_)) && !want_reply {
            self.pending.forget_window_change();
        }
        self.has_room_to_ask(limits)
    }

    fn has_room_to_ask(&self, limits: &Limits) -> bool {
        let open = self.questions.open();
        open.saturating_add(self.pending.unanswerable()) < limits.open_questions
    }

    fn ask(&mut self, request: ChannelRequest, want_reply: bool, shared: &mut Shared) {
        let program = request.is_program();
        let token = want_reply.then(|| {
            let serial = shared.serial();
            self.questions.ask(serial, program);
            RequestToken {
                channel: self.id,
                serial,
            }
        });
        if program {
            self.started = if want_reply {
                Started::Asked
            } else {
                Started::Yes
            };
        }
        self.push_event(ChannelEvent::Requested { request, token }, shared);
    }
}

/// What a request of the peer is to this side.
#[derive(Debug)]
enum Parsed {
    Request(ChannelRequest),
    Exit(ChannelEvent),
    EndOfWrite,
    /// Not known, not for this side, or beyond a limit.
    Refused,
}

fn fault(field: &'static str) -> impl Fn(Malformed) -> Error {
    move |problem| {
        PeerError::Malformed {
            message: msg::ChannelRequest::NUMBER,
            field,
            problem,
        }
        .into()
    }
}

fn parse(
    message: &msg::ChannelRequest<'_>,
    session: bool,
    shared: &Shared,
    limits: &Limits,
) -> Result<Parsed, Error> {
    let mut reader = Reader::new(message.data.0);
    let name = message.request_type;
    // How a program ended is told however long its text is: that is cut.
    let ended = match (shared.side, session) {
        (Side::Client, true) => exit(name, &mut reader, limits)?,
        _ => None,
    };
    let fits = message.data.0.len() <= limits.request_len;
    let parsed = match (ended, shared.side, session) {
        (None, Side::Server, true) if fits => session_request(name, &mut reader, limits)?,
        (None, _, _) if !fits => return Ok(Parsed::Refused),
        (ended, _, _) => ended,
    };
    let parsed = parsed.or_else(|| (name == END_OF_WRITE).then_some(Parsed::EndOfWrite));
    if let Some(parsed) = parsed {
        reader.finish().map_err(fault("end of message"))?;
        return Ok(parsed);
    }
    if shared.own.channel_requests.iter().any(|own| own == name) {
        return Ok(Parsed::Request(ChannelRequest::Custom {
            name: name.to_owned(),
            data: message.data.0.to_vec(),
        }));
    }
    // `keepalive@openssh.com` comes here as well: what it asks for is an answer, not success.
    Ok(Parsed::Refused)
}

/// The requests of RFC 4254 section 6 that a client makes.
fn session_request(
    name: &str,
    reader: &mut Reader<'_>,
    limits: &Limits,
) -> Result<Option<Parsed>, Error> {
    let request = match name {
        "pty-req" => return pty_request(reader, limits).map(Some),
        "env" => {
            let name = reader.string().map_err(fault("variable name"))?;
            let value = reader.string().map_err(fault("variable value"))?;
            if name.len().max(value.len()) > limits.env_len {
                return Ok(Some(Parsed::Refused));
            }
            ChannelRequest::Env {
                name: name.to_vec(),
                value: value.to_vec(),
            }
        }
        "shell" => ChannelRequest::Shell,
        "exec" => ChannelRequest::Exec(reader.string().map_err(fault("command"))?.to_vec()),
        "subsystem" => {
            let name = reader.text().map_err(fault("subsystem name"))?;
            ChannelRequest::Subsystem(name.to_owned())
        }
        "window-change" => {
            ChannelRequest::WindowChange(size(reader).map_err(fault("terminal size"))?)
        }
        "signal" => match Signal::new(reader.text().map_err(fault("signal name"))?) {
            Some(signal) => ChannelRequest::Signal(signal),
            None => return Ok(Some(Parsed::Refused)),
        },
        "break" => ChannelRequest::Break {
            ms: reader.uint32().map_err(fault("break-length"))?,
        },
        _ => return Ok(None),
    };
    Ok(Some(Parsed::Request(request)))
}

fn pty_request(reader: &mut Reader<'_>, limits: &Limits) -> Result<Parsed, Error> {
    let term = reader.text().map_err(fault("TERM environment variable"))?;
    let size = size(reader).map_err(fault("terminal size"))?;
    let modes = reader.string().map_err(fault("encoded terminal modes"))?;
    if term.len() > limits.term_len || modes.len() > limits.modes_len {
        return Ok(Parsed::Refused);
    }
    Ok(Parsed::Request(ChannelRequest::Pty(PtyRequest {
        term: term.to_owned(),
        columns: size.columns,
        rows: size.rows,
        width_px: size.width_px,
        height_px: size.height_px,
        modes: TerminalModes::decode(modes).map_err(fault("encoded terminal modes"))?,
    })))
}

/// RFC 4254 section 6.10: how the program of a server ended.
fn exit(name: &str, reader: &mut Reader<'_>, limits: &Limits) -> Result<Option<Parsed>, Error> {
    Ok(Some(Parsed::Exit(match name {
        "exit-status" => ChannelEvent::ExitStatus(reader.uint32().map_err(fault("exit_status"))?),
        "exit-signal" => {
            let signal = Signal::new(reader.text().map_err(fault("signal name"))?);
            let core_dumped = reader.boolean().map_err(fault("core dumped"))?;
            let message = reader.string().map_err(fault("error message"))?;
            reader.string().map_err(fault("language tag"))?;
            let Some(signal) = signal else {
                return Ok(Some(Parsed::Refused));
            };
            ChannelEvent::ExitSignal(ExitSignal {
                signal,
                core_dumped,
                message: printable(message, limits.text_len),
            })
        }
        _ => return Ok(None),
    })))
}

fn size(reader: &mut Reader<'_>) -> Result<WindowSize, Malformed> {
    Ok(WindowSize {
        columns: reader.uint32()?,
        rows: reader.uint32()?,
        width_px: reader.uint32()?,
        height_px: reader.uint32()?,
    })
}

fn fields(fill: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut fields = Vec::new();
    fill(&mut Writer::new(&mut fields));
    fields
}

pub(super) fn program(program: Program<'_>) -> (&'static str, Vec<u8>) {
    match program {
        Program::Shell => ("shell", Vec::new()),
        Program::Exec(command) => ("exec", fields(|w| _ = w.string(command))),
        Program::Subsystem(name) => ("subsystem", fields(|w| _ = w.string(name.as_bytes()))),
    }
}

pub(super) fn pty(pty: &PtyRequest) -> Vec<u8> {
    fields(|w| {
        w.string(pty.term.as_bytes());
        w.uint32(pty.columns).uint32(pty.rows);
        w.uint32(pty.width_px).uint32(pty.height_px);
        w.string(&pty.modes.encode());
    })
}

pub(super) fn env(name: &[u8], value: &[u8]) -> Vec<u8> {
    fields(|w| _ = w.string(name).string(value))
}

pub(super) fn window_change(size: WindowSize) -> Vec<u8> {
    fields(|w| {
        w.uint32(size.columns).uint32(size.rows);
        w.uint32(size.width_px).uint32(size.height_px);
    })
}

pub(super) fn signal(signal: &Signal) -> Vec<u8> {
    fields(|w| _ = w.string(signal.name().as_bytes()))
}

pub(super) fn exit_signal(exit: &ExitSignal) -> Vec<u8> {
    fields(|w| {
        w.string(exit.signal.name().as_bytes());
        w.boolean(exit.core_dumped);
        w.string(exit.message.as_bytes());
        w.string(b"");
    })
}
