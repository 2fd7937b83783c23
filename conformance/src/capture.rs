//! A conversation over TCP as a capture file: what a sniffer on the way would have written.
//!
//! These are tools for tests: they panic instead of returning errors.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::tcp::ANY;

/// The port that the server has in captures, wherever it listened: readers go by it.
const SSH_PORT: u16 = 22;
const CLIENT_PORT: u16 = 40_022;
/// A server has this address in captures, its client the next one (RFC 5737: addresses for documents).
const SERVER: [u8; 4] = [192, 0, 2, 1];
const CLIENT: [u8; 4] = [192, 0, 2, 2];
/// What one TCP segment of a capture carries at the most: what one read takes, so that packets stay as whole as they came.
const SEGMENT: usize = 32 * 1024;

/// Who sent something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The side that connected.
    Client,
    /// The side that listens.
    Server,
}

/// What went through, in order.
type Pieces = Vec<(From, Vec<u8>)>;

/// Passes one connection on to a server, and keeps what goes through.
#[derive(Debug)]
pub struct Tap {
    address: SocketAddr,
    pieces: Arc<Mutex<Pieces>>,
    thread: JoinHandle<()>,
}

impl Tap {
    /// Listens on loopback for one connection to `server`.
    ///
    /// # Panics
    /// If it cannot listen.
    #[must_use]
    #[track_caller]
    pub fn before(server: SocketAddr) -> Self {
        let listener =
            TcpListener::bind(ANY).unwrap_or_else(|error| panic!("cannot listen: {error}"));
        let address = listener
            .local_addr()
            .unwrap_or_else(|error| panic!("no address: {error}"));
        let pieces = Arc::<Mutex<Pieces>>::default();
        let kept = Arc::clone(&pieces);
        let thread = thread::spawn(move || {
            let (client, _) = listener
                .accept()
                .unwrap_or_else(|error| panic!("nobody connects: {error}"));
            let server = TcpStream::connect(server)
                .unwrap_or_else(|error| panic!("the server is gone: {error}"));
            thread::scope(|scope| {
                scope.spawn(|| pass(&client, &server, From::Client, &kept));
                pass(&server, &client, From::Server, &kept);
            });
        });
        Self {
            address,
            pieces,
            thread,
        }
    }

    /// Where the client is to connect.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The capture of the connection, which has ended.
    ///
    /// # Panics
    /// If a thread of it has.
    #[must_use]
    pub fn capture(self) -> Vec<u8> {
        assert!(self.thread.join().is_ok(), "the tap has failed");
        let pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        pcap(&pieces)
    }
}

/// Passes on what `from` sends. It is kept first, so that whatever it leads to comes later in the capture.
fn pass(mut from: &TcpStream, mut to: &TcpStream, who: From, pieces: &Mutex<Pieces>) {
    let mut buffer = vec![0; SEGMENT];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        let piece = buffer[..len].to_vec();
        pieces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((who, piece));
        if to.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    // It fails when that side has gone already.
    let _ = to.shutdown(Shutdown::Write);
}

/// Bytes both ways, in order, as a file in the format of `tcpdump`, of bare IPv4 packets.
///
/// Both version lines come first, each in a packet of its own. So they may come over a network, since neither side waits
/// for the other's; and Wireshark's dissector makes nothing of a KEXINIT that it sees before both.
fn pcap(pieces: &[(From, Vec<u8>)]) -> Vec<u8> {
    /// IPv4 without a link layer.
    const LINK_TYPE: u32 = 228;
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4, 2 << 16 | 4, 0, 0, 0x4_0000, LINK_TYPE] {
        // The magic number says in which order bytes are: here the network's.
        file.extend(u32::to_be_bytes(word));
    }
    let mut next = [1_u32, 1];
    let mut time = 0_u32;
    let mut put = |who: From, flags: u8, next: &[u32; 2], data: &[u8]| {
        time += 1;
        let packet = packet(who, flags, next, data);
        let len = u32::try_from(packet.len()).unwrap_or(u32::MAX);
        for word in [time / 1_000, time % 1_000 * 1_000, len, len] {
            file.extend(word.to_be_bytes());
        }
        file.extend(packet);
    };
    put(From::Client, SYN, &[0, 0], &[]);
    put(From::Server, SYN | ACK, &[1, 0], &[]);
    put(From::Client, ACK, &next, &[]);
    let (versions, rest) = split_versions(pieces);
    for (who, bytes) in versions.iter().chain(&rest) {
        for segment in bytes.chunks(SEGMENT) {
            put(*who, ACK | PUSH, &next, segment);
            let sent = &mut next[*who as usize];
            *sent = sent.wrapping_add(u32::try_from(segment.len()).unwrap_or(u32::MAX));
        }
    }
    file
}

/// The first line of each side, and what follows.
fn split_versions(pieces: &[(From, Vec<u8>)]) -> (Pieces, Pieces) {
    let (mut versions, mut rest) = (Vec::new(), Vec::new());
    for (who, bytes) in pieces {
        let known = versions.iter().any(|(other, _)| other == who);
        let line = bytes.iter().position(|byte| *byte == b'\n');
        let end = line.filter(|_| !known).map_or(0, |at| at + 1);
        let (version, bytes) = bytes.split_at(end);
        if !version.is_empty() {
            versions.push((*who, version.to_vec()));
        }
        rest.push((*who, bytes.to_vec()));
    }
    (versions, rest)
}

const SYN: u8 = 2;
const PUSH: u8 = 8;
const ACK: u8 = 16;

/// An IPv4 packet with a TCP segment, without checksums: zero means that there is none to whoever captures before the
/// network card has made them.
fn packet(who: From, flags: u8, next: &[u32; 2], data: &[u8]) -> Vec<u8> {
    let [client, server] = [(CLIENT, CLIENT_PORT), (SERVER, SSH_PORT)];
    let (source, target) = match who {
        From::Client => (client, server),
        From::Server => (server, client),
    };
    let len = u16::try_from(40 + data.len()).unwrap_or(u16::MAX);
    let mut packet = vec![0x45, 0];
    packet.extend(len.to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    packet.extend(source.0);
    packet.extend(target.0);
    packet.extend(source.1.to_be_bytes());
    packet.extend(target.1.to_be_bytes());
    packet.extend(next[who as usize].to_be_bytes());
    packet.extend(next[1 - who as usize].to_be_bytes());
    packet.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    packet.extend(data);
    packet
}
