//! Authentication of a client: single methods, and several in the order of the caller (RFC 4252, RFC 4256).

use std::fmt;
use std::sync::Arc;

use ssh_proto::key::{PrivateKey, PublicKey};
use ssh_proto::{ClientEvent, Credential, Misuse, Prompts, Secret, SignatureRequest};

use crate::BoxFuture;
use crate::core::{Core, Interest, now};
use crate::waiters::Wish;
use crate::{AuthOutcome, Error};

use super::Client;

/// Makes the signature of a key that is elsewhere: the blob of RFC 4253 section 6.6 (name of the algorithm, then the
/// signature, each with its length in front). `None`: it cannot.
pub type Signer<'a> =
    Box<dyn FnMut(&SignatureRequest) -> BoxFuture<'a, Option<Vec<u8>>> + Send + 'a>;
/// Answers the prompts of a keyboard-interactive round, one each. `None`: the user has given up.
pub type Answerer<'a> = Box<dyn FnMut(&Prompts) -> BoxFuture<'a, Option<Vec<Secret>>> + Send + 'a>;
/// Asks for a password. `None`: the user has given up.
pub type Asker<'a> = Box<dyn FnMut() -> BoxFuture<'a, Option<Secret>> + Send + 'a>;
type Changer<'a> = Box<dyn FnMut(&str) -> BoxFuture<'a, Option<Secret>> + Send + 'a>;

/// A way to authenticate, for [`Client::authenticate`].
#[non_exhaustive]
pub enum Method<'a> {
    /// A private key that is here. The server is asked first whether the key would do.
    PublicKey(Arc<PrivateKey>),
    /// A private key that is elsewhere: [`Method::external`].
    External {
        /// The public half.
        key: PublicKey,
        /// Makes the signature.
        sign: Signer<'a>,
    },
    /// A password.
    Password(Secret),
    /// A password that is asked for when it is needed, and asked for again so many times in all:
    /// [`Method::ask_password`].
    AskPassword {
        /// Asks.
        ask: Asker<'a>,
        /// How often: OpenSSH's `NumberOfPasswordPrompts` is 3.
        tries: u32,
    },
    /// Answers to the server's questions: [`Method::keyboard_interactive`].
    KeyboardInteractive(Answerer<'a>),
}

impl<'a> Method<'a> {
    /// A private key that is elsewhere.
    pub fn external<F, V>(key: PublicKey, mut sign: F) -> Self
    where
        F: FnMut(&SignatureRequest) -> V + Send + 'a,
        V: Future<Output = Option<Vec<u8>>> + Send + 'a,
    {
        let sign: Signer<'a> = Box::new(move |request| Box::pin(sign(request)));
        Self::External { key, sign }
    }

    /// A password that is asked for, so many times at the most.
    pub fn ask_password<F, V>(mut ask: F, tries: u32) -> Self
    where
        F: FnMut() -> V + Send + 'a,
        V: Future<Output = Option<Secret>> + Send + 'a,
    {
        let ask: Asker<'a> = Box::new(move || Box::pin(ask()));
        Self::AskPassword { ask, tries }
    }

    /// Answers to the server's questions.
    pub fn keyboard_interactive<F, V>(mut answer: F) -> Self
    where
        F: FnMut(&Prompts) -> V + Send + 'a,
        V: Future<Output = Option<Vec<Secret>>> + Send + 'a,
    {
        Self::KeyboardInteractive(Box::new(move |prompts| Box::pin(answer(prompts))))
    }

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

/// Who helps with an attempt's questions.
#[derive(Default)]
struct Helpers<'h, 'a> {
    sign: Option<&'h mut Signer<'a>>,
    answer: Option<&'h mut Answerer<'a>>,
    change: Option<(Secret, &'h mut Changer<'a>)>,
}

/// Dropping the future of an attempt leaves the attempt to itself: what was sent is with the server. Its outcome is
/// thrown away, and the next attempt waits for it; if it was a success, the next attempt is
/// [`Misuse::AlreadyAuthenticated`] and [`session`](Client::session) tells the user.
impl Client {
    /// Authenticates without any proof: a server lets in who needs none, and tells everybody else which methods it
    /// takes (RFC 4252 section 5.2).
    ///
    /// # Errors
    ///
    /// The connection has ended. A refusal is an outcome, not an error; so it is with all methods.
    pub async fn auth_none(&self, user: &str) -> Result<AuthOutcome, Error> {
        self.attempt(user, &Credential::None, Helpers::default())
            .await
    }

    /// Authenticates with a password (RFC 4252 section 8).
    ///
    /// # Errors
    ///
    /// The connection has ended.
    pub async fn auth_password(
        &self,
        user: &str,
        password: impl Into<Secret>,
    ) -> Result<AuthOutcome, Error> {
        let credential = Credential::password(password.into());
        self.attempt(user, &credential, Helpers::default()).await
    }

    /// Authenticates with a password; when the server says that it has expired, `change` is shown the server's text
    /// and gives a new one. `None` leaves the attempt.
    ///
    /// # Errors
    ///
    /// The connection has ended; [`Error::Cancelled`] when no new password was given.
    pub async fn auth_password_with_change<'a, F, V>(
        &self,
        user: &str,
        password: impl Into<Secret>,
        mut change: F,
    ) -> Result<AuthOutcome, Error>
    where
        F: FnMut(&str) -> V + Send + 'a,
        V: Future<Output = Option<Secret>> + Send + 'a,
    {
        let password = password.into();
        let mut change: Changer<'a> = Box::new(move |text| Box::pin(change(text)));
        let helpers = Helpers {
            change: Some((password.clone(), &mut change)),
            ..Helpers::default()
        };
        self.attempt(user, &Credential::password(password), helpers)
            .await
    }

    /// Authenticates with a private key (RFC 4252 section 7).
    ///
    /// # Errors
    ///
    /// The connection has ended.
    pub async fn auth_public_key(
        &self,
        user: &str,
        key: impl Into<Arc<PrivateKey>>,
    ) -> Result<AuthOutcome, Error> {
        let credential = Credential::public_key(key);
        self.attempt(user, &credential, Helpers::default()).await
    }

    /// Authenticates with a private key that is elsewhere: in an agent, in a hardware module.
    ///
    /// # Errors
    ///
    /// The connection has ended.
    pub async fn auth_external<'a, F, V>(
        &self,
        user: &str,
        key: PublicKey,
        sign: F,
    ) -> Result<AuthOutcome, Error>
    where
        F: FnMut(&SignatureRequest) -> V + Send + 'a,
        V: Future<Output = Option<Vec<u8>>> + Send + 'a,
    {
        self.try_method(user, &mut Method::external(key, sign))
            .await
    }

    /// Authenticates by answering the server's questions (RFC 4256), any number of rounds of them.
    ///
    /// # Errors
    ///
    /// The connection has ended; [`Error::Cancelled`] when a round was not answered.
    pub async fn auth_keyboard_interactive<'a, F, V>(
        &self,
        user: &str,
        answer: F,
    ) -> Result<AuthOutcome, Error>
    where
        F: FnMut(&Prompts) -> V + Send + 'a,
        V: Future<Output = Option<Vec<Secret>>> + Send + 'a,
    {
        self.try_method(user, &mut Method::keyboard_interactive(answer))
            .await
    }

    /// Tries several methods in this order, but only those that the server says can continue, and each once. It ends
    /// with success, or when no method is left; where the server wants several factors it goes on after each.
    ///
    /// # Errors
    ///
    /// The connection has ended; [`Error::Cancelled`] when a user has given up.
    pub async fn authenticate(
        &self,
        user: &str,
        methods: &mut [Method<'_>],
    ) -> Result<AuthOutcome, Error> {
        let mut outcome = self.auth_none(user).await?;
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
            outcome = self.try_method(user, left.remove(next)).await?;
        }
    }

    async fn try_method(&self, user: &str, method: &mut Method<'_>) -> Result<AuthOutcome, Error> {
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
                    let password = ask().await.ok_or(Error::Cancelled)?;
                    let outcome = self.auth_password(user, password).await?;
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
        self.attempt(user, &credential, helpers).await
    }

    async fn attempt(
        &self,
        user: &str,
        credential: &Credential,
        mut helpers: Helpers<'_, '_>,
    ) -> Result<AuthOutcome, Error> {
        let _one_at_a_time = self.extras.auth.lock().await;
        self.begin(user, credential).await?;
        loop {
            let event = self.next_question().await?;
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
                    let signature = match &mut helpers.sign {
                        Some(sign) => sign(&request).await,
                        None => None,
                    };
                    self.go_on(|conn| conn.supply_signature(request, signature.as_deref()))?;
                }
                ClientEvent::PromptsReceived(prompts) => {
                    let answers = match &mut helpers.answer {
                        Some(answer) => answer(&prompts).await,
                        None => None,
                    }
                    .ok_or(Error::Cancelled)?;
                    self.go_on(|conn| conn.answer(prompts, &answers))?;
                }
                ClientEvent::PasswordChangeRequested(request) => {
                    let Some((old, change)) = &mut helpers.change else {
                        let prompt = request.prompt().to_owned();
                        return Ok(AuthOutcome::PasswordExpired { prompt });
                    };
                    let new = change(request.prompt()).await.ok_or(Error::Cancelled)?;
                    let old = old.clone();
                    self.go_on(|conn| conn.change_password(request, old, new))?;
                }
                _ => {}
            }
        }
    }

    /// Starts an attempt, once the one before it has its outcome.
    async fn begin(&self, user: &str, credential: &Credential) -> Result<(), Error> {
        let wish = Wish::STATE.and(Wish::ROOM);
        self.shared()
            .wait(Interest::Connection(wish), |core| {
                let Core {
                    conn,
                    inbox,
                    attempts,
                    over,
                    ..
                } = core;
                let authenticate = || conn.authenticate(user, credential.clone(), now());
                let begun = attempts.begin(inbox, authenticate)?;
                // Why the connection has ended says more than that it has.
                Some(begun.map_err(|misuse| over.clone().unwrap_or(Error::Misuse(misuse))))
            })
            .await?
    }

    /// The next thing that the attempt comes upon. While a question is with the caller the attempt rests: another one
    /// would make it void.
    async fn next_question(&self) -> Result<ClientEvent, Error> {
        self.shared()
            .wait(Interest::Connection(Wish::STATE), |core| {
                core.attempts.next(&mut core.inbox)
            })
            .await
    }

    /// Answers a question of the attempt.
    fn go_on(
        &self,
        answer: impl FnOnce(&mut ssh_proto::Client) -> Result<(), Misuse>,
    ) -> Result<(), Error> {
        self.shared().act(|core| {
            let Core {
                conn,
                attempts,
                over,
                ..
            } = core;
            attempts
                .answer(|| answer(conn))
                .map_err(|misuse| over.clone().unwrap_or(Error::Misuse(misuse)))
        })
    }
}
