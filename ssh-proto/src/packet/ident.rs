//! The version exchange (RFC 4253 section 4.2): the only bytes of a connection that are no packets.

use crate::config::TransportConfig;
use crate::connection::role::Side;
use crate::error::PeerError;
use crate::limits::Limits;
use crate::steps::count_bytes;

/// Our version line without CR LF. What RFC 4253 section 4.2 does not allow in `softwareversion` is left out.
pub(crate) fn local_version(config: &TransportConfig) -> String {
    let software: String = config
        .software
        .chars()
        .filter(|&c| c.is_ascii_graphic() && c != '-')
        .take(200)
        .collect();
    format!(
        "SSH-2.0-{}",
        if software.is_empty() {
            "ssh_proto"
        } else {
            &software
        }
    )
}

/// Reads lines until the peer's version is there.
#[derive(Debug, Default)]
pub(crate) struct IdentReader {
    lines: usize,
    bytes: usize,
}

/// What one look at the bytes gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// The line is not complete.
    NeedMore,
    /// A line of so many bytes that is not the version: a server's greeting.
    Greeting { len: usize },
    /// The version line, without its end; it took `len` bytes.
    Version { version: &'a [u8], len: usize },
}

impl IdentReader {
    /// Whether there is something to be said about a line that was incomplete, now that the bytes from `known` on have
    /// come.
    pub(crate) fn is_told(&self, bytes: &[u8], known: usize, limits: &Limits) -> bool {
        let new = bytes.get(known..).unwrap_or_default();
        count_bytes(new.len());
        let waiting = self.bytes.saturating_add(bytes.len());
        new.contains(&b'\n')
            || waiting > limits.bytes_before_version
            || (bytes.starts_with(b"SSH-") && bytes.len() >= limits.version_line_len)
            || known < 4
    }

    /// Looks at the next line. `side` is ours: only a server may greet.
    pub(crate) fn next<'a>(
        &mut self,
        bytes: &'a [u8],
        side: Side,
        limits: &Limits,
    ) -> Result<Line<'a>, PeerError> {
        let is_version = bytes.starts_with(b"SSH-");
        if !is_version && side == Side::Server {
            // RFC 4253 section 4.2: "When the connection has been established, both sides MUST send an identification
            // string"; the lines before it are the server's privilege.
            let prefix = bytes.get(..bytes.len().min(4)).unwrap_or_default();
            if !b"SSH-".starts_with(prefix) {
                return Err(PeerError::Version("it does not begin with SSH-"));
            }
        }
        let end = bytes.iter().position(|&byte| byte == b'\n');
        count_bytes(end.unwrap_or(bytes.len()));
        let Some(end) = end else {
            let waiting = self.bytes.saturating_add(bytes.len());
            if is_version && bytes.len() >= limits.version_line_len {
                return Err(PeerError::Version("it is too long"));
            }
            if waiting > limits.bytes_before_version {
                return Err(PeerError::Version("too much text before it"));
            }
            return Ok(Line::NeedMore);
        };
        let len = end.saturating_add(1);
        if !is_version {
            self.lines = self.lines.saturating_add(1);
            self.bytes = self.bytes.saturating_add(len);
            if self.lines > limits.lines_before_version || self.bytes > limits.bytes_before_version
            {
                return Err(PeerError::Version("too much text before it"));
            }
            return Ok(Line::Greeting { len });
        }
        if len > limits.version_line_len {
            return Err(PeerError::Version("it is too long"));
        }
        let line = bytes.get(..end).unwrap_or_default();
        // "terminated by a single Carriage Return (CR) and a single Line Feed (LF) character"; peers that send the LF
        // alone exist, and the section allows for them.
        let version = line.strip_suffix(b"\r").unwrap_or(line);
        // "The null character MUST NOT be sent."
        if version.iter().any(|byte| matches!(byte, 0 | b'\r')) {
            return Err(PeerError::Version("it has a NUL or a stray CR"));
        }
        // RFC 4253 section 5.1: a server that also speaks 1.x says 1.99.
        if !(version.starts_with(b"SSH-2.0-")
            || (side == Side::Client && version.starts_with(b"SSH-1.99-")))
        {
            return Err(PeerError::Version("its protocol version is not 2.0"));
        }
        Ok(Line::Version { version, len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(side: Side, bytes: &[u8]) -> Result<Line<'_>, PeerError> {
        IdentReader::default().next(bytes, side, &Limits::default())
    }

    #[test]
    fn an_incomplete_line_is_looked_at_when_there_is_something_new_to_say_of_it() {
        let limits = Limits::default();
        let reader = IdentReader::default();
        let told = |bytes: &[u8], known| reader.is_told(bytes, known, &limits);
        assert!(!told(b"SSH-2.0-name", 4), "no end, and not too long");
        assert!(told(b"SSH-2.0-name\n", 8), "its end");
        assert!(!told(b"hello\nand more", 8), "an end that was known");
        assert!(told(b"SSH-2.0-name", 3), "whether it is a version");
        let version = |len: usize| [b"SSH-".to_vec(), vec![b'x'; len - 4]].concat();
        assert!(!told(&version(limits.version_line_len - 1), 8));
        assert!(told(&version(limits.version_line_len), 8), "too long");
        let greeting = vec![b'x'; limits.bytes_before_version + 1];
        assert!(!told(&greeting[1..], 8));
        assert!(told(&greeting, 8), "too much text");
    }

    #[test]
    fn both_line_ends_are_taken() {
        for line in [&b"SSH-2.0-x y\r\n"[..], b"SSH-2.0-x y\n"] {
            assert_eq!(
                read(Side::Server, line),
                Ok(Line::Version {
                    version: b"SSH-2.0-x y",
                    len: line.len()
                })
            );
        }
        assert!(matches!(
            read(Side::Client, b"SSH-1.99-old\r\n"),
            Ok(Line::Version { .. })
        ));
    }

    #[test]
    fn only_a_server_may_greet() {
        assert_eq!(
            read(Side::Client, b"hello\r\nSSH-"),
            Ok(Line::Greeting { len: 7 })
        );
        assert!(read(Side::Server, b"hello\r\n").is_err());
        assert!(read(Side::Server, b"SX").is_err());
        assert_eq!(read(Side::Server, b"SS"), Ok(Line::NeedMore));
    }

    #[test]
    fn bad_versions_are_refused() {
        for line in [
            &b"SSH-1.5-x\r\n"[..],
            b"SSH-2.0-a\0b\r\n",
            b"SSH-2.0-a\rb\r\n",
            b"SSH-1.99-client\r\n",
        ] {
            assert!(read(Side::Server, line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn a_version_line_has_255_bytes_at_the_most() {
        let line = |len: usize| [b"SSH-2.0-".as_slice(), &vec![b'x'; len - 10], b"\r\n"].concat();
        assert!(read(Side::Server, &line(255)).is_ok());
        assert!(read(Side::Server, &line(256)).is_err());
        assert!(read(Side::Server, &line(400)[..255]).is_err());
    }

    #[test]
    fn a_greeting_has_1024_lines_at_the_most() {
        let (mut reader, limits) = (IdentReader::default(), Limits::default());
        for _ in 0..1024 {
            assert_eq!(
                reader.next(b"x\n", Side::Client, &limits),
                Ok(Line::Greeting { len: 2 })
            );
        }
        assert!(
            reader
                .clone_for_test()
                .next(b"SSH-2.0-x\n", Side::Client, &limits)
                .is_ok()
        );
        assert!(reader.next(b"x\n", Side::Client, &limits).is_err());
    }

    impl IdentReader {
        fn clone_for_test(&self) -> Self {
            Self {
                lines: self.lines,
                bytes: self.bytes,
            }
        }
    }

    #[test]
    fn an_endless_greeting_is_cut_off() {
        let endless = vec![b'x'; 64 * 1024 + 1];
        assert!(read(Side::Client, &endless).is_err());
    }

    #[test]
    fn our_own_line_keeps_to_the_rules() {
        let config = TransportConfig {
            software: "a-b c\r\nd".to_owned(),
            ..TransportConfig::default()
        };
        assert_eq!(local_version(&config), "SSH-2.0-abcd");
    }
}
