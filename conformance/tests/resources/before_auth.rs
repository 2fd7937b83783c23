//! Before authentication a connection takes 128 KiB of heap at the most, whatever the peer sends.

use super::*;
use conformance::hostile::{password, request};
use ssh_proto::msg::transport::{Debug, Ignore};
use ssh_proto::wire::Writer;

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
        if peer.closed().is_some() || !peer.say(payload) {
            break;
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
            let mut fields = vec![0];
            Writer::new(&mut fields)
                .string(b"rsa-sha2-512")
                .nested(|key| {
                    key.string(b"ssh-rsa")
                        .mpint(&[1, 0, 1])
                        .mpint(&[0x91; 2_048]);
                });
            repeat(peer, &request("u", "publickey", &fields), 100);
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
            peer.manners.verdict = Verdict::Refuse;
            let mut fields = Vec::new();
            Writer::new(&mut fields)
                .string(b"")
                .string(&vec![b'x'; PAYLOAD - 100]);
            peer.say(&request("u", "keyboard-interactive", &fields));
            let mut answers = vec![61, 0, 0, 0, 32];
            for _ in 0..32 {
                Writer::new(&mut answers).string(&[b'a'; 1_024]);
            }
            peer.say(&answers);
        }),
    ]
}

fn to_clients() -> Vec<Script<ClientRole>> {
    fn at_login(peer: &mut Hostile<ClientRole>) {
        peer.exchange_after_version();
        peer.ask_service();
    }
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
            peer.manners.answers = false;
            peer.say(
                &[51, 0, 0, 0, 20]
                    .iter()
                    .chain(b"keyboard-interactive\0")
                    .copied()
                    .collect::<Vec<_>>(),
            );
            peer.conn
                .authenticate(
                    "alice",
                    ssh_proto::Credential::keyboard_interactive(),
                    peer.now,
                )
                .expect("the next attempt");
            peer.say(&prompts(32, 1_000, 1));
            repeat(peer, &payload(53, 0), 10);
        }),
        ("prompts of 4 KiB", |peer| {
            at_login(peer);
            peer.manners.answers = false;
            peer.say(
                &[51, 0, 0, 0, 20]
                    .iter()
                    .chain(b"keyboard-interactive\0")
                    .copied()
                    .collect::<Vec<_>>(),
            );
            peer.conn
                .authenticate(
                    "alice",
                    ssh_proto::Credential::keyboard_interactive(),
                    peer.now,
                )
                .expect("the next attempt");
            peer.say(&prompts(6, 4_096, 0xff));
            repeat(peer, &payload(53, 0), 10);
        }),
        ("rounds of prompts without end", |peer| {
            at_login(peer);
            peer.say(
                &[51, 0, 0, 0, 20]
                    .iter()
                    .chain(b"keyboard-interactive\0")
                    .copied()
                    .collect::<Vec<_>>(),
            );
            repeat(peer, &prompts(32, 900, 1), 1_000);
        }),
        ("methods that fill a packet", |peer| {
            at_login(peer);
            let mut failure = vec![51];
            Writer::new(&mut failure)
                .string(&b"keyboard-interactive,".repeat(1_500)[..31_499])
                .boolean(false);
            repeat(peer, &failure, 100);
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
