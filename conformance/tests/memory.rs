//! What a connection costs in memory: when it is idle, and while data flows. One test at a time: the counters are the
//! process's.

use std::alloc::System;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use conformance::pair::{Pair, host_key, user_key};
use conformance::wire::Network;
use ssh_proto::key::KeyKind;
use ssh_proto::*;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Bytes of the heap in use.
fn used() -> isize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

/// How often memory was asked for.
fn allocations() -> usize {
    let stats = ALLOCATOR.stats();
    stats.allocations + stats.reallocations
}

const BOUND: isize = 8 * 1024;

fn configs() -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    (
        Arc::new(ClientConfig::new()),
        Arc::new(ServerConfig::new(vec![host_key(KeyKind::Ed25519)])),
    )
}

/// The heap of each end, the connection itself included.
fn sizes(pair: Pair) -> [isize; 2] {
    let Pair { client, server, .. } = pair;
    let (client, server) = (Box::new(client), Box::new(server));
    let before = used();
    drop(client);
    let between = used();
    drop(server);
    [before - between, between - used()]
}

#[test]
fn an_idle_connection_with_one_channel_takes_8_kib_at_the_most() {
    let _alone = alone();
    let (client, server) = configs();
    let idle = |transfer: bool| {
        let mut pair = Pair::new(client.clone(), server.clone(), Network::Whole);
        pair.login();
        pair.exec("hold");
        if transfer {
            let other = pair.exec("source 67108864");
            assert_eq!(pair.finish(other).bytes.len(), 67_108_864);
            let other = pair.exec("sink");
            let bytes = conformance::app::pattern_bytes(1 << 20);
            for _ in 0..64 {
                pair.write(other, &bytes);
            }
            pair.eof(other);
            pair.finish(other);
            pair.client.rekey(pair.now).expect("an open connection");
        }
        pair.advance(Duration::from_secs(5));
        sizes(pair)
    };
    for (when, [client, server]) in [
        ("at once", idle(false)),
        ("after 64 MiB each way", idle(true)),
    ] {
        println!("idle {when}: client {client} bytes, server {server} bytes");
        assert!(client <= BOUND, "client {when}: {client} bytes");
        assert!(server <= BOUND, "server {when}: {server} bytes");
    }
}

/// Two connections joined by nothing but a copy, as two ends of a fast socket.
struct Joined {
    client: Client,
    server: Server,
    id: [ChannelId; 2],
    now: Instant,
    input: [Input; 2],
}

impl Joined {
    fn new(ciphers: &str) -> Self {
        let mut client = ClientConfig::new();
        client.transport.algorithms.ciphers = names::Preference::parse(ciphers).expect("a cipher");
        let server = ServerConfig::new(vec![host_key(KeyKind::Ed25519)]);
        let now = Instant::now();
        let mut joined = Self {
            client: Client::new(Arc::new(client), Seed::new([1; 32]), now),
            server: Server::new(Arc::new(server), Seed::new([2; 32]), now),
            id: [None, None].map(|_: Option<()>| unset()),
            now,
            input: [Input::new(), Input::new()],
        };
        joined
            .client
            .authenticate("alice", Credential::public_key(user_key()), now)
            .expect("an attempt");
        let mut opened = [false, false];
        while opened != [true, true] {
            joined.carry();
            while let Some(event) = joined.client.poll_event() {
                match event {
                    ClientEvent::HostKeyOffered(offer) => {
                        joined.client.accept_host_key(offer).expect("a question")
                    }
                    ClientEvent::Authenticated => {
                        joined.id[0] = joined
                            .client
                            .open(OpenChannel::Session, now)
                            .expect("a channel");
                    }
                    ClientEvent::Channel(_) => opened[0] = true,
                    _ => {}
                }
            }
            while let Some(event) = joined.server.poll_event() {
                match event {
                    ServerEvent::LoginAttempted(attempt) => {
                        joined.server.grant(attempt).expect("a question")
                    }
                    ServerEvent::OpenRequested(request) => {
                        joined.id[1] = joined.server.accept_open(request, b"").expect("a question");
                        opened[1] = true;
                    }
                    _ => {}
                }
            }
        }
        joined
    }

    fn carry(&mut self) {
        fn one<A: Role, B: Role>(
            from: &mut Connection<A>,
            to: &mut Connection<B>,
            spare: &mut Input,
            now: Instant,
        ) {
            if from.output().is_empty() {
                return;
            }
            if let Ok(mut input) = to.take_input(std::mem::take(spare)) {
                let room = input.unfilled();
                let len = from.output().len().min(room.len());
                room[..len].copy_from_slice(&from.output()[..len]);
                input.advance(len);
                from.consume_output(len);
                *spare = to.handle_input(input, now).unwrap_or_default();
            }
        }
        one(
            &mut self.client,
            &mut self.server,
            &mut self.input[0],
            self.now,
        );
        one(
            &mut self.server,
            &mut self.client,
            &mut self.input[1],
            self.now,
        );
    }

    /// Moves `bytes` in both directions.
    fn transfer(&mut self, bytes: usize) {
        static DATA: [u8; 100_000] = [7; 100_000];
        let (mut sent, mut received) = ([0; 2], [0; 2]);
        while received[0] < bytes || received[1] < bytes {
            let mut client = self.client.channel(self.id[0]).expect("the channel");
            let want = (bytes - sent[0]).min(DATA.len());
            sent[0] += client.write(Stream::DATA, &DATA[..want]).unwrap_or(0);
            let mut server = self.server.channel(self.id[1]).expect("the channel");
            let want = (bytes - sent[1]).min(DATA.len());
            sent[1] += server.write(Stream::DATA, &DATA[..want]).unwrap_or(0);
            self.carry();
            while self.client.poll_event().is_some() {}
            while self.server.poll_event().is_some() {}
            let mut client = self.client.channel(self.id[0]).expect("the channel");
            while client.poll_event().is_some() {}
            while !client.chunk(Stream::DATA).is_empty() {
                let len = client.chunk(Stream::DATA).len();
                received[0] += len;
                client.consume(Stream::DATA, len);
            }
            let mut server = self.server.channel(self.id[1]).expect("the channel");
            while server.poll_event().is_some() {}
            while !server.chunk(Stream::DATA).is_empty() {
                let len = server.chunk(Stream::DATA).len();
                received[1] += len;
                server.consume(Stream::DATA, len);
            }
        }
    }
}

fn unset() -> ChannelId {
    // Replaced before it is used.
    static ID: std::sync::OnceLock<ChannelId> = std::sync::OnceLock::new();
    *ID.get_or_init(|| {
        let mut pair = Pair::simple(Network::Whole);
        pair.login();
        pair.exec("hold")
    })
}

#[test]
fn the_steady_state_allocates_nothing_per_packet() {
    let _alone = alone();
    for ciphers in [
        "aes128-gcm@openssh.com",
        "chacha20-poly1305@openssh.com",
        "aes256-ctr",
    ] {
        let mut joined = Joined::new(ciphers);
        joined.transfer(32 << 20);
        let before = allocations();
        joined.transfer(64 << 20);
        let count = allocations() - before;
        // 64 MiB each way are more than 4,000 packets.
        println!("{ciphers}: {count} allocations for 64 MiB each way");
        assert!(count <= 64, "{ciphers}: {count} allocations");
    }
}

#[test]
fn each_byte_of_a_channel_is_copied_once_at_the_most_each_way() {
    let _alone = alone();
    let mut joined = Joined::new("aes128-gcm@openssh.com");
    joined.transfer(4 << 20);
    let before = copy_counter::copied();
    let bytes = 64 << 20;
    joined.transfer(bytes);
    let copied = copy_counter::copied() - before;
    // Both directions in one process: the sender copies each byte once, and the reader, who has it lent, not at all.
    println!("{copied} bytes copied for {bytes} bytes each way");
    // Ends of blocks smaller than 2 KiB are moved to a buffer of their size: a few in a thousand blocks.
    assert!(
        copied <= 2 * bytes as u64 + bytes as u64 / 1_000,
        "{copied}"
    );
}

/// The resident memory of the process, in bytes.
#[cfg(target_os = "linux")]
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("VmRSS");
    line.split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse::<usize>().ok())
        .expect("a number")
        * 1024
}

/// What the heap counters cannot see: the memory that the cryptographic library takes for itself, and fragmentation.
#[test]
#[cfg(target_os = "linux")]
fn the_resident_memory_of_4000_idle_pairs_agrees() {
    let _alone = alone();
    let (client, server) = configs();
    let connect = || {
        let mut pair = Pair::new(client.clone(), server.clone(), Network::Whole);
        pair.login();
        pair.exec("hold");
        pair.advance(Duration::from_secs(5));
        // The two ends alone, as an application would keep them.
        let Pair { client, server, .. } = pair;
        (Box::new(client), Box::new(server))
    };
    let warm: Vec<_> = (0..100).map(|_| connect()).collect();
    let before = resident();
    let pairs: Vec<_> = (0..4_000).map(|_| connect()).collect();
    let each = (resident() - before) / pairs.len() / 2;
    println!("{each} bytes of resident memory for each idle end");
    assert!(each <= 8 * 1024, "{each} bytes");
    drop((warm, pairs));
}
