//! A client's authentication (RFC 4252, RFC 4256): one attempt at a time, each started by the caller.
//!
//! In: messages 6, 51 to 53 and 60 of the server; credentials, answers and signatures of the caller. Out: messages 5,
//! 50 and 61, questions and outcomes. Nothing is shown to a server that the caller did not ask to be shown. What the
//! caller asks for and answers is in [`command`].

mod command;

use std::sync::Arc;

use super::event::ClientAuthEvent;
use super::prompt::{PasswordChange, Prompt, Prompts};
use super::signature::{SignaturePurpose, SignatureRequest};
use super::{
    Credential, SessionInfo, USERAUTH_SERVICE, draw_serial, fault, signed_data, unexpected,
};
use crate::config::ClientConfig;
use crate::connection::cx::Cx;
use crate::error::{Error, PeerError, printable};
use crate::key::{PrivateKey, PublicKey};
use crate::limits::ROUND_TEXT_LEN;
use crate::log::{LogLayer, LogLevel, LogSubject};
use crate::msg::Message;
use crate::msg::auth::{
    UserauthBanner, UserauthFailure, UserauthInfoRequest, UserauthPasswdChangereq, UserauthPkOk,
    UserauthSuccess,
};
use crate::msg::transport::{ServiceAccept, ServiceRequest};
use crate::names::SignatureAlgorithm;
use crate::wire::Reader;

/// The client's half of authentication.
#[derive(Debug)]
pub(crate) struct ClientAuth {
    config: Arc<ClientConfig>,
    state: State,
    /// The user of the attempt under way.
    user: String,
    /// The methods that the server said last can continue.
    methods: Vec<String>,
    banners: u32,
}

/// Where the client stands.
///
/// ```text
/// New ─ first keys → Requested ─ SERVICE_ACCEPT → Ready ─ authenticate → Waiting ─ SUCCESS → Authenticated
///                                                   ↑                    │  ↑  │
///                                                   ├───── FAILURE ──────┘  │  └ 60 → Asking ┐
///                                                   ├─── no signature ──────│────────────────┤
///                                                   │                       └──── answer ────┘
///                                                   └ what was asked is void: authenticate again
/// ```
///
/// An attempt that was started before `Ready` waits there. In `Asking` a question is open to the caller and no packet
/// comes in.
#[derive(Debug)]
enum State {
    New(Option<Credential>),
    Requested(Option<Credential>),
    Ready,
    Waiting(Sent),
    Asking { serial: u64, question: Question },
    Authenticated,
}

/// What was sent and not answered yet: it decides what message 60 is.
#[derive(Debug)]
enum Sent {
    /// `none`, or a signature: SUCCESS or FAILURE.
    Proof,
    /// A password: also PASSWD_CHANGEREQ.
    Password,
    /// Whether a key would do: PK_OK or FAILURE, never SUCCESS.
    Query(Candidate),
    /// keyboard-interactive: also INFO_REQUEST.
    Interactive,
}

/// What the caller is asked.
#[derive(Debug)]
enum Question {
    Prompts(usize),
    PasswordChange,
    Signature(Candidate),
}

/// A key and how it would sign.
#[derive(Debug)]
struct Candidate {
    key: CandidateKey,
    algorithm: SignatureAlgorithm,
}

#[derive(Debug)]
enum CandidateKey {
    Private(Arc<PrivateKey>),
    External(PublicKey),
}

impl Candidate {
    fn public(&self) -> &PublicKey {
        match &self.key {
            CandidateKey::Private(key) => key.public(),
            CandidateKey::External(key) => key,
        }
    }
}

impl ClientAuth {
    pub(crate) fn new(config: &Arc<ClientConfig>) -> Self {
        Self {
            config: Arc::clone(config),
            state: State::New(None),
            user: String::new(),
            methods: Vec::new(),
            banners: 0,
        }
    }

    /// The first key exchange is done. The first request is not sent along with SERVICE_REQUEST: the server's
    /// `server-sig-algs` comes before its SERVICE_ACCEPT (RFC 8308 section 2.4) and decides how an RSA key signs.
    pub(crate) fn start<E: From<ClientAuthEvent>>(&mut self, cx: &mut Cx<'_, E>) {
        if let State::New(waiting) = &mut self.state {
            self.state = State::Requested(waiting.take());
            cx.out.must(&ServiceRequest {
                service_name: USERAUTH_SERVICE,
            });
        }
    }

    /// A question is open to the caller: no packet must come in until it is answered.
    pub(crate) const fn is_held(&self) -> bool {
        matches!(self.state, State::Asking { .. })
    }

    pub(crate) const fn is_authenticated(&self) -> bool {
        matches!(self.state, State::Authenticated)
    }

    /// The server owes an answer: its time is running.
    pub(crate) const fn is_waiting_for_peer(&self) -> bool {
        matches!(self.state, State::Requested(_) | State::Waiting(_))
    }

    /// The user, once authenticated.
    pub(crate) fn user(&self) -> Option<&str> {
        self.is_authenticated().then_some(self.user.as_str())
    }

    /// Takes message 6 or one of 50 to 79.
    pub(crate) fn handle<E: From<ClientAuthEvent>>(
        &mut self,
        payload: &[u8],
        session: &SessionInfo<'_>,
        cx: &mut Cx<'_, E>,
    ) -> Result<(), Error> {
        if self.is_held() {
            return Err(Error::Bug("a packet while authentication asks the caller"));
        }
        match payload.first().copied().unwrap_or_default() {
            ServiceAccept::NUMBER => self.service_accept(payload, session, cx),
            UserauthFailure::NUMBER => self.failure(payload, cx),
            UserauthSuccess::NUMBER => self.success(payload, cx),
            UserauthBanner::NUMBER => self.banner(payload, cx),
            UserauthPkOk::NUMBER => self.method_message(payload, session, cx),
            number => Err(unexpected(number).into()),
        }
    }

    fn service_accept<E: From<ClientAuthEvent>>(
        &mut self,
        payload: &[u8],
        session: &SessionInfo<'_>,
        cx: &mut Cx<'_, E>,
    ) -> Result<(), Error> {
        let State::Requested(waiting) = &mut self.state else {
            return Err(unexpected(ServiceAccept::NUMBER).into());
        };
        if ServiceAccept::decode(payload)?.service_name != USERAUTH_SERVICE {
            return Err(PeerError::Authentication("SERVICE_ACCEPT for another service").into());
        }
        let waiting = waiting.take();
        self.state = State::Ready;
        if let Some(credential) = waiting {
            self.send(credential, session, cx);
        }
        Ok(())
    }

    fn failure<E: From<ClientAuthEvent>>(
        &mut self,
        payload: &[u8],
        cx: &mut Cx<'_, E>,
    ) -> Result<(), Error> {
        if !matches!(self.state, State::Waiting(_)) {
            return Err(unexpected(UserauthFailure::NUMBER).into());
        }
        let failure = UserauthFailure::decode(payload)?;
        self.methods = failure
            .authentications_that_can_continue
            .iter()
            .take(cx.limits.auth_methods)
            .map(str::to_owned)
            .collect();
        self.refused(failure.partial_success, cx);
        Ok(())
    }

    fn success<E: From<ClientAuthEvent>>(
        &mut self,
        payload: &[u8],
        cx: &mut Cx<'_, E>,
    ) -> Result<(), Error> {
        // RFC 4252 section 7: a query is answered with FAILURE or PK_OK; nothing was proven by it.
        if !matches!(&self.state, State::Waiting(sent) if !matches!(sent, Sent::Query(_))) {
            return Err(unexpected(UserauthSuccess::NUMBER).into());
        }
        UserauthSuccess::decode(payload)?;
        self.state = State::Authenticated;
        self.methods = Vec::new();
        let user = &self.user;
        cx.log
            .add_about(LogLevel::Info, LogLayer::Authentication, || {
                let user = printable(user.as_bytes(), 255);
                let text = format!("authenticated as {user}");
                (LogSubject::LoggedIn(user), text)
            });
        cx.events.push(ClientAuthEvent::Authenticated);
        Ok(())
    }

    fn banner<E: From<ClientAuthEvent>>(
        &mut self,
        payload: &[u8],
        cx: &mut Cx<'_, E>,
    ) -> Result<(), Error> {
        // RFC 4252 section 5.4: "at any time after this authentication protocol starts and before authentication is
        // successful".
        if !matches!(self.state, State::Ready | State::Waiting(_)) {
            return Err(unexpected(UserauthBanner::NUMBER).into());
        }
        let banner = UserauthBanner::decode(payload)?;
        if self.banners < cx.limits.banners {
            self.banners = self.banners.saturating_add(1);
            let text = printable(banner.message, cx.limits.text_len);
            cx.events.push(ClientAuthEvent::Banner(text));
        }
        Ok(())
    }

    /// Message 60 means what the method under way says.
    fn method_message<E: From<ClientAuthEvent>>(
        &mut self,
        payload: &[u8],
        session: &SessionInfo<'_>,
        cx: &mut Cx<'_, E>,
    ) -> Result<(), Error> {
        let sent = match &mut self.state {
            State::Waiting(sent) => std::mem::replace(sent, Sent::Proof),
            _ => return Err(unexpected(60).into()),
        };
        match sent {
            Sent::Proof => Err(unexpected(60).into()),
            Sent::Password => {
                let request = UserauthPasswdChangereq::decode(payload)?;
                let prompt = printable(request.prompt, cx.limits.text_len);
                let serial = self.ask(Question::PasswordChange, cx);
                cx.events
                    .push(ClientAuthEvent::PasswordChangeRequested(PasswordChange {
                        serial,
                        prompt,
                    }));
                Ok(())
            }
            Sent::Query(candidate) => self.key_accepted(payload, candidate, session, cx),
            Sent::Interactive => self.info_request(payload, cx),
        }
    }

    fn key_accepted<E: From<ClientAuthEvent>>(
        &mut self,
        payload: &[u8],
        candidate: Candidate,
        session: &SessionInfo<'_>,
        cx: &mut Cx<'_, E>,
    ) -> Result<(), Error> {
        let accepted = UserauthPkOk::decode(payload)?;
        // RFC 4252 section 7: PK_OK repeats "public key algorithm name from the request" and "public key blob from the
        // request".
        if accepted.algorithm != candidate.algorithm.name()
            || accepted.key != candidate.public().blob()
        {
            return Err(PeerError::Authentication("PK_OK for a key that was not offered").into());
        }
        match &candidate.key {
            CandidateKey::Private(_) => self.sign(&candidate, session, cx),
            CandidateKey::External(key) => {
                let (key, algorithm) = (key.clone(), candidate.algorithm);
                let data = signed_data(session.id, &self.user, algorithm, key.blob());
                let serial = self.ask(Question::Signature(candidate), cx);
                cx.events
                    .push(ClientAuthEvent::SignatureNeeded(SignatureRequest::new(
                        serial,
                        SignaturePurpose::UserAuthentication,
                        key,
                        algorithm,
                        data,
                    )));
            }
        }
        Ok(())
    }

    fn info_request<E: From<ClientAuthEvent>>(
        &mut self,
        payload: &[u8],
        cx: &mut Cx<'_, E>,
    ) -> Result<(), Error> {
        let request = UserauthInfoRequest::decode(payload)?;
        let count = usize::try_from(request.num_prompts).unwrap_or(usize::MAX);
        if count > cx.limits.prompts {
            return Err(PeerError::Limit("prompts of one round").into());
        }
        let mut left = ROUND_TEXT_LEN;
        let mut text = |text: &[u8]| {
            let text = printable(text, cx.limits.text_len.min(left));
            left = left.saturating_sub(text.len());
            text
        };
        let (name, instruction) = (text(request.name), text(request.instruction));
        let mut reader = Reader::new(request.prompts.0);
        let mut prompts = Vec::new();
        for _ in 0..count {
            let prompt = reader.string().map_err(fault(60, "prompt"))?;
            let echo = reader.boolean().map_err(fault(60, "echo"))?;
            prompts.push(Prompt::new(text(prompt), echo));
        }
        reader.finish().map_err(fault(60, "end of message"))?;
        let serial = self.ask(Question::Prompts(count), cx);
        cx.events.push(ClientAuthEvent::PromptsReceived(Prompts {
            serial,
            name,
            instruction,
            prompts,
        }));
        Ok(())
    }

    fn refused<E: From<ClientAuthEvent>>(&mut self, partial_success: bool, cx: &mut Cx<'_, E>) {
        self.state = State::Ready;
        let methods = self.methods.clone();
        cx.log.add(LogLevel::Debug, LogLayer::Authentication, || {
            let outcome = if partial_success {
                "partial success"
            } else {
                "refused"
            };
            format!(
                "{outcome}; methods that can continue: {}",
                methods.join(",")
            )
        });
        cx.events.push(ClientAuthEvent::AuthenticationRefused {
            methods,
            partial_success,
        });
    }

    fn ask<E: From<ClientAuthEvent>>(&mut self, question: Question, cx: &mut Cx<'_, E>) -> u64 {
        let serial = draw_serial(cx.out);
        self.state = State::Asking { serial, question };
        serial
    }
}
