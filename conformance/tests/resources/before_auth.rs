//! Before authentication a connection takes 128 KiB of heap at the most, whatever the peer sends.

use super::*;
use conformance::hostile::{password, request};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use ssh_proto::key::PrivateKey;
use ssh_proto::msg::Message;
use ssh_proto::msg::auth::UserauthFailure;
use ssh_proto::msg::transport::{Debug, Ignore};
use ssh_proto::wire::{NameList, Writer};
use ssh_proto::{Credential, PromptRound};
use std::sync::Arc;
use std::time::Duration;

/// What `limits.rs` and the documentation of [`ssh_proto::limits::Limits`] promise.
const MOST: i64 = 128 * 1024;
/// The largest payload of a packet of 35,000 bytes.
const PAYLOAD: usize = 34_900;

type Script<R> = (&'static str, fn(&mut Hostile<R>));

fn payload(number: u8, fill: u8) -> Vec<u8> {
    let mut payload = vec![fill; PAYLOAD];
    payload[0] = number;
    payload
}

/// A payload of one string.
fn string(number: u8, before: &[u8], len: usize, fill: u8) -> Vec<u8> {
    let mut payload = vec![number];
    payload.extend_from_slice(before);
    Writer::new(&mut payload).string(&vec![fill; len]);
    payload
}

fn kexinit<R: Victim>(peer: &Hostile<R>, first: usize, all: usize) -> Vec<u8> {
    let mut kexinit = peer.kexinit(&",abcdefg".repeat(first / 8));
    // The languages come last, before the flag and the reserved number: two lists of any names.
    let tail = kexinit.split_off(kexinit.len() - 5);
    kexinit.truncate(kexinit.len() - 8);
    let mut left = all.saturating_sub(kexinit.len() + 13);
    for _ in 0..2 {
        let len = left.min(16 * 1024);
        left -= len;
        Writer::new(&mut kexinit).string(&vec![b'x'; len]);
    }
    kexinit.extend_from_slice(&tail);
    kexinit
}

/// Until the victim has had enough, or nothing new is to be expected.
fn repeat<R: Victim>(peer: &mut Hostile<R>, payload: &[u8], most: usize) {
    for _ in 0..most {
        if peer.closed().is_some() {
            break;
        }
        if !peer.say(payload) {
            // Refusals may be due.
            peer.wait(Duration::from_millis(1));
            if !peer.carry() {
                break;
            }
        }
    }
}

/// What a peer can do in both roles.
fn common<R: Usual>() -> Vec<Script<R>> {
    vec![
        ("a packet that never ends, in clear", |peer| {
            peer.say_version();
            peer.say_most_of(&payload(2, 0));
        }),
        ("lists of KEXINIT that fill a packet", |peer| {
            peer.say_version();
            let kexinit = kexinit(peer, 0, PAYLOAD);
            peer.say(&kexinit);
            peer.say_most_of(&payload(2, 0));
        }),
        (
            "a list of KEXINIT of 16 KiB, and nothing in common",
            |peer| {
                peer.say_version();
                let mut kexinit = kexinit(peer, 16_000, PAYLOAD);
                // Another name than curve25519-sha256.
                kexinit[25] = b'x';
                peer.say(&kexinit);
            },
        ),
        ("a packet that never ends, in the exchange", |peer| {
            peer.say_version();
            let kexinit = kexinit(peer, 15_000, PAYLOAD);
            peer.say(&kexinit);
            peer.say_most_of(&payload(30, 1));
        }),
        ("a value that fills a packet", |peer| {
            peer.say_version();
            peer.say_kexinit();
            let value = string(if R::IS_CLIENT { 31 } else { 30 }, &[], PAYLOAD - 5, 1);
            peer.say(&value);
        }),
        ("IGNORE and DEBUG before the exchange", |peer| {
            peer.say_version();
            let data = vec![1; PAYLOAD - 20];
            for _ in 0..100 {
                peer.says(&Ignore { data: &data });
                peer.says(&Debug {
                    always_display: true,
                    message: &data,
                    language_tag: b"",
                });
            }
        }),
        ("small IGNOREs without end", |peer| {
            peer.exchange_after_version();
            peer.reads = false;
            repeat(peer, &[2, 0, 0, 0, 0], 100_000);
        }),
        ("a packet that never ends, sealed", |peer| {
            peer.exchange_after_version();
            peer.say_most_of(&payload(2, 0));
        }),
        ("messages that nobody knows, and no reader", |peer| {
            peer.exchange_after_version();
            peer.reads = false;
            repeat(peer, &[191], 100_000);
        }),
        ("the same, in reads of 128 KiB", |peer| {
            peer.exchange_after_version();
            peer.reads = false;
            peer.reads_of(128 * 1024);
            for _ in 0..100 {
                for _ in 0..3_000 {
                    peer.queue(&[191]);
                }
                if !peer.carry() {
                    break;
                }
            }
        }),
        ("a whole read behind the version", |peer| {
            peer.reads_of(128 * 1024);
            for _ in 0..10 {
                peer.queue(&payload(2, 0));
            }
            peer.say_version();
            for _ in 0..10 {
                peer.queue(&payload(2, 0));
            }
            peer.carry();
        }),
        ("the DISCONNECT of a talker", |peer| {
            peer.exchange_after_version();
            let mut disconnect = string(1, &[0, 0, 0, 2], PAYLOAD - 20, 1);
            disconnect.extend_from_slice(&[0; 4]);
            peer.say(&disconnect);
        }),
        ("EXT_INFO that fills its limit", |peer| {
            peer.exchange_after_version();
            let mut ext_info = vec![7, 0, 0, 0, 64];
            let mut writer = Writer::new(&mut ext_info);
            for _ in 0..63 {
                writer.string(b"some-extension").string(&[b'x'; 200]);
            }
            writer
                .string(b"server-sig-algs")
                .string(&b"rsa-sha2-256,".repeat(150)[..1949]);
            peer.say(&ext_info);
            peer.say(&ext_info);
        }),
    ]
}

/// A request for prompts, with hints of that length.
fn interactive(len: usize) -> Vec<u8> {
    let mut fields = Vec::new();
    Writer::new(&mut fields)
        .string(b"")
        .string(&vec![b'x'; len]);
    request("u", "keyboard-interactive", &fields)
}

fn round_of(prompts: usize) -> PromptRound {
    (0..prompts).fold(PromptRound::default(), |round, _| {
        round.with_prompt("prompt", false)
    })
}

/// So many answers, of that length.
fn answers(count: u32, len: usize) -> Vec<u8> {
    let mut answers = vec![61];
    let mut writer = Writer::new(&mut answers);
    writer.uint32(count);
    for _ in 0..count {
        writer.string(&vec![b'a'; len]);
    }
    answers
}

/// The question whether an RSA key of so many bytes would do.
fn query(len: usize) -> Vec<u8> {
    let mut fields = vec![0];
    Writer::new(&mut fields)
        .string(b"rsa-sha2-512")
        .nested(|key| {
            key.string(b"ssh-rsa")
                .mpint(&[1, 0, 1])
                .mpint(&vec![0x91; len]);
        });
    request("u", "publickey", &fields)
}

fn to_servers() -> Vec<Script<ServerRole>> {
    fn at_login(peer: &mut Hostile<ServerRole>) {
        peer.exchange_after_version();
        peer.ask_service();
    }
    vec![
        ("a user and a password that fill a packet", |peer| {
            at_login(peer);
            peer.manners.verdict = Verdict::Refuse;
            let user = "u".repeat(17_000);
            let request = request(&user, "password", &password(&"p".repeat(17_000)));
            repeat(peer, &request, 100);
        }),
        ("a key that fills a packet", |peer| {
            at_login(peer);
            let mut fields = vec![1];
            Writer::new(&mut fields)
                .string(b"rsa-sha2-512")
                .nested(|key| {
                    key.string(b"ssh-rsa")
                        .mpint(&[1, 0, 1])
                        .mpint(&[0x91; 16_000]);
                })
                .string(&[7; 16_000]);
            repeat(peer, &request("u", "publickey", &fields), 100);
        }),
        ("queries for the largest RSA key", |peer| {
            at_login(peer);
            repeat(peer, &query(2_048), 100);
        }),
        ("a wrong signature of the largest RSA key", |peer| {
            at_login(peer);
            let mut fields = vec![1];
            Writer::new(&mut fields)
                .string(b"rsa-sha2-512")
                .nested(|key| {
                    key.string(b"ssh-rsa")
                        .mpint(&[1, 0, 1])
                        .mpint(&[0x91; 2_048]);
                })
                .nested(|signature| {
                    signature.string(b"rsa-sha2-512").string(&[0x71; 2_048]);
                });
            repeat(peer, &request("u", "publickey", &fields), 100);
        }),
        ("attempts without end, and no reader", |peer| {
            at_login(peer);
            peer.reads = false;
            repeat(peer, &request("u", "none-such", &[]), 10_000);
        }),
        ("pipelining behind authentication", |peer| {
            at_login(peer);
            peer.manners.answers = false;
            peer.say(&request("u", "password", &password("p")));
            repeat(peer, &payload(80, 0), 100);
        }),
        ("pipelining in one read of 128 KiB", |peer| {
            at_login(peer);
            peer.manners.answers = false;
            peer.reads_of(128 * 1024);
            peer.queue(&request("u", "password", &password("p")));
            for _ in 0..4 {
                peer.queue(&payload(80, 0));
            }
            peer.carry();
            assert!(peer.manners.held.is_some());
        }),
        ("submethods that fill a packet, and answers", |peer| {
            at_login(peer);
            peer.manners.verdict = Verdict::Prompt;
            peer.manners.round = round_of(32);
            for _ in 0..7 {
                peer.say(&interactive(PAYLOAD - 100));
                repeat(peer, &answers(32, 1_024), 3);
            }
            assert_eq!(peer.heard[60], 28);
        }),
        ("answers that wait for a verdict", |peer| {
            at_login(peer);
            peer.manners.round = round_of(32);
            peer.say(&interactive(PAYLOAD - 100));
            peer.manners.answers = false;
            peer.say(&answers(32, 1_024));
            repeat(peer, &payload(61, 1), 10);
            assert!(peer.manners.held.is_some());
        }),
        ("answers that are too long, and too many", |peer| {
            at_login(peer);
            peer.manners.round = round_of(32);
            for answers in [answers(32, 1_080), answers(1_000, 30)] {
                peer.say(&interactive(PAYLOAD - 100));
                peer.say(&answers);
            }
            assert_eq!((peer.heard[60], peer.heard[51]), (2, 2));
        }),
        ("a login of many parts", |peer| {
            at_login(peer);
            peer.manners.verdict = Verdict::Partial;
            peer.manners.round = round_of(32);
            let user = "u".repeat(255);
            for _ in 0..12 {
                peer.say(&request(&user, "password", &password(&"p".repeat(1_024))));
                peer.say(&interactive(PAYLOAD - 100));
                peer.say(&answers(32, 1_024));
                peer.say(&request(&user, "none", &[]));
            }
            assert_eq!(peer.heard[51], 36);
        }),
        ("passwords that have to be changed", |peer| {
            at_login(peer);
            peer.manners.verdict = Verdict::ChangePassword;
            for len in [1_024, 17_000] {
                let mut fields = vec![1];
                let secret = vec![b'p'; len];
                Writer::new(&mut fields).string(&secret).string(&secret);
                repeat(peer, &request(&"u".repeat(255), "password", &fields), 100);
            }
            assert!(peer.heard[60] >= 100);
        }),
        ("a key that waits for a verdict", |peer| {
            at_login(peer);
            peer.manners.answers = false;
            peer.say(&query(2_048));
            repeat(peer, &payload(50, 1), 10);
            assert!(peer.manners.held.is_some());
        }),
    ]
}

/// A round of so many prompts, each text of that length.
fn prompts(count: u32, len: usize, fill: u8) -> Vec<u8> {
    let mut request = vec![60];
    let mut writer = Writer::new(&mut request);
    writer
        .string(&vec![fill; len])
        .string(&vec![fill; len])
        .string(b"")
        .uint32(count);
    for _ in 0..count {
        writer.string(&vec![fill; len]).boolean(false);
    }
    request
}

/// A refusal after which the victim tries what its application wants to show next.
fn failure(methods: &str, partial_success: bool) -> Vec<u8> {
    UserauthFailure {
        authentications_that_can_continue: NameList::new(methods),
        partial_success,
    }
    .to_payload()
}

/// A change of the password is wanted, with a prompt of that length.
fn change(len: usize, fill: u8) -> Vec<u8> {
    string(60, &[], len, fill)
        .into_iter()
        .chain([0; 4])
        .collect()
}

fn to_clients() -> Vec<Script<ClientRole>> {
    fn at_login(peer: &mut Hostile<ClientRole>) {
        peer.exchange_after_version();
        peer.ask_service();
    }
    vec![
        ("1,024 lines before the version", |peer| {
            peer.raw(&[&[1; 62][..], b"\r\n"].concat().repeat(1_024));
            peer.raw(b"more\r\n");
        }),
        ("a line that never ends", |peer| {
            peer.raw(&[b'x'; 64 * 1024]);
        }),
        ("a line that never ends, and too much of it", |peer| {
            peer.raw(&[b'x'; 1024 * 1024]);
        }),
        ("banners", |peer| {
            at_login(peer);
            let mut banner = string(53, &[], PAYLOAD - 20, 1);
            banner.extend_from_slice(&[0; 4]);
            repeat(peer, &banner, 100);
        }),
        ("32 prompts that fill a packet", |peer| {
            at_login(peer);
            peer.say(&failure("keyboard-interactive", false));
            peer.manners.answers = false;
            peer.say(&prompts(32, 1_000, 1));
            repeat(peer, &payload(53, 0), 10);
            assert!(peer.manners.held.is_some());
        }),
        ("prompts of 4 KiB", |peer| {
            at_login(peer);
            peer.say(&failure("keyboard-interactive", false));
            peer.manners.answers = false;
            peer.say(&prompts(6, 4_096, 0xff));
            repeat(peer, &payload(53, 0), 10);
        }),
        ("rounds of prompts without end", |peer| {
            at_login(peer);
            peer.say(&failure("keyboard-interactive", false));
            repeat(peer, &prompts(32, 900, 1), 1_000);
        }),
        ("methods that fill a packet", |peer| {
            at_login(peer);
            let methods = "keyboard-interactive,".repeat(1_500);
            repeat(peer, &failure(&methods[..31_499], false), 100);
        }),
        ("partial successes without end", |peer| {
            at_login(peer);
            let methods = "keyboard-interactive,".repeat(1_500);
            for _ in 0..16 {
                peer.say(&failure(&methods[..31_499], true));
                peer.say(&prompts(32, 900, 0xff));
            }
            assert_eq!(peer.heard[61], 16);
        }),
        ("passwords that have to be changed", |peer| {
            at_login(peer);
            repeat(peer, &change(PAYLOAD - 20, 0xff), 1_000);
            assert!(peer.heard[50] > 25);
        }),
        ("a password that waits to be changed", |peer| {
            at_login(peer);
            peer.manners.answers = false;
            peer.say(&change(PAYLOAD - 20, 0xff));
            repeat(peer, &payload(53, 0), 10);
            assert!(peer.manners.held.is_some());
        }),
        ("keys that would do, and do not", |peer| {
            at_login(peer);
            let key = PrivateKey::generate(KeyKind::Ed25519, &[7; 32]).expect("a key");
            let mut pk_ok = vec![60];
            Writer::new(&mut pk_ok)
                .string(b"ssh-ed25519")
                .string(key.public().blob());
            peer.manners.next = Credential::PublicKey {
                key: Arc::new(key),
                query: true,
            };
            for _ in 0..100 {
                peer.say(&failure("publickey", false));
                peer.say(&pk_ok);
            }
            assert_eq!(peer.heard[50], 201);
        }),
        ("a key that fills a packet, and was not offered", |peer| {
            at_login(peer);
            let key = PrivateKey::generate(KeyKind::Ed25519, &[7; 32]).expect("a key");
            peer.manners.next = Credential::PublicKey {
                key: Arc::new(key),
                query: true,
            };
            peer.say(&failure("publickey", false));
            let mut pk_ok = vec![60];
            Writer::new(&mut pk_ok)
                .string(&[b'x'; 17_000])
                .string(&[7; 17_000]);
            peer.say(&pk_ok);
        }),
        ("a host key that fills a packet", |peer| {
            peer.say_version();
            peer.say_kexinit();
            let mut reply = vec![31];
            Writer::new(&mut reply)
                .string(&[0; 20_000])
                .string(&[9; 32])
                .string(&[1; 14_000]);
            peer.say(&reply);
        }),
    ]
}

fn plays<R: Usual>(scripts: Vec<Script<R>>) -> Vec<String> {
    let role = if R::IS_CLIENT { "client" } else { "server" };
    // What is made once, such as tables of the cryptographic library.
    drop(open::<R>());
    let mut over = Vec::new();
    for (name, script) in scripts {
        let mut peer = fresh::<R>();
        script(&mut peer);
        assert!(!peer.conn.is_authenticated(), "{name}");
        assert!(!matches!(peer.closed(), Some(ssh_proto::Error::Bug(_))));
        let (peak, live) = (peer.cost.usage().peak, peer.cost.live());
        let line = format!(
            "{role}, {name}: {peak} bytes at the most, {live} then, {:?}",
            peer.closed()
        );
        println!("{}", line.chars().take(250).collect::<String>());
        if peak.max(live) > MOST {
            over.push(line.chars().take(150).collect());
        }
    }
    over
}

#[test]
fn a_client_takes_128_kib_before_authentication_whatever_the_peer_sends() {
    let _alone = alone();
    let over = [plays(common::<ClientRole>()), plays(to_clients())].concat();
    assert!(over.is_empty(), "{over:#?}");
}

#[test]
fn a_server_takes_128_kib_before_authentication_whatever_the_peer_sends() {
    let _alone = alone();
    let over = [plays(common::<ServerRole>()), plays(to_servers())].concat();
    assert!(over.is_empty(), "{over:#?}");
}

/// One thing that a peer does, of any size, or what happens beside.
#[derive(Debug, Clone, Copy)]
struct Move {
    what: u8,
    len: usize,
    fill: u8,
}

/// As long as a field can be, beside a user name and others.
const LONG: usize = PAYLOAD - 400;

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let len = prop_oneof![0..300_usize, 0..LONG, Just(LONG)];
    let one = (0..18_u8, len, any::<u8>()).prop_map(|(what, len, fill)| Move { what, len, fill });
    prop::collection::vec(one, 1..40)
}

/// What either role may be told, and what its application and its reader do.
fn beside<R: Usual>(peer: &mut Hostile<R>, Move { what, len, fill }: Move) {
    let bytes = vec![fill; len];
    match what {
        0 => _ = peer.says(&Ignore { data: &bytes }),
        1 => {
            peer.says(&Debug {
                always_display: true,
                message: &bytes,
                language_tag: b"",
            });
        }
        2 => _ = peer.say(&[&[191], &bytes[..]].concat()),
        // While a question is open, or nobody reads, there is no exchange.
        3 if peer.manners.held.is_none() && peer.reads && peer.carry() => peer.exchange(),
        4 => peer.reads_of([64, 1_400, 16 * 1024, 128 * 1024][len % 4]),
        5 => peer.reads = !peer.reads,
        6 => peer.wait(Duration::from_secs(1)),
        _ => peer.answer_held(),
    }
}

/// Says something that is a question to the application, which holds back its answer now and then.
fn ask<R: Usual>(peer: &mut Hostile<R>, question: &[u8], fill: u8) {
    peer.manners.answers = !fill.is_multiple_of(4);
    peer.say(question);
    peer.manners.answers = true;
}

fn move_at_login(peer: &mut Hostile<ServerRole>, one: Move) {
    let Move { what, len, fill } = one;
    let user = "u".repeat(usize::from(fill));
    let secret = "p".repeat(len / 34);
    let verdicts = [Verdict::Partial, Verdict::Prompt, Verdict::ChangePassword];
    match what {
        8 => _ = peer.say(b"\x05\0\0\0\x0cssh-userauth"),
        9 => ask(peer, &request(&user, "none", &[]), fill),
        10 => ask(peer, &request(&user, "password", &password(&secret)), fill),
        11 => {
            let mut fields = vec![1];
            let writer = &mut Writer::new(&mut fields);
            writer.string(secret.as_bytes()).string(secret.as_bytes());
            ask(peer, &request(&user, "password", &fields), fill);
        }
        12 => ask(peer, &query(len / 17), fill),
        13 => ask(peer, &interactive(len), fill),
        14 => {
            peer.say(&interactive(len));
            let count = peer.manners.round.prompts.len();
            let answers = answers(count as u32, len / (count + 1));
            ask(peer, &answers, fill);
        }
        15 => {
            peer.manners.verdict = verdicts[len % 3];
            peer.manners.round = round_of(usize::from(fill % 33));
        }
        16 => _ = peer.say(&request(&user, "password", &password(&"p".repeat(len)))),
        17 => _ = peer.say(&request(&"u".repeat(len), "none", &[])),
        _ => beside(peer, one),
    }
}

fn move_at_logging_in(peer: &mut Hostile<ClientRole>, one: Move) {
    let Move { what, len, fill } = one;
    let methods = "password,".repeat(len / 9 + 1);
    let failure = failure(methods.trim_end_matches(','), fill.is_multiple_of(2));
    match what {
        8 | 9 => _ = peer.say(&failure),
        10 | 11 => {
            let banner = string(53, &[], len, fill);
            peer.say(&[&banner[..], &[0; 4]].concat());
        }
        12 | 13 => {
            peer.manners.next = Credential::password("p".repeat(usize::from(fill)));
            peer.say(&failure);
            ask(peer, &change(len, fill), fill);
        }
        14..=16 => {
            peer.manners.next = Credential::keyboard_interactive();
            peer.say(&failure);
            let count = u32::from(fill % 33);
            let round = prompts(count, len / (count as usize + 2), fill);
            ask(peer, &round, fill);
        }
        17 => {
            let key = PrivateKey::generate(KeyKind::Ed25519, &[7; 32]).expect("a key");
            let mut pk_ok = vec![60];
            Writer::new(&mut pk_ok)
                .string(b"ssh-ed25519")
                .string(key.public().blob());
            peer.manners.next = Credential::PublicKey {
                key: Arc::new(key),
                query: true,
            };
            peer.say(&failure);
            peer.say(&pk_ok);
        }
        _ => beside(peer, one),
    }
}

/// Plays the moves one after the other, until they end the connection.
fn play<R: Usual>(moves: &[Move], step: fn(&mut Hostile<R>, Move)) {
    let mut peer = keyed::<R>();
    peer.manners.verdict = Verdict::Partial;
    peer.ask_service();
    for one in moves {
        step(&mut peer, *one);
        let most = peer.cost.usage().peak.max(peer.cost.live());
        assert!(most <= MOST, "{most} bytes after {one:?}");
        assert!(!peer.conn.is_authenticated());
        match peer.closed() {
            Some(ssh_proto::Error::Bug(bug)) => panic!("{bug}"),
            Some(_) => break,
            None => {}
        }
    }
}

/// Plays many, drawn at random; what draws them is measured with nobody else, either.
fn in_any_order<R: Usual>(step: fn(&mut Hostile<R>, Move)) {
    let _alone = alone();
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let played = TestRunner::new(config).run(&moves(), |moves| {
        play(&moves, step);
        Ok(())
    });
    if let Err(failure) = played {
        panic!("{failure}");
    }
}

#[test]
fn no_order_of_messages_takes_more_of_a_server() {
    in_any_order(move_at_login);
}

#[test]
fn no_order_of_messages_takes_more_of_a_client() {
    in_any_order(move_at_logging_in);
}
