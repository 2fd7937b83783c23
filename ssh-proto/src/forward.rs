//! What forwarding decides without any I/O, once for all adapters: where connections may go, which addresses of a server
//! may be listened on, and which channel carries what (RFC 4254 section 7; OpenSSH's PROTOCOL section 2.4).
//!
//! In: addresses, targets and kinds of channels. Out: verdicts, and the same in other words. Sockets are the adapters'
//! business. The state machine knows nothing of this: it asks, and an adapter answers with what a [`ForwardPolicy`] says.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::channel::{ForwardAddress, OpenChannel, OpenKind};

/// Where the connections of a forward go, seen from the side that does not listen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ForwardTarget {
    /// A TCP port.
    Tcp {
        /// The host, a name or an address.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Path(PathBuf),
}

impl From<(&str, u16)> for ForwardTarget {
    fn from((host, port): (&str, u16)) -> Self {
        Self::Tcp {
            host: host.to_owned(),
            port,
        }
    }
}

impl From<(String, u16)> for ForwardTarget {
    fn from((host, port): (String, u16)) -> Self {
        Self::Tcp { host, port }
    }
}

impl From<SocketAddr> for ForwardTarget {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

impl From<&Path> for ForwardTarget {
    fn from(path: &Path) -> Self {
        Self::Path(path.to_owned())
    }
}

impl From<PathBuf> for ForwardTarget {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl fmt::Display for ForwardTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

impl ForwardTarget {
    /// On a server: where a channel that the client asks for is to be connected. `None`: it is none that is to be
    /// connected anywhere, or names a path that this system cannot have.
    pub fn of(kind: &OpenKind) -> Option<Self> {
        match kind {
            OpenKind::DirectTcpip { host, port, .. } => Some((host.as_str(), *port).into()),
            OpenKind::DirectStreamlocal { path } => to_path(path).map(Self::Path),
            _ => None,
        }
    }

    /// On a client: the channel that has the server connect there, for whoever has this address and port.
    pub fn channel<'a>(&'a self, originator: (&'a str, u16)) -> OpenChannel<'a> {
        match self {
            Self::Tcp { host, port } => OpenChannel::DirectTcpip {
                host,
                port: *port,
                originator,
            },
            Self::Path(path) => OpenChannel::DirectStreamlocal {
                path: path.as_os_str().as_encoded_bytes(),
            },
        }
    }
}

impl ForwardAddress {
    /// On a server: the same once it is listened on, with the port that was bound in the place of 0.
    #[must_use]
    pub fn bound(&self, bound: u16) -> Self {
        match self {
            Self::Tcpip { address, port: 0 } => Self::tcpip(address.as_str(), bound),
            other => other.clone(),
        }
    }

    /// On a server: the channel for a connection that came there, from this address and port.
    pub fn channel<'a>(&'a self, originator: (&'a str, u16)) -> OpenChannel<'a> {
        match self {
            Self::Tcpip { address, port } => OpenChannel::ForwardedTcpip {
                address,
                port: *port,
                originator,
            },
            Self::Streamlocal { path } => OpenChannel::ForwardedStreamlocal { path },
        }
    }
}

type Judge<T> = Arc<dyn Fn(&T) -> bool + Send + Sync>;

/// What clients of a server may have forwarded. At first: nothing.
#[derive(Clone, Default)]
pub struct ForwardPolicy {
    listen: Listen,
    connect: Option<Judge<ForwardTarget>>,
    paths: Option<Judge<Path>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Listen {
    #[default]
    Nowhere,
    Loopback,
    Anywhere,
}

/// What a server is to listen on: [`ForwardPolicy::listen`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenOn<'a> {
    /// On the first of these hosts, names or addresses, that this system has. That the port is in use there is no reason to
    /// try the next one.
    Tcp {
        /// The hosts.
        hosts: Vec<&'a str>,
        /// The port. 0: a free one.
        port: u16,
    },
    /// On a Unix socket, which must not exist yet.
    Path(PathBuf),
}

impl ForwardPolicy {
    /// A policy that grants nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Clients may have the server listen on TCP ports of its loopback addresses. A client that asks for all addresses
    /// gets these; one that asks for another address is refused.
    #[must_use]
    pub const fn listen_on_loopback(mut self) -> Self {
        self.listen = Listen::Loopback;
        self
    }

    /// Clients may have the server listen on TCP ports of any of its addresses, which others can reach then: OpenSSH's
    /// `GatewayPorts clientspecified`.
    #[must_use]
    pub const fn listen_anywhere(mut self) -> Self {
        self.listen = Listen::Anywhere;
        self
    }

    /// Clients may have the server listen on Unix sockets where `allow` says so. The socket must not exist, can be used by
    /// the server's user only, and is removed in the end.
    #[must_use]
    pub fn listen_on_paths(
        mut self,
        allow: impl Fn(&Path) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.paths = Some(Arc::new(allow));
        self
    }

    /// Clients may have the server connect to where `allow` says so: to TCP ports, by the name or address that the client
    /// gave, and to Unix sockets.
    #[must_use]
    pub fn connect(
        mut self,
        allow: impl Fn(&ForwardTarget) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.connect = Some(Arc::new(allow));
        self
    }

    /// The verdict on a connection that a client wants made.
    pub fn may_connect(&self, target: &ForwardTarget) -> bool {
        self.connect.as_ref().is_some_and(|allow| allow(target))
    }

    /// The verdict on a listener that a client wants: what to listen on, or `None` when it is refused.
    pub fn listen<'a>(&self, address: &'a ForwardAddress) -> Option<ListenOn<'a>> {
        match address {
            ForwardAddress::Tcpip { address, port } => Some(ListenOn::Tcp {
                hosts: self.hosts(address)?,
                port: *port,
            }),
            ForwardAddress::Streamlocal { path } => {
                let path = to_path(path)?;
                let allow = self.paths.as_ref()?;
                allow(&path).then_some(ListenOn::Path(path))
            }
        }
    }

    /// The addresses to try for what a client wrote.
    ///
    /// RFC 4254 section 7.1: `""` "means that connections are to be accepted on all protocol families supported by the SSH
    /// implementation", `"localhost"` "means to listen on all protocol families [..] on loopback addresses only".
    fn hosts<'a>(&self, address: &'a str) -> Option<Vec<&'a str>> {
        const LOOPBACK: [&str; 2] = ["127.0.0.1", "::1"];
        let is_loopback = |address: &str| {
            address
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback())
        };
        match (self.listen, address) {
            (Listen::Nowhere, _) => None,
            (_, "localhost") | (Listen::Loopback, "" | "*" | "0.0.0.0" | "::") => {
                Some(LOOPBACK.to_vec())
            }
            (Listen::Loopback, address) => is_loopback(address).then(|| vec![address]),
            (Listen::Anywhere, "" | "*") => Some(vec!["::", "0.0.0.0"]),
            (Listen::Anywhere, address) => Some(vec![address]),
        }
    }
}

impl fmt::Debug for ForwardPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardPolicy")
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

#[cfg(unix)]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere there are none")]
fn to_path(bytes: &[u8]) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    Some(Path::new(std::ffi::OsStr::from_bytes(bytes)).to_owned())
}

#[cfg(not(unix))]
fn to_path(_: &[u8]) -> Option<PathBuf> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(policy: &ForwardPolicy, address: &str) -> Option<Vec<String>> {
        match policy.listen(&ForwardAddress::tcpip(address, 7))? {
            ListenOn::Tcp { hosts, port: 7 } => Some(hosts.iter().map(|&h| h.to_owned()).collect()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_policy_grants_nothing_unless_it_was_told_to() {
        let policy = ForwardPolicy::new();
        for address in ["", "localhost", "127.0.0.1", "::1"] {
            assert_eq!(hosts(&policy, address), None);
        }
        assert_eq!(policy.listen(&ForwardAddress::streamlocal("/s")), None);
        assert!(!policy.may_connect(&("localhost", 80).into()));
    }

    #[test]
    fn a_policy_for_loopback_never_names_another_address() {
        let policy = ForwardPolicy::new().listen_on_loopback();
        for address in ["", "*", "0.0.0.0", "::", "localhost"] {
            let both = vec!["127.0.0.1".to_owned(), "::1".to_owned()];
            assert_eq!(hosts(&policy, address), Some(both), "{address}");
        }
        for address in ["127.0.0.1", "127.9.9.9", "::1"] {
            let same = vec![address.to_owned()];
            assert_eq!(hosts(&policy, address), Some(same), "{address}");
        }
        // A name may be anything when it is looked up.
        for address in ["192.0.2.1", "server.example", "localhost.", "2001:db8::1"] {
            assert_eq!(hosts(&policy, address), None, "{address}");
        }
    }

    #[test]
    fn a_policy_for_everything_takes_what_the_client_says() {
        let policy = ForwardPolicy::new().listen_anywhere();
        let all = vec!["::".to_owned(), "0.0.0.0".to_owned()];
        assert_eq!(hosts(&policy, ""), Some(all));
        let one = vec!["192.0.2.1".to_owned()];
        assert_eq!(hosts(&policy, "192.0.2.1"), Some(one));
        let loopback = vec!["127.0.0.1".to_owned(), "::1".to_owned()];
        assert_eq!(hosts(&policy, "localhost"), Some(loopback));
    }

    #[cfg(unix)]
    #[test]
    fn paths_and_targets_are_judged_one_by_one() {
        let policy = ForwardPolicy::new()
            .listen_on_paths(|path| path.starts_with("/run/user"))
            .connect(|target| matches!(target, ForwardTarget::Tcp { port: 80, .. }));
        let granted = policy
            .listen(&ForwardAddress::streamlocal("/run/user/s"))
            .is_some();
        assert!(granted);
        assert_eq!(policy.listen(&ForwardAddress::streamlocal("/etc/s")), None);
        assert!(policy.may_connect(&("localhost", 80).into()));
        assert!(!policy.may_connect(&("localhost", 81).into()));
        assert!(!policy.may_connect(&Path::new("/run/user/s").into()));
    }

    #[test]
    fn a_bound_port_replaces_only_the_one_that_was_left_open() {
        let open = ForwardAddress::tcpip("", 0);
        assert_eq!(open.bound(8080), ForwardAddress::tcpip("", 8080));
        let fixed = ForwardAddress::tcpip("", 22);
        assert_eq!(fixed.bound(8080), fixed);
        let path = ForwardAddress::streamlocal("/s");
        assert_eq!(path.bound(8080), path);
    }
}
