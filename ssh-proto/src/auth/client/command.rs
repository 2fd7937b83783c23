//! What the caller asks of a client and answers to it: attempts, answers, signatures.
//!
//! In: credentials, tokens of questions and their answers. Out: messages 50 and 61. What does not fit is refused before
//! anything changes.

use super::{Candidate, CandidateKey, ClientAuth, Question, Sent, State};
use crate::auth::event::ClientAuthEvent;
use crate::auth::prompt::{PasswordChange, Prompts};
use crate::auth::signature::SignatureRequest;
use crate::auth::{
    CONNECTION_SERVICE, Credential, PublicKeyFields, SessionInfo, signature_names, signed_data,
};
use crate::config::AuthMethod;
use crate::connection::cx::Cx;
use crate::error::Misuse;
use crate::key::PublicKey;
use crate::limits::{AUTH_PAYLOAD_LEN, Limits};
use crate::log::{LogLayer, LogLevel};
use crate::msg::Rest;
use crate::msg::auth::{UserauthInfoResponse, UserauthRequest};
use crate::names::SignatureAlgorithm;
use crate::secret::Secret;
use crate::wire::Writer;

/// A request spends this much on its fixed fields and names at the most.
const REQUEST_OVERHEAD: usize = 256;

impl ClientAuth {
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
            (State::Ready | State::Asking { .. }, None) => return Err(Misuse::TooEarly),
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
        let response = UserauthInfoResponse {
            num_responses: u32::try_from(answers.len()).unwrap_or(u32::MAX),
            responses: Rest(fields.expose()),
        };
        let most = REQUEST_OVERHEAD.saturating_add(fields.len());
        cx.out.secret(&response, most);
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
            // Before it stand a flag and its length.
            Credential::Password(password) => password.len().saturating_add(5),
            Credential::PublicKey { key, .. } => self.check_key(key.public())?,
            Credential::External { key } => self.check_key(key)?,
            Credential::KeyboardInteractive { submethods } => submethods.len(),
        };
        if user.len().saturating_add(len) > AUTH_PAYLOAD_LEN.saturating_sub(REQUEST_OVERHEAD) {
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

    pub(super) fn send<E: From<ClientAuthEvent>>(
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
    /// Only RSA keys have a choice (RFC 8332), and only for them the server's list is heeded: servers such
    /// as OpenSSH 7.4 list nothing but the RSA algorithms and take the others all the same.
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

    pub(super) fn sign<E: From<ClientAuthEvent>>(
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
        let sign = || key.sign(candidate.algorithm, &data).map(Secret::new);
        let signature = cx.out.rng().foreign(sign);
        self.send_signature(candidate, signature.as_ref().map(Secret::expose), cx);
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
                len <= AUTH_PAYLOAD_LEN.saturating_sub(REQUEST_OVERHEAD)
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
        let request = UserauthRequest {
            user_name: &self.user,
            service_name: CONNECTION_SERVICE,
            method_name: method.name(),
            method_fields: Rest(fields),
        };
        let most = REQUEST_OVERHEAD
            .saturating_add(self.user.len())
            .saturating_add(fields.len());
        cx.out.secret(&request, most);
        self.state = State::Waiting(sent);
    }
}

/// Strings that must not stay behind in memory: the buffer never grows, and is wiped after use.
fn secret_fields(flag: Option<bool>, strings: &[&[u8]]) -> Result<Secret, Misuse> {
    let len = strings.iter().fold(1_usize, |len, string| {
        len.saturating_add(4).saturating_add(string.len())
    });
    if len > AUTH_PAYLOAD_LEN.saturating_sub(REQUEST_OVERHEAD) {
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
