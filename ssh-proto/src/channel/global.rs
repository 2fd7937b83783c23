//! Requests about the connection, and keepalive (RFC 4254 section 4).

use std::collections::VecDeque;

use crate::connection::cx::Cx;
use crate::error::{Error, Misuse, PeerError};
use crate::limits::Limits;
use crate::msg::Rest;
use crate::msg::connection as msg;
use crate::packet::output::BARE_ANSWER;

use super::Notice;
use super::answers::{Questions, Reply};
use super::kinds::{Answer, GlobalRequestReceived, GlobalRequestToken, RequestId, is_name};
use super::table::{Channels, Io, Shared};

/// Every peer answers it, if only with a refusal.
const KEEPALIVE: &str = "keepalive@openssh.com";
/// Requests about the connection, of both sides.
#[derive(Debug, Default)]
pub(super) struct Globals {
    /// Ours that are not answered. `None`: a keepalive, of whose answer nobody is told.
    awaited: VecDeque<Option<RequestId>>,
    /// The peer's.
    questions: Questions,
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
        self.shared.send_global(KEEPALIVE, &[], Some(None), cx)
    }

    /// Answers a request about the connection. Replies leave in the order of the requests.
    pub(crate) fn answer_global<E>(
        &mut self,
        token: &GlobalRequestToken,
        answer: Answer<'_>,
        cx: &mut Cx<'_, E>,
    ) -> Result<(), Misuse> {
        self.shared.usable()?;
        let answer = match answer {
            Answer::Accept(data) if data.len() > cx.limits.request_len => {
                return Err(Misuse::Limit("request_len"));
            }
            Answer::Accept(data) => Some(data),
            Answer::Refuse => None,
        };
        let shared = &mut self.shared;
        shared
            .globals
            .questions
            .answer(token.serial, answer)
            .ok_or(Misuse::StaleToken)?;
        if let Err(fault) = shared.globals.send_replies(&mut Io::of(cx)) {
            shared.fault.get_or_insert(fault);
        }
        Ok(())
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
        let name = message.request_name;
        let known = self.own.global_requests.iter().any(|own| own == name);
        let room = self.globals.questions.open() < io.limits.open_questions;
        if known && room && message.data.0.len() <= io.limits.request_len {
            let token = message.want_reply.then(|| {
                let serial = self.serial();
                self.globals.questions.ask(serial, false);
                GlobalRequestToken { serial }
            });
            let request = GlobalRequestReceived {
                name: name.to_owned(),
                data: message.data.0.to_vec(),
                token,
            };
            self.ready.push_back(Notice::GlobalRequested(request));
        } else if message.want_reply {
            self.globals.questions.refuse();
            self.globals.send_replies(io)?;
            if self.globals.questions.overflows(io.limits) {
                return Err(PeerError::Limit("requests behind an unanswered one").into());
            }
        }
        Ok(())
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
            Some(Some(request)) => self.ready.push_back(Notice::GlobalReplied {
                request,
                reply: reply.map(<[u8]>::to_vec),
            }),
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
