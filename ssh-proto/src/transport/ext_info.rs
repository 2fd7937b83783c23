//! Extension negotiation (RFC 8308): EXT_INFO and `server-sig-algs`.

use crate::error::PeerError;
use crate::limits::{EXT_INFO_LEN, Limits};
use crate::msg::transport::ExtInfo;
use crate::msg::{Message, Rest};
use crate::names::{Algorithm, SignatureAlgorithm};
use crate::wire::{Malformed, NameList, Reader, Writer};

/// What an EXT_INFO of the peer says that matters here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Extensions {
    /// `server-sig-algs`, those that are known here.
    pub(crate) signature_algorithms: Option<Vec<SignatureAlgorithm>>,
    /// `ping@openssh.com`: it answers PING.
    pub(crate) pings: bool,
}

/// Reads an EXT_INFO. RFC 8308 section 2.5: unknown extensions are ignored.
pub(crate) fn read(payload: &[u8], limits: &Limits) -> Result<Extensions, PeerError> {
    let message = ExtInfo::decode(payload)?;
    let fault = |field| {
        move |problem| PeerError::Malformed {
            message: ExtInfo::NUMBER,
            field,
            problem,
        }
    };
    let count = usize::try_from(message.nr_extensions).unwrap_or(usize::MAX);
    if count > limits.ext_info_entries || payload.len() > EXT_INFO_LEN {
        return Err(fault("nr_extensions")(Malformed::TooLong));
    }
    let mut reader = Reader::new(message.extensions.0);
    let mut extensions = Extensions::default();
    for _ in 0..count {
        let name = reader.string().map_err(fault("extension-name"))?;
        let value = reader.string().map_err(fault("extension-value"))?;
        if name == b"ping@openssh.com" {
            extensions.pings = true;
        } else if name == b"server-sig-algs" {
            let list = NameList::parse(value).map_err(fault("server-sig-algs"))?;
            extensions.signature_algorithms = Some(
                SignatureAlgorithm::ALL
                    .iter()
                    .copied()
                    .filter(|algorithm| list.contains(algorithm.name()))
                    .collect(),
            );
        }
    }
    reader.finish().map_err(fault("extensions"))?;
    Ok(extensions)
}

/// A server's EXT_INFO: the signature algorithms that it takes from users.
pub(crate) fn server_ext_info(algorithms: impl Iterator<Item = &'static str>) -> Vec<u8> {
    let mut list = Vec::new();
    let mut writer = Writer::new(&mut list);
    writer.string(b"server-sig-algs").name_list(algorithms);
    writer.string(b"ping@openssh.com").string(b"0");
    list
}

/// The message around [`server_ext_info`].
pub(crate) const fn message(extensions: &[u8]) -> ExtInfo<'_> {
    ExtInfo {
        nr_extensions: 2,
        extensions: Rest(extensions),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_algorithms_of_a_server_are_read_and_others_passed_over() {
        let extensions = server_ext_info(["rsa-sha2-256", "ssh-dss", "ssh-ed25519"].into_iter());
        let read = read(&message(&extensions).to_payload(), &Limits::default()).unwrap();
        assert!(read.pings);
        let list = read.signature_algorithms.unwrap();
        assert_eq!(
            list,
            [SignatureAlgorithm::Ed25519, SignatureAlgorithm::RsaSha256]
        );
    }

    #[test]
    fn as_many_entries_as_the_limit_says_are_read() {
        for (nr_extensions, passes) in [(63, true), (64, true), (65, false)] {
            let mut extensions = Vec::new();
            let mut writer = Writer::new(&mut extensions);
            for _ in 0..nr_extensions {
                writer.string(b"x").string(b"");
            }
            let payload = ExtInfo {
                nr_extensions,
                extensions: Rest(&extensions),
            }
            .to_payload();
            assert_eq!(read(&payload, &Limits::default()).is_ok(), passes);
        }
    }

    #[test]
    fn a_count_beyond_the_bytes_or_the_limit_is_refused() {
        for nr_extensions in [1, 64, 65, u32::MAX] {
            let payload = ExtInfo {
                nr_extensions,
                extensions: Rest(&[]),
            }
            .to_payload();
            assert!(read(&payload, &Limits::default()).is_err());
        }
    }
}
