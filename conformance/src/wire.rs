//! Byte streams between two connections: in memory, cut up, delayed, or over a real loopback socket.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// One direction of a byte stream.
pub trait Direction {
    /// Takes some of `bytes`; says how many.
    fn send(&mut self, bytes: &[u8], now: Instant) -> usize;
    /// Gives the next bytes that have arrived by `now`, at most what fits; 0 when there are none.
    fn receive(&mut self, buf: &mut [u8], now: Instant) -> usize;
    /// When the next bytes arrive, if that is known.
    fn next_arrival(&self) -> Option<Instant>;
    /// Whether bytes may be under way that [`next_arrival`](Self::next_arrival) does not know of.
    fn may_hold_more(&self) -> bool;
}

/// How a stream in memory treats its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Network {
    /// Everything at once.
    Whole,
    /// At most so many bytes at a time, in both calls.
    Pieces(usize),
    /// Pieces of 1 to 4,000 bytes, drawn from the seed.
    Random(u64),
    /// Whole, but each byte is under way for so long.
    Delayed(Duration),
}

impl Network {
    /// Both directions: from the client to the server, and back.
    pub fn pair(self) -> [Box<dyn Direction>; 2] {
        [
            Box::new(Memory::new(self, 1)),
            Box::new(Memory::new(self, 2)),
        ]
    }
}

struct Memory {
    network: Network,
    under_way: VecDeque<(Instant, VecDeque<u8>)>,
    random: u64,
}

impl Memory {
    fn new(network: Network, which: u64) -> Self {
        let seed = if let Network::Random(seed) = network {
            seed
        } else {
            0
        };
        Self {
            network,
            under_way: VecDeque::new(),
            random: seed.wrapping_mul(2).wrapping_add(which),
        }
    }

    fn piece(&mut self) -> usize {
        match self.network {
            Network::Whole | Network::Delayed(_) => usize::MAX,
            Network::Pieces(len) => len,
            Network::Random(_) => 1 + (draw(&mut self.random) % 4_000) as usize,
        }
    }
}

/// SplitMix64: enough to cut bytes up.
pub fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Direction for Memory {
    fn send(&mut self, bytes: &[u8], now: Instant) -> usize {
        let len = bytes.len().min(self.piece());
        if len > 0 {
            let delay = if let Network::Delayed(delay) = self.network {
                delay
            } else {
                Duration::ZERO
            };
            self.under_way
                .push_back((now + delay, bytes[..len].iter().copied().collect()));
        }
        len
    }

    fn receive(&mut self, buf: &mut [u8], now: Instant) -> usize {
        let max = buf.len().min(self.piece());
        let mut len = 0;
        while len < max {
            let Some((_, bytes)) = self.under_way.front_mut().filter(|(at, _)| *at <= now) else {
                break;
            };
            let taken = bytes.read(&mut buf[len..max]).unwrap_or(0);
            len += taken;
            if bytes.is_empty() {
                self.under_way.pop_front();
            }
        }
        len
    }

    fn next_arrival(&self) -> Option<Instant> {
        self.under_way.front().map(|(at, _)| *at)
    }

    fn may_hold_more(&self) -> bool {
        false
    }
}

/// Both directions of a real connection over loopback.
pub fn loopback() -> [Box<dyn Direction>; 2] {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
    let client =
        TcpStream::connect(listener.local_addr().expect("its address")).expect("a connection");
    let (server, _) = listener.accept().expect("the other end");
    for stream in [&client, &server] {
        stream.set_nonblocking(true).expect("non-blocking");
        stream.set_nodelay(true).expect("TCP_NODELAY");
    }
    let clone = |stream: &TcpStream| stream.try_clone().expect("a second handle");
    [
        Box::new(Socket {
            from: clone(&client),
            to: clone(&server),
            under_way: 0,
        }),
        Box::new(Socket {
            from: server,
            to: client,
            under_way: 0,
        }),
    ]
}

struct Socket {
    from: TcpStream,
    to: TcpStream,
    under_way: usize,
}

impl Direction for Socket {
    fn send(&mut self, bytes: &[u8], _: Instant) -> usize {
        if bytes.is_empty() {
            return 0;
        }
        match self.from.write(bytes) {
            Ok(len) => {
                self.under_way += len;
                len
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                0
            }
            Err(error) => panic!("write to a loopback socket: {error}"),
        }
    }

    fn receive(&mut self, buf: &mut [u8], _: Instant) -> usize {
        match self.to.read(buf) {
            Ok(len) => {
                self.under_way -= len;
                len
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                0
            }
            Err(error) => panic!("read from a loopback socket: {error}"),
        }
    }

    fn next_arrival(&self) -> Option<Instant> {
        None
    }

    fn may_hold_more(&self) -> bool {
        self.under_way > 0
    }
}
