//! A client's authentication (RFC 4252, RFC 4256): one attempt at a time, each started by the caller.
//!
//! In: messages 6, 51 to 53 and 60 of the server; credentials, answers and signatures of the caller. Out: messages 5,
//! 50 and 61, questions and outcomes. Nothing is shown to a server that the caller did not ask to be shown.

use std::sync::Arc;

use super::event::ClientAuthEvent;
use super::prompt::{PasswordChange, Prompt, Prompts};
use super::signature::{SignaturePurpose, SignatureRequest};
use super::{
    CONNECTION_SERVICE, Credential, MAX_PAYLOAD, PublicKeyFields, SessionInfo, USERAUTH_SERVICE,
    draw_serial, fault, signature_names, signed_data, unexpected,
};
use crate::config::{AuthMethod, ClientConfig};
use crate::connection::cx::Cx;
use crate::error::{Error, Misuse, PeerError, printable};
use crate::key::{PrivateKey, PublicKey};
use crate::limits::Limits;
use crate::log::{LogLayer, LogLevel};
use crate::msg::auth::{
    UserauthBanner, UserauthFailure, UserauthInfoRequest, UserauthInfoResponse,
    UserauthPasswdChangereq, UserauthPkOk, UserauthRequest, UserauthSuccess,
};
use crate::msg::transport::{ServiceAccept, ServiceRequest};
use crate::msg::{Message, Rest};
use crate::names::SignatureAlgorithm;
use crate::secret::Secret;
use crate::wire::{Reader, Writer};

/// A request spends this much on its fixed fields and names at the most.
const REQUEST_OVERHEAD: usize = 256;

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
        cx.log.add(LogLevel::Info, LogLayer::Authentication, || {
            format!("authenticated as {}", printable(user.as_bytes(), 255))
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
        let State::Waiting(sent) = std::mem::replace(&mut self.state, State::Ready) else {
            return Err(unexpected(60).into());
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
        let max = cx.limits.text_len;
        let mut reader = Reader::new(request.prompts.0);
        let mut prompts = Vec::new();
        for _ in 0..count {
            let text = reader.string().map_err(fault(60, "prompt"))?;
            let echo = reader.boolean().map_err(fault(60, "echo"))?;
            prompts.push(Prompt::new(printable(text, max), echo));
        }
        reader.finish().map_err(fault(60, "end of message"))?;
        let serial = self.ask(Question::Prompts(count), cx);
        cx.events.push(ClientAuthEvent::PromptsReceived(Prompts {
            serial,
            name: printable(request.name, max),
            instruction: printable(request.instruction, max),
            prompts,
        }));
        Ok(())
    }

    /// Starts an attempt, or keeps it until the server is ready for it. A question that is open is void.
    pub(crate) fn authenticate<E: From<ClientAuthEvent>>(
        &mut self,
        user: &str,
        credential: Credential,
        session: Option<&SessionInfo<'_>>,
        cx: &mut Cx<'_, E>,
    ) -> Result<(), Misuse> {
        match (&self.state, session) {
            (State::Authenticated, _) => return Err(Misuse::AlreadyAuthenticated),
            (State::New(Some(_)) | State::Requested(Some(_)) | State::Waiting(_), _) => {
                return Err(Misuse::AttemptPending);
            }
            (State::Ready | State::Asking { .. }, None) => return Err(Misuse::Blocked),
            (State::New(None) | State::Requested(None), _) => {}
            (State::Ready | State::Asking { .. }, Some(_)) => {}
        }
        self.check(user, &credential, cx.limits)?;
        user.clone_into(&mut self.user);
        match (&mut self.state, session) {
            (State::New(waiting) | State::Requested(waiting), _) => *waiting = Some(credential),
            (_, Some(session)) => self.send(credential, session, cx),
            (_, None) => {}
        }
        Ok(())
    }

    /// Answers a keyboard-interactive round: one answer for each prompt. When the number is wrong the question stays
    /// open; another [`authenticate`](Self::authenticate) makes it void.
    pub(crate) fn answer<E: From<ClientAuthEvent>>(
        &mut self,
        prompts: Prompts,
        answers: &[Secret],
        cx: &mut Cx<'_, E>,
    ) -> Result<(), Misuse> {
        match &self.state {
            State::Asking {
                serial,
                question: Question::Prompts(count),
            } if *serial == prompts.serial => {
                // RFC 4256 section 3.4: "If the num-responses field does not match the num-prompts field in the
                // request message, the server MUST send a failure message."
                if *count != answers.len() {
                    return Err(Misuse::Argument("one answer for each prompt"));
                }
            }
            _ => return Err(Misuse::StaleToken),
        }
        let answers: Vec<&[u8]> = answers.iter().map(Secret::expose).collect();
        if answers
            .iter()
            .any(|answer| answer.len() > cx.limits.password_len)
        {
            return Err(Misuse::Limit("password_len"));
        }
        let fields = secret_fields(None, &answers)?;
        cx.out.must(&UserauthInfoResponse {
            num_responses: u32::try_from(answers.len()).unwrap_or(u32::MAX),
            responses: Rest(fields.expose()),
        });
        self.state = State::Waiting(Sent::Interactive);
        Ok(())
    }

    /// Sends the old password with a new one.
    pub(crate) fn change_password<E: From<ClientAuthEvent>>(
        &mut self,
        request: PasswordChange,
        old: Secret,
        new: Secret,
        cx: &mut Cx<'_, E>,
    ) -> Result<(), Misuse> {
        match &self.state {
            State::Asking {
                serial,
                question: Question::PasswordChange,
            } if *serial == request.serial => {}
            _ => return Err(Misuse::StaleToken),
        }
        if old.len().max(new.len()) > cx.limits.password_len {
            return Err(Misuse::Limit("password_len"));
        }
        let fields = secret_fields(Some(true), &[old.expose(), new.expose()])?;
        self.request(AuthMethod::Password, fields.expose(), Sent::Password, cx);
        Ok(())
    }

    /// Sends the signature that was made outside. One that cannot be made, or that names another algorithm than it was
    /// asked for, ends the attempt: nothing is sent, and `AuthenticationRefused` says so.
    pub(crate) fn supply_signature<E: From<ClientAuthEvent>>(
        &mut self,
        request: SignatureRequest,
        signature: Result<&[u8], ()>,
        cx: &mut Cx<'_, E>,
    ) -> Result<(), Misuse> {
        match &self.state {
            State::Asking {
                serial,
                question: Question::Signature(_),
            } if *serial == request.serial() => {}
            _ => return Err(Misuse::StaleToken),
        }
        let state = std::mem::replace(&mut self.state, State::Ready);
        if let State::Asking {
            question: Question::Signature(candidate),
            ..
        } = state
        {
            self.send_signature(&candidate, signature.ok(), cx);
        }
        Ok(())
    }

    /// What can be said about an attempt before the server is known.
    fn check(&self, user: &str, credential: &Credential, limits: &Limits) -> Result<(), Misuse> {
        if user.is_empty() {
            return Err(Misuse::Argument("the user name is empty"));
        }
        if user.len() > limits.user_len {
            return Err(Misuse::Limit("user_len"));
        }
        let len = match credential {
            Credential::None => 0,
            Credential::Password(password) if password.len() > limits.password_len => {
                return Err(Misuse::Limit("password_len"));
            }
            Credential::Password(password) => password.len(),
            Credential::PublicKey { key, .. } => self.check_key(key.public())?,
            Credential::External { key } => self.check_key(key)?,
            Credential::KeyboardInteractive { submethods } => submethods.len(),
        };
        if user.len().saturating_add(len) > MAX_PAYLOAD.saturating_sub(REQUEST_OVERHEAD) {
            return Err(Misuse::Limit("a packet of 32 KiB"));
        }
        Ok(())
    }

    /// The most that the key takes in a request: its blob, and a signature no longer than that or a few hundred bytes.
    fn check_key(&self, key: &PublicKey) -> Result<usize, Misuse> {
        let own = &self.config.transport.algorithms.user_keys;
        if !own.iter().any(|own| key.algorithms().contains(&own)) {
            return Err(Misuse::Argument(
                "the configuration has no algorithm of this key",
            ));
        }
        Ok(key.blob().len().saturating_mul(2).saturating_add(256))
    }

    fn send<E: From<ClientAuthEvent>>(
        &mut self,
        credential: Credential,
        session: &SessionInfo<'_>,
        cx: &mut Cx<'_, E>,
    ) {
        match credential {
            Credential::None => self.request(AuthMethod::None, &[], Sent::Proof, cx),
            Credential::Password(password) => {
                if let Ok(fields) = secret_fields(Some(false), &[password.expose()]) {
                    self.request(AuthMethod::Password, fields.expose(), Sent::Password, cx);
                }
            }
            Credential::PublicKey { key, query } => {
                self.send_key(CandidateKey::Private(key), query, session, cx);
            }
            Credential::External { key } => {
                self.send_key(CandidateKey::External(key), true, session, cx);
            }
            Credential::KeyboardInteractive { submethods } => {
                let mut fields = Vec::new();
                Writer::new(&mut fields)
                    .string(b"")
                    .string(submethods.as_bytes());
                let method = AuthMethod::KeyboardInteractive;
                self.request(method, &fields, Sent::Interactive, cx);
            }
        }
    }

    fn send_key<E: From<ClientAuthEvent>>(
        &mut self,
        key: CandidateKey,
        query: bool,
        session: &SessionInfo<'_>,
        cx: &mut Cx<'_, E>,
    ) {
        let public = match &key {
            CandidateKey::Private(key) => key.public(),
            CandidateKey::External(key) => key,
        };
        let Some(algorithm) = self.pick(public, session.peer_algorithms) else {
            cx.log.add(LogLevel::Info, LogLayer::Authentication, || {
                "the server takes no signature algorithm of this key".to_owned()
            });
            return self.refused(false, cx);
        };
        let candidate = Candidate { key, algorithm };
        if query {
            let fields = PublicKeyFields {
                algorithm: algorithm.name(),
                key: candidate.public().blob(),
                signature: None,
            }
            .encode();
            let method = AuthMethod::PublicKey;
            self.request(method, &fields, Sent::Query(candidate), cx);
        } else {
            self.sign(&candidate, session, cx);
        }
    }

    /// The first algorithm of ours that the key can make and, for RSA, the server takes.
    ///
    /// Only RSA keys have a choice (RFC 8332), and only for them the server's list is heeded: OpenSSH up to 7.5 lists
    /// nothing but the RSA algorithms and takes the others all the same.
    fn pick(
        &self,
        key: &PublicKey,
        peer: Option<&[SignatureAlgorithm]>,
    ) -> Option<SignatureAlgorithm> {
        let own = &self.config.transport.algorithms.user_keys;
        own.iter()
            .filter(|algorithm| key.algorithms().contains(algorithm))
            .find(|algorithm| {
                algorithm.key_type() != "ssh-rsa"
                    || peer.is_none_or(|peer| peer.contains(algorithm))
            })
    }

    fn sign<E: From<ClientAuthEvent>>(
        &mut self,
        candidate: &Candidate,
        session: &SessionInfo<'_>,
        cx: &mut Cx<'_, E>,
    ) {
        let CandidateKey::Private(key) = &candidate.key else {
            return;
        };
        let blob = key.public().blob();
        let data = signed_data(session.id, &self.user, candidate.algorithm, blob);
        let signature = key.sign(candidate.algorithm, &data).ok();
        self.send_signature(candidate, signature.as_deref(), cx);
    }

    fn send_signature<E: From<ClientAuthEvent>>(
        &mut self,
        candidate: &Candidate,
        signature: Option<&[u8]>,
        cx: &mut Cx<'_, E>,
    ) {
        let algorithm = candidate.algorithm;
        let fields = signature
            .filter(|signature| signature_names(signature, algorithm))
            .map(|signature| {
                PublicKeyFields {
                    algorithm: algorithm.name(),
                    key: candidate.public().blob(),
                    signature: Some(signature),
                }
                .encode()
            })
            .filter(|fields| {
                let len = self.user.len().saturating_add(fields.len());
                len <= MAX_PAYLOAD.saturating_sub(REQUEST_OVERHEAD)
            });
        match fields {
            Some(fields) => self.request(AuthMethod::PublicKey, &fields, Sent::Proof, cx),
            None => {
                cx.log.add(LogLevel::Info, LogLayer::Authentication, || {
                    format!("no {algorithm} signature could be made")
                });
                self.refused(false, cx);
            }
        }
    }

    fn request<E: From<ClientAuthEvent>>(
        &mut self,
        method: AuthMethod,
        fields: &[u8],
        sent: Sent,
        cx: &mut Cx<'_, E>,
    ) {
        cx.log.add(LogLevel::Debug, LogLayer::Authentication, || {
            format!("trying {}", method.name())
        });
        // At most one attempt is under way, and its length was checked: it always has room.
        cx.out.must(&UserauthRequest {
            user_name: &self.user,
            service_name: CONNECTION_SERVICE,
            method_name: method.name(),
            method_fields: Rest(fields),
        });
        self.state = State::Waiting(sent);
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

/// Strings that must not stay behind in memory: the buffer never grows, and is wiped after use.
fn secret_fields(flag: Option<bool>, strings: &[&[u8]]) -> Result<Secret, Misuse> {
    let len = strings.iter().fold(1_usize, |len, string| {
        len.saturating_add(4).saturating_add(string.len())
    });
    if len > MAX_PAYLOAD.saturating_sub(REQUEST_OVERHEAD) {
        return Err(Misuse::Limit("a packet of 32 KiB"));
    }
    let mut fields = Vec::with_capacity(len);
    let mut writer = Writer::new(&mut fields);
    if let Some(flag) = flag {
        writer.boolean(flag);
    }
    for string in strings {
        writer.string(string);
    }
    Ok(Secret::new(fields))
}
