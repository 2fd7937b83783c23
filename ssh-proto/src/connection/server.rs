//! What only a server says: its verdicts on those who want to be let in, and the signatures of its host keys.

use crate::auth::{KeyOffer, LoginAttempt, PromptRound, SignatureRequest};
use crate::config::AuthMethod;
use crate::error::{Error, Misuse};
use crate::note::note;
#[cfg(any(test, feature = "replay"))]
use crate::replay::{Command, Serial};

use super::Server;

impl Server {
    /// Says that the offered key would do: the client is asked to prove it.
    pub fn accept_key(&mut self, offer: KeyOffer) -> Result<(), Misuse> {
        note!(self.out, |_| Command::AcceptKey {
            serial: Serial(offer.serial())
        });
        self.with_auth(|auth, _, cx| auth.accept_key(offer, cx))
    }

    /// Says that the offered key would not do.
    pub fn refuse_key(&mut self, offer: KeyOffer) -> Result<(), Misuse> {
        note!(self.out, |_| Command::RefuseKey {
            serial: Serial(offer.serial())
        });
        self.with_auth(|auth, _, cx| auth.refuse_key(offer, cx))
    }

    /// Lets the user in.
    pub fn grant(&mut self, attempt: LoginAttempt) -> Result<(), Misuse> {
        note!(self.out, |_| Command::Grant {
            serial: Serial(attempt.serial())
        });
        self.with_auth(|auth, _, cx| auth.grant(attempt, cx))
    }

    /// Refuses the attempt; the client hears of it after the configured delay.
    pub fn refuse(&mut self, attempt: LoginAttempt) -> Result<(), Misuse> {
        note!(self.out, |_| Command::Refuse {
            serial: Serial(attempt.serial())
        });
        self.with_auth(|auth, _, cx| auth.refuse(attempt, cx))
    }

    /// The attempt was good, but one of `methods` must follow (RFC 4252 section 5.1).
    pub fn partial(&mut self, attempt: LoginAttempt, methods: &[AuthMethod]) -> Result<(), Misuse> {
        note!(self.out, |_| Command::Partial {
            serial: Serial(attempt.serial()),
            methods: methods.to_vec()
        });
        self.with_auth(|auth, _, cx| auth.partial(attempt, methods, cx))
    }

    /// Asks the user something (RFC 4256); the answers come as another attempt.
    pub fn prompt(&mut self, attempt: LoginAttempt, round: &PromptRound) -> Result<(), Misuse> {
        note!(self.out, |_| Command::Prompt {
            serial: Serial(attempt.serial()),
            round: round.clone()
        });
        self.with_auth(|auth, _, cx| auth.prompt(attempt, round, cx))
    }

    /// The password has expired: the user must choose another (RFC 4252 section 8).
    pub fn require_password_change(
        &mut self,
        attempt: LoginAttempt,
        prompt: &str,
    ) -> Result<(), Misuse> {
        note!(self.out, |_| Command::RequirePasswordChange {
            serial: Serial(attempt.serial()),
            prompt: prompt.to_owned()
        });
        self.with_auth(|auth, _, cx| auth.require_password_change(attempt, prompt, cx))
    }

    /// Sends text for the user; only after the client has asked to authenticate ([`Misuse::TooEarly`] before) and before
    /// that has succeeded (RFC 4252 section 5.4).
    pub fn banner(&mut self, text: &str) -> Result<(), Misuse> {
        note!(self.out, |_| Command::Banner {
            text: text.to_owned()
        });
        self.with_auth(|auth, _, cx| auth.banner(text, cx))
    }

    /// Supplies the signature of a host key that is not here: the blob of RFC 4253 section 6.6 (algorithm name, then
    /// signature). `None`: it cannot be made, which ends the connection.
    pub fn supply_signature(
        &mut self,
        request: SignatureRequest,
        signature: Option<&[u8]>,
    ) -> Result<(), Misuse> {
        note!(self.out, |_| Command::SupplySignature {
            serial: Serial(request.serial()),
            signature: signature.map(Into::into)
        });
        if self.closed.is_some() {
            return Err(Misuse::Closed);
        }
        let question = self.transport.half().and_then(|half| half.question());
        if question != Some(request.serial()) {
            return Err(Misuse::StaleToken);
        }
        match signature {
            Some(signature) => {
                self.answer_exchange(|half, exchange, cx| half.supply(signature, exchange, cx))
            }
            None => self.fail(Error::SigningFailed),
        }
        Ok(())
    }
}
