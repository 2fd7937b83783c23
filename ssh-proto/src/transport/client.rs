//! The client's half of a key exchange: it sends its value first and judges the host key (RFC 5656 section 4).

use crate::config::ClientConfig;
use crate::connection::cx::Cx;
use crate::connection::event::{ClientEvent, HostKeyOffer};
use crate::connection::role::{ClientRole, Side};
use crate::crypto::agree::Ephemeral;
use crate::error::{Error, PeerError};
use crate::key::PublicKey;
use crate::log::{LogLayer, LogLevel};
use crate::msg::Message;
use crate::msg::kex::{KexEcdhInit, KexEcdhReply};

use super::{Exchange, Finished, KexHalf, Known, Step};

/// Where the client's half stands.
///
/// ```text
/// Waiting ── REPLY with a good signature ──► Judging ── accepted ──► done
///                                      └── the same host key as before ──► done
/// ```
pub(crate) enum ClientKex {
    /// Our value is out.
    Waiting {
        ephemeral: Ephemeral,
        share: Vec<u8>,
    },
    /// The signature is good; the caller has yet to trust the host key. Packets wait.
    Judging {
        finished: Box<Finished>,
        serial: u64,
    },
}

impl std::fmt::Debug for ClientKex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Waiting { .. } => "Waiting",
            Self::Judging { .. } => "Judging",
        })
    }
}

impl ClientKex {
    fn send(kex: crate::names::Kex, cx: &mut Cx<'_, ClientEvent>) -> Result<Self, Error> {
        let (ephemeral, share) = Ephemeral::generate(kex, cx.out.rng())
            .map_err(|_| Error::Bug("no key exchange value"))?;
        cx.out.transport(&KexEcdhInit { q_c: &share });
        Ok(Self::Waiting { ephemeral, share })
    }

    /// The serial of the open question.
    pub(crate) const fn question(&self) -> Option<u64> {
        match self {
            Self::Judging { serial, .. } => Some(*serial),
            Self::Waiting { .. } => None,
        }
    }

    /// The host key is trusted.
    pub(crate) fn accept(self) -> Step<Self> {
        match self {
            Self::Judging { finished, .. } => Step::Done(finished),
            waiting @ Self::Waiting { .. } => Step::Continue(waiting),
        }
    }
}

impl KexHalf<ClientRole> for ClientKex {
    fn guess(config: &ClientConfig, cx: &mut Cx<'_, ClientEvent>) -> Result<Option<Self>, Error> {
        match config.transport.algorithms.kex.as_slice().first() {
            Some(&kex) if config.guess_kex => Self::send(kex, cx).map(Some),
            _ => Ok(None),
        }
    }

    fn begin(
        guessed: Option<Self>,
        exchange: &Exchange,
        cx: &mut Cx<'_, ClientEvent>,
    ) -> Result<Self, Error> {
        match guessed {
            Some(guessed) if exchange.guess_is_right => Ok(guessed),
            _ => Self::send(exchange.negotiated.kex, cx),
        }
    }

    fn handle(
        self,
        payload: &[u8],
        exchange: &Exchange,
        known: &Known<'_, ClientConfig>,
        cx: &mut Cx<'_, ClientEvent>,
    ) -> Result<Step<Self>, Error> {
        let Self::Waiting { ephemeral, share } = self else {
            return Err(super::unexpected(
                payload.first().copied().unwrap_or_default(),
            ));
        };
        if payload.first() != Some(&KexEcdhReply::NUMBER) {
            return Err(super::unexpected(
                payload.first().copied().unwrap_or_default(),
            ));
        }
        let reply = KexEcdhReply::decode(payload)?;
        let algorithm = exchange.negotiated.host_key;
        let host_key =
            PublicKey::from_blob(reply.k_s).map_err(|_| PeerError::HostKey("it cannot be read"))?;
        if !host_key.algorithms().contains(&algorithm) {
            return Err(PeerError::HostKey("it is not of the negotiated kind").into());
        }
        let secret = ephemeral
            .agree(reply.q_s)
            .map_err(|_| PeerError::KeyExchangeValue)?;
        let hash = exchange.hash(
            Side::Client,
            known.local_version,
            known.peer_version,
            reply.k_s,
            [&share, reply.q_s],
            &secret,
        );
        host_key
            .verify(algorithm, &hash, reply.signature)
            .map_err(|_| PeerError::HostKeySignature)?;
        cx.log.add(LogLevel::Info, LogLayer::Transport, || {
            format!(
                "host key {} {}",
                host_key.key_type(),
                host_key.fingerprint_sha256()
            )
        });
        let known_key = known.host_key;
        let finished = Box::new(Finished {
            hash,
            secret,
            host_key,
        });
        match known_key {
            Some(before) if *before == finished.host_key => return Ok(Step::Done(finished)),
            Some(_) if !known.config.allow_host_key_change => {
                return Err(PeerError::HostKeyChanged.into());
            }
            _ => {}
        }
        let serial = u64::from_be_bytes(cx.out.rng().array());
        cx.events
            .push(ClientEvent::HostKeyOffered(HostKeyOffer::new(
                serial,
                finished.host_key.clone(),
            )));
        Ok(Step::Continue(Self::Judging { finished, serial }))
    }

    fn is_held(&self) -> bool {
        matches!(self, Self::Judging { .. })
    }
}
