//! The state machine of a connection as its peer and its application meet it, learned from outside and not from the source
//! (as arXiv:2509.10895 did with other implementations): `learned/client.dot` and `learned/server.dot`, to be looked at with
//! Graphviz and reviewed when they change.
//!
//! What is not in them, and has other tests: questions that the application does not answer at once (input rests
//! meanwhile), what waits behind our own KEXINIT, time, limits, several channels, and some of the messages that change no state.
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
        world.confirm_open(0);
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
const TO_SERVER: [Letter; 11] = [
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
        signed(world, "alice")
    }),
    (
        "USERAUTH_REQUEST publickey, signed for another user",
        |world| {
            signed(world, "bob");
        },
    ),
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
    ("OPEN y@example.com", |world| known(world, 90)),
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

/// A request of alice, with a signature that is good for this user.
fn signed(world: &mut World, user: &str) {
    let key = user_key();
    let (algorithm, blob) = (SignatureAlgorithm::Ed25519, key.public().blob());
    let data = signed_data(world.session_id(), user, algorithm, blob);
    let signature = key.sign(algorithm, &data).unwrap();
    let mut fields = Vec::new();
    Writer::new(&mut fields)
        .boolean(true)
        .string(b"ssh-ed25519")
        .string(blob)
        .string(&signature);
    request(world, "publickey", &fields);
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
    if let Err(misuse) = done {
        world
            .events
            .push(format!("Misuse::{}", name_of(&format!("{misuse:?}"))));
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

/// At the end there may be a DISCONNECT, and what is open is over.
#[track_caller]
fn assert_says_no_more(world: &mut World) {
    let said = world.numbers();
    assert!(said.is_empty() || said == [1], "{said:?}");
    let is_end =
        |event: &String| ["Channel", "Channel::Closed", "Disconnected"].contains(&&**event);
    assert!(world.events.iter().all(is_end), "{:?}", world.events);
}

/// The name of an error: its message and its reason have their own tests.
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
            Some(error) => {
                assert_says_no_more(&mut world);
                vec![end_of(error)]
            }
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
    next.answer
        .text
        .split(", ")
        .any(|said| said == "Authenticated")
}

fn letter(alphabet: &[Letter], name: &str) -> usize {
    let is_it = |(known, _): &Letter| *known == name;
    alphabet.iter().position(is_it).expect("a letter")
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
        let letters = |names: &[&str]| names.iter().map(|name| letter(&alphabet, name)).collect();
        let phrases = phrases(side).into_iter().map(letters).collect();
        let ask = |word: &[usize]| ask(side, &alphabet, word);
        let machine = Learner::new(alphabet.len(), phrases, ask).learn(500);
        Self { alphabet, machine }
    }

    fn name(&self, letter: usize) -> &'static str {
        self.alphabet[letter].0
    }

    /// The state behind these letters.
    fn behind(&self, names: &[&str]) -> usize {
        let word = names.iter().map(|name| letter(&self.alphabet, name));
        let word: Vec<usize> = word.collect();
        self.machine.state_behind(&word).expect("it goes on")
    }

    fn answer(&self, state: usize, name: &str) -> &str {
        let letter = letter(&self.alphabet, name);
        &self.machine.states[state].moves[letter].answer.text
    }

    /// The states that are reached from one without these letters.
    fn reached(&self, from: usize, without: &[&str]) -> Vec<usize> {
        let cut = |letter, _: &Move| without.contains(&self.name(letter));
        self.machine.reached(from, cut)
    }

    /// What is said and heard until a letter comes.
    fn until(&self, name: &str) -> BTreeSet<&str> {
        self.said_until(|letter, _| self.name(letter) == name)
    }

    fn said_until(&self, is_it: impl Fn(usize, &Move) -> bool) -> BTreeSet<&str> {
        let states = self.machine.reached(0, &is_it);
        self.machine
            .moves()
            .filter(|(from, letter, next)| states.contains(from) && !is_it(*letter, next))
            .flat_map(|(_, _, next)| next.answer.text.split(", "))
            .collect()
    }

    /// What is said and heard until a user is authenticated, and by what letters one is.
    fn until_authenticated(&self) -> (BTreeSet<&str>, BTreeSet<&str>) {
        let all = self.machine.moves();
        let by = all.filter(|(.., next)| authenticates(next));
        let by = by.map(|(_, letter, _)| self.name(letter)).collect();
        (self.said_until(|_, next| authenticates(next)), by)
    }

    fn allows(&self, state: usize, name: &str) -> bool {
        let letter = letter(&self.alphabet, name);
        self.machine.states[state].moves[letter].to.is_some()
    }

    /// What the peer may say in a state.
    fn allowed(&self, state: usize) -> Vec<&'static str> {
        let names = self.alphabet.iter().map(|(name, _)| *name);
        names
            .filter(|name| !name.starts_with('(') && self.allows(state, name))
            .collect()
    }

    fn dot(&self, side: Side) -> String {
        let mut dot = format!(
            "// Learned by ../learned.rs. DISCONNECT ends every state, and so does what is not here: {REFUSED}.\ndigraph {side:?} {{\n"
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
                .entry((from, next.to.is_none(), next.to, &*next.answer.text))
                .or_default()
                .push(self.name(letter));
        }
        edges.retain(|(.., text), _| ![REFUSED, DISCONNECTED].contains(text));
        for ((from, _, to, text), letters) in edges {
            let to = to.map_or_else(|| "end".to_owned(), |to| to.to_string());
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

/// What is said and heard is this, besides nothing, misuse and the ends.
#[track_caller]
fn assert_said(said: &BTreeSet<&str>, expected: &[&str]) {
    let mut said = said.clone();
    said.retain(|text| {
        !["", REFUSED, DISCONNECTED].contains(text) && !text.starts_with("Misuse::")
    });
    assert_eq!(said, expected.iter().copied().collect());
}

#[test]
fn a_client_is_the_machine_that_was_reviewed() {
    assert_reviewed("client", &CLIENT.dot(Side::Client));
}

#[test]
fn a_server_is_the_machine_that_was_reviewed() {
    assert_reviewed("server", &SERVER.dot(Side::Server));
}

const METHODS: [(&LazyLock<Learned>, &str); 2] =
    [(&CLIENT, "KEX_ECDH_REPLY"), (&SERVER, "KEX_ECDH_INIT")];

/// OpenSSH's PROTOCOL section 1.10: in a strict first exchange nothing is taken but what belongs to it.
#[test]
fn a_strict_first_exchange_has_one_way_through() {
    for (learned, method) in METHODS {
        let kexinit = ["KEXINIT", "KEXINIT, wrong guess"];
        assert_eq!(learned.allowed(0), [&["IGNORE"][..], &kexinit].concat());
        // A KEXINIT that is strict must be the first packet: there is no way through any more.
        assert_eq!(learned.allowed(learned.behind(&["IGNORE"])), ["IGNORE"]);
        for kexinit in kexinit {
            assert_eq!(learned.allowed(learned.behind(&[kexinit])), [method]);
            let behind = learned.behind(&[kexinit, method]);
            assert_eq!(learned.allowed(behind), ["NEWKEYS"]);
        }
    }
}

/// RFC 4253 section 7.1: "Once a party has sent a SSH_MSG_KEXINIT message [...], until it has sent a SSH_MSG_NEWKEYS
/// message [...], it MUST NOT send any messages other than" those of the exchange.
#[test]
fn behind_a_kexinit_nothing_is_said_before_newkeys() {
    for (learned, method) in METHODS {
        let states = 0..learned.machine.states.len();
        let in_exchange: Vec<usize> = states.filter(|i| learned.allows(*i, method)).collect();
        assert!(in_exchange.len() > 5);
        for (from, letter, next) in learned.machine.moves() {
            if !in_exchange.contains(&from) || next.to.is_none() {
                continue;
            }
            let text = &next.answer.text;
            if learned.name(letter) == method {
                assert!(
                    text.starts_with("21") || text.starts_with("31, 21"),
                    "{text}"
                );
            } else {
                assert!(text.is_empty() || text.starts_with("Misuse::"), "{text}");
            }
        }
    }
}

#[test]
fn nothing_is_said_without_new_keys_but_the_exchange() {
    assert_said(&CLIENT.until("NEWKEYS"), &["30", "21", "HostKeyOffered"]);
    assert_said(&SERVER.until("NEWKEYS"), &["31", "21"]);
}

#[test]
fn a_client_says_a_password_to_a_server_that_has_accepted_the_service_and_to_no_other() {
    let service = ["3", "5", "20", "21", "30", "HostKeyOffered", "Rekeyed"];
    assert_said(&CLIENT.until("SERVICE_ACCEPT"), &service);
}

#[test]
fn a_server_asks_nobody_who_has_not_asked_for_the_service() {
    let service = ["3", "20", "21", "31", "Rekeyed"];
    assert_said(&SERVER.until("SERVICE_REQUEST"), &service);
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
    assert_said(&said, &[&numbers[..], &events].concat());
}

#[test]
fn a_success_that_nothing_was_tried_for_is_refused() {
    let login = [
        "KEXINIT",
        "KEX_ECDH_REPLY",
        "NEWKEYS",
        "SERVICE_ACCEPT",
        "USERAUTH_FAILURE",
    ];
    assert!(CLIENT.allows(CLIENT.behind(&login[..4]), "USERAUTH_SUCCESS"));
    let before = CLIENT.reached(0, &["SERVICE_ACCEPT"]);
    let refused = CLIENT.reached(CLIENT.behind(&login), &["(authenticates)"]);
    for state in before.into_iter().chain(refused) {
        assert_eq!(CLIENT.answer(state, "USERAUTH_SUCCESS"), REFUSED);
    }
}

const PROMPTED: &str = "USERAUTH_REQUEST keyboard-interactive";

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
    assert_said(&said, &[&numbers[..], &events].concat());
}

#[test]
fn answers_to_prompts_that_nobody_asked_are_refused() {
    let login = [
        "KEXINIT",
        "KEX_ECDH_INIT",
        "NEWKEYS",
        "SERVICE_REQUEST",
        PROMPTED,
    ];
    assert!(SERVER.allows(SERVER.behind(&login), "USERAUTH_INFO_RESPONSE"));
    let other = [&login[..], &["USERAUTH_REQUEST wrong password"]].concat();
    for from in [0, SERVER.behind(&other)] {
        for state in SERVER.reached(from, &[PROMPTED]) {
            assert_eq!(SERVER.answer(state, "USERAUTH_INFO_RESPONSE"), REFUSED);
        }
    }
}

/// RFC 4252 section 5.1: "any further authentication requests received after that SHOULD be silently ignored".
#[test]
fn requests_behind_success_are_ignored() {
    let before = SERVER.machine.reached(0, |_, next| authenticates(next));
    let mut ignored = 0;
    for state in 0..SERVER.machine.states.len() {
        // In a key exchange there is no place for them.
        let expected = match SERVER.answer(state, "PING") {
            "193" => "",
            _ => REFUSED,
        };
        if before.contains(&state) {
            continue;
        }
        for (name, _) in TO_SERVER {
            if name.starts_with("USERAUTH_REQUEST") {
                assert_eq!(SERVER.answer(state, name), expected, "{name} in {state}");
                ignored += usize::from(expected.is_empty());
            }
        }
    }
    assert!(ignored > 0);
}

#[test]
fn a_disconnect_ends_it_everywhere() {
    for (learned, _) in METHODS {
        for state in 0..learned.machine.states.len() {
            assert_eq!(learned.answer(state, "DISCONNECT"), DISCONNECTED);
        }
    }
}
