//! A server's authentication (RFC 4252, RFC 4256): every request gets one answer, in order.
//!
//! In: messages 5, 50 and 61 of the client; verdicts of the caller. Out: messages 6, 51 to 53 and 60, questions.
//! What needs no knowledge of users is decided here: services, methods, limits, signatures. All else is a question,
//! whose answers are in [`verdict`].

mod verdict;

use std::sync::Arc;
use std::time::Instant;

use super::attempt::{KeyOffer, LoginAttempt, Proof};
use super::event::ServerAuthEvent;
use super::prompt::method_list;
use super::{
    CONNECTION_SERVICE, PublicKeyFields, SessionInfo, USERAUTH_SERVICE, draw_serial, fault,
    signature_names, signed_data, unexpected,
};
use crate::config::{AuthMethod, ServerConfig};
use crate::connection::cx::Cx;
use crate::error::{Error, PeerError, printable};
use crate::key::PublicKey;
use crate::limits::AUTH_PAYLOAD_LEN;
use crate::log::{LogLayer, LogLevel};
use crate::msg::Message;
use crate::msg::auth::{UserauthBanner, UserauthFailure, UserauthInfoResponse, UserauthRequest};
use crate::msg::transport::{ServiceAccept, ServiceRequest};
use crate::names::{Algorithm, SignatureAlgorithm};
use crate::secret::Secret;
use crate::wire::{NameList, Reader};

/// The server's half of authentication.
#[derive(Debug)]
pub(crate) struct ServerAuth {
    config: Arc<ServerConfig>,
    state: State,
    /// What the user of the last request has reached.
    progress: Progress,
    requests: u32,
    failures: u32,
    queries: u32,
    banner_sent: bool,
}

/// Where the server stands.
///
/// ```text
/// New ─ first keys → Started ─ SERVICE_REQUEST → Listening ─ request → Asking ─ grant → Authenticated
///                                                  ↑ ↑  ↑                │  ↑
///                                                  │ │  └─ PK_OK, partial, password change, refusals that
///                                                  │ │     cost nothing ┤  │
///                                                  │ └── its time ─ Refusing ← refuse, wrong in itself
///                                                  │                     │  │
///                                                  └── new request ─ Prompting ─ INFO_RESPONSE ┘
/// ```
///
/// No packet comes in during `Asking` and `Refusing`.
#[derive(Debug)]
enum State {
    New,
    Started,
    Listening,
    /// The caller is asked about a request that came at `since`.
    Asking {
        serial: u64,
        since: Instant,
        question: Question,
    },
    /// A round of so many prompts is out.
    Prompting(usize),
    /// FAILURE, or the end of the connection, waits for its time.
    Refusing(Instant),
    Authenticated(String),
}

/// What the caller is asked.
#[derive(Debug)]
enum Question {
    /// Whether this key would do.
    Key {
        key: PublicKey,
        algorithm: SignatureAlgorithm,
    },
    /// Whether this attempt is good enough.
    Login(Kind),
}

/// Which answers an attempt can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    Password,
    PublicKey,
    /// A keyboard-interactive request: nothing is proven before the first answers.
    Interactive,
    Answers,
}

impl Kind {
    const fn method(self) -> AuthMethod {
        match self {
            Self::None => AuthMethod::None,
            Self::Password => AuthMethod::Password,
            Self::PublicKey => AuthMethod::PublicKey,
            Self::Interactive | Self::Answers => AuthMethod::KeyboardInteractive,
        }
    }
}

/// What one user has reached.
///
/// RFC 4252 section 5: "The server implementation MUST carefully check them [user and service name] in every message,
/// and MUST flush any accumulated authentication states if they change." There is one of these, made anew then.
#[derive(Debug, Default)]
struct Progress {
    user: String,
    completed: Vec<AuthMethod>,
    /// The methods that must follow a partial success; before one, those of the configuration.
    next: Option<Vec<AuthMethod>>,
}

impl ServerAuth {
    pub(crate) fn new(config: &Arc<ServerConfig>) -> Self {
        Self {
            config: Arc::clone(config),
            state: State::New,
            progress: Progress::default(),
            requests: 0,
            failures: 0,
            queries: 0,
            banner_sent: false,
        }
    }

    /// The first key exchange is done: the client may ask for the service.
    pub(crate) fn start(&mut self) {
        if matches!(self.state, State::New) {
            self.state = State::Started;
        }
    }

    /// The caller is asked, or a refusal waits for its time: no packet must come in.
    pub(crate) const fn is_held(&self) -> bool {
        matches!(self.state, State::Asking { .. } | State::Refusing(_))
    }

    pub(crate) const fn is_authenticated(&self) -> bool {
        matches!(self.state, State::Authenticated(_))
    }

    /// The user, once authenticated.
    pub(crate) fn user(&self) -> Option<&str> {
        match &self.state {
            State::Authenticated(user) => Some(user),
            _ => None,
        }
    }

    /// When a refusal that waits is due.
    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Refusing(due) => Some(due),
            _ => None,
        }
    }

    /// Sends the refusal that is due. Fails when it was one too many.
    pub(crate) fn handle_timeout<E>(&mut self, cx: &mut Cx<'_, E>) -> Result<(), Error> {
        match self.state {
            State::Refusing(due) if due <= cx.now => {
                if self.failures >= cx.limits.auth_failures {
                    return Err(PeerError::TooManyAuthFailures.into());
                }
                self.send_failure(false, cx);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Takes message 5 or one of 50 to 79.
    pub(crate) fn handle<E: From<ServerAuthEvent>>(
        &mut self,
        payload: &[u8],
        session: &SessionInfo<'_>,
        cx: &mut Cx<'_, E>,
    ) -> Result<(), Error> {
        if self.is_held() {
            return Err(Error::Bug("a packet while authentication asks the caller"));
        }
        match payload.first().copied().unwrap_or_default() {
            ServiceRequest::NUMBER => self.service_request(payload, cx),
            UserauthRequest::NUMBER => self.request(payload, session, cx),
            UserauthInfoResponse::NUMBER => self.info_response(payload, cx),
            number => Err(unexpected(number).into()),
        }
    }

    fn service_request<E>(&mut self, payload: &[u8], cx: &mut Cx<'_, E>) -> Result<(), Error> {
        // Some clients (Paramiko's) ask again before each attempt.
        if !matches!(
            self.state,
            State::Started | State::Listening | State::Prompting(_)
        ) {
            return Err(unexpected(ServiceRequest::NUMBER).into());
        }
        self.count_request(cx)?;
        // RFC 4253 section 10: "If the server rejects the service request, it SHOULD send an appropriate
        // SSH_MSG_DISCONNECT message and MUST disconnect."
        if ServiceRequest::decode(payload)?.service_name != USERAUTH_SERVICE {
            return Err(PeerError::Service.into());
        }
        cx.out.must(&ServiceAccept {
            service_name: USERAUTH_SERVICE,
        });
        if matches!(self.state, State::Started) {
            self.state = State::Listening;
        }
        Ok(())
    }

    fn request<E: From<ServerAuthEvent>>(
        &mut self,
        payload: &[u8],
        session: &SessionInfo<'_>,
        cx: &mut Cx<'_, E>,
    ) -> Result<(), Error> {
        match self.state {
            // RFC 4252 section 5.1: after SUCCESS "any further authentication requests received after that SHOULD be
            // silently ignored".
            State::Authenticated(_) => return Ok(()),
            // RFC 4252 section 5.1: "A request that requires further messages to be exchanged will be aborted by a
            // subsequent request", without a FAILURE of its own.
            State::Listening | State::Prompting(_) => self.state = State::Listening,
            _ => return Err(unexpected(UserauthRequest::NUMBER).into()),
        }
        let request = UserauthRequest::decode(payload)?;
        self.count_request(cx)?;
        self.send_config_banner(cx);
        // RFC 4252 section 5: "if the service does not exist, authentication MUST NOT be accepted".
        if request.service_name != CONNECTION_SERVICE
            || request.user_name.len() > cx.limits.user_len
        {
            self.progress = Progress::default();
            self.fail(cx.now, "service or user name", cx);
            return Ok(());
        }
        if self.progress.user != request.user_name {
            self.progress = Progress {
                user: request.user_name.to_owned(),
                ..Progress::default()
            };
        }
        let fields = request.method_fields.0;
        match AuthMethod::from_name(request.method_name).filter(|method| self.allows(*method)) {
            Some(AuthMethod::None) => {
                let reader = Reader::new(fields);
                reader.finish().map_err(fault(50, "end of message"))?;
                self.attempt(Kind::None, Proof::None, cx);
            }
            Some(AuthMethod::Password) => self.password(fields, cx)?,
            Some(AuthMethod::PublicKey) => self.public_key(fields, session, cx)?,
            Some(AuthMethod::KeyboardInteractive) => {
                let mut reader = Reader::new(fields);
                reader.string().map_err(fault(50, "language tag"))?;
                let submethods = reader.string().map_err(fault(50, "submethods"))?;
                reader.finish().map_err(fault(50, "end of message"))?;
                let submethods = printable(submethods, cx.limits.text_len);
                let proof = Proof::KeyboardInteractive { submethods };
                self.attempt(Kind::Interactive, proof, cx);
            }
            // The probe for the list of methods: RFC 4252 section 5.2.
            None if request.method_name == AuthMethod::None.name() => self.send_failure(false, cx),
            None => self.fail(cx.now, "a method that is not offered", cx),
        }
        Ok(())
    }

    fn password<E: From<ServerAuthEvent>>(
        &mut self,
        fields: &[u8],
        cx: &mut Cx<'_, E>,
    ) -> Result<(), Error> {
        let mut reader = Reader::new(fields);
        let change = reader.boolean().map_err(fault(50, "password change"))?;
        let old = reader.string().map_err(fault(50, "password"))?;
        let new = change
            .then(|| reader.string())
            .transpose()
            .map_err(fault(50, "new password"))?;
        reader.finish().map_err(fault(50, "end of message"))?;
        if old.len().max(new.map_or(0, <[u8]>::len)) > cx.limits.password_len {
            self.fail(cx.now, "the password is too long", cx);
            return Ok(());
        }
        let old = Secret::from(old);
        let proof = match new.map(Secret::from) {
            None => Proof::Password(old),
            Some(new) => Proof::PasswordChange { old, new },
        };
        self.attempt(Kind::Password, proof, cx);
        Ok(())
    }

    fn public_key<E: From<ServerAuthEvent>>(
        &mut self,
        fields: &[u8],
        session: &SessionInfo<'_>,
        cx: &mut Cx<'_, E>,
    ) -> Result<(), Error> {
        let request = PublicKeyFields::decode(fields)?;
        let key = self.usable_key(&request);
        let Some(signature) = request.signature else {
            return self.key_query(key, cx);
        };
        // The signature is verified before anybody is asked: an attempt with a key is a proof. It covers the session,
        // the user, and the key and algorithm of this very request, whatever was queried before.
        let proven = key.filter(|(key, algorithm)| {
            let data = signed_data(session.id, &self.progress.user, *algorithm, key.blob());
            signature_names(signature, *algorithm)
                && key.verify(*algorithm, &data, signature).is_ok()
        });
        match proven {
            Some((key, _)) => self.attempt(Kind::PublicKey, Proof::PublicKey(key), cx),
            None => self.fail(cx.now, "unusable key or wrong signature", cx),
        }
        Ok(())
    }

    fn key_query<E: From<ServerAuthEvent>>(
        &mut self,
        key: Option<(PublicKey, SignatureAlgorithm)>,
        cx: &mut Cx<'_, E>,
    ) -> Result<(), Error> {
        self.queries = self.queries.saturating_add(1);
        if self.queries > cx.limits.public_key_queries {
            return Err(PeerError::TooManyAuthFailures.into());
        }
        let Some((key, algorithm)) = key else {
            self.send_failure(false, cx);
            return Ok(());
        };
        let question = Question::Key {
            key: key.clone(),
            algorithm,
        };
        let serial = self.ask(question, cx);
        cx.events.push(ServerAuthEvent::KeyOffered(KeyOffer {
            serial,
            user: self.progress.user.clone(),
            key,
            algorithm,
        }));
        Ok(())
    }

    /// The key and the algorithm of a request, when the one is configured and fits the other. Names are compared
    /// exactly: one ECDSA name in the list is not all of ECDSA.
    fn usable_key(&self, request: &PublicKeyFields<'_>) -> Option<(PublicKey, SignatureAlgorithm)> {
        let algorithm = SignatureAlgorithm::from_name(request.algorithm)?;
        if !self
            .config
            .transport
            .algorithms
            .user_keys
            .contains(algorithm)
        {
            return None;
        }
        let key = PublicKey::from_blob(request.key).ok()?;
        key.algorithms()
            .contains(&algorithm)
            .then_some((key, algorithm))
    }

    fn info_response<E: From<ServerAuthEvent>>(
        &mut self,
        payload: &[u8],
        cx: &mut Cx<'_, E>,
    ) -> Result<(), Error> {
        let State::Prompting(prompts) = self.state else {
            return Err(unexpected(UserauthInfoResponse::NUMBER).into());
        };
        self.state = State::Listening;
        self.count_request(cx)?;
        let response = UserauthInfoResponse::decode(payload)?;
        // RFC 4256 section 3.4: "If the num-responses field does not match the num-prompts field in the request
        // message, the server MUST send a failure message."
        if usize::try_from(response.num_responses) != Ok(prompts) {
            self.fail(cx.now, "wrong number of answers", cx);
            return Ok(());
        }
        let mut reader = Reader::new(response.responses.0);
        let mut answers = Vec::new();
        let mut too_long = false;
        for _ in 0..prompts {
            let answer = reader.string().map_err(fault(61, "response"))?;
            too_long |= answer.len() > cx.limits.password_len;
            answers.push(Secret::from(answer));
        }
        reader.finish().map_err(fault(61, "end of message"))?;
        if too_long {
            self.fail(cx.now, "an answer is too long", cx);
        } else {
            self.attempt(Kind::Answers, Proof::Answers(answers), cx);
        }
        Ok(())
    }

    fn attempt<E: From<ServerAuthEvent>>(&mut self, kind: Kind, proof: Proof, cx: &mut Cx<'_, E>) {
        let serial = self.ask(Question::Login(kind), cx);
        cx.events
            .push(ServerAuthEvent::LoginAttempted(LoginAttempt {
                serial,
                user: self.progress.user.clone(),
                proof,
                completed: self.progress.completed.clone(),
            }));
    }

    fn ask<E>(&mut self, question: Question, cx: &mut Cx<'_, E>) -> u64 {
        let serial = draw_serial(cx.out);
        self.state = State::Asking {
            serial,
            since: cx.now,
            question,
        };
        serial
    }

    fn count_request<E>(&mut self, cx: &Cx<'_, E>) -> Result<(), Error> {
        self.requests = self.requests.saturating_add(1);
        if self.requests > cx.limits.auth_requests {
            return Err(PeerError::Limit("authentication requests").into());
        }
        Ok(())
    }

    /// A failed attempt, which came at `since`. Its answer leaves so late that guessing is slow, and at the same time
    /// whatever it took to find out. The one that is too many ends the connection then.
    fn fail<E>(&mut self, since: Instant, why: &str, cx: &mut Cx<'_, E>) {
        self.failures = self.failures.saturating_add(1);
        cx.log.add(LogLevel::Info, LogLayer::Authentication, || {
            let user = printable(self.progress.user.as_bytes(), 255);
            format!("failed attempt {} as {user:?}: {why}", self.failures)
        });
        let due = since
            .checked_add(self.config.failure_delay)
            .unwrap_or(since);
        if due <= cx.now && self.failures < cx.limits.auth_failures {
            self.send_failure(false, cx);
        } else {
            self.state = State::Refusing(due);
        }
    }

    fn send_failure<E>(&mut self, partial_success: bool, cx: &mut Cx<'_, E>) {
        let methods = method_list(self.next_methods());
        cx.out.must(&UserauthFailure {
            authentications_that_can_continue: NameList::new(&methods),
            partial_success,
        });
        self.state = State::Listening;
    }

    fn next_methods(&self) -> &[AuthMethod] {
        match &self.progress.next {
            Some(next) => next,
            None => &self.config.auth_methods,
        }
    }

    fn allows(&self, method: AuthMethod) -> bool {
        self.next_methods().contains(&method)
    }

    /// The banner of the configuration goes in front of the first answer.
    fn send_config_banner<E>(&mut self, cx: &mut Cx<'_, E>) {
        if std::mem::replace(&mut self.banner_sent, true) {
            return;
        }
        if let Some(banner) = &self.config.banner {
            let text = with_crlf(banner);
            let fits = text.len().min(AUTH_PAYLOAD_LEN / 2);
            cx.out.must(&UserauthBanner {
                message: text.as_bytes().get(..fits).unwrap_or_default(),
                language_tag: b"",
            });
        }
    }
}

/// RFC 4252 section 5.4: "The 'message' may consist of multiple lines, with line breaks indicated by CRLF pairs."
fn with_crlf(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\n', "\r\n")
}
