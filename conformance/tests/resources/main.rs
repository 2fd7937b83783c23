//! What a peer can cost us, whatever it sends: memory, work and output, in both roles. The heap's counters are the
//! process's, so one test runs at a time. Bounds are those of `limits.rs`.

mod before_auth;
mod before_bytes;
mod flat;
mod messages;
mod owed;
mod users;
mod work;

use std::sync::{Mutex, MutexGuard, PoisonError};

use conformance::hostile::{Hostile, Verdict, Victim};
use conformance::pair::host_key;
use ssh_proto::key::KeyKind;
use ssh_proto::{AuthMethod, ClientConfig, ClientRole, ServerConfig, ServerRole, TransportConfig};

meter::count_heap!();

static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The names of our own that configurations have.
const OWN: &str = "own@example.com";

fn client() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.transport.own.channel_kinds = vec![OWN.to_owned()];
    config.transport.own.channel_requests = vec![OWN.to_owned()];
    config.transport.own.global_requests = vec![OWN.to_owned()];
    config
}

fn server() -> ServerConfig {
    let mut config = ServerConfig::new(vec![host_key(KeyKind::Ed25519)]);
    config.transport = client().transport;
    config.auth_methods.push(AuthMethod::None);
    config.failure_delay = std::time::Duration::ZERO;
    config
}

/// Both roles with their usual configurations.
trait Usual: Victim {
    fn config() -> Self::Config;
    /// Without limits on what may be repeated: those have tests of their own.
    fn patient() -> Self::Config;
}

impl Usual for ClientRole {
    fn config() -> ClientConfig {
        client()
    }

    fn patient() -> ClientConfig {
        let mut config = client();
        endless(&mut config.transport);
        config
    }
}

impl Usual for ServerRole {
    fn config() -> ServerConfig {
        server()
    }

    fn patient() -> ServerConfig {
        let mut config = server();
        endless(&mut config.transport);
        config
    }
}

const fn endless(config: &mut TransportConfig) {
    let limits = &mut config.limits;
    limits.idle_messages = u32::MAX;
    limits.stray_messages = u32::MAX;
    limits.cheap_rekeys = u32::MAX;
    limits.auth_requests = u32::MAX;
    limits.auth_failures = u32::MAX;
    limits.public_key_queries = u32::MAX;
    limits.banners = u32::MAX;
    limits.bytes_before_auth = u64::MAX;
    limits.packets_before_auth = u64::MAX;
    config.deadlines.authentication = None;
    // The peer exchanges keys when the test says so.
    config.rekey.bytes = u64::MAX;
}

fn fresh<R: Usual>() -> Hostile<R> {
    Hostile::new(R::config())
}

fn keyed<R: Usual>() -> Hostile<R> {
    Hostile::keyed(R::config())
}

fn open<R: Usual>() -> Hostile<R> {
    Hostile::open(R::config())
}

#[test]
fn the_heap_and_steps_are_counted() {
    let _alone = alone();
    let (heap, steps) = (meter::heap(), meter::steps());
    let peer = open::<ServerRole>();
    assert!(meter::heap().allocated - heap.allocated > 10_000);
    assert!(meter::heap().live > heap.live);
    assert!(meter::steps() - steps > 5);
    assert!(peer.cost.usage().peak > 1_000);
}
