//! The state machine of a connection as its peer and its application meet it, learned from outside and not from the source
//! (as arXiv:2509.10895 did with other implementations): `learned/client.dot` and `learned/server.dot`, to be looked at with
//! Graphviz and reviewed when they change.
//!
//! `LEARNED=write cargo test -p ssh-proto learned` writes them anew. What must hold of them whatever they are is asserted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::LazyLock;

use super::hostile::{Offer, Victim, World, either, password};
use super::learner::{Answer, Learner, Machine, Move};
use super::legality::well_formed;
use super::*;
use crate::auth::signed_data;
use crate::channel::{ChannelEvent, OpenChannel, Program};
use crate::msg::connection as msg;
use crate::msg::{Rest, auth};

/// Something that happens to a connection: a message of its peer, or (in parentheses) what its application does.
type Letter = (&'static str, fn(&mut World));

/// What either peer may say, and either application do.
const COMMON: [Letter; 20] = [
    ("DISCONNECT", |world| known(world, 1)),
    ("IGNORE", |world| known(world, 2)),
    ("KEXINIT", |world| world.say_kexinit(false)),
    ("KEXINIT, wrong guess", |world| {
        world.say_kexinit(true);
        world.say(&[30, 0, 0, 0, 1, 7]);
    }),
    ("KEX_ECDH_INIT", |world| known(world, 30)),
    ("KEX_ECDH_REPLY", |world| known(world, 31)),
    ("NEWKEYS", |world| {
        if world.has_keys() {
            world.say_newkeys();
        } else {
            world.say(&[21]);
        }
    }),
    ("EXT_INFO", |world| known(world, 7)),
    ("USERAUTH_FAILURE", |world| known(world, 51)),
    ("USERAUTH_SUCCESS", |world| known(world, 52)),
    ("OPEN_CONFIRMATION", |world| {
        world.says(&msg::ChannelOpenConfirmation {
            recipient_channel: 0,
            sender_channel: 7,
            initial_window_size: 1_000,
            maximum_packet_size: 1_000,
            data: Rest(b""),
        });
    }),
    ("OPEN_FAILURE", |world| {
        world.says(&msg::ChannelOpenFailure {
            recipient_channel: 0,
            reason_code: 1,
            description: b"no",
            language_tag: b"",
        });
    }),
    ("DATA", |world| known(world, 94)),
    ("EOF", |world| known(world, 96)),
    ("CLOSE", |world| known(world, 97)),
    ("CHANNEL_SUCCESS", |world| known(world, 99)),
    ("PING", |world| known(world, 192)),
    // Between the two the peer may say as much as it likes, which waits in its order: states without end.
    ("(rekeys), KEXINIT", |world| {
        let now = world.now;
        let done = either!(&mut world.victim, conn => conn.rekey(now));
        let is_done = done.is_ok();
        told(world, done);
        if is_done {
            world.say_kexinit(false);
        }
    }),
    ("(opens a channel)", |world| {
        let now = world.now;
        let id = match &mut world.victim {
            Victim::Client(client) => client.open(OpenChannel::Session, now),
            Victim::Server(server) => {
                let kind = OpenChannel::Custom {
                    kind: "x@example.com",
                    data: b"",
                };
                server.open(kind, now)
            }
        };
        if let Ok(id) = &id {
            world.channels.push(*id);
        }
        told(world, id);
    }),
    ("(closes)", |world| {
        let id = world.channels.last().copied();
        either!(&mut world.victim, conn => {
            if let Some(mut channel) = id.and_then(|id| conn.channel(id)) {
                channel.close();
            }
        });
        world.carry();
    }),
];

/// What a client may say to a server.
const TO_SERVER: [Letter; 10] = [
    ("SERVICE_REQUEST", |world| known(world, 5)),
    ("USERAUTH_REQUEST none", |world| {
        request(world, "none", &[]);
    }),
    ("USERAUTH_REQUEST password", |world| {
        world.say(&password("alice", "secret"));
    }),
    ("USERAUTH_REQUEST wrong password", |world| {
        world.say(&password("eve", "guess"));
    }),
    ("USERAUTH_REQUEST publickey, query", |world| {
        let key = user_key();
        let mut fields = Vec::new();
        Writer::new(&mut fields)
            .boolean(false)
            .string(b"ssh-ed25519")
            .string(key.public().blob());
        request(world, "publickey", &fields);
    }),
    ("USERAUTH_REQUEST publickey, signed", |world| {
        let key = user_key();
        let algorithm = SignatureAlgorithm::Ed25519;
        let blob = key.public().blob();
        let signature = key
            .sign(
                algorithm,
                &signed_data(world.session_id(), "alice", algorithm, blob),
            )
            .unwrap();
        let mut fields = Vec::new();
        Writer::new(&mut fields)
            .boolean(true)
            .string(b"ssh-ed25519")
            .string(blob)
            .string(&signature);
        request(world, "publickey", &fields);
    }),
    ("USERAUTH_REQUEST keyboard-interactive", |world| {
        request(world, "keyboard-interactive", &[0; 8]);
    }),
    ("USERAUTH_INFO_RESPONSE", |world| known(world, 61)),
    ("OPEN session", |world| {
        world.says(&msg::ChannelOpen {
            channel_type: "session",
            sender_channel: 9,
            initial_window_size: 1_000,
            maximum_packet_size: 1_000,
            data: Rest(b""),
        });
    }),
    ("CHANNEL_REQUEST shell", |world| {
        world.says(&msg::ChannelRequest {
            recipient_channel: 0,
            request_type: "shell",
            want_reply: true,
            data: Rest(b""),
        });
    }),
];

/// What a server may say to a client, and what the client's application does.
const TO_CLIENT: [Letter; 6] = [
    ("SERVICE_ACCEPT", |world| known(world, 6)),
    ("USERAUTH_PASSWD_CHANGEREQ", |world| known(world, 60)),
    ("OPEN x@example.com", |world| known(world, 90)),
    ("CHANNEL_REQUEST x@example.com", |world| known(world, 98)),
    ("(authenticates)", |world| {
        let now = world.now;
        let done = match &mut world.victim {
            Victim::Client(client) => {
                client.authenticate("alice", Credential::password("secret"), now)
            }
            Victim::Server(_) => unreachable!("a client's letter"),
        };
        told(world, done);
    }),
    ("(starts a shell)", |world| {
        let id = world.channels.last().copied();
        if let Victim::Client(client) = &mut world.victim
            && let Some(mut channel) = id.and_then(|id| client.channel(id))
        {
            let done = channel.start(Program::Shell);
            told(world, done);
        }
    }),
];

fn known(world: &mut World, number: u8) {
    let payload = well_formed(number, world);
    world.say(&payload);
}

fn request(world: &mut World, method: &str, fields: &[u8]) {
    world.says(&auth::UserauthRequest {
        user_name: "alice",
        service_name: "ssh-connection",
        method_name: method,
        method_fields: Rest(fields),
    });
}

/// What an application does may be misuse, and that is an answer.
fn told<T>(world: &mut World, done: Result<T, crate::Misuse>) {
    if done.is_err() {
        world.events.push("misuse".to_owned());
    }
    world.carry();
}

/// Reads everything, agrees to every request and lets go of what is closed.
fn use_channels(world: &mut World) {
    loop {
        let mut events = Vec::new();
        let mut gone = BTreeSet::new();
        for id in &world.channels {
            either!(&mut world.victim, conn => {
                let Some(mut channel) = conn.channel(*id) else {
                    gone.insert(*id);
                    continue;
                };
                while let Some(event) = channel.poll_event() {
                    events.push(format!("{event:?}"));
                    match event {
                        ChannelEvent::Data(stream) => {
                            channel.read(stream, &mut [0; 100]);
                        }
                        ChannelEvent::Requested { token: Some(token), .. } => {
                            channel.reply(token, true).unwrap();
                        }
                        ChannelEvent::Closed => channel.release(),
                        _ => {}
                    }
                }
            });
        }
        world.channels.retain(|id| !gone.contains(id));
        if events.is_empty() {
            return;
        }
        for event in events {
            world.events.push(format!("Channel::{}", name_of(&event)));
        }
        world.carry();
    }
}

/// What is answered to a message that is not allowed where it comes.
const REFUSED: &str = "ends: UnexpectedMessage";
/// What is answered to DISCONNECT.
const DISCONNECTED: &str = "ends: Disconnected";

/// The name of an error: what is said and heard at the end has its own tests.
fn end_of(error: &Error) -> String {
    let error = match error {
        Error::Peer(error) => format!("{error:?}"),
        error => format!("{error:?}"),
    };
    format!("ends: {}", name_of(&error))
}

/// A variant's.
fn name_of(debug: &str) -> &str {
    debug.split(['(', ' ']).next().unwrap_or_default()
}

/// What comes of a word: for each letter the numbers of what is said, and the events.
fn ask(side: Side, alphabet: &[Letter], word: &[usize]) -> Vec<Answer> {
    // Counters would be states. Their limits have their own tests.
    let mut world = World::with(side, Offer::STRICT, |transport| {
        transport.limits.channels = 1;
        transport.limits.auth_failures = 1_000;
        transport.limits.public_key_queries = 1_000;
        transport.limits.cheap_rekeys = 1_000;
    });
    world.changes_passwords = true;
    let mut answers = Vec::new();
    for letter in word {
        world.forget();
        alphabet[*letter].1(&mut world);
        use_channels(&mut world);
        let closed = world.closed();
        let said = match &closed {
            Some(error) => vec![end_of(error)],
            None => {
                let numbers = world.numbers().into_iter().map(|number| number.to_string());
                let events = world.events.iter().filter(|event| *event != "Channel");
                numbers.chain(events.cloned()).collect()
            }
        };
        answers.push(Answer {
            text: said.join(", "),
            is_end: closed.is_some(),
        });
        if closed.is_some() {
            break;
        }
    }
    answers
}

fn authenticates(next: &Move) -> bool {
    next.answer.text.contains("Authenticated")
}

fn alphabet(side: Side) -> Vec<Letter> {
    let own = match side {
        Side::Client => &TO_CLIENT[..],
        Side::Server => &TO_SERVER[..],
    };
    [&COMMON, own].concat()
}

/// What shows the state behind a key exchange, wherever in it the connection is.
const fn phrases(side: Side) -> [&'static [&'static str]; 3] {
    match side {
        Side::Client => [&[], &["NEWKEYS"], &["KEX_ECDH_REPLY", "NEWKEYS"]],
        Side::Server => [&[], &["NEWKEYS"], &["KEX_ECDH_INIT", "NEWKEYS"]],
    }
}

struct Learned {
    alphabet: Vec<Letter>,
    machine: Machine,
}

impl Learned {
    fn new(side: Side) -> Self {
        let alphabet = alphabet(side);
        let letter = |name: &&str| {
            alphabet
                .iter()
                .position(|(known, _)| known == name)
                .unwrap()
        };
        let phrases = phrases(side)
            .into_iter()
            .map(|phrase| phrase.iter().map(letter).collect());
        let machine = Learner::new(alphabet.len(), phrases.collect(), |word| {
            ask(side, &alphabet, word)
        })
        .learn(500);
        Self { alphabet, machine }
    }

    fn name(&self, letter: usize) -> &'static str {
        self.alphabet[letter].0
    }

    /// The state behind these letters.
    fn behind(&self, names: &[&str]) -> usize {
        names.iter().fold(0, |state, name| {
            self.move_of(state, name).to.expect("it goes on")
        })
    }

    fn move_of(&self, state: usize, name: &str) -> &Move {
        let letter = self.alphabet.iter().position(|(known, _)| *known == name);
        &self.machine.states[state].moves[letter.expect("a letter")]
    }

    /// What is said and heard until a letter comes.
    fn until(&self, name: &str) -> BTreeSet<&str> {
        self.said_until(|letter, _| self.name(letter) == name)
    }

    fn said_until(&self, is_it: impl Fn(usize, &Move) -> bool) -> BTreeSet<&str> {
        let states = self.machine.reached_without(&is_it);
        self.machine
            .moves()
            .filter(|(from, letter, next)| states.contains(from) && !is_it(*letter, next))
            .flat_map(|(_, _, next)| next.answer.text.split(", "))
            .collect()
    }

    /// What is said and heard until a user is authenticated, and by what letters one is.
    fn until_authenticated(&self) -> (BTreeSet<&str>, BTreeSet<&str>) {
        let by = self
            .machine
            .moves()
            .filter(|(.., next)| authenticates(next));
        let by = by.map(|(_, letter, _)| self.name(letter)).collect();
        (self.said_until(|_, next| authenticates(next)), by)
    }

    /// What the peer may say in a state.
    fn allowed(&self, state: usize) -> Vec<&'static str> {
        let moves = self.machine.states[state].moves.iter().enumerate();
        moves
            .filter(|(_, next)| next.to.is_some())
            .map(|(letter, _)| self.name(letter))
            .filter(|name| !name.starts_with('('))
            .collect()
    }

    fn dot(&self, side: Side) -> String {
        let mut dot = format!(
            "// Learned by ../learned.rs. What is not here ends the connection: {REFUSED}.\ndigraph {side:?} {{\n"
        );
        for (i, state) in self.machine.states.iter().enumerate() {
            let access: Vec<_> = state
                .access
                .iter()
                .map(|letter| self.name(*letter))
                .collect();
            writeln!(dot, "    // {i}: {}", access.join(" / ")).unwrap();
        }
        let mut edges: BTreeMap<_, Vec<&str>> = BTreeMap::new();
        for (from, letter, next) in self.machine.moves() {
            edges
                .entry((from, next.to.unwrap_or(usize::MAX), &*next.answer.text))
                .or_default()
                .push(self.name(letter));
        }
        edges.retain(|(_, _, text), _| ![REFUSED, DISCONNECTED].contains(text));
        for ((from, to, text), letters) in edges {
            let to = match to {
                usize::MAX => "end".to_owned(),
                to => to.to_string(),
            };
            let letters = letters.join(" | ");
            writeln!(dot, "    {from} -> {to} [label=\"{letters}\\n{text}\"];").unwrap();
        }
        dot.push_str("}\n");
        dot
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test that compares with a file, and writes it"
)]
fn assert_reviewed(name: &str, learned: &str) {
    let path = format!(
        "{}/src/connection/tests/learned/{name}.dot",
        env!("CARGO_MANIFEST_DIR")
    );
    if std::env::var_os("LEARNED").is_some_and(|value| value == "write") {
        std::fs::write(&path, learned).unwrap();
    }
    let reviewed = std::fs::read_to_string(&path).unwrap();
    assert!(
        learned == reviewed,
        "{path} is not what was learned: LEARNED=write cargo test -p ssh-proto learned, and review it"
    );
}

static CLIENT: LazyLock<Learned> = LazyLock::new(|| Learned::new(Side::Client));
static SERVER: LazyLock<Learned> = LazyLock::new(|| Learned::new(Side::Server));

/// What is said and heard is among these; besides, nothing may be said, and misuse and an end are always possible.
#[track_caller]
fn assert_among(said: &BTreeSet<&str>, expected: &[&str]) {
    let always = ["", "misuse", REFUSED, DISCONNECTED];
    let expected = BTreeSet::from_iter(expected.iter().chain(&always).copied());
    assert_eq!(*said, expected);
}

#[test]
fn a_client_is_the_machine_that_was_reviewed() {
    assert_reviewed("client", &CLIENT.dot(Side::Client));
}

#[test]
fn a_server_is_the_machine_that_was_reviewed() {
    assert_reviewed("server", &SERVER.dot(Side::Server));
}

/// OpenSSH's PROTOCOL section 1.10: in a strict first exchange nothing is taken but what belongs to it.
#[test]
fn a_strict_first_exchange_has_one_way_through() {
    for (learned, method) in [(&*CLIENT, "KEX_ECDH_REPLY"), (&*SERVER, "KEX_ECDH_INIT")] {
        let kexinit = ["KEXINIT", "KEXINIT, wrong guess"];
        assert_eq!(learned.allowed(0), [&["IGNORE"][..], &kexinit].concat());
        // It has been said that it was strict too late to take it back: a packet was in front.
        assert_eq!(learned.allowed(learned.behind(&["IGNORE"])), ["IGNORE"]);
        for kexinit in kexinit {
            assert_eq!(learned.allowed(learned.behind(&[kexinit])), [method]);
            let behind = learned.behind(&[kexinit, method]);
            assert_eq!(learned.allowed(behind), ["NEWKEYS"]);
        }
    }
}

#[test]
fn nothing_is_said_without_new_keys_but_the_exchange() {
    assert_among(&CLIENT.until("NEWKEYS"), &["30", "21", "HostKeyOffered"]);
    assert_among(&SERVER.until("NEWKEYS"), &["31", "21"]);
}

#[test]
fn a_client_says_a_password_to_a_server_that_has_accepted_the_service_and_to_no_other() {
    let service = ["3", "5", "20", "21", "30", "HostKeyOffered", "Rekeyed"];
    assert_among(&CLIENT.until("SERVICE_ACCEPT"), &service);
}

#[test]
fn a_server_asks_nobody_who_has_not_asked_for_the_service() {
    let service = ["3", "20", "21", "31", "Rekeyed"];
    assert_among(&SERVER.until("SERVICE_REQUEST"), &service);
}

#[test]
fn a_client_is_authenticated_by_success_alone_and_does_nothing_before() {
    let (said, by) = CLIENT.until_authenticated();
    assert_eq!(by, BTreeSet::from(["USERAUTH_SUCCESS"]));
    let numbers = ["3", "5", "20", "21", "30", "50"];
    let events = [
        "HostKeyOffered",
        "Rekeyed",
        "AuthenticationRefused",
        "PasswordChangeRequested",
    ];
    assert_among(&said, &[&numbers[..], &events].concat());
    // Nor by a success that nothing was tried for.
    let login = ["KEXINIT", "KEX_ECDH_REPLY", "NEWKEYS", "SERVICE_ACCEPT"];
    let refused = CLIENT.behind(&[&login[..], &["USERAUTH_FAILURE"]].concat());
    assert_eq!(
        CLIENT.move_of(refused, "USERAUTH_SUCCESS").answer.text,
        REFUSED
    );
}

#[test]
fn a_server_authenticates_by_a_proof_alone_and_does_nothing_before() {
    let (said, by) = SERVER.until_authenticated();
    let proofs = [
        "USERAUTH_INFO_RESPONSE",
        "USERAUTH_REQUEST password",
        "USERAUTH_REQUEST publickey, signed",
    ];
    assert_eq!(by, BTreeSet::from(proofs));
    let numbers = ["3", "6", "20", "21", "31", "51", "60"];
    let events = ["Rekeyed", "KeyOffered", "LoginAttempted"];
    assert_among(&said, &[&numbers[..], &events].concat());
}

/// RFC 4252 section 5.1: "any further authentication requests received after that SHOULD be silently ignored".
#[test]
fn requests_behind_success_are_not_answered() {
    let before = SERVER
        .machine
        .reached_without(|_, next| authenticates(next));
    for (from, letter, next) in SERVER.machine.moves() {
        if !before.contains(&from) && SERVER.name(letter).starts_with("USERAUTH_REQUEST") {
            assert!(
                ["", REFUSED].contains(&&*next.answer.text),
                "{}",
                next.answer.text
            );
        }
    }
}

#[test]
fn a_disconnect_ends_it_everywhere() {
    for learned in [&*CLIENT, &*SERVER] {
        for state in 0..learned.machine.states.len() {
            let text = &learned.move_of(state, "DISCONNECT").answer.text;
            assert_eq!(text, DISCONNECTED);
        }
    }
}
