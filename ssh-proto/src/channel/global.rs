//! Requests about the connection, and keepalive (RFC 4254 section 4).

use std::collections::VecDeque;

use crate::connection::cx::Cx;
use crate::connection::role::Side;
use crate::error::{Error, Misuse, PeerError};
use crate::limits::Limits;
use crate::msg::connection as msg;
use crate::msg::{Message, Rest};
use crate::packet::output::BARE_ANSWER;

use super::Notice;
use super::answers::{Questions, Reply};
use super::forward::{self, ForwardAddress, ForwardRequest, Forwards};
use super::kinds::{
    Answer, GlobalRequestKind, GlobalRequestReceived, GlobalRequestToken, RequestId, is_name,
};
use super::table::{Channels, Io, Shared};

/// Every peer answers it, if only with a refusal.
const KEEPALIVE: &str = "keepalive@openssh.com";
/// OpenSSH's PROTOCOL section 2.2.
const NO_MORE_SESSIONS: &str = "no-more-sessions@openssh.com";

/// Requests about the connection, of both sides.
#[derive(Debug, Default)]
pub(super) struct Globals {
    /// Ours that are not answered. `None`: a keepalive, of whose answer nobody is told.
    awaited: VecDeque<Option<RequestId>>,
    /// The peer's.
    questions: Questions,
    pub(super) forwards: Forwards,
}

impl Channels {
    /// Sends a request about the connection. With `want_reply`, [`Notice::GlobalReplied`] follows.
    pub(crate) fn global_request<E>(
        &mut self,
        name: &str,
        data: &[u8],
        want_reply: bool,
        cx: &mut Cx<'_, E>,
    ) -> Result<RequestId, Misuse> {
        if !is_name(name) {
            return Err(Misuse::Argument("name of a request"));
        }
        let shared = &mut self.shared;
        let request = RequestId(shared.next_request.saturating_add(1));
        shared.send_global(name, data, want_reply.then_some(Some(request)), cx)?;
        shared.next_request = request.0;
        Ok(request)
    }

    /// Sends a request that every peer answers. The answer is swallowed.
    pub(crate) fn send_keepalive<E>(&mut self, cx: &mut Cx<'_, E>) -> Result<(), Misuse> {
        // The caller was not refused, and need not hear of room.
        if !cx.out.has_request_room() {
            return Err(Misuse::Blocked);
        }
        self.shared.send_global(KEEPALIVE, &[], Some(None), cx)
    }

    /// Asks the server to listen. [`Notice::GlobalReplied`] follows.
    pub(crate) fn request_forward<E>(
        &mut self,
        address: ForwardAddress,
        cx: &mut Cx<'_, E>,
    ) -> Result<RequestId, Misuse> {
        self.shared.usable()?;
        if self.shared.globals.forwards.len() >= cx.limits.forwards {
            return Err(Misuse::Limit("forwards"));
        }
        let (name, data) = address.encode(false);
        let request = self.global_request(name, &data, true, cx)?;
        self.shared.globals.forwards.add(request.0, address);
        Ok(request)
    }

    /// Asks the server to listen no more. From now on channels that come of it are refused.
    pub(crate) fn cancel_forward<E>(
        &mut self,
        forward: RequestId,
        cx: &mut Cx<'_, E>,
    ) -> Result<RequestId, Misuse> {
        self.shared.usable()?;
        let address = self
            .forward(forward)
            .ok_or(Misuse::Argument("no such forward"))?;
        let (name, data) = address.encode(true);
        let request = self.global_request(name, &data, true, cx)?;
        self.shared.globals.forwards.cancel(forward.0);
        Ok(request)
    }

    /// Where the server listens for us, once it has granted that.
    pub(crate) fn forward(&self, forward: RequestId) -> Option<&ForwardAddress> {
        self.shared.globals.forwards.active(forward.0)
    }

    /// Tells the server that no session will be opened any more.
    pub(crate) fn no_more_sessions<E>(&mut self, cx: &mut Cx<'_, E>) -> Result<(), Misuse> {
        self.shared.send_global(NO_MORE_SESSIONS, &[], None, cx)?;
        self.shared.no_more_sessions = true;
        Ok(())
    }

    /// Answers a request about the connection. Replies leave in the order of the requests.
    pub(crate) fn answer_global<E>(
        &mut self,
        token: &GlobalRequestToken,
        answer: Answer<'_>,
        cx: &mut Cx<'_, E>,
    ) -> Result<(), Misuse> {
        self.shared.usable()?;
        // What cannot be sent is a refusal: the token is spent, and every later reply waits behind this one.
        let (answer, outcome) = match answer {
            Answer::Accept(data) if data.len() > cx.limits.request_len => {
                (None, Err(Misuse::Limit("request_len")))
            }
            Answer::Accept(data) if token.wants_port && forward::bound_port(data).is_err() => (
                None,
                Err(Misuse::Argument("the bound port belongs in the answer")),
            ),
            Answer::Accept(data) => (Some(data), Ok(())),
            Answer::Refuse => (None, Ok(())),
        };
        let shared = &mut self.shared;
        shared
            .globals
            .questions
            .answer(token.serial, answer)
            .ok_or(Misuse::StaleToken)?;
        // On a client the keys are the numbers of its own requests.
        if shared.side == Side::Server {
            _ = shared.globals.forwards.replied(token.serial.into(), answer);
        }
        if let Err(fault) = shared.globals.send_replies(&mut Io::of(cx)) {
            shared.fault.get_or_insert(fault);
        }
        outcome
    }
}

impl Shared {
    fn send_global<E>(
        &mut self,
        request_name: &str,
        data: &[u8],
        awaited: Option<Option<RequestId>>,
        cx: &mut Cx<'_, E>,
    ) -> Result<(), Misuse> {
        self.usable()?;
        if data.len() > cx.limits.request_len {
            return Err(Misuse::Limit("request_len"));
        }
        if awaited.is_some() && self.globals.awaited.len() >= cx.limits.pending_requests {
            return Err(Misuse::Limit("pending_requests"));
        }
        cx.out.request(&msg::GlobalRequest {
            request_name,
            want_reply: awaited.is_some(),
            data: Rest(data),
        })?;
        self.globals.awaited.extend(awaited);
        Ok(())
    }

    /// GLOBAL_REQUEST. What no list of the configuration has is refused, keepalive as well: it asks for an answer, not
    /// for success.
    pub(super) fn global_requested(
        &mut self,
        message: &msg::GlobalRequest<'_>,
        io: &mut Io<'_>,
    ) -> Result<(), Error> {
        let room = self.globals.questions.open() < io.limits.open_questions
            && message.data.0.len() <= io.limits.request_len;
        // A request that is not passed on changes nothing: a listener that the caller did not hear is cancelled is still
        // counted.
        let kind = if room {
            self.kind_of(message, io)?
        } else {
            None
        };
        if self.side == Side::Server && message.request_name == NO_MORE_SESSIONS {
            io.note(|| "the client opens no more sessions".to_owned());
            let first = !std::mem::replace(&mut self.no_more_sessions, true);
            match message.want_reply {
                true if first => self.globals.questions.accept(),
                true => self.globals.questions.refuse(),
                false => {}
            }
        } else if let Some(kind) = kind {
            let token = message.want_reply.then(|| self.ask(&kind));
            let request = GlobalRequestReceived { kind, token };
            self.ready.push_back(Notice::GlobalRequested(request));
            return Ok(());
        } else if message.want_reply {
            self.globals.questions.refuse();
        }
        self.globals.send_replies(io)?;
        if self.globals.questions.overflows(io.limits) {
            return Err(PeerError::Limit("requests behind an unanswered one").into());
        }
        Ok(())
    }

    /// What is asked for, when the caller can be asked about it.
    fn kind_of(
        &mut self,
        message: &msg::GlobalRequest<'_>,
        io: &Io<'_>,
    ) -> Result<Option<GlobalRequestKind>, Error> {
        let (name, data) = (message.request_name, message.data.0);
        if self.side == Side::Server {
            let forwards = &mut self.globals.forwards;
            let max = io.limits.forwards;
            match forward::requested(name, data, message.want_reply, forwards, max)? {
                Some(ForwardRequest::Ask(kind)) => return Ok(Some(kind)),
                Some(ForwardRequest::Refuse) => return Ok(None),
                None => {}
            }
        }
        let known = self.own.global_requests.iter().any(|own| own == name);
        Ok(known.then(|| GlobalRequestKind::Custom {
            name: name.to_owned(),
            data: data.to_vec(),
        }))
    }

    fn ask(&mut self, kind: &GlobalRequestKind) -> GlobalRequestToken {
        let serial = self.serial();
        self.globals.questions.ask(serial, false);
        let mut wants_port = false;
        if let GlobalRequestKind::Forward(address) = kind {
            wants_port = address.wants_port();
            self.globals.forwards.add(serial.into(), address.clone());
        }
        GlobalRequestToken { serial, wants_port }
    }

    /// REQUEST_SUCCESS with data, or REQUEST_FAILURE: about the oldest request that has no answer.
    pub(super) fn global_replied(
        &mut self,
        reply: Option<&[u8]>,
        limits: &Limits,
    ) -> Result<(), Error> {
        match self.globals.awaited.pop_front() {
            None => return self.stray(limits),
            Some(None) => {}
            Some(Some(_)) if reply.is_some_and(|data| data.len() > limits.request_len) => {
                return Err(PeerError::Limit("data of a reply").into());
            }
            Some(Some(request)) => {
                if self.side == Side::Client {
                    let replied = self.globals.forwards.replied(request.0, reply);
                    replied.map_err(|problem| PeerError::Malformed {
                        message: msg::RequestSuccess::NUMBER,
                        field: "port that was bound on the server",
                        problem,
                    })?;
                }
                self.ready.push_back(Notice::GlobalReplied {
                    request,
                    reply: reply.map(<[u8]>::to_vec),
                });
            }
        }
        if self.globals.awaited.is_empty() {
            self.globals.awaited = VecDeque::new();
        }
        Ok(())
    }
}

impl Globals {
    fn send_replies(&mut self, io: &mut Io<'_>) -> Result<(), Error> {
        let mut sent = Ok(());
        while let Some(reply) = self.questions.poll() {
            let this = match reply {
                Reply::Accepted(data) => io
                    .out
                    .answer(&msg::RequestSuccess { data: Rest(&data) }, BARE_ANSWER),
                Reply::Refused => io.out.reply(&msg::RequestFailure {}),
            };
            sent = sent.and(this);
        }
        sent
    }
}
