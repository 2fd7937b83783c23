//! Forwarding: listeners at the server, and the channels that come of them (RFC 4254 section 7; OpenSSH's PROTOCOL
//! section 2.4 for Unix sockets).
//!
//! In: the fields of GLOBAL_REQUEST and CHANNEL_OPEN. Out: the same fields of ours. Kept: on a client the forwards that
//! it asked for, because a channel that belongs to none of them is refused; on a server the listeners that were granted,
//! because their number is bounded and only what is there can be cancelled.

use std::fmt;
use std::net::IpAddr;

use crate::error::{Error, Misuse, PeerError};
use crate::msg::Message;
use crate::msg::connection as msg;
use crate::wire::{Malformed, Reader, Writer};

use super::kinds::{GlobalRequestKind, OpenChannel, OpenKind, RequestId};

pub(super) const DIRECT_TCPIP: &str = "direct-tcpip";
pub(super) const FORWARDED_TCPIP: &str = "forwarded-tcpip";
pub(super) const DIRECT_STREAMLOCAL: &str = "direct-streamlocal@openssh.com";
pub(super) const FORWARDED_STREAMLOCAL: &str = "forwarded-streamlocal@openssh.com";
const TCPIP_FORWARD: &str = "tcpip-forward";
const CANCEL_TCPIP_FORWARD: &str = "cancel-tcpip-forward";
const STREAMLOCAL_FORWARD: &str = "streamlocal-forward@openssh.com";
const CANCEL_STREAMLOCAL_FORWARD: &str = "cancel-streamlocal-forward@openssh.com";

/// Where a server listens for a client.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ForwardAddress {
    /// A TCP port (RFC 4254 section 7.1).
    Tcpip {
        /// The address to listen on. The RFC gives these a meaning: `""` is all addresses, `"0.0.0.0"` all of IPv4,
        /// `"::"` all of IPv6, `"localhost"` the loopback addresses; anything else is an address or a name.
        address: String,
        /// The port. 0 in a request: the server takes a free one.
        port: u16,
    },
    /// A Unix socket (`streamlocal-forward@openssh.com`).
    Streamlocal {
        /// The path of the socket.
        path: Vec<u8>,
    },
}

impl ForwardAddress {
    /// A TCP port. Port 0 lets the server choose.
    pub fn tcpip(address: impl Into<String>, port: u16) -> Self {
        Self::Tcpip {
            address: address.into(),
            port,
        }
    }

    /// A Unix socket.
    pub fn streamlocal(path: impl Into<Vec<u8>>) -> Self {
        Self::Streamlocal { path: path.into() }
    }

    /// The TCP port.
    pub const fn port(&self) -> Option<u16> {
        match self {
            Self::Tcpip { port, .. } => Some(*port),
            Self::Streamlocal { .. } => None,
        }
    }

    pub(super) const fn wants_port(&self) -> bool {
        matches!(self, Self::Tcpip { port: 0, .. })
    }

    fn set_port(&mut self, bound: u16) {
        if let Self::Tcpip { port, .. } = self {
            *port = bound;
        }
    }

    /// Name and fields of the request to listen, or not to listen any more.
    pub(super) fn encode(&self, cancel: bool) -> (&'static str, Vec<u8>) {
        let mut data = Vec::new();
        let mut writer = Writer::new(&mut data);
        let name = match self {
            Self::Tcpip { address, port } => {
                writer.string(address.as_bytes()).uint32((*port).into());
                if cancel {
                    CANCEL_TCPIP_FORWARD
                } else {
                    TCPIP_FORWARD
                }
            }
            Self::Streamlocal { path } => {
                writer.string(path);
                if cancel {
                    CANCEL_STREAMLOCAL_FORWARD
                } else {
                    STREAMLOCAL_FORWARD
                }
            }
        };
        (name, data)
    }
}

impl fmt::Display for ForwardAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcpip { address, port } => write!(f, "{}:{port}", address.escape_debug()),
            Self::Streamlocal { path } => write!(f, "{}", path.escape_ascii()),
        }
    }
}

/// One listener at the server.
#[derive(Debug)]
struct Forward {
    /// On a client the number of the request, on a server the serial of the question.
    key: u64,
    address: ForwardAddress,
    /// The server has granted it.
    active: bool,
}

/// The listeners of a connection, on either side of it: at most
/// [`forwards`](crate::limits::Limits::forwards), granted or asked for.
#[derive(Debug, Default)]
pub(super) struct Forwards {
    list: Vec<Forward>,
}

impl Forwards {
    pub(super) const fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn add(&mut self, key: u64, address: ForwardAddress) {
        self.list.push(Forward {
            key,
            address,
            active: false,
        });
    }

    fn drop_key(&mut self, key: u64) {
        self.list.retain(|forward| forward.key != key);
        if self.list.is_empty() {
            self.list = Vec::new();
        }
    }

    /// The one with that key, if it was granted.
    pub(super) fn active(&self, key: u64) -> Option<&ForwardAddress> {
        self.list
            .iter()
            .find(|forward| forward.key == key && forward.active)
            .map(|forward| &forward.address)
    }

    /// It was granted, with `data` in the reply, or refused.
    ///
    /// RFC 4254 section 7.1: "If a client passes 0 as port number to bind and has 'want reply' as TRUE, then the server
    /// allocates the next available unprivileged port number and replies with the following message; otherwise, there is
    /// no response-specific data."
    pub(super) fn replied(&mut self, key: u64, reply: Option<&[u8]>) -> Result<(), Malformed> {
        let Some(forward) = self.list.iter_mut().find(|forward| forward.key == key) else {
            return Ok(());
        };
        let Some(data) = reply else {
            self.drop_key(key);
            return Ok(());
        };
        if forward.address.wants_port() {
            forward.address.set_port(bound_port(data)?);
        }
        forward.active = true;
        Ok(())
    }

    /// It is no more, whether or not the peer agrees.
    pub(super) fn cancel(&mut self, key: u64) {
        self.drop_key(key);
    }

    /// On a server: the client cancels this address. Whether there is such a listener, or one that is being asked about.
    fn cancel_address(&mut self, address: &ForwardAddress) -> bool {
        let found = self
            .list
            .iter()
            .find(|forward| forward.address == *address)
            .map(|forward| forward.key);
        if let Some(key) = found {
            self.drop_key(key);
        }
        found.is_some()
    }

    /// On a client: the forward that a channel of the server belongs to.
    ///
    /// The RFC has the server say "the address that was connected", OpenSSH repeats the address of the request, and other
    /// servers name what they listen on. So the port must be the right one, and the address the one that was asked for,
    /// or any when all addresses were asked for, or a loopback address when one of these was. A forward that fits exactly
    /// goes before one that fits so.
    fn find_tcpip(&self, connected: &str, connected_port: u16) -> Option<RequestId> {
        let with_port = || {
            self.list
                .iter()
                .filter_map(|forward| match &forward.address {
                    ForwardAddress::Tcpip { address, port }
                        if forward.active && *port == connected_port =>
                    {
                        Some((forward.key, address.as_str()))
                    }
                    _ => None,
                })
        };
        with_port()
            .find(|(_, asked)| asked.eq_ignore_ascii_case(connected))
            .or_else(|| with_port().find(|(_, asked)| covers(asked, connected)))
            .map(|(key, _)| RequestId(key))
    }

    fn find_streamlocal(&self, connected: &[u8]) -> Option<RequestId> {
        self.list
            .iter()
            .find(|forward| match &forward.address {
                ForwardAddress::Streamlocal { path } => forward.active && path == connected,
                ForwardAddress::Tcpip { .. } => false,
            })
            .map(|forward| RequestId(forward.key))
    }

    /// On a client: what a `forwarded-..` channel of the server is; `None` when nobody asked for it.
    pub(super) fn forwarded(&self, name: &str, data: &[u8]) -> Result<Option<OpenKind>, Error> {
        let mut reader = Reader::new(data);
        if name == FORWARDED_TCPIP {
            let (address, port) = host_port(&mut reader, "address that was connected")?;
            let (originator_host, originator_port) =
                host_port(&mut reader, "originator IP address")?;
            reader.finish().map_err(fault("end of message"))?;
            return Ok(self
                .find_tcpip(&address, port)
                .map(|forward| OpenKind::ForwardedTcpip {
                    forward,
                    address,
                    port,
                    originator_host,
                    originator_port,
                }));
        }
        let path = reader.string().map_err(fault("socket path"))?;
        reader.string().map_err(fault("reserved"))?;
        reader.finish().map_err(fault("end of message"))?;
        Ok(self
            .find_streamlocal(path)
            .map(|forward| OpenKind::ForwardedStreamlocal {
                forward,
                path: path.to_vec(),
            }))
    }
}

/// What a request of a client about the connection is to this server.
#[derive(Debug)]
pub(super) enum ForwardRequest {
    /// For the caller to decide.
    Ask(GlobalRequestKind),
    Refuse,
}

/// `None`: it is not about forwarding.
pub(super) fn requested(
    name: &str,
    data: &[u8],
    want_reply: bool,
    forwards: &mut Forwards,
    max: usize,
) -> Result<Option<ForwardRequest>, Error> {
    let fault = |field| {
        move |problem| {
            Error::from(PeerError::Malformed {
                message: msg::GlobalRequest::NUMBER,
                field,
                problem,
            })
        }
    };
    let mut reader = Reader::new(data);
    let address = match name {
        TCPIP_FORWARD | CANCEL_TCPIP_FORWARD => {
            let address = reader.text().map_err(fault("address to bind"))?.to_owned();
            let port = reader.uint32().map_err(fault("port number to bind"))?;
            u16::try_from(port)
                .ok()
                .map(|port| ForwardAddress::Tcpip { address, port })
        }
        STREAMLOCAL_FORWARD | CANCEL_STREAMLOCAL_FORWARD => {
            let path = reader.string().map_err(fault("socket path"))?;
            Some(ForwardAddress::streamlocal(path))
        }
        _ => return Ok(None),
    };
    reader.finish().map_err(fault("end of message"))?;
    let Some(address) = address else {
        return Ok(Some(ForwardRequest::Refuse));
    };
    let kind = match name {
        CANCEL_TCPIP_FORWARD | CANCEL_STREAMLOCAL_FORWARD => forwards
            .cancel_address(&address)
            .then_some(GlobalRequestKind::CancelForward(address)),
        // A client that wants no reply cannot know whether it was granted: it is not.
        _ if want_reply && forwards.len() < max => Some(GlobalRequestKind::Forward(address)),
        _ => None,
    };
    Ok(Some(
        kind.map_or(ForwardRequest::Refuse, ForwardRequest::Ask),
    ))
}

/// The port in the reply to a request for port 0.
pub(super) fn bound_port(data: &[u8]) -> Result<u16, Malformed> {
    let mut reader = Reader::new(data);
    let port = reader.uint32()?;
    reader.finish()?;
    match u16::try_from(port) {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(Malformed::Value),
    }
}

/// Whether a listener on `asked` can have been connected at `connected`.
fn covers(asked: &str, connected: &str) -> bool {
    let is_loopback = |address: &str| {
        address.eq_ignore_ascii_case("localhost")
            || address
                .parse::<IpAddr>()
                .is_ok_and(|address| address.to_canonical().is_loopback())
    };
    // `*` is what OpenSSH's users write for all addresses.
    matches!(asked, "" | "*" | "0.0.0.0" | "::") || is_loopback(asked) && is_loopback(connected)
}

fn fault(field: &'static str) -> impl Fn(Malformed) -> Error {
    move |problem| {
        PeerError::Malformed {
            message: msg::ChannelOpen::NUMBER,
            field,
            problem,
        }
        .into()
    }
}

fn host_port(reader: &mut Reader<'_>, field: &'static str) -> Result<(String, u16), Error> {
    let host = reader.text().map_err(fault(field))?.to_owned();
    let port = reader
        .uint32()
        .and_then(|port| u16::try_from(port).map_err(|_| Malformed::Value))
        .map_err(fault(port_of(field)))?;
    Ok((host, port))
}

fn port_of(field: &'static str) -> &'static str {
    match field {
        "host to connect" => "port to connect",
        "address that was connected" => "port that was connected",
        _ => "originator port",
    }
}

/// On a server: a connection that the client wants made (RFC 4254 section 7.2, PROTOCOL section 2.4).
pub(super) fn direct(name: &str, data: &[u8]) -> Result<OpenKind, Error> {
    let mut reader = Reader::new(data);
    let kind = if name == DIRECT_TCPIP {
        let (host, port) = host_port(&mut reader, "host to connect")?;
        let (originator_host, originator_port) = host_port(&mut reader, "originator IP address")?;
        OpenKind::DirectTcpip {
            host,
            port,
            originator_host,
            originator_port,
        }
    } else {
        let path = reader.string().map_err(fault("socket path"))?.to_vec();
        reader.string().map_err(fault("reserved"))?;
        reader.uint32().map_err(fault("reserved"))?;
        OpenKind::DirectStreamlocal { path }
    };
    reader.finish().map_err(fault("end of message"))?;
    Ok(kind)
}

/// The fields of such channels of ours.
pub(super) fn encode_open(kind: OpenChannel<'_>) -> Result<(&'static str, Vec<u8>), Misuse> {
    let mut data = Vec::new();
    let mut writer = Writer::new(&mut data);
    let name = match kind {
        OpenChannel::DirectTcpip {
            host,
            port,
            originator,
        } => {
            writer.string(host.as_bytes()).uint32(port.into());
            writer.string(originator.0.as_bytes());
            writer.uint32(originator.1.into());
            DIRECT_TCPIP
        }
        OpenChannel::ForwardedTcpip {
            address,
            port,
            originator,
        } => {
            writer.string(address.as_bytes()).uint32(port.into());
            writer.string(originator.0.as_bytes());
            writer.uint32(originator.1.into());
            FORWARDED_TCPIP
        }
        OpenChannel::DirectStreamlocal { path } => {
            writer.string(path).string(b"").uint32(0);
            DIRECT_STREAMLOCAL
        }
        OpenChannel::ForwardedStreamlocal { path } => {
            writer.string(path).string(b"");
            FORWARDED_STREAMLOCAL
        }
        OpenChannel::Session | OpenChannel::Custom { .. } => {
            return Err(Misuse::Argument("kind of a channel"));
        }
    };
    Ok((name, data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_covers_what_it_can_have_been_connected_at() {
        for asked in ["", "*", "0.0.0.0", "::"] {
            assert!(covers(asked, "192.0.2.1"), "{asked}");
        }
        for asked in ["localhost", "127.0.0.1", "::1", "LocalHost"] {
            assert!(covers(asked, "127.0.0.1"), "{asked}");
            assert!(covers(asked, "::ffff:127.0.0.1"), "{asked}");
            assert!(!covers(asked, "192.0.2.1"), "{asked}");
            assert!(!covers(asked, ""), "{asked}");
        }
        assert!(!covers("192.0.2.1", "127.0.0.1"));
    }

    #[test]
    fn the_bound_port_is_a_port_and_nothing_else() {
        assert_eq!(bound_port(&[0, 0, 0x1f, 0x90]), Ok(8080));
        for data in [&b""[..], &[0; 4], &[0, 1, 0, 0], &[0, 0, 0, 1, 0]] {
            assert!(bound_port(data).is_err(), "{data:?}");
        }
    }
}
