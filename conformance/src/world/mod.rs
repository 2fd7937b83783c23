//! A world with one seed: two connections, an application behind each, the network between them and the clock, all drawn
//! from one number. A model of the channels as byte queues says what each application may see; it is asked at every step.
//!
//! For a while the world is unkind: readers stall, bytes come in pieces and late, keys are renewed from both sides,
//! signers fail, channels are closed in the middle, and now and then the line is cut. Then that stops, and the world must
//! come to rest: what was written and not given up has arrived, both ends of every channel are closed, nothing is owed.
//! A connection that has ended before has ended by something that was drawn, and both sides say the same of it.
//!
//! Everything follows from the seed, to the last byte on the wire: so the algorithms are those for which the cryptographic
//! library draws nothing for itself.
//!
//! | file | what it holds |
//! |---|---|
//! | `random` | what is drawn |
//! | `model` | what each side may see |
//! | `side` | an application and its connection |

mod model;
mod random;
mod side;

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use meter::{heap, is_counting, steps};
use ssh_proto::config::{Keepalive, TransportConfig};
use ssh_proto::names::{Algorithm, Cipher, Kex, Mac, Preference};
use ssh_proto::{
    AuthMethod, Client, ClientConfig, ClientRole, HostKey, Role, Server, ServerConfig, ServerRole,
};

use model::{Model, Who};
use random::Random;
use side::Side;

/// For so many steps the world is unkind.
const UNKIND_STEPS: u32 = 600;
/// So many steps later it must be at rest.
const KIND_STEPS: u32 = 60_000;

/// Heap of a world, in bytes, for each byte that is under way or unread, and beside that: two connections with their
/// blocks, output and replies. The rest is the model's.
const HEAP_PER_BYTE: u64 = 4;
const HEAP: u64 = 4 * 1024 * 1024;
/// What a world may leave behind: what is made once.
const LEFT: i64 = 16 * 1024;
/// Steps of work for each byte that was taken, for each step of the world, and in all.
const WORK_PER_BYTE: u64 = 1;
const WORK_PER_STEP: u64 = 200;
const WORK: u64 = 100_000;

/// What came of a world.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// How many steps it took to come to rest.
    pub steps: u64,
    /// Bytes of channel data that were read.
    pub read: u64,
    /// Channels that were opened.
    pub channels: usize,
    /// The user got in.
    pub authenticated: bool,
    /// Why the connection ended, if it did before the world was at rest.
    pub ended: Option<String>,
    /// A hash of all that either side sent.
    pub wire: u64,
}

/// Runs the world of a seed.
///
/// # Errors
///
/// What went wrong, and how to see it again.
pub fn run(seed: u64) -> Result<Outcome, String> {
    let before = heap().live;
    let result = catch_unwind(AssertUnwindSafe(|| World::new(seed).run()));
    let left = heap().live - before;
    if is_counting() && result.is_ok() && left > LEFT {
        return Err(format!(
            "world {seed}: it leaves {left} bytes behind\nagain: conformance/worlds --seed {seed}"
        ));
    }
    result.map_err(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("a panic without words");
        format!("world {seed}: {text}\nagain: conformance/worlds --seed {seed}")
    })
}

/// One direction of the network.
#[derive(Default)]
struct Line {
    /// Bytes, and when they arrive.
    under_way: std::collections::VecDeque<(Instant, Vec<u8>)>,
    /// Arrived, and not taken yet.
    arrived: Vec<u8>,
    cut: bool,
    told: bool,
}

/// What a seed makes of the network.
struct Weather {
    /// The longest delay, in milliseconds.
    delay: u64,
    /// The largest piece that is given to a side at once.
    piece: u64,
    /// The largest piece of output that is taken at once.
    drain: u64,
}

struct World {
    random: Random,
    now: Instant,
    start: Instant,
    client: Side<ClientRole>,
    server: Side<ServerRole>,
    model: Model,
    up: Line,
    down: Line,
    weather: Weather,
    /// The line may be cut, and the connection be ended.
    mortal: bool,
    cut: bool,
    /// What was sent so far.
    wire: DefaultHasher,
    /// Bytes in use, and steps of work made, before there was a world.
    before: (i64, u64),
    /// Bytes that were taken, and steps of the world.
    taken: u64,
    steps: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let before = (heap().live, steps());
        let mut random = Random::new(seed);
        let now = Instant::now();
        let (client, server) = configurations(&mut random);
        let budgets = [&client.transport, &server.transport].map(|side| side.limits.window_budget);
        let client = Client::new(Arc::new(client), random.seed(), now);
        let server = Server::new(Arc::new(server), random.seed(), now);
        let weather = Weather {
            delay: [0, 0, 3, 200][random.below(4)],
            piece: [1 << 20, 1 << 20, 5_000, 40][random.below(4)],
            drain: [1 << 20, 1 << 20, 70_000, 900][random.below(4)],
        };
        let mortal = random.one_in(6);
        Self {
            client: Side::new(client, budgets[0], mortal, &mut random),
            server: Side::new(server, budgets[1], mortal, &mut random),
            random,
            now,
            start: now,
            model: Model::default(),
            up: Line::default(),
            down: Line::default(),
            weather,
            mortal,
            cut: false,
            wire: DefaultHasher::new(),
            before,
            taken: 0,
            steps: 0,
        }
    }

    fn run(mut self) -> Outcome {
        for _ in 0..UNKIND_STEPS {
            self.unkind_step();
            self.check();
        }
        self.client.be_kind();
        self.server.be_kind();
        let mut steps = u64::from(UNKIND_STEPS);
        for step in 0..KIND_STEPS {
            steps += 1;
            let moved = self.kind_step();
            self.check();
            if !moved && self.is_at_rest() {
                return self.end(steps);
            }
            assert!(
                step + 1 < KIND_STEPS,
                "no rest after {KIND_STEPS} steps\n{}",
                self.describe()
            );
        }
        unreachable!("the loop returns or fails")
    }

    fn unkind_step(&mut self) {
        let random = &mut self.random;
        match random.below(12) {
            0 | 1 => self.client.act(&mut self.model, random, self.now),
            2 | 3 => self.server.act(&mut self.model, random, self.now),
            4 => self.client.read(&mut self.model, random),
            5 => self.server.read(&mut self.model, random),
            6 => {
                self.now += Duration::from_micros(random.up_to(50_000));
                self.timers();
            }
            7 if self.mortal && random.one_in(200) => {
                self.cut = true;
                let which = random.below(3);
                if which != 1 {
                    self.up.cut(random);
                }
                if which != 2 {
                    self.down.cut(random);
                }
            }
            8 => self.doze(),
            _ => _ = self.transfer(),
        }
        self.react();
    }

    /// One round of everything that does not need time; time passes when nothing else moves.
    fn kind_step(&mut self) -> bool {
        let heard = (
            self.up.arrived.len() + self.up.under_way.len(),
            self.down.arrived.len() + self.down.under_way.len(),
        );
        let mut moved = self.transfer();
        moved |= heard != (0, 0);
        moved |= self.react();
        moved |= self
            .client
            .finish(&mut self.model, &mut self.random, self.now);
        moved |= self
            .server
            .finish(&mut self.model, &mut self.random, self.now);
        moved |= self.react();
        if !moved {
            // A refusal that waits, a key exchange by the clock, a deadline.
            let next = [
                self.client.conn.poll_timeout(),
                self.server.conn.poll_timeout(),
            ]
            .into_iter()
            .flatten()
            .min();
            if let Some(next) = next
                && !self.is_at_rest()
            {
                self.now = self.now.max(next);
                self.timers();
                moved = true;
            }
        }
        moved
    }

    /// Time passes, but not until either side has asked to be woken.
    fn doze(&mut self) {
        let next = loop {
            let next = [self.client.settle(self.now), self.server.settle(self.now)];
            if !self.react() {
                break next;
            }
        };
        let most = next.into_iter().flatten().min().map_or(1_000, |next| {
            let left = next.saturating_duration_since(self.now);
            u64::try_from(left.as_micros()).unwrap_or(u64::MAX)
        });
        if let Some(most) = most.min(50_000).checked_sub(1) {
            self.now += Duration::from_micros(self.random.up_to(most));
            self.client.sleeps_until(self.now);
            self.server.sleeps_until(self.now);
        }
    }

    fn timers(&mut self) {
        self.client.conn.handle_timeout(self.now);
        self.server.conn.handle_timeout(self.now);
    }

    fn react(&mut self) -> bool {
        self.client
            .react(&mut self.model, &mut self.random, self.now)
            | self
                .server
                .react(&mut self.model, &mut self.random, self.now)
    }

    fn transfer(&mut self) -> bool {
        let (random, now, weather) = (&mut self.random, self.now, &self.weather);
        let wire = &mut self.wire;
        let sent = send(&mut self.client, &mut self.up, weather, random, wire, now)
            | send(&mut self.server, &mut self.down, weather, random, wire, now);
        // What is under way arrives before anybody waits for it longer than the network takes.
        let next = [&self.up, &self.down]
            .into_iter()
            .filter_map(|line| Some(line.under_way.front()?.0))
            .min();
        if let Some(next) = next
            && next > self.now
            && !sent
        {
            self.now = next;
            self.timers();
        }
        let (random, now) = (&mut self.random, self.now);
        let up = receive(&mut self.server, &mut self.up, &self.weather, random, now);
        let down = receive(&mut self.client, &mut self.down, &self.weather, random, now);
        self.taken += up.unwrap_or_default() + down.unwrap_or_default();
        sent | up.is_some() | down.is_some()
    }

    fn check(&mut self) {
        self.client.check(&self.model);
        self.server.check(&self.model);
        if let (Some(client), Some(server)) =
            (self.client.conn.session(), self.server.conn.session())
        {
            assert_eq!(client.id, server.id, "two sessions");
        }
        self.check_cost();
    }

    /// Memory follows what is under way and unread, work follows what came. The heap is the process's: with it in count a
    /// world runs alone.
    fn check_cost(&mut self) {
        self.steps += 1;
        let work = steps() - self.before.1;
        let most = WORK + WORK_PER_BYTE * self.taken + WORK_PER_STEP * self.steps;
        assert!(work <= most, "{work} steps of work, {most} at the most");
        let waiting = self.up.len() + self.down.len() + self.model.unread();
        let live = heap().live - self.before.0;
        let most = HEAP + HEAP_PER_BYTE * waiting;
        assert!(
            !is_counting() || live <= most.cast_signed(),
            "{live} bytes in use with {waiting} under way or unread"
        );
    }

    fn is_at_rest(&self) -> bool {
        let over = self.client.is_over() && self.server.is_over();
        let idle = self.client.is_done() && self.server.is_done();
        let quiet = self.up.is_empty() && self.down.is_empty();
        over || (idle
            && quiet
            && self.client.conn.output().is_empty()
            && self.server.conn.output().is_empty())
    }

    fn end(self, steps: u64) -> Outcome {
        let (client, server) = (self.client.over.as_ref(), self.server.over.as_ref());
        assert!(
            self.client.is_explained(self.cut, server)
                && self.server.is_explained(self.cut, client),
            "an end that nothing explains\n{}",
            self.describe()
        );
        let ended = client.or(server).map(ToString::to_string);
        if ended.is_none() {
            self.model.all_has_arrived();
        }
        Outcome {
            steps,
            read: self.model.read(),
            channels: self.model.channels(),
            authenticated: self.client.authenticated,
            ended,
            wire: self.wire.finish(),
        }
    }

    fn describe(&self) -> String {
        let mut text = String::new();
        let passed = self.now - self.start;
        _ = writeln!(
            text,
            "after {passed:?}, client over: {:?}, server over: {:?}",
            self.client.over, self.server.over
        );
        _ = writeln!(text, "client: {}", self.client.describe());
        _ = writeln!(text, "server: {}", self.server.describe());
        _ = write!(text, "{}", self.model);
        text
    }
}

impl Line {
    /// Nothing more arrives than some of what is under way.
    fn cut(&mut self, random: &mut Random) {
        let whole = random.below(self.under_way.len() + 1);
        self.under_way.truncate(whole);
        if let Some((_, last)) = self.under_way.back_mut() {
            last.truncate(random.below(last.len() + 1));
        }
        self.cut = true;
    }

    fn is_empty(&self) -> bool {
        self.under_way.is_empty() && self.arrived.is_empty()
    }

    fn len(&self) -> u64 {
        let under_way: usize = self.under_way.iter().map(|(_, bytes)| bytes.len()).sum();
        (under_way + self.arrived.len()) as u64
    }
}

fn send<R: Role>(
    side: &mut Side<R>,
    line: &mut Line,
    weather: &Weather,
    random: &mut Random,
    wire: &mut DefaultHasher,
    now: Instant,
) -> bool {
    let len = side
        .conn
        .output()
        .len()
        .min(1 + random.up_to(weather.drain) as usize);
    if len == 0 {
        // Whoever has come to its end closes the stream.
        line.cut |= side.over.is_some();
        return false;
    }
    let bytes = side.conn.output()[..len].to_vec();
    wire.write(&bytes);
    side.conn.consume_output(len);
    if !line.cut {
        let last = line.under_way.back().map_or(now, |(at, _)| *at);
        let at = (now + Duration::from_micros(random.up_to(weather.delay * 1_000))).max(last);
        line.under_way.push_back((at, bytes));
    }
    true
}

fn receive<R: Sided>(
    side: &mut Side<R>,
    line: &mut Line,
    weather: &Weather,
    random: &mut Random,
    now: Instant,
) -> Option<u64> {
    while line.under_way.front().is_some_and(|(at, _)| *at <= now) {
        line.arrived
            .extend(line.under_way.pop_front().unwrap_or((now, Vec::new())).1);
    }
    if line.cut && line.is_empty() && !line.told {
        line.told = true;
        side.conn.handle_eof(now);
        return Some(0);
    }
    let len = line
        .arrived
        .len()
        .min(1 + random.up_to(weather.piece) as usize);
    if len == 0 {
        return None;
    }
    let taken = side.conn.handle_bytes(&line.arrived[..len], now);
    assert!(taken <= len, "more taken than given");
    line.arrived.drain(..taken);
    if side.over.is_some() {
        line.arrived.clear();
    }
    (taken > 0).then_some(taken as u64)
}

fn configurations(random: &mut Random) -> (ClientConfig, ServerConfig) {
    let mut transport = TransportConfig::default();
    transport.algorithms.ciphers = Preference::new([random.pick(Cipher::ALL)]).expect("one");
    transport.algorithms.macs = Preference::new([random.pick(Mac::ALL)]).expect("one");
    // What the cryptographic library draws for itself does not follow from the seed.
    let kex = Kex::ALL
        .iter()
        .filter(|kex| **kex != Kex::MlKem768X25519Sha256);
    let kex: Vec<Kex> = kex.copied().collect();
    let only = [random.pick(&kex)];
    let kex = if random.one_in(2) { &only } else { &kex[..] };
    transport.algorithms.kex = Preference::new(kex.iter().copied()).expect("some");
    transport.own.channel_kinds = vec![side::KIND.to_owned()];
    transport.own.channel_requests = vec![side::REQUEST.to_owned()];
    transport.own.global_requests = vec![side::REQUEST.to_owned()];
    transport.deadlines.idle = None;
    let mut each = || {
        let mut transport = transport.clone();
        if random.one_in(3) {
            transport.rekey.bytes = 20_000 + random.up_to(300_000);
        }
        if random.one_in(4) {
            transport.rekey.packets = 20 + random.up_to(200);
        }
        if random.one_in(4) {
            transport.rekey.time = Some(Duration::from_millis(200 + random.up_to(20_000)));
        }
        if random.one_in(4) {
            transport.limits.window = 64 * 1024 + random.up_to(1 << 20) as u32;
        }
        if random.one_in(4) {
            transport.limits.window_budget = 1 << (20 + random.below(6));
        }
        // Both may renew keys as often as they like: the limit on cheap ones has tests of its own.
        transport.limits.cheap_rekeys = u32::MAX;
        transport
    };
    let (first, second) = (each(), each());
    let mut client = ClientConfig::new();
    client.transport = first;
    client.guess_kex = random.one_in(3);
    if random.one_in(4) {
        client.transport.keepalive = Some(Keepalive {
            interval: Duration::from_secs(15),
            count: 1_000,
        });
    }
    let key = side::world_key();
    let key = if random.one_in(3) {
        HostKey::External(key.public().clone())
    } else {
        HostKey::Private(key)
    };
    let mut server = ServerConfig::new(vec![key]);
    server.transport = second;
    server.auth_methods.push(AuthMethod::None);
    if random.one_in(3) {
        server.banner = Some("welcome to this world\n".to_owned());
    }
    (client, server)
}

/// Which side a role is.
trait Sided: Role {
    const WHO: Who;
}

impl Sided for ClientRole {
    const WHO: Who = Who::Client;
}

impl Sided for ServerRole {
    const WHO: Who = Who::Server;
}
