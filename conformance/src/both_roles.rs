//! Everything with a peer that is told what to do ([`Actor`]): its server with our client, its client with our server.
//!
//! These are tools for tests: they panic instead of returning errors.

use std::time::Duration;

use ssh_blocking::ssh_proto::names::{Algorithm, Preference, SignatureAlgorithm};
use ssh_blocking::ssh_proto::{AuthMethod, OpenFailureReason, PromptRound, Secret};
use ssh_blocking::{AuthOutcome, Client, ForwardPolicy};
use tempfile::TempDir;

use crate::commands::{self, Killed};
use crate::forwards::LEN;
use crate::logins::{Answers, assert_in, assert_refused, rounds};
use crate::ours::{Accounts, OurServer, connect, private_key, public_key};
use crate::peers::{
    Actor, ActorServer, ActorSession, Answer, KeyKind, KeyPair, ServerPeer, Sshd, Version,
};
use crate::suites::{
    self, HostKeys, Missing, Offer, client_with_our_server, our_client_with_server, suites,
};
use crate::tcp::{
    echo_target, ends_at_once, exchange_tcp, free_port, mirror_target, wait_until_closed,
};

const TIME: Duration = Duration::from_secs(60);
const PASSWORD: &str = "with:colons, blanks & umläuts";

/// A peer, and what is particular about it.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "a table of a test")]
pub struct Peer {
    /// Its program.
    pub actor: fn() -> &'static Actor,
    /// The algorithms of ours that it does not have.
    pub missing: Missing<'static>,
    /// What its server does about commands that are killed.
    pub killed: Killed,
    /// What its client knows of a command that was killed by SIGTERM: the status, and the signal's name.
    pub told_of_term: (&'static str, &'static str),
    /// Its client has a handler for each listener of the server. If not, one cancel ends all.
    pub listeners_of_their_own: bool,
}

impl Peer {
    fn actor(self) -> &'static Actor {
        (self.actor)()
    }

    /// A server of the peer with an Ed25519 host key, and these fields beside.
    #[track_caller]
    fn serve(self, fields: &[(&str, &str)]) -> ActorServer {
        let folder = temporary();
        let key = generate(&folder, KeyKind::Ed25519);
        self.actor().serve(&[&key], fields)
    }

    /// Our client, logged in on a server of the peer that lets in everybody.
    ///
    /// # Panics
    /// If it is not let in.
    #[must_use]
    #[track_caller]
    pub fn our_client(self) -> (Client, ActorServer) {
        let server = self.serve(&[("none", "1")]);
        let client = connect(&server, |_| {});
        log_in_without_proof(&server, &client);
        (client, server)
    }

    /// A client of the peer, logged in on a server of ours that lets in everybody.
    ///
    /// # Panics
    /// If it is not let in.
    #[must_use]
    #[track_caller]
    pub fn their_client(self, forwards: ForwardPolicy) -> (ActorSession, OurServer) {
        let accounts = Accounts {
            open: true,
            forwards,
            ..Accounts::default()
        };
        let server = OurServer::start(accounts, |_| {});
        let (session, answer) = self.connect(&server, &[]);
        assert_eq!(answer.text("success"), "1", "{}", answer.text("said"));
        (session, server)
    }

    /// A client of the peer that has exchanged keys with our server, and logged in unless that was refused.
    #[track_caller]
    fn connect(self, server: &OurServer, fields: &[(&str, &str)]) -> (ActorSession, Answer) {
        let mut session = self.actor().session();
        let port = server.address().port().to_string();
        let host_key = server.host_key().to_openssh("");
        let mut all = vec![("port", port.as_str()), ("pinned", host_key.trim())];
        all.extend(fields);
        let answer = session.ask("connect", &all);
        (session, answer)
    }

    // Algorithms.

    /// Our client with its server, on everything that both have.
    ///
    /// # Panics
    /// If something does not work.
    #[track_caller]
    pub fn our_client_agrees_on_everything(self) {
        let keys = HostKeys::generate();
        let server = self.actor().serve(&keys.pairs(), &[("none", "1")]);
        let suites = suites(&Offer::of_server(server.address()), self.missing);
        let log_in = |client: &Client| log_in_without_proof(&server, client);
        our_client_with_server(&server, &suites, log_in, |_, _| {});
    }

    /// Its client with our server, on everything that both have.
    ///
    /// # Panics
    /// If something does not work.
    #[track_caller]
    pub fn their_client_agrees_on_everything(self) {
        let accounts = Accounts {
            open: true,
            ..Accounts::default()
        };
        // Some ask for algorithms of the keys that they know only.
        let keys = HostKeys::generate();
        let lines: Vec<_> = keys.pairs().iter().map(|key| key.public.as_str()).collect();
        let offer = Offer::of_client(|address| {
            let port = address.port().to_string();
            let fields = [("port", port.as_str()), ("pinned", &lines.join("\n"))];
            // It is hung up on.
            let _ = self.actor().session().try_ask("connect", &fields);
        });
        let suites = suites(&offer, self.missing);
        client_with_our_server(&accounts, &keys, &suites, |suite, server| {
            let (mut session, answer) = self.connect(server, &[]);
            for direction in ["sends", "receives"] {
                let (cipher, mac) = answer.text(direction).split_once(' ').unwrap_or_default();
                assert_eq!(cipher, suite.cipher.name());
                assert!(suite.cipher.is_aead() || mac == suite.mac.name(), "{mac}");
            }
            echo(&mut session, "cat", suites::LEN, "0");
        });
    }

    /// New keys, as often as its client and its server ask for them, while data flows.
    ///
    /// # Panics
    /// If something does not work.
    #[track_caller]
    pub fn both_sides_rekey_under_load(self) {
        let every = "300000";
        let server = self.serve(&[("none", "1"), ("rekey", every)]);
        for ours in [None, Some(200_000)] {
            let client = connect(&server, |config| {
                config.transport.rekey.bytes = ours.unwrap_or(1 << 30);
            });
            log_in_without_proof(&server, &client);
            commands::echo(&client, 4 << 20);
            assert!(client.rekeys() > 3, "{} exchanges", client.rekeys());
        }
        for ours in [1 << 30, 200_000] {
            let accounts = Accounts {
                open: true,
                ..Accounts::default()
            };
            let server = OurServer::start(accounts, |config| {
                config.transport.rekey.bytes = ours;
            });
            let (mut session, _) = self.connect(&server, &[("rekey", every)]);
            echo(&mut session, "cat", 4 << 20, "0");
            let rekeys: Vec<_> = server
                .connections()
                .iter()
                .map(|one| one.rekeys())
                .collect();
            assert!(rekeys.iter().all(|&rekeys| rekeys > 3), "{rekeys:?}");
        }
    }

    // Commands.

    /// Commands of its client on our server.
    ///
    /// # Panics
    /// If something does not work.
    #[track_caller]
    pub fn their_client_runs_commands(self) {
        let (mut session, _server) = self.their_client(ForwardPolicy::new());
        let answer = echo(
            &mut session,
            "cat; echo said >&2; exit 7",
            commands::LEN,
            "7",
        );
        assert_eq!(answer.text("stderr"), "said\n");
        for code in ["0", "1", "127", "255"] {
            let command = format!("exit {code}");
            let answer = session.ask("exec", &[("command", &command)]);
            assert_eq!(answer.text("status"), code);
        }
        let len = commands::LEN.to_string();
        let answer = session.ask("exec", &[("command", "wc -c"), ("size", &len)]);
        assert_eq!(answer.text("stdout"), format!("{len}\n"));
        let flood = format!("head -c {len} /dev/zero & head -c {len} /dev/zero >&2; wait");
        let answer = session.ask("exec", &[("command", &flood)]);
        assert_eq!(answer.text("stderr_len"), len);
        let answer = session.ask("exec", &[("command", "kill -TERM $$")]);
        let told = (answer.text("status"), answer.text("signal"));
        assert_eq!(told, self.told_of_term);
    }

    // Forwarding.

    /// `direct-tcpip` of its client on our server.
    ///
    /// # Panics
    /// If something does not work.
    #[track_caller]
    pub fn our_server_connects(self) {
        let (mut session, _server) = self.their_client(forwarding());
        for target in [mirror_target(), echo_target()] {
            let (port, size) = (target.port().to_string(), LEN.to_string());
            let answer = session.ask("direct", &[("port", &port), ("size", &size)]);
            assert_eq!(answer.text("len"), size);
            assert_eq!(answer.text("sent"), answer.text("received"));
        }
        let nobody = free_port().to_string();
        let answer = session.ask("direct", &[("port", &nobody), ("size", "1")]);
        let reason = OpenFailureReason::CONNECT_FAILED;
        assert_eq!(answer.number("refused"), i64::from(reason.0));
        goes_on(&mut session);
    }

    /// `tcpip-forward` of its client on our server.
    ///
    /// # Panics
    /// If something does not work.
    #[track_caller]
    pub fn our_server_listens_until_it_is_cancelled(self) {
        let (mut session, server) = self.their_client(forwarding());
        let (mirror, echo) = (mirror_target(), echo_target());
        let mut listen = |port: u16, target: u16| {
            let (port, target) = (port.to_string(), target.to_string());
            let fields = [("address", ""), ("port", &*port), ("target", &*target)];
            u16::try_from(session.ask("listen", &fields).number("port")).unwrap_or(0)
        };
        let fixed = free_port();
        assert_eq!(listen(fixed, mirror.port()), fixed);
        exchange_tcp(&crate::tcp::connect(fixed), LEN);
        let chosen = listen(0, echo.port());
        assert_ne!(chosen, 0);
        exchange_tcp(&crate::tcp::connect(chosen), LEN);
        let port = fixed.to_string();
        session.ask("cancel", &[("address", ""), ("port", &port)]);
        wait_until_closed(fixed);
        server.seen().wait_for("cancelled", TIME);
        // The other one is still there, until the client goes.
        if self.listeners_of_their_own {
            exchange_tcp(&crate::tcp::connect(chosen), LEN);
        } else {
            assert!(ends_at_once(&crate::tcp::connect(chosen)));
        }
        drop(session);
        wait_until_closed(chosen);
    }

    /// Nothing is forwarded by a server of ours that was not told to.
    ///
    /// # Panics
    /// If something is.
    #[track_caller]
    pub fn our_server_forwards_nothing_unless_it_is_told_to(self) {
        let (mut session, _server) = self.their_client(ForwardPolicy::new());
        let target = mirror_target().port().to_string();
        let answer = session.ask("direct", &[("port", &target), ("size", "1")]);
        let reason = OpenFailureReason::ADMINISTRATIVELY_PROHIBITED;
        assert_eq!(answer.number("refused"), i64::from(reason.0));
        let fields = [("address", ""), ("port", "0"), ("target", &*target)];
        let listening = session.try_ask("listen", &fields);
        assert!(listening.is_err(), "{listening:?}");
        goes_on(&mut session);
    }

    // Authentication of our client.

    /// Keys of every kind, with every signature that they can make.
    ///
    /// # Panics
    /// If something does not work.
    #[track_caller]
    pub fn every_kind_of_key_logs_our_client_in(self) {
        let folder = temporary();
        let keys = KeyKind::all().map(|kind| generate(&folder, kind));
        let lines: Vec<_> = keys.iter().map(|key| key.public.as_str()).collect();
        let server = self.serve(&[("keys", &lines.join("\n"))]);
        let mut tried = 0;
        for key in &keys {
            for name in key.kind.algorithms() {
                let client = connect(&server, |config| {
                    let only = Preference::parse(name).unwrap_or_default();
                    config.transport.algorithms.user_keys = only;
                });
                let outcome = client.auth_public_key(Sshd::USER, private_key(key));
                assert_success(&server, outcome);
                assert_in(&client);
                tried += 1;
            }
        }
        assert_eq!(tried, SignatureAlgorithm::ALL.len());
        let server = self.serve(&[("keys", lines[0])]);
        let client = connect(&server, |_| {});
        let refused = client.auth_public_key(Sshd::USER, private_key(&keys[4]));
        assert_refused(expect(&server, refused), &["publickey"], false);
        let right = client.auth_public_key(Sshd::USER, private_key(&keys[0]));
        assert_success(&server, right);
    }

    /// A password, a wrong one before it, and no proof at all.
    ///
    /// # Panics
    /// If something does not work.
    #[track_caller]
    pub fn a_password_lets_our_client_in(self) {
        let server = self.serve(&[("password", PASSWORD)]);
        let client = connect(&server, |_| {});
        let none = client.auth_none(Sshd::USER);
        assert_refused(expect(&server, none), &["password"], false);
        let wrong = client.auth_password(Sshd::USER, "wrong");
        assert_refused(expect(&server, wrong), &["password"], false);
        assert_success(&server, client.auth_password(Sshd::USER, PASSWORD));
        assert_in(&client);
    }

    /// Rounds of questions: few of different kinds, and many.
    ///
    /// # Panics
    /// If something does not work.
    #[track_caller]
    pub fn our_client_answers_rounds_of_questions(self) {
        for rounds in [rounds(), many_rounds()] {
            let server = self.serve(&[("rounds", &table(&rounds))]);
            let client = connect(&server, |_| {});
            let mut wrong = rounds.clone();
            wrong[0].1[0] = "wrong".to_owned();
            let mut answers = Answers::new(wrong);
            let refused =
                client.auth_keyboard_interactive(Sshd::USER, |prompts| answers.next(prompts));
            assert_refused(expect(&server, refused), &["keyboard-interactive"], false);
            assert_eq!(answers.asked, 1);
            let mut answers = Answers::new(rounds.clone());
            let outcome =
                client.auth_keyboard_interactive(Sshd::USER, |prompts| answers.next(prompts));
            assert_success(&server, outcome);
            assert!(answers.as_expected, "{rounds:?}");
            assert_eq!(answers.asked, rounds.len());
            assert_in(&client);
        }
    }

    /// A key and a password, both of which must be shown.
    ///
    /// # Panics
    /// If something does not work.
    #[track_caller]
    pub fn our_client_passes_several_factors(self) {
        let folder = temporary();
        let key = generate(&folder, KeyKind::EcdsaP256);
        let server = self.serve(&[
            ("keys", &key.public),
            ("password", PASSWORD),
            ("rounds", &table(&rounds())),
            ("factors", "publickey\npassword\nkeyboard-interactive"),
        ]);
        let client = connect(&server, |_| {});
        let first = client.auth_public_key(Sshd::USER, private_key(&key));
        assert_refused(expect(&server, first), &["password"], true);
        let second = client.auth_password(Sshd::USER, PASSWORD);
        assert_refused(expect(&server, second), &["keyboard-interactive"], true);
        let mut answers = Answers::new(rounds());
        let third = client.auth_keyboard_interactive(Sshd::USER, |prompts| answers.next(prompts));
        assert_success(&server, third);
        assert_in(&client);
    }

    /// A password that has expired (RFC 4252 section 8).
    ///
    /// # Panics
    /// If something does not work.
    #[track_caller]
    pub fn our_client_changes_an_expired_password(self) {
        let server = self.serve(&[("password", PASSWORD), ("new_password", "new")]);
        let client = connect(&server, |_| {});
        match expect(&server, client.auth_password(Sshd::USER, PASSWORD)) {
            AuthOutcome::PasswordExpired { prompt } => {
                assert_eq!(prompt, "Your password has expired.");
            }
            other => panic!("{other:?}"),
        }
        for (new, right) in [("wrong", false), ("new", true)] {
            let outcome =
                client.auth_password_with_change(Sshd::USER, PASSWORD, |_| Some(Secret::from(new)));
            let outcome = expect(&server, outcome);
            assert_eq!(outcome.success(), right, "{new}: {outcome:?}");
        }
        assert_in(&client);
    }

    // Authentication of its client.

    /// Keys of every kind, with every signature that they can make.
    ///
    /// # Panics
    /// If something does not work.
    #[track_caller]
    pub fn every_kind_of_key_logs_their_client_in(self) {
        let folder = temporary();
        let keys = KeyKind::all().map(|kind| generate(&folder, kind));
        let accounts = Accounts {
            keys: keys[..4].iter().map(public_key).collect(),
            ..Accounts::default()
        };
        let log_in = |server: &OurServer, key: &KeyPair, signature: &str| {
            let path = key.path.display().to_string();
            let fields = [
                ("methods", "publickey"),
                ("key", &*path),
                ("signature", signature),
            ];
            self.connect(server, &fields)
        };
        let few = OurServer::start(accounts.clone(), |_| {});
        let (_session, answer) = log_in(&few, &keys[4], "");
        assert_eq!(answer.text("success"), "0");
        let server = OurServer::start(
            Accounts {
                keys: keys.iter().map(public_key).collect(),
                ..accounts
            },
            |_| {},
        );
        for key in &keys {
            for name in key.kind.algorithms() {
                // A server that takes no other signature: it says so in `server-sig-algs`.
                let strict = OurServer::start(
                    Accounts {
                        keys: vec![public_key(key)],
                        ..Accounts::default()
                    },
                    |config| {
                        let only = Preference::parse(name).unwrap_or_default();
                        config.transport.algorithms.user_keys = only;
                    },
                );
                for (server, signature) in [(&server, *name), (&strict, "")] {
                    let (mut session, answer) = log_in(server, key, signature);
                    assert_eq!(answer.text("success"), "1", "{name}: {answer:?}");
                    goes_on(&mut session);
                }
            }
        }
    }

    /// A password, and no proof at all; neither lets in where the other is wanted.
    ///
    /// # Panics
    /// If something does not work.
    #[track_caller]
    pub fn a_password_lets_their_client_in(self) {
        let accounts = Accounts {
            password: Some(PASSWORD.into()),
            ..Accounts::default()
        };
        let server = OurServer::start(accounts, |_| {});
        for (password, success) in [("wrong", "0"), (PASSWORD, "1")] {
            let fields = [("methods", "password"), ("password", password)];
            let (_session, answer) = self.connect(&server, &fields);
            assert_eq!(answer.text("success"), success, "{}", answer.text("said"));
        }
        let (_session, answer) = self.connect(&server, &[]);
        assert_eq!(answer.text("success"), "0", "{}", answer.text("said"));
        let (mut session, _server) = self.their_client(ForwardPolicy::new());
        goes_on(&mut session);
    }

    /// Rounds of questions: few of different kinds, and many.
    ///
    /// # Panics
    /// If something does not work.
    #[track_caller]
    pub fn their_client_answers_rounds_of_questions(self) {
        for rounds in [rounds(), many_rounds()] {
            let answers: Vec<_> = rounds
                .iter()
                .map(|(_, answers)| answers.join("\t"))
                .collect();
            let accounts = Accounts {
                rounds,
                ..Accounts::default()
            };
            let server = OurServer::start(accounts, |_| {});
            let log_in = |answers: &str| {
                let fields = [("methods", "keyboard-interactive"), ("answers", answers)];
                let (_session, answer) = self.connect(&server, &fields);
                answer.text("success") == "1"
            };
            assert!(!log_in("wrong\twrong"));
            assert!(log_in(&answers.join("\n")));
        }
    }

    /// A key, a password and answers, all of which must be shown.
    ///
    /// # Panics
    /// If something does not work.
    #[track_caller]
    pub fn their_client_passes_several_factors(self) {
        let folder = temporary();
        let key = generate(&folder, KeyKind::Ed25519);
        let accounts = Accounts {
            keys: vec![public_key(&key)],
            password: Some(PASSWORD.into()),
            rounds: rounds(),
            factors: vec![
                AuthMethod::PublicKey,
                AuthMethod::Password,
                AuthMethod::KeyboardInteractive,
            ],
            ..Accounts::default()
        };
        let server = OurServer::start(accounts, |_| {});
        let path = key.path.display().to_string();
        let mut fields = vec![
            ("methods", "publickey\npassword\nkeyboard-interactive"),
            ("key", &*path),
            ("password", PASSWORD),
            ("answers", "blue\t42\n\nyes"),
        ];
        let (mut session, answer) = self.connect(&server, &fields);
        assert_eq!(answer.text("success"), "1", "{}", answer.text("said"));
        goes_on(&mut session);
        fields[0].1 = "publickey\npassword";
        let (_session, answer) = self.connect(&server, &fields);
        assert_eq!(answer.text("success"), "0", "{}", answer.text("said"));
    }

    /// A password that has expired (RFC 4252 section 8).
    ///
    /// # Panics
    /// If something does not work.
    #[track_caller]
    pub fn their_client_changes_an_expired_password(self) {
        let accounts = Accounts {
            password: Some(PASSWORD.into()),
            new_password: Some("new".into()),
            ..Accounts::default()
        };
        let server = OurServer::start(accounts, |_| {});
        for (new, success) in [("wrong", "0"), ("new", "1")] {
            let fields = [
                ("methods", "password"),
                ("password", PASSWORD),
                ("new_password", new),
            ];
            let (_session, answer) = self.connect(&server, &fields);
            let said = answer.text("said");
            assert_eq!(answer.text("success"), success, "{said}");
            assert!(said.contains("Your password has expired."), "{said}");
        }
    }
}

fn temporary() -> TempDir {
    tempfile::tempdir().unwrap_or_else(|error| panic!("no temporary folder: {error}"))
}

#[track_caller]
fn generate(folder: &TempDir, kind: KeyKind) -> KeyPair {
    KeyPair::generate(Version::V10_0, kind, &folder.path().join(kind.name()), "")
}

fn forwarding() -> ForwardPolicy {
    ForwardPolicy::new().listen_on_loopback().connect(|_| true)
}

#[track_caller]
fn expect<E: std::fmt::Display>(
    server: &ActorServer,
    outcome: Result<AuthOutcome, E>,
) -> AuthOutcome {
    outcome.unwrap_or_else(|error| panic!("{error}\n{}", server.log()))
}

#[track_caller]
fn assert_success<E: std::fmt::Display>(server: &ActorServer, outcome: Result<AuthOutcome, E>) {
    let outcome = expect(server, outcome);
    assert!(outcome.success(), "{outcome:?}\n{}", server.log());
}

#[track_caller]
fn log_in_without_proof(server: &ActorServer, client: &Client) {
    assert_success(server, client.auth_none(Sshd::USER));
}

/// The peer's client sends so much through a command that gives it back, and expects what it sent.
#[track_caller]
fn echo(session: &mut ActorSession, command: &str, len: usize, status: &str) -> Answer {
    let len = len.to_string();
    let answer = session.ask("exec", &[("command", command), ("size", &len)]);
    assert_eq!(answer.text("stdout_sha256"), answer.text("sent_sha256"));
    assert_eq!(answer.text("status"), status);
    answer
}

#[track_caller]
fn goes_on(session: &mut ActorSession) {
    let answer = session.ask("exec", &[("command", "echo on")]);
    assert_eq!(answer.text("stdout"), "on\n");
}

/// More rounds than anybody has hands to type.
fn many_rounds() -> Vec<(PromptRound, Vec<String>)> {
    (0..20)
        .map(|number| {
            let round = PromptRound::new(format!("Round {number}"), "")
                .with_prompt(format!("Question {number}: "), number % 2 == 0);
            (round, vec![format!("answer {number}")])
        })
        .collect()
}

/// The form in which an actor's server takes rounds: see `peers/control.py`.
fn table(rounds: &[(PromptRound, Vec<String>)]) -> String {
    let lines: Vec<_> = rounds
        .iter()
        .map(|(round, answers)| {
            let mut fields = vec![round.name.clone(), round.instruction.clone()];
            for (prompt, answer) in round.prompts.iter().zip(answers) {
                let echo = if prompt.echo { "1" } else { "0" };
                fields.extend([prompt.text.clone(), echo.to_owned(), answer.clone()]);
            }
            fields.join("\t")
        })
        .collect();
    lines.join("\n")
}
