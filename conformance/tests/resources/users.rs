//! Nothing that a server does tells which users exist: where its policy says the same, it says the same bytes at the same
//! time, and has worked as much for them.

use super::*;
use conformance::hostile::{password, request};
use ssh_proto::Error;
use ssh_proto::wire::Writer;
use std::time::Duration;

/// One that exists, and one that does not.
const USERS: [&str; 2] = ["alice", "nobod"];
/// How much more work the longest name is, in steps: its bytes are moved and opened a few times.
const LONGER: u64 = 64;

fn key_fields(signature: Option<&[u8]>) -> Vec<u8> {
    let key = host_key(KeyKind::Ed25519);
    let mut fields = Vec::new();
    let mut writer = Writer::new(&mut fields);
    writer
        .boolean(signature.is_some())
        .string(b"ssh-ed25519")
        .string(key.public().blob());
    if let Some(signature) = signature {
        writer.nested(|blob| {
            blob.string(b"ssh-ed25519").string(signature);
        });
    }
    fields
}

/// The fields of requests that are refused, of each kind: by the policy, by the library, for their form.
fn refused() -> Vec<(&'static str, Vec<u8>)> {
    let mut change = Vec::new();
    Writer::new(&mut change)
        .boolean(true)
        .string(b"old")
        .string(b"new");
    let mut interactive = Vec::new();
    Writer::new(&mut interactive).string(b"").string(b"");
    vec![
        ("none", vec![]),
        ("none", vec![1]),
        ("none-such", vec![]),
        ("hostbased", vec![7; 100]),
        ("password", password("secret")),
        ("password", password(&"x".repeat(1_000))),
        ("password", change),
        ("password", b"\0\0\0\0\x05p".to_vec()),
        ("publickey", key_fields(None)),
        ("publickey", key_fields(Some(&[7; 64]))),
        ("publickey", key_fields(Some(&[7; 63]))),
        ("publickey", b"\x01\0\0\0\x01x\0\0\0\x01x".to_vec()),
        ("keyboard-interactive", interactive),
        ("keyboard-interactive", b"\0\0\0\0".to_vec()),
    ]
}

/// What a server did about a request.
#[derive(Debug, PartialEq, Eq)]
struct Reaction {
    /// Sealed with keys that are the same each time.
    bytes: Vec<u8>,
    /// How many of them came before the time for refusals.
    at_once: usize,
    /// When there is something to do.
    next: Option<Duration>,
    error: Option<Error>,
    events: u64,
}

/// The reaction, and the steps that it took.
fn reaction(user: &str, before: &[Vec<u8>], method: &str, fields: &[u8]) -> (Reaction, u64) {
    let mut config = server();
    config.failure_delay = ServerConfig::new(Vec::new()).failure_delay;
    let delay = config.failure_delay;
    let mut peer = Hostile::<ServerRole>::keyed(config);
    peer.ask_service();
    peer.manners.verdict = Verdict::Refuse;
    let wait = |peer: &mut Hostile<ServerRole>| {
        peer.now += delay;
        let now = peer.now;
        peer.cost.wait(&mut peer.conn, now);
    };
    for payload in before {
        peer.say(payload);
        wait(&mut peer);
        peer.carry();
    }
    peer.reads = false;
    let (steps, events) = (peer.cost.usage().steps, peer.manners.events);
    peer.say(&request(user, method, fields));
    let at_once = peer.conn.output().len();
    let now = peer.now;
    let next = peer.conn.poll_timeout().map(|at| at - now);
    wait(&mut peer);
    let reaction = Reaction {
        bytes: peer.conn.output().to_vec(),
        at_once,
        next,
        error: peer.closed().cloned(),
        events: peer.manners.events - events,
    };
    (reaction, peer.cost.usage().steps - steps)
}

#[test]
fn users_that_exist_and_users_that_do_not_get_the_same_bytes_for_the_same_work() {
    let _alone = alone();
    for (method, fields) in refused() {
        let [(one, steps), (other, other_steps)] =
            USERS.map(|user| reaction(user, &[], method, &fields));
        assert!(!one.bytes.is_empty(), "{method} {fields:?}");
        assert_eq!(one, other, "{method} {fields:?}");
        assert_eq!(steps, other_steps, "{method} {fields:?}");
        assert!(steps > 0);
    }
}

#[test]
fn a_name_that_was_refused_before_is_as_much_work_as_a_new_one() {
    let _alone = alone();
    let before = [request("alice", "password", &password("secret"))];
    for (method, fields) in refused() {
        let [(one, steps), (other, other_steps)] =
            USERS.map(|user| reaction(user, &before, method, &fields));
        assert_eq!(one, other, "{method} {fields:?}");
        assert_eq!(steps, other_steps, "{method} {fields:?}");
    }
}

#[test]
fn the_length_of_a_name_is_work_for_its_bytes_alone() {
    let _alone = alone();
    let long = "u".repeat(ServerConfig::new(Vec::new()).transport.limits.user_len);
    for (method, fields) in refused() {
        let (one, steps) = reaction("u", &[], method, &fields);
        let (other, other_steps) = reaction(&long, &[], method, &fields);
        assert_eq!(one, other, "{method} {fields:?}");
        let most = steps + LONGER;
        assert!(
            (steps..=most).contains(&other_steps),
            "{method} {fields:?}: {steps} steps, and {other_steps}"
        );
    }
}
