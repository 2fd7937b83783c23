//! Authentication of a client: single methods, and several in the order of the caller (RFC 4252, RFC 4256).

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use ssh_proto::key::{PrivateKey, PublicKey};
use ssh_proto::{ClientEvent, Credential, Misuse, Prompts, Secret, SignatureRequest};

use crate::core::{Core, Interest};
use crate::{AuthOutcome, Error};

use super::Client;

/// Makes the signature of a key that is elsewhere: the blob of RFC 4253 section 6.6 (name of the algorithm, then the
/// signature, each with its length in front). `None`: it cannot.
pub type Signer<'a> = &'a mut dyn FnMut(&SignatureRequest) -> Option<Vec<u8>>;
/// Answers the prompts of a keyboard-interactive round, one each. `None`: the user has given up.
pub type Answerer<'a> = &'a mut dyn FnMut(&Prompts) -> Option<Vec<Secret>>;
/// Asks for a password. `None`: the user has given up.
pub type Asker<'a> = &'a mut dyn FnMut() -> Option<Secret>;

/// A way to authenticate, for [`Client::authenticate`].
#[non_exhaustive]
pub enum Method<'a> {
    /// A private key that is here. The server is asked first whether the key would do.
    PublicKey(Arc<PrivateKey>),
    /// A private key that is elsewhere.
    External {
        /// The public half.
        key: PublicKey,
        /// Makes the signature.
        sign: Signer<'a>,
    },
    /// A password.
    Password(Secret),
    /// A password that is asked for when it is needed, and asked for again so many times in all.
    AskPassword {
        /// Asks.
        ask: Asker<'a>,
        /// How often: OpenSSH's `NumberOfPasswordPrompts` is 3.
        tries: u32,
    },
    /// Answers to the server's questions.
    KeyboardInteractive(Answerer<'a>),
}

impl Method<'_> {
    /// Its name on the wire.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::PublicKey(_) | Self::External { .. } => "publickey",
            Self::Password(_) | Self::AskPassword { .. } => "password",
            Self::KeyboardInteractive(_) => "keyboard-interactive",
        }
    }
}

impl fmt::Debug for Method<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Method").field(&self.name()).finish()
    }
}

/// Asked for a new password with the server's text.
type Changer<'a> = &'a mut dyn FnMut(&str) -> Option<Secret>;

/// Who helps with an attempt's questions.
#[derive(Default)]
struct Helpers<'a, 'b> {
    sign: Option<&'a mut Signer<'b>>,
    answer: Option<&'a mut Answerer<'b>>,
    change: Option<(Secret, Changer<'a>)>,
}

impl Client {
    /// Authenticates without any proof: a server lets in who needs none, and tells everybody else which methods it
    /// takes (RFC 4252 section 5.2).
    ///
    /// # Errors
    ///
    /// The connection has ended. A refusal is an outcome, not an error; so it is with all methods.
    pub fn auth_none(&self, user: &str) -> Result<AuthOutcome, Error> {
        self.attempt(user, &Credential::None, Helpers::default())
    }

    /// Authenticates with a password (RFC 4252 section 8).
    ///
    /// # Errors
    ///
    /// The connection has ended.
    pub fn auth_password(
        &self,
        user: &str,
        password: impl Into<Secret>,
    ) -> Result<AuthOutcome, Error> {
        self.attempt(
            user,
            &Credential::password(password.into()),
            Helpers::default(),
        )
    }

    /// Authenticates with a password; when the server says that it has expired, `change` is shown the server's text
    /// and gives a new one. `None` leaves the attempt.
    ///
    /// # Errors
    ///
    /// The connection has ended; [`Error::Cancelled`] when no new password was given.
    pub fn auth_password_with_change(
        &self,
        user: &str,
        password: impl Into<Secret>,
        mut change: impl FnMut(&str) -> Option<Secret>,
    ) -> Result<AuthOutcome, Error> {
        let password = password.into();
        let helpers = Helpers {
            change: Some((password.clone(), &mut change)),
            ..Helpers::default()
        };
        self.attempt(user, &Credential::password(password), helpers)
    }

    /// Authenticates with a private key (RFC 4252 section 7).
    ///
    /// # Errors
    ///
    /// The connection has ended.
    pub fn auth_public_key(
        &self,
        user: &str,
        key: impl Into<Arc<PrivateKey>>,
    ) -> Result<AuthOutcome, Error> {
        self.attempt(user, &Credential::public_key(key), Helpers::default())
    }

    /// Authenticates with a private key that is elsewhere: in an agent, in a hardware module.
    ///
    /// # Errors
    ///
    /// The connection has ended.
    pub fn auth_external(
        &self,
        user: &str,
        key: PublicKey,
        mut sign: impl FnMut(&SignatureRequest) -> Option<Vec<u8>>,
    ) -> Result<AuthOutcome, Error> {
        let mut sign: Signer<'_> = &mut sign;
        let helpers = Helpers {
            sign: Some(&mut sign),
            ..Helpers::default()
        };
        self.attempt(user, &Credential::external(key), helpers)
    }

    /// Authenticates by answering the server's questions (RFC 4256), any number of rounds of them.
    ///
    /// # Errors
    ///
    /// The connection has ended; [`Error::Cancelled`] when a round was not answered.
    pub fn auth_keyboard_interactive(
        &self,
        user: &str,
        mut answer: impl FnMut(&Prompts) -> Option<Vec<Secret>>,
    ) -> Result<AuthOutcome, Error> {
        let mut answer: Answerer<'_> = &mut answer;
        let helpers = Helpers {
            answer: Some(&mut answer),
            ..Helpers::default()
        };
        self.attempt(user, &Credential::keyboard_interactive(), helpers)
    }

    /// Tries several methods in this order, but only those that the server says can continue, and each once. It ends
    /// with success, or when no method is left; where the server wants several factors it goes on after each.
    ///
    /// # Errors
    ///
    /// The connection has ended; [`Error::Cancelled`] when a user has given up.
    pub fn authenticate(
        &self,
        user: &str,
        methods: &mut [Method<'_>],
    ) -> Result<AuthOutcome, Error> {
        let mut outcome = self.auth_none(user)?;
        let mut left: Vec<&mut Method<'_>> = methods.iter_mut().collect();
        loop {
            let AuthOutcome::Refused { methods, .. } = &outcome else {
                return Ok(outcome);
            };
            let Some(next) = left
                .iter()
                .position(|method| methods.iter().any(|name| name == method.name()))
            else {
                return Ok(outcome);
            };
            outcome = self.try_method(user, left.remove(next))?;
        }
    }

    fn try_method(&self, user: &str, method: &mut Method<'_>) -> Result<AuthOutcome, Error> {
        let mut helpers = Helpers::default();
        let credential = match method {
            Method::PublicKey(key) => Credential::PublicKey {
                key: Arc::clone(key),
                query: true,
            },
            Method::External { key, sign } => {
                helpers.sign = Some(sign);
                Credential::external(key.clone())
            }
            Method::Password(password) => Credential::password(password.clone()),
            Method::KeyboardInteractive(answer) => {
                helpers.answer = Some(answer);
                Credential::keyboard_interactive()
            }
            Method::AskPassword { ask, tries } => {
                let mut left = *tries;
                loop {
                    let password = ask().ok_or(Error::Cancelled)?;
                    let outcome = self.auth_password(user, password)?;
                    left = left.saturating_sub(1);
                    match &outcome {
                        AuthOutcome::Refused {
                            methods,
                            partial_success: false,
                        } if left > 0 && methods.iter().any(|name| name == "password") => {}
                        _ => return Ok(outcome),
                    }
                }
            }
        };
        self.attempt(user, &credential, helpers)
    }

    fn attempt(
        &self,
        user: &str,
        credential: &Credential,
        mut helpers: Helpers<'_, '_>,
    ) -> Result<AuthOutcome, Error> {
        let _one_at_a_time = self.auth_lock();
        self.begin(user, credential)?;
        loop {
            let event = self.next_question(None, "authentication")?;
            match event {
                ClientEvent::Banner(text) => self.show_banner(&text),
                ClientEvent::Authenticated => return Ok(AuthOutcome::Success),
                ClientEvent::AuthenticationRefused {
                    methods,
                    partial_success,
                } => {
                    return Ok(AuthOutcome::Refused {
                        methods,
                        partial_success,
                    });
                }
                ClientEvent::SignatureNeeded(request) => {
                    let signature = helpers.sign.as_mut().and_then(|sign| sign(&request));
                    self.go_on(|conn| conn.supply_signature(request, signature.as_deref()))?;
                }
                ClientEvent::PromptsReceived(prompts) => {
                    let answers = helpers
                        .answer
                        .as_mut()
                        .and_then(|answer| answer(&prompts))
                        .ok_or(Error::Cancelled)?;
                    self.go_on(|conn| conn.answer(prompts, &answers))?;
                }
                ClientEvent::PasswordChangeRequested(request) => {
                    let Some((old, change)) = &mut helpers.change else {
                        let prompt = request.prompt().to_owned();
                        return Ok(AuthOutcome::PasswordExpired { prompt });
                    };
                    let new = change(request.prompt()).ok_or(Error::Cancelled)?;
                    let old = old.clone();
                    self.go_on(|conn| conn.change_password(request, old, new))?;
                }
                _ => {}
            }
        }
    }

    /// Starts an attempt, once the one before it has its outcome.
    fn begin(&self, user: &str, credential: &Credential) -> Result<(), Error> {
        self.shared()
            .wait(Interest::Connection, None, "authentication", |core| {
                let Core {
                    conn,
                    inbox,
                    attempts,
                    ..
                } = core;
                let begun = attempts.begin(inbox, || {
                    conn.authenticate(user, credential.clone(), Instant::now())
                })?;
                Some(begun.map_err(|misuse| core.refused(misuse)))
            })?
    }

    /// Answers a question of the attempt.
    fn go_on(
        &self,
        answer: impl FnOnce(&mut ssh_proto::Client) -> Result<(), Misuse>,
    ) -> Result<(), Error> {
        self.shared().command(|core| {
            let Core { conn, attempts, .. } = core;
            attempts.answer(|| answer(conn))
        })
    }
}
