//! The side that is asked to connect.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::error::Misuse;
use crate::limits::SOCKS_NAME_LEN;

use super::{SocksError, SocksFailure, SocksVersion, host_name};

/// What the client of a proxy wants.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocksEvent {
    /// A question: a connection to this host, a name or an address. It is answered with [`SocksProxy::accept`] or
    /// [`SocksProxy::refuse`].
    Connect {
        /// The host: printable US-ASCII, at most 255 bytes.
        host: String,
        /// The port.
        port: u16,
    },
    /// It does not speak as it should, or asks for something that is not there. Write what
    /// [`SocksProxy::output`] still has, then close the stream.
    Failed(SocksError),
}

/// Where a proxy stands.
///
/// ```text
/// Version ── 4 ──► Request4 ─────────────────┐
///    └────── 5 ──► Methods ──► Request5 ──► Asking ── accept ──► Done
///  any of them ── fault ──► Done               └── refuse ──► Done
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Version,
    Request4,
    Methods,
    Request5,
    Asking(SocksVersion),
    Done,
}

/// The proxy's side of SOCKS: one client that asks for one connection.
///
/// ```
/// use ssh_proto::socks::{SocksEvent, SocksProxy};
///
/// let mut proxy = SocksProxy::new();
/// assert_eq!(proxy.handle_bytes(b"\x05\x01\x00"), 3);
/// assert_eq!(proxy.output(), b"\x05\x00");
/// proxy.consume_output(2);
/// // The connection's own first bytes are not taken.
/// assert_eq!(proxy.handle_bytes(b"\x05\x01\x00\x03\x04host\x00\x50GET /"), 11);
/// let host = "host".to_owned();
/// assert_eq!(proxy.poll_event(), Some(SocksEvent::Connect { host, port: 80 }));
/// proxy.accept()?;
/// assert_eq!(proxy.output(), b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00");
/// # Ok::<(), ssh_proto::Misuse>(())
/// ```
#[derive(Debug)]
pub struct SocksProxy {
    phase: Phase,
    /// The message that is being read: at most a few bytes and two names.
    input: Vec<u8>,
    output: Vec<u8>,
    event: Option<SocksEvent>,
}

impl Default for SocksProxy {
    fn default() -> Self {
        Self::new()
    }
}

impl SocksProxy {
    /// A proxy that has heard nothing yet.
    pub const fn new() -> Self {
        Self {
            phase: Phase::Version,
            input: Vec::new(),
            output: Vec::new(),
            event: None,
        }
    }

    /// Takes bytes of the client; says how many. What is behind its request is not taken, and nothing is while the
    /// question is open or when all was said.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0_usize;
        for &byte in bytes {
            if matches!(self.phase, Phase::Asking(_) | Phase::Done) {
                break;
            }
            self.input.push(byte);
            taken = taken.saturating_add(1);
            match self.step() {
                // The message is not whole.
                Ok(None) => {}
                Ok(Some(phase)) => self.enter(phase),
                Err(error) => {
                    self.event = Some(SocksEvent::Failed(error));
                    self.enter(Phase::Done);
                }
            }
        }
        taken
    }

    fn enter(&mut self, phase: Phase) {
        // A message begins with its version: that byte was looked at, and stays.
        if !matches!(phase, Phase::Request4 | Phase::Methods) {
            self.input = Vec::new();
        }
        self.phase = phase;
    }

    /// The bytes to write now.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// The first `len` bytes of [`output`](Self::output) were written.
    pub fn consume_output(&mut self, len: usize) {
        self.output.drain(..len.min(self.output.len()));
    }

    /// What the client wants. Once.
    pub const fn poll_event(&mut self) -> Option<SocksEvent> {
        self.event.take()
    }

    /// Everything was said: what the client sends from now on belongs to the connection, if it was made.
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// The connection is made. Its bytes follow [`output`](Self::output).
    ///
    /// # Errors
    /// [`Misuse::StaleToken`]: no question is open.
    pub fn accept(&mut self) -> Result<(), Misuse> {
        self.answer(SocksFailure(0))
    }

    /// The connection is not made.
    ///
    /// # Errors
    /// [`Misuse::StaleToken`]: no question is open.
    pub fn refuse(&mut self, failure: SocksFailure) -> Result<(), Misuse> {
        let failure = if failure.0 == 0 {
            SocksFailure::GENERAL
        } else {
            failure
        };
        self.answer(failure)
    }

    fn answer(&mut self, reply: SocksFailure) -> Result<(), Misuse> {
        let Phase::Asking(version) = self.phase else {
            return Err(Misuse::StaleToken);
        };
        self.event = None;
        self.reply(version, reply);
        self.enter(Phase::Done);
        Ok(())
    }

    fn reply(&mut self, version: SocksVersion, reply: SocksFailure) {
        match version {
            // 90: request granted, 91: rejected or failed. Port and address mean nothing for CONNECT.
            SocksVersion::V4 => {
                let code = if reply.0 == 0 { 90 } else { 91 };
                self.output.extend([0, code, 0, 0, 0, 0, 0, 0]);
            }
            // The bound address is that of a socket of the other side, which it does not tell: all zeros, as OpenSSH.
            SocksVersion::V5 => self.output.extend([5, reply.0, 0, 1, 0, 0, 0, 0, 0, 0]),
        }
    }

    /// Looks whether the message is whole, and acts on it.
    fn step(&mut self) -> Result<Option<Phase>, SocksError> {
        match self.phase {
            Phase::Version => match self.input.as_slice() {
                [4] => Ok(Some(Phase::Request4)),
                [5] => Ok(Some(Phase::Methods)),
                [other, ..] => Err(SocksError::Version(*other)),
                [] => Ok(None),
            },
            Phase::Methods => self.methods(),
            Phase::Request4 => match request4(&self.input) {
                Ok(None) => Ok(None),
                Ok(Some((host, port))) => {
                    self.event = Some(SocksEvent::Connect { host, port });
                    Ok(Some(Phase::Asking(SocksVersion::V4)))
                }
                Err(error) => {
                    self.reply(SocksVersion::V4, SocksFailure::GENERAL);
                    Err(error)
                }
            },
            Phase::Request5 => match request5(&self.input) {
                Ok(None) => Ok(None),
                Ok(Some((host, port))) => {
                    self.event = Some(SocksEvent::Connect { host, port });
                    Ok(Some(Phase::Asking(SocksVersion::V5)))
                }
                Err(error) => {
                    self.reply(
                        SocksVersion::V5,
                        match error {
                            SocksError::Command(_) => SocksFailure::COMMAND_NOT_SUPPORTED,
                            SocksError::AddressType(_) => SocksFailure::ADDRESS_NOT_SUPPORTED,
                            _ => SocksFailure::GENERAL,
                        },
                    );
                    Err(error)
                }
            },
            Phase::Asking(_) | Phase::Done => Ok(None),
        }
    }

    /// RFC 1928 section 3: "If the selected METHOD is X'FF', none of the methods listed by the client are acceptable".
    fn methods(&mut self) -> Result<Option<Phase>, SocksError> {
        let [_, count, methods @ ..] = self.input.as_slice() else {
            return Ok(None);
        };
        if methods.len() < usize::from(*count) {
            return Ok(None);
        }
        if methods.contains(&0) {
            self.output.extend([5, 0]);
            Ok(Some(Phase::Request5))
        } else {
            self.output.extend([5, 0xff]);
            Err(SocksError::Method)
        }
    }
}

type Target = (String, u16);

/// VN, CD, DSTPORT, DSTIP, USERID, NULL; 4a: a DSTIP of 0.0.0.x is followed by a name and another NULL.
fn request4(input: &[u8]) -> Result<Option<Target>, SocksError> {
    let &[_, command, p0, p1, a, b, c, d, ref names @ ..] = input else {
        return Ok(None);
    };
    let Some((_, behind)) = terminated(names)? else {
        return Ok(None);
    };
    let by_name = [a, b, c] == [0, 0, 0] && d != 0;
    let host = if by_name {
        let Some((name, _)) = terminated(behind)? else {
            return Ok(None);
        };
        host_name(name).ok_or(SocksError::Name)?.to_owned()
    } else {
        Ipv4Addr::new(a, b, c, d).to_string()
    };
    if command != 1 {
        return Err(SocksError::Command(command));
    }
    Ok(Some((host, u16::from_be_bytes([p0, p1]))))
}

type Split<'a> = (&'a [u8], &'a [u8]);

/// A text up to its NULL, and what is behind.
fn terminated(bytes: &[u8]) -> Result<Option<Split<'_>>, SocksError> {
    let end = bytes.iter().position(|&byte| byte == 0);
    if end.unwrap_or(bytes.len()) > SOCKS_NAME_LEN {
        return Err(SocksError::Name);
    }
    Ok(end.and_then(|end| {
        let (text, rest) = bytes.split_at_checked(end)?;
        Some((text, rest.get(1..)?))
    }))
}

/// RFC 1928 section 4: VER, CMD, RSV, ATYP, DST.ADDR, DST.PORT.
fn request5(input: &[u8]) -> Result<Option<Target>, SocksError> {
    // A second version that differs is as good as a wrong first one.
    if let Some(&other) = input.first().filter(|&&version| version != 5) {
        return Err(SocksError::Version(other));
    }
    let &[_, command, _, kind, ref rest @ ..] = input else {
        return Ok(None);
    };
    let (host, port) = match (kind, rest) {
        (1, &[a, b, c, d, p0, p1]) => (Ipv4Addr::new(a, b, c, d).to_string(), [p0, p1]),
        (4, _) => match rest.split_first_chunk::<16>() {
            Some((address, &[p0, p1])) => (Ipv6Addr::from(*address).to_string(), [p0, p1]),
            _ => return Ok(None),
        },
        (3, &[len, ref behind @ ..]) => match behind.split_at_checked(len.into()) {
            Some((name, &[p0, p1])) => (
                host_name(name).ok_or(SocksError::Name)?.to_owned(),
                [p0, p1],
            ),
            _ => return Ok(None),
        },
        (1 | 3, _) => return Ok(None),
        (other, _) => return Err(SocksError::AddressType(other)),
    };
    if command != 1 {
        return Err(SocksError::Command(command));
    }
    Ok(Some((host, u16::from_be_bytes(port))))
}
