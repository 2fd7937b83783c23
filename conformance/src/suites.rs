//! Every algorithm that this library and a peer both have, and what each connection that has been limited to one of them must do.
//!
//! What a peer has is what it offers in its KEXINIT: a look at its first packet tells.
//!
//! These are tools for tests: they panic instead of returning errors.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ssh_blocking::Client;
use ssh_blocking::ssh_proto::config::Algorithms;
use ssh_blocking::ssh_proto::key::PrivateKey;
use ssh_blocking::ssh_proto::names::{Algorithm, Cipher, Kex, Mac, Preference, SignatureAlgorithm};
use ssh_blocking::ssh_proto::wire::Reader;
use ssh_blocking::ssh_proto::{HostKey, Negotiated};

use crate::ours::{Accounts, OurServer, connect, private_key, stream};
use crate::peers::{KeyKind, KeyPair, ServerPeer, Version};
use crate::tcp::ANY;

const TIME: Duration = Duration::from_secs(60);

/// What goes through each connection, each way: more than any peer's window of a few packets, and no multiple of anything.
pub const LEN: usize = 200_003;

/// The names that a peer offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the lists of RFC 4253 section 7.1")]
pub struct Offer {
    pub kex: Vec<String>,
    pub host_keys: Vec<String>,
    pub ciphers: Vec<String>,
    pub macs: Vec<String>,
}

impl Offer {
    /// What a server offers, or rather those of its lists that are for what it receives.
    ///
    /// # Panics
    /// If it is no SSH server.
    #[must_use]
    #[track_caller]
    pub fn of_server(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address)
            .unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
        Self::read(stream)
    }

    /// What a client offers; `client` has it connect to an address, where it is hung up on.
    ///
    /// # Panics
    /// If it does not connect, or is no SSH client.
    #[must_use]
    #[track_caller]
    pub fn of_client(client: impl FnOnce(SocketAddr) + Send) -> Self {
        let listener = TcpListener::bind(ANY)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .unwrap_or_else(|error| panic!("cannot listen: {error}"));
        let address = listener
            .local_addr()
            .unwrap_or_else(|error| panic!("no address: {error}"));
        thread::scope(|scope| {
            scope.spawn(move || client(address));
            let deadline = Instant::now() + TIME;
            loop {
                match listener.accept() {
                    Ok((stream, _)) => return Self::read(stream),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        assert!(Instant::now() < deadline, "the client does not connect");
                        thread::sleep(Duration::from_millis(2));
                    }
                    Err(error) => panic!("cannot accept: {error}"),
                }
            }
        })
    }

    #[track_caller]
    fn read(stream: TcpStream) -> Self {
        Self::try_read(stream).unwrap_or_else(|error| panic!("no KEXINIT: {error}"))
    }

    fn try_read(mut stream: TcpStream) -> std::io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(TIME))?;
        stream.write_all(b"SSH-2.0-conformance\r\n")?;
        let mut reader = BufReader::new(stream);
        // RFC 4253 section 4.2: "The server MAY send other lines of data before sending the version string."
        let mut line = Vec::new();
        while !line.starts_with(b"SSH-") {
            line.clear();
            if reader.read_until(b'\n', &mut line)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        // RFC 4253 section 6: packet_length, padding_length, then the payload.
        let mut head = [0; 5];
        reader.read_exact(&mut head)?;
        let len = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        if !(2..=35_000).contains(&len) {
            return Err(ErrorKind::InvalidData.into());
        }
        let mut packet = vec![0; len as usize - 1];
        reader.read_exact(&mut packet)?;
        Self::parse(&packet).ok_or_else(|| ErrorKind::InvalidData.into())
    }

    /// RFC 4253 section 7.1: the message number, the cookie, and ten name-lists.
    fn parse(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        (reader.byte().ok()? == 20).then_some(())?;
        let _cookie = reader.array::<16>().ok()?;
        let mut next = || {
            let list = std::str::from_utf8(reader.string().ok()?).ok()?;
            Some(list.split(',').map(str::to_owned).collect())
        };
        let (kex, host_keys) = (next()?, next()?);
        let (ciphers, _, macs) = (next()?, next()?, next()?);
        Some(Self {
            kex,
            host_keys,
            ciphers,
            macs,
        })
    }
}

/// The algorithms of ours that a peer does not have: the list of what both have cannot shrink unnoticed.
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "as in Offer")]
pub struct Missing<'a> {
    pub kex: &'a [&'a str],
    pub host_keys: &'a [&'a str],
    pub ciphers: &'a [&'a str],
    pub macs: &'a [&'a str],
}

/// The algorithms of one connection.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "as in Negotiated")]
pub struct Suite {
    pub kex: Kex,
    pub host_key: SignatureAlgorithm,
    pub cipher: Cipher,
    pub mac: Mac,
}

impl Suite {
    /// Leaves nothing else to negotiate.
    pub fn restrict(self, algorithms: &mut Algorithms) {
        fn only<A: Algorithm>(algorithm: A) -> Preference<A> {
            Preference::new([algorithm]).unwrap_or_default()
        }
        algorithms.kex = only(self.kex);
        algorithms.host_keys = only(self.host_key);
        algorithms.ciphers = only(self.cipher);
        algorithms.macs = only(self.mac);
    }

    /// # Panics
    /// If something else is in force.
    #[track_caller]
    pub fn assert_negotiated(self, negotiated: Negotiated) {
        assert_eq!(negotiated.kex, self.kex);
        assert_eq!(negotiated.host_key, self.host_key);
        assert!(negotiated.strict, "{self:?}");
        for direction in [negotiated.client_to_server, negotiated.server_to_client] {
            assert_eq!(direction.cipher, self.cipher);
            assert_eq!(direction.mac, (!self.cipher.is_aead()).then_some(self.mac));
        }
    }
}

#[track_caller]
fn common<A: Algorithm>(theirs: &[String], missing: &[&str]) -> Vec<A> {
    let theirs: BTreeSet<&str> = theirs.iter().map(String::as_str).collect();
    let (common, ours_only): (Vec<A>, Vec<A>) =
        A::ALL.iter().partition(|ours| theirs.contains(ours.name()));
    let ours_only: Vec<_> = ours_only.into_iter().map(A::name).collect();
    assert_eq!(ours_only, missing, "{}, of {theirs:?}", A::KIND);
    common
}

/// One connection for each algorithm that both have, with the others held still; each cipher that needs a MAC with each of them.
///
/// # Panics
/// If the peer lacks other algorithms than `missing`.
#[must_use]
#[track_caller]
pub fn suites(offer: &Offer, missing: Missing<'_>) -> Vec<Suite> {
    let kex: Vec<Kex> = common(&offer.kex, missing.kex);
    let host_keys: Vec<SignatureAlgorithm> = common(&offer.host_keys, missing.host_keys);
    let ciphers: Vec<Cipher> = common(&offer.ciphers, missing.ciphers);
    let macs: Vec<Mac> = common(&offer.macs, missing.macs);
    let plain = Suite {
        // The quickest one that everybody has, under one of its names.
        kex: Kex::Curve25519Sha256Libssh,
        host_key: SignatureAlgorithm::Ed25519,
        cipher: ciphers[0],
        mac: macs[0],
    };
    assert!(kex.contains(&plain.kex) && host_keys.contains(&plain.host_key));
    let mut suites = Vec::new();
    suites.extend(kex.into_iter().map(|kex| Suite { kex, ..plain }));
    suites.extend(
        host_keys
            .into_iter()
            .map(|host_key| Suite { host_key, ..plain }),
    );
    for cipher in ciphers {
        if cipher.is_aead() {
            suites.push(Suite { cipher, ..plain });
        } else {
            suites.extend(macs.iter().map(|&mac| Suite {
                cipher,
                mac,
                ..plain
            }));
        }
    }
    suites
}

/// Our client goes through every suite with a server: data both ways, new keys in the middle of it. `log_in` gets the user in;
/// `check` sees each connection in the end.
///
/// # Panics
/// If something does not work; the message has the server's log.
#[track_caller]
pub fn our_client_with_server(
    server: &impl ServerPeer,
    suites: &[Suite],
    log_in: impl Fn(&Client),
    mut check: impl FnMut(Suite, &Client),
) {
    let data = stream(LEN);
    for &suite in suites {
        let client = connect(server, |config| {
            suite.restrict(&mut config.transport.algorithms);
        });
        log_in(&client);
        let negotiated = || client.negotiated().map(|all| suite.assert_negotiated(all));
        assert!(negotiated().is_some());
        let cat = client.exec("cat").input(&*data).timeout(TIME);
        let asked = client.rekey();
        let output = cat
            .output()
            .unwrap_or_else(|error| panic!("{suite:?}: {error}\n{}", server.log()));
        assert!(
            output.stdout == data,
            "{suite:?}: {} bytes",
            output.stdout.len()
        );
        assert_eq!(output.status.code(), Some(0), "{suite:?}");
        // The second exchange has begun before the command: its answers come under the new keys.
        assert!(asked.is_ok());
        assert_eq!(client.rekeys(), 1, "{suite:?}");
        assert!(negotiated().is_some());
        let key_type = client
            .session()
            .map(|session| session.host_key.key_type().to_owned());
        assert_eq!(key_type.as_deref(), Some(suite.host_key.key_type()));
        check(suite, &client);
    }
}

/// A host key of every kind, made once for all servers of a test.
#[derive(Debug)]
pub struct HostKeys {
    keys: Vec<(KeyPair, Arc<PrivateKey>)>,
    _folder: tempfile::TempDir,
}

impl HostKeys {
    /// Makes them.
    ///
    /// # Panics
    /// If `ssh-keygen` fails, or the library cannot read what it made.
    #[must_use]
    #[track_caller]
    pub fn generate() -> Self {
        let folder =
            tempfile::tempdir().unwrap_or_else(|error| panic!("no temporary folder: {error}"));
        let keys = KeyKind::all()
            .map(|kind| {
                let path = folder.path().join(kind.name());
                let pair = KeyPair::generate(Version::V10_0, kind, &path, "");
                let private = private_key(&pair);
                (pair, private)
            })
            .into();
        Self {
            keys,
            _folder: folder,
        }
    }

    /// The files.
    #[must_use]
    pub fn pairs(&self) -> Vec<&KeyPair> {
        self.keys.iter().map(|(pair, _)| pair).collect()
    }

    fn private(&self, algorithm: SignatureAlgorithm) -> Option<&Arc<PrivateKey>> {
        self.keys
            .iter()
            .map(|(_, private)| private)
            .find(|private| private.public().key_type() == algorithm.key_type())
    }
}

/// A client goes through every suite with servers of ours that have nothing else, nor other host keys: `client` has it run `cat` with some data on our
/// server and checks what came back, with new keys in the middle of it.
///
/// # Panics
/// If something else is negotiated.
#[track_caller]
pub fn client_with_our_server(
    accounts: &Accounts,
    keys: &HostKeys,
    suites: &[Suite],
    mut client: impl FnMut(Suite, &OurServer),
) {
    for &suite in suites {
        let server = OurServer::start(accounts.clone(), |config| {
            let key = keys.private(suite.host_key);
            config.host_keys = key
                .map(|key| HostKey::Private(Arc::clone(key)))
                .into_iter()
                .collect();
            suite.restrict(&mut config.transport.algorithms);
            config.transport.rekey.bytes = LEN as u64 / 3;
        });
        client(suite, &server);
        let connections = server.connections();
        let Some(connection) = connections.last() else {
            panic!("{suite:?}: nobody has logged in");
        };
        let negotiated = connection.negotiated();
        assert!(negotiated.map(|all| suite.assert_negotiated(all)).is_some());
        assert!(connection.rekeys() > 0, "{suite:?}: no new keys");
    }
}
