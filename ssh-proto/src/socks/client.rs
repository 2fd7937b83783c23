//! The side that asks a proxy to connect.

use std::net::IpAddr;

use crate::error::Misuse;

use super::{SocksError, SocksFailure, SocksVersion, host_name};

/// What a proxy said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocksReply {
    /// The connection is made: what follows are its bytes.
    Connected,
    /// It is not made.
    Refused(SocksFailure),
    /// The proxy does not speak as it should.
    Failed(SocksError),
}

/// Where a client stands.
///
/// ```text
/// Reply4 ──► Done        Method ──► Reply5 ──► Done
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Reply4,
    Method,
    Reply5,
    Done,
}

/// The client's side of SOCKS: asks for one connection.
#[derive(Debug)]
pub struct SocksClient {
    phase: Phase,
    input: Vec<u8>,
    output: Vec<u8>,
    reply: Option<SocksReply>,
}

impl SocksClient {
    /// Asks for a connection to a host, a name or an address: [`output`](Self::output) is there at once.
    ///
    /// # Errors
    /// [`Misuse::Argument`]: the host is empty, no printable US-ASCII, longer than 255 bytes, or an IPv6 address, which
    /// SOCKS 4 does not have.
    pub fn new(version: SocksVersion, host: &str, port: u16) -> Result<Self, Misuse> {
        let fault = Misuse::Argument("host for SOCKS");
        let address = host.parse::<IpAddr>();
        let name = host_name(host.as_bytes()).ok_or(fault)?;
        let len = u8::try_from(name.len()).map_err(|_| fault)?;
        let port = port.to_be_bytes();
        let mut output = Vec::new();
        let phase = match version {
            SocksVersion::V4 => {
                output.extend([4, 1]);
                output.extend(port);
                match address {
                    Ok(IpAddr::V4(address)) => {
                        output.extend(address.octets());
                        output.push(0);
                    }
                    Ok(IpAddr::V6(_)) => return Err(fault),
                    Err(_) => {
                        output.extend([0, 0, 0, 1, 0]);
                        output.extend(name.bytes());
                        output.push(0);
                    }
                }
                Phase::Reply4
            }
            SocksVersion::V5 => {
                // One method, none; the request goes along, since there is nothing else to choose.
                output.extend([5, 1, 0, 5, 1, 0]);
                match address {
                    Ok(IpAddr::V4(address)) => {
                        output.push(1);
                        output.extend(address.octets());
                    }
                    Ok(IpAddr::V6(address)) => {
                        output.push(4);
                        output.extend(address.octets());
                    }
                    Err(_) => {
                        output.extend([3, len]);
                        output.extend(name.bytes());
                    }
                }
                output.extend(port);
                Phase::Method
            }
        };
        Ok(Self {
            phase,
            input: Vec::new(),
            output,
            reply: None,
        })
    }

    /// The bytes to write now.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// The first `len` bytes of [`output`](Self::output) were written.
    pub fn consume_output(&mut self, len: usize) {
        self.output.drain(..len.min(self.output.len()));
    }

    /// Takes bytes of the proxy; says how many. What is behind its reply is not taken.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0_usize;
        for &byte in bytes {
            if self.phase == Phase::Done {
                break;
            }
            self.input.push(byte);
            taken = taken.saturating_add(1);
            match self.step() {
                None => {}
                Some(Ok(phase)) => {
                    self.phase = phase;
                    self.input = Vec::new();
                }
                Some(Err(reply)) => {
                    self.reply = Some(reply);
                    self.phase = Phase::Done;
                    self.input = Vec::new();
                }
            }
        }
        taken
    }

    /// What the proxy said. Once.
    pub const fn poll_event(&mut self) -> Option<SocksReply> {
        self.reply.take()
    }

    /// `None`: the message is not whole. `Err`: it is the last.
    fn step(&self) -> Option<Result<Phase, SocksReply>> {
        let failed = |error| Some(Err(SocksReply::Failed(error)));
        match (self.phase, self.input.as_slice()) {
            (Phase::Reply4, [0, code, _, _, _, _, _, _]) => Some(Err(match code {
                90 => SocksReply::Connected,
                91..=93 => SocksReply::Refused(SocksFailure::GENERAL),
                _ => SocksReply::Failed(SocksError::Reply),
            })),
            (Phase::Reply4, [version, ..]) if *version != 0 => {
                failed(SocksError::Version(*version))
            }
            (Phase::Method | Phase::Reply5, [version, ..]) if *version != 5 => {
                failed(SocksError::Version(*version))
            }
            (Phase::Method, [_, 0]) => Some(Ok(Phase::Reply5)),
            (Phase::Method, [_, _]) => failed(SocksError::Method),
            (Phase::Reply5, [_, reply, _, kind, rest @ ..]) => {
                let len = match (kind, rest.first()) {
                    (1, _) => 4,
                    (4, _) => 16,
                    (3, Some(&len)) => usize::from(len).saturating_add(1),
                    (3, None) => return None,
                    (other, _) => return failed(SocksError::AddressType(*other)),
                };
                if rest.len() < len.saturating_add(2) {
                    return None;
                }
                Some(Err(match reply {
                    0 => SocksReply::Connected,
                    other => SocksReply::Refused(SocksFailure(*other)),
                }))
            }
            _ => None,
        }
    }
}
