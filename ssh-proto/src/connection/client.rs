//! What only a client says: its verdict on the host key, and its side of authentication.

use std::time::Instant;

use crate::auth::{Credential, PasswordChange, Prompts, SignatureRequest};
use crate::error::{Error, Misuse};
use crate::note::note;
#[cfg(any(test, feature = "replay"))]
use crate::replay::{Command, Serial};
use crate::secret::Secret;

use super::Client;
use super::event::HostKeyOffer;

impl Client {
    /// Trusts the host key: the key exchange goes on.
    pub fn accept_host_key(&mut self, offer: HostKeyOffer) -> Result<(), Misuse> {
        note!(self.out, |_| Command::AcceptHostKey {
            serial: Serial(offer.serial())
        });
        self.judge(&offer)?;
        self.answer_exchange(|half, _, _| Ok(half.accept()));
        Ok(())
    }

    /// Does not trust the host key: the connection ends with [`Error::HostKeyRejected`].
    pub fn reject_host_key(&mut self, offer: HostKeyOffer) -> Result<(), Misuse> {
        note!(self.out, |_| Command::RejectHostKey {
            serial: Serial(offer.serial())
        });
        self.judge(&offer)?;
        self.fail(Error::HostKeyRejected);
        Ok(())
    }

    fn judge(&self, offer: &HostKeyOffer) -> Result<(), Misuse> {
        if self.closed.is_some() {
            return Err(Misuse::Closed);
        }
        let question = self.transport.half().and_then(|half| half.question());
        if question == Some(offer.serial()) {
            Ok(())
        } else {
            Err(Misuse::StaleToken)
        }
    }

    /// Attempts to authenticate `user`. It may be called right after [`new`](Self::new): the attempt waits for
    /// the key exchange and the verdict on the host key. One attempt at a time; its outcome is an event.
    pub fn authenticate(
        &mut self,
        user: &str,
        credential: Credential,
        now: Instant,
    ) -> Result<(), Misuse> {
        note!(self.out, |start| Command::Authenticate {
            at: start.at(now),
            user: user.to_owned(),
            credential: credential.clone()
        });
        self.clock(now);
        self.with_auth(|auth, session, cx| auth.authenticate(user, credential, session, cx))
    }

    /// Answers prompts, one answer for each.
    pub fn answer(&mut self, prompts: Prompts, answers: &[Secret]) -> Result<(), Misuse> {
        note!(self.out, |_| Command::Answer {
            serial: Serial(prompts.serial()),
            answers: answers.to_vec()
        });
        self.with_auth(|auth, _, cx| auth.answer(prompts, answers, cx))
    }

    /// Changes a password that has expired.
    pub fn change_password(
        &mut self,
        request: PasswordChange,
        old: Secret,
        new: Secret,
    ) -> Result<(), Misuse> {
        note!(self.out, |_| Command::ChangePassword {
            serial: Serial(request.serial()),
            old: old.clone(),
            new: new.clone()
        });
        self.with_auth(|auth, _, cx| auth.change_password(request, old, new, cx))
    }

    /// Supplies the signature of a key that is not here: the blob of RFC 4253 section 6.6 (algorithm name, then
    /// signature). `None`: it cannot be made, which ends the attempt.
    pub fn supply_signature(
        &mut self,
        request: SignatureRequest,
        signature: Option<&[u8]>,
    ) -> Result<(), Misuse> {
        note!(self.out, |_| Command::SupplySignature {
            serial: Serial(request.serial()),
            signature: signature.map(Into::into)
        });
        self.with_auth(|auth, _, cx| auth.supply_signature(request, signature.ok_or(()), cx))
    }
}
