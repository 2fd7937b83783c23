//! User authentication (RFC 4252, RFC 4256, RFC 8332), one machine for each role.
//!
//! In: messages 5, 6 and 50 to 79, and the caller's commands and answers. Out: the same messages, questions and
//! verdicts as events. Whether a message may come at all in this phase is the transport layer's table; which answer
//! belongs to which request is decided here. Nothing here asks anybody: keys, passwords and policies are the caller's.

pub(crate) mod attempt;
pub(crate) mod client;
pub(crate) mod credential;
pub(crate) mod event;
pub(crate) mod prompt;
pub(crate) mod server;
pub(crate) mod signature;
#[cfg(test)]
mod tests;

pub use attempt::{KeyOffer, LoginAttempt, Proof};
pub use credential::Credential;
pub use prompt::{PasswordChange, Prompt, PromptRound, Prompts};
pub use signature::{SignaturePurpose, SignatureRequest};

use crate::error::{PeerError, Stage};
use crate::msg::auth::UserauthRequest;
use crate::msg::{Message, Rest};
use crate::names::SignatureAlgorithm;
use crate::packet::output::Output;
use crate::wire::{Malformed, Reader, Writer};

/// The service that authentication itself is (RFC 4252 section 4).
pub(crate) const USERAUTH_SERVICE: &str = "ssh-userauth";
/// The service that a user is authenticated for (RFC 4254).
pub(crate) const CONNECTION_SERVICE: &str = "ssh-connection";
/// Room for what a request with a key that is not RSA holds.
const USUAL_LEN: usize = 256;

/// What authentication must know of the transport layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionInfo<'a> {
    /// The session identifier: the first exchange hash (RFC 4253 section 7.2).
    pub(crate) id: &'a [u8],
    /// The peer's `server-sig-algs` (RFC 8308 section 3.1), as far as this library knows them; `None` when it sent none.
    pub(crate) peer_algorithms: Option<&'a [SignatureAlgorithm]>,
}

/// What a publickey request carries behind the method name (RFC 4252 section 7).
pub(crate) struct PublicKeyFields<'a> {
    pub(crate) algorithm: &'a str,
    pub(crate) key: &'a [u8],
    /// `None`: only a query whether the key would do.
    pub(crate) signature: Option<&'a [u8]>,
}

impl<'a> PublicKeyFields<'a> {
    pub(crate) fn decode(fields: &'a [u8]) -> Result<Self, PeerError> {
        let mut reader = Reader::new(fields);
        let signed = reader
            .boolean()
            .map_err(fault(50, "signature follows (publickey)"))?;
        let algorithm = reader
            .text()
            .map_err(fault(50, "public key algorithm name"))?;
        let key = reader.string().map_err(fault(50, "public key blob"))?;
        let signature = signed
            .then(|| reader.string())
            .transpose()
            .map_err(fault(50, "signature"))?;
        reader.finish().map_err(fault(50, "end of message"))?;
        Ok(Self {
            algorithm,
            key,
            signature,
        })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut fields = Vec::with_capacity(USUAL_LEN);
        let mut writer = Writer::new(&mut fields);
        writer
            .boolean(self.signature.is_some())
            .string(self.algorithm.as_bytes())
            .string(self.key);
        if let Some(signature) = self.signature {
            writer.string(signature);
        }
        fields
    }
}

/// What a user key signs.
///
/// RFC 4252 section 7: "The value of 'signature' is a signature by the corresponding private key over the following
/// data, in the following order": the session identifier, then the request as far as the public key.
pub(crate) fn signed_data(
    session_id: &[u8],
    user: &str,
    algorithm: SignatureAlgorithm,
    key: &[u8],
) -> Vec<u8> {
    let mut fields = Vec::with_capacity(USUAL_LEN);
    Writer::new(&mut fields)
        .boolean(true)
        .string(algorithm.name().as_bytes())
        .string(key);
    let mut data = Vec::with_capacity(USUAL_LEN);
    let mut writer = Writer::new(&mut data);
    writer.string(session_id);
    UserauthRequest {
        user_name: user,
        service_name: CONNECTION_SERVICE,
        method_name: "publickey",
        method_fields: Rest(&fields),
    }
    .encode(&mut writer);
    data
}

/// `true` when a signature blob names exactly this algorithm.
///
/// RFC 8332 section 3: the name inside the signature tells the hash, so a blob that names another one than the request
/// does is not the signature that was asked for.
pub(crate) fn signature_names(signature: &[u8], algorithm: SignatureAlgorithm) -> bool {
    Reader::new(signature)
        .string()
        .is_ok_and(|name| name == algorithm.name().as_bytes())
}

/// A number that no other question has, on this connection or another: drawn, not counted.
pub(crate) fn draw_serial(out: &mut Output) -> u64 {
    let mut bytes = [0; 8];
    out.rng().fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

fn fault(message: u8, field: &'static str) -> impl Fn(Malformed) -> PeerError {
    move |problem| PeerError::Malformed {
        message,
        field,
        problem,
    }
}

const fn unexpected(message: u8) -> PeerError {
    PeerError::UnexpectedMessage {
        message,
        stage: Stage::Authentication,
    }
}
