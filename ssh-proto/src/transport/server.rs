//! The server's half of a key exchange: it answers with its value and signs the exchange hash (RFC 5656 section 4).

use crate::auth::signature::{SignaturePurpose, SignatureRequest};
use crate::config::{HostKey, ServerConfig};
use crate::connection::cx::Cx;
use crate::connection::event::ServerEvent;
use crate::connection::role::{ServerRole, Side};
use crate::crypto::agree::respond;
use crate::error::{Error, PeerError};
use crate::msg::Message;
use crate::msg::kex::{KexEcdhInit, KexEcdhReply};
use crate::secret::Secret;

use super::{Exchange, Finished, KexHalf, Known, Step};

/// Where the server's half stands.
///
/// ```text
/// Waiting ── INIT, the key is here ──────────────────────────► done
///       └── INIT, the key is elsewhere ──► Signing ── signed ──► done
/// ```
pub(crate) enum ServerKex {
    /// The client's value is not in.
    Waiting,
    /// The caller makes the signature. Packets wait.
    Signing {
        finished: Box<Finished>,
        share: Vec<u8>,
        serial: u64,
    },
}

impl std::fmt::Debug for ServerKex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Waiting => "Waiting",
            Self::Signing { .. } => "Signing",
        })
    }
}

impl ServerKex {
    /// The serial of the open question.
    pub(crate) const fn question(&self) -> Option<u64> {
        match self {
            Self::Signing { serial, .. } => Some(*serial),
            Self::Waiting => None,
        }
    }

    /// The signature is there.
    pub(crate) fn supply(
        self,
        signature: &[u8],
        exchange: &Exchange,
        cx: &mut Cx<'_, ServerEvent>,
    ) -> Result<Step<Self>, Error> {
        let Self::Signing {
            finished, share, ..
        } = self
        else {
            return Ok(Step::Continue(self));
        };
        // A faulty signature can give a key away (RSA), and none at all would only confuse the client.
        if finished
            .host_key
            .verify(exchange.negotiated.host_key, &finished.hash, signature)
            .is_err()
        {
            return Err(Error::SigningFailed);
        }
        send_reply(&finished, &share, signature, cx);
        Ok(Step::Done(finished))
    }
}

fn send_reply(finished: &Finished, share: &[u8], signature: &[u8], cx: &mut Cx<'_, ServerEvent>) {
    cx.out.transport(&KexEcdhReply {
        k_s: finished.host_key.blob(),
        q_s: share,
        signature,
    });
}

impl KexHalf<ServerRole> for ServerKex {
    fn guess(_: &ServerConfig, _: &mut Cx<'_, ServerEvent>) -> Result<Option<Self>, Error> {
        Ok(None)
    }

    fn begin(_: Option<Self>, _: &Exchange, _: &mut Cx<'_, ServerEvent>) -> Result<Self, Error> {
        Ok(Self::Waiting)
    }

    fn handle(
        self,
        payload: &[u8],
        exchange: &Exchange,
        known: &Known<'_, ServerConfig>,
        cx: &mut Cx<'_, ServerEvent>,
    ) -> Result<Step<Self>, Error> {
        if !matches!(self, Self::Waiting) || payload.first() != Some(&KexEcdhInit::NUMBER) {
            return Err(super::unexpected(
                payload.first().copied().unwrap_or_default(),
            ));
        }
        let init = KexEcdhInit::decode(payload)?;
        let algorithm = exchange.negotiated.host_key;
        let key = known
            .config
            .host_keys
            .iter()
            .find(|key| key.public().algorithms().contains(&algorithm))
            .ok_or(Error::Bug("no host key for the negotiated algorithm"))?;
        let host_key = key.public().clone();
        let (share, secret) = respond(exchange.negotiated.kex, init.q_c, cx.out.rng())
            .map_err(|_| PeerError::KeyExchangeValue)?;
        let hash = exchange.hash(
            Side::Server,
            known.local_version,
            known.peer_version,
            host_key.blob(),
            [init.q_c, &share],
            &secret,
        );
        let finished = Box::new(Finished {
            hash,
            secret,
            host_key,
        });
        match key {
            HostKey::Private(key) => {
                let signature = cx
                    .out
                    .rng()
                    .foreign(|| key.sign(algorithm, &hash).map(Secret::new))
                    .ok_or(Error::SigningFailed)?;
                send_reply(&finished, &share, signature.expose(), cx);
                Ok(Step::Done(finished))
            }
            HostKey::External(key) => {
                let serial = u64::from_be_bytes(cx.out.rng().array());
                let request = SignatureRequest::new(
                    serial,
                    SignaturePurpose::HostKey,
                    key.clone(),
                    algorithm,
                    hash.to_vec(),
                );
                cx.events.push(ServerEvent::SignatureNeeded(request));
                Ok(Step::Continue(Self::Signing {
                    finished,
                    share,
                    serial,
                }))
            }
        }
    }

    fn is_held(&self) -> bool {
        matches!(self, Self::Signing { .. })
    }
}
