//! A server against a client that does what it must not, and its limits at their edges.

use super::*;
use crate::auth::Proof;
use crate::auth::prompt::PromptRound;
use crate::error::{DisconnectReason, PeerError};
use crate::names::Algorithm;

const FAILED: &str = "publickey,password,keyboard-interactive";

fn listening() -> ServerEnd {
    ServerEnd::listening(server_config())
}

/// One that has a round out.
fn prompting(prompts: u8) -> ServerEnd {
    let mut server = listening();
    server.handle(&interactive_request("alice")).unwrap();
    let attempt = server.attempt();
    let mut round = PromptRound::default();
    for _ in 0..prompts {
        round = round.with_prompt("Code: ", false);
    }
    server
        .auth
        .prompt(attempt, &round, &mut server.ways.cx())
        .unwrap();
    server.ways.sent();
    server
}

#[test]
fn only_the_messages_of_a_state_are_taken_in_it() {
    let states = || {
        let mut started = ServerEnd::new(server_config());
        started.auth.start();
        let mut authenticated = listening();
        authenticated
            .handle(&password_request("alice", "p"))
            .unwrap();
        let attempt = authenticated.attempt();
        authenticated.grant(attempt).unwrap();
        let none: &[u8] = &[];
        [
            ("new", ServerEnd::new(server_config()), none),
            ("started", started, &[5]),
            ("listening", listening(), &[5, 50]),
            ("prompting", prompting(0), &[5, 50, 61]),
            ("authenticated", authenticated, &[50]),
        ]
    };
    for number in 0..=255 {
        for (name, mut server, legal) in states() {
            let before = server.auth.is_authenticated();
            server.ways.sent();
            let outcome = server.handle(&match number {
                5 | 6 => [&[number][..], b"\0\0\0\x0cssh-userauth"].concat(),
                50 => password_request("alice", "p"),
                51 => failure("password", false),
                61 => b"\x3d\0\0\0\0".to_vec(),
                number => vec![number],
            });
            if legal.contains(&number) {
                assert_eq!(outcome, Ok(()), "{number} in {name}");
            } else {
                assert!(
                    matches!(
                        outcome,
                        Err(Error::Peer(PeerError::UnexpectedMessage { message, .. })) if message == number
                    ),
                    "{number} in {name}: {outcome:?}"
                );
                assert!(server.ways.sent().is_empty(), "{number} in {name}");
            }
            assert_eq!(server.auth.is_authenticated(), before, "{number} in {name}");
        }
    }
}

#[test]
fn another_service_ends_the_connection() {
    let mut server = ServerEnd::new(server_config());
    server.auth.start();
    let error = server.handle(b"\x05\0\0\0\x0essh-connection").unwrap_err();
    assert_eq!(
        error.disconnect_reason(),
        Some(DisconnectReason::SERVICE_NOT_AVAILABLE)
    );
}

#[test]
fn requests_after_success_are_ignored() {
    let mut server = listening();
    server.handle(&password_request("alice", "p")).unwrap();
    let attempt = server.attempt();
    server.grant(attempt).unwrap();
    server.ways.sent();
    server.ways.events.poll();
    for _ in 0..1_000 {
        server.handle(&password_request("root", "p")).unwrap();
    }
    assert!(server.ways.sent().is_empty() && server.ways.events.is_empty());
    assert_eq!(server.auth.user(), Some("alice"));
}

#[test]
fn another_service_name_is_refused_and_flushes() {
    let mut server = listening();
    server.handle(&password_request("alice", "p")).unwrap();
    let attempt = server.attempt();
    server.partial(attempt, &[AuthMethod::PublicKey]).unwrap();
    assert_eq!(server.ways.sent(), [failure("publickey", true)]);
    for service in ["ssh-userauth", "", "ssh-connection\0"] {
        let fields = b"\0\0\0\0\x01p";
        server
            .handle(&request("alice", service, "password", fields))
            .unwrap();
        assert_eq!(server.ways.sent(), [failure(FAILED, false)]);
    }
    server.handle(&password_request("alice", "p")).unwrap();
    assert!(server.attempt().completed().is_empty());
}

#[test]
fn methods_that_are_not_offered_are_refused() {
    let mut config = server_config();
    config.auth_methods = vec![AuthMethod::PublicKey];
    let mut server = ServerEnd::listening(config);
    for method in [
        "password",
        "keyboard-interactive",
        "hostbased",
        "gssapi-with-mic",
        "Publickey",
    ] {
        server
            .handle(&request("alice", "ssh-connection", method, b"?"))
            .unwrap();
        assert_eq!(server.ways.sent(), [failure("publickey", false)]);
    }
    assert!(server.ways.events.is_empty());
}

#[test]
fn a_signature_must_be_over_this_very_request() {
    use SignatureAlgorithm::Ed25519;
    let (key, other) = (ed25519(1), ed25519(2));
    let good = key_request("alice", &key, Ed25519, Some(Ed25519));
    let foreign = key_request("alice", &other, Ed25519, Some(Ed25519));
    let mut changed = vec![
        // Another user with the same signature.
        [&request("alicf", "", "", b"")[..10], &good[10..]].concat(),
        // The signature of another key.
        [&good[..good.len() - 64], &foreign[foreign.len() - 64..]].concat(),
        // Another key with the signature of this one.
        [&foreign[..foreign.len() - 64], &good[good.len() - 64..]].concat(),
    ];
    // One bit of the key, of the algorithm inside the signature, of the signature.
    for at in [good.len() - 100, good.len() - 70, good.len() - 1] {
        let mut one = good.clone();
        one[at] ^= 1;
        changed.push(one);
    }
    for payload in changed {
        let mut server = listening();
        assert_ne!(payload, good);
        server.handle(&payload).unwrap();
        assert!(server.ways.events.is_empty(), "nobody is asked");
        assert_eq!(server.ways.sent(), [failure(FAILED, false)]);
    }
    let mut server = listening();
    let session = SessionInfo {
        id: b"another session",
        peer_algorithms: None,
    };
    server
        .auth
        .handle(&good, &session, &mut server.ways.cx())
        .unwrap();
    assert!(server.ways.events.is_empty());
    let mut server = listening();
    server.handle(&good).unwrap();
    let attempt = server.attempt();
    server.grant(attempt).unwrap();
}

#[test]
fn the_algorithm_of_the_signature_is_the_one_of_the_request() {
    let keys = [ed25519(1), p256(), Arc::clone(&RSA)];
    for key in &keys {
        for &named in SignatureAlgorithm::ALL {
            for &signed in key.public().algorithms() {
                let mut server = listening();
                server
                    .handle(&key_request("alice", key, named, Some(signed)))
                    .unwrap();
                let asked = !server.ways.events.is_empty();
                assert_eq!(asked, named == signed, "{named} {signed}");
                assert_eq!(server.ways.sent().len(), usize::from(!asked));
            }
        }
    }
}

#[test]
fn an_algorithm_that_is_not_configured_is_not_taken() {
    for &allowed in SignatureAlgorithm::ALL {
        for key in [ed25519(1), p256(), Arc::clone(&RSA)] {
            for &used in key.public().algorithms() {
                for signed in [None, Some(used)] {
                    let mut config = server_config();
                    config.transport.algorithms.user_keys = allowed.name().parse().unwrap();
                    let mut server = ServerEnd::listening(config);
                    server
                        .handle(&key_request("alice", &key, used, signed))
                        .unwrap();
                    assert_eq!(!server.ways.events.is_empty(), allowed == used);
                }
            }
        }
    }
}

#[test]
fn a_key_other_than_the_accepted_one_is_asked_about_again() {
    use SignatureAlgorithm::Ed25519;
    let (accepted, other) = (ed25519(1), ed25519(2));
    let mut server = listening();
    server
        .handle(&key_request("alice", &accepted, Ed25519, None))
        .unwrap();
    let offer = server.offer();
    server
        .auth
        .accept_key(offer, &mut server.ways.cx())
        .unwrap();
    server
        .handle(&key_request("alice", &other, Ed25519, Some(Ed25519)))
        .unwrap();
    let attempt = server.attempt();
    assert!(matches!(attempt.proof(), Proof::PublicKey(key) if key == other.public()));
    server.refuse(attempt).unwrap();
    assert_eq!(server.auth.user(), None);
}

#[test]
fn the_sixth_failure_is_the_last() {
    let mut server = listening();
    for number in 1..=6 {
        server.handle(&password_request("alice", "wrong")).unwrap();
        let attempt = server.attempt();
        server.refuse(attempt).unwrap();
        if number < 6 {
            assert_eq!(server.ways.sent(), [failure(FAILED, false)]);
        }
    }
    assert!(server.auth.is_held());
    assert_eq!(server.wait(), Err(PeerError::TooManyAuthFailures.into()));
    assert!(server.ways.sent().is_empty());
}

#[test]
fn failures_are_counted_across_users_and_methods() {
    let mut server = listening();
    let bad_key = {
        let algorithm = SignatureAlgorithm::Ed25519;
        let mut payload = key_request("bob", &ed25519(1), algorithm, Some(algorithm));
        *payload.last_mut().unwrap() ^= 1;
        payload
    };
    for payload in [
        request("a", "ssh-connection", "hostbased", b""),
        request("b", "no-service", "password", b""),
        request(&"u".repeat(256), "ssh-connection", "password", b""),
        bad_key,
        password_request("c", &"p".repeat(1_025)),
    ] {
        server.handle(&payload).unwrap();
        assert_eq!(server.ways.sent(), [failure(FAILED, false)]);
    }
    assert!(server.ways.events.is_empty());
    server.handle(&password_request("d", "p")).unwrap();
    let attempt = server.attempt();
    server.refuse(attempt).unwrap();
    assert_eq!(server.wait(), Err(PeerError::TooManyAuthFailures.into()));
}

#[test]
fn limits_hold_at_their_edges() {
    let mut server = listening();
    server
        .handle(&password_request(&"u".repeat(255), &"p".repeat(1_024)))
        .unwrap();
    let attempt = server.attempt();
    assert_eq!(attempt.user().len(), 255);
    server.refuse(attempt).unwrap();

    // The request for the service was the first of 128.
    let mut server = listening();
    for _ in 1..128 {
        server
            .handle(&request("alice", "ssh-connection", "none", b""))
            .unwrap();
    }
    assert_eq!(
        server.handle(&request("alice", "ssh-connection", "none", b"")),
        Err(PeerError::Limit("authentication requests").into())
    );

    let mut server = listening();
    let query = key_request("alice", &ed25519(1), SignatureAlgorithm::Ed25519, None);
    for _ in 0..20 {
        server.handle(&query).unwrap();
        let offer = server.offer();
        server
            .auth
            .accept_key(offer, &mut server.ways.cx())
            .unwrap();
    }
    assert_eq!(
        server.handle(&query),
        Err(PeerError::TooManyAuthFailures.into())
    );

    let answer = |len: usize| {
        let mut payload = b"\x3d\0\0\0\x01".to_vec();
        Writer::new(&mut payload).string(&vec![b'x'; len]);
        payload
    };
    for (len, asked) in [(1_024, true), (1_025, false)] {
        let mut server = prompting(1);
        server.handle(&answer(len)).unwrap();
        assert_eq!(!server.ways.events.is_empty(), asked);
        assert_eq!(server.ways.sent().len(), usize::from(!asked));
    }
}

#[test]
fn the_service_may_be_asked_for_again() {
    let mut server = prompting(0);
    server.handle(b"\x05\0\0\0\x0cssh-userauth").unwrap();
    assert_eq!(server.ways.sent(), [b"\x06\0\0\0\x0cssh-userauth"]);
    server.handle(b"\x3d\0\0\0\0").unwrap();
    assert!(matches!(server.attempt().proof(), Proof::Answers(answers) if answers.is_empty()));
}

#[test]
fn answers_must_be_as_many_as_prompts() {
    for (prompts, payload) in [
        (1, &b"\x3d\0\0\0\0"[..]),
        (0, b"\x3d\0\0\0\x01\0\0\0\0"),
        (1, b"\x3d\xff\xff\xff\xff"),
    ] {
        let mut server = prompting(prompts);
        server.handle(payload).unwrap();
        assert_eq!(server.ways.sent(), [failure(FAILED, false)]);
        assert!(server.ways.events.is_empty());
    }
    assert!(prompting(1).handle(b"\x3d\0\0\0\x01\0\0\0\x05x").is_err());
    assert!(prompting(1).handle(b"\x3d\0\0\0\x01\0\0\0\x01xy").is_err());
}

#[test]
fn a_new_request_abandons_a_round() {
    let mut server = prompting(1);
    server
        .handle(&request("alice", "ssh-connection", "none", b""))
        .unwrap();
    assert_eq!(server.ways.sent(), [failure(FAILED, false)]);
    assert!(matches!(
        server.handle(b"\x3d\0\0\0\x01\0\0\0\x01x"),
        Err(Error::Peer(PeerError::UnexpectedMessage {
            message: 61,
            ..
        }))
    ));
}

#[test]
fn what_proves_nothing_is_not_granted() {
    for verdict in [ServerEnd::grant, |server: &mut ServerEnd, attempt| {
        server.partial(attempt, &[AuthMethod::Password])
    }] {
        let mut server = listening();
        server.handle(&interactive_request("alice")).unwrap();
        let attempt = server.attempt();
        assert!(matches!(
            verdict(&mut server, attempt),
            Err(Misuse::Argument(_))
        ));
        assert!(!server.auth.is_authenticated() && server.auth.is_held());
        assert!(server.ways.sent().is_empty());
    }
}

#[test]
fn an_answer_that_does_not_fit_its_question_is_misuse() {
    let mut server = listening();
    server.handle(&password_request("alice", "p")).unwrap();
    let attempt = server.attempt();
    let round = PromptRound::default();
    let outcome = server.auth.prompt(attempt, &round, &mut server.ways.cx());
    assert!(matches!(outcome, Err(Misuse::Argument(_))));

    let mut server = listening();
    server.handle(&interactive_request("alice")).unwrap();
    let attempt = server.attempt();
    let outcome = server
        .auth
        .require_password_change(attempt, "", &mut server.ways.cx());
    assert!(matches!(outcome, Err(Misuse::Argument(_))));

    for (text, count) in [(0, 33), (33_000, 1)] {
        let mut server = listening();
        server.handle(&interactive_request("alice")).unwrap();
        let attempt = server.attempt();
        let mut round = PromptRound::default();
        for _ in 0..count {
            round = round.with_prompt("x".repeat(text), false);
        }
        let outcome = server.auth.prompt(attempt, &round, &mut server.ways.cx());
        assert!(matches!(outcome, Err(Misuse::Limit(_))));
        assert!(server.auth.is_held() && server.ways.sent().is_empty());
    }

    let mut server = ServerEnd::new(server_config());
    assert_eq!(
        server.auth.banner("x", &mut server.ways.cx()),
        Err(Misuse::TooEarly)
    );
    let mut server = listening();
    let long = "x".repeat(4_097);
    let outcome = server.auth.banner(&long, &mut server.ways.cx());
    assert_eq!(outcome, Err(Misuse::Limit("text_len")));
}

#[test]
fn a_verdict_of_another_connection_changes_nothing() {
    let asked = |seed| {
        let mut server = listening();
        server.ways.out.rng().fill(&mut vec![0; seed]);
        server.handle(&password_request("alice", "p")).unwrap();
        server
    };
    let (mut one, mut other) = (asked(0), asked(1));
    let (own, foreign) = (one.attempt(), other.attempt());
    assert_eq!(one.grant(foreign), Err(Misuse::StaleToken));
    assert!(one.auth.is_held() && !one.auth.is_authenticated() && one.ways.sent().is_empty());
    one.refuse(own).unwrap();
    assert_eq!(one.ways.sent(), [failure(FAILED, false)]);
}

#[test]
fn a_refusal_waits_for_its_time_whoever_is_asked_for() {
    let delay = Duration::from_millis(300);
    let mut config = server_config();
    config.failure_delay = delay;
    let bad_signature = |user| {
        let algorithm = SignatureAlgorithm::Ed25519;
        let mut payload = key_request(user, &ed25519(1), algorithm, Some(algorithm));
        *payload.last_mut().unwrap() ^= 1;
        payload
    };
    // A policy that looks a password up, one that knows no such user, and verdicts of the library itself.
    for (payload, thinking) in [
        (password_request("alice", "p"), Duration::from_millis(80)),
        (password_request("nobody", "p"), Duration::ZERO),
        (bad_signature("alice"), Duration::ZERO),
        (bad_signature("nobody"), Duration::ZERO),
        (
            request("alice", "ssh-connection", "hostbased", b""),
            Duration::ZERO,
        ),
    ] {
        let mut server = ServerEnd::listening(config.clone());
        let came = server.ways.now;
        server.handle(&payload).unwrap();
        server.ways.now += thinking;
        if let Some(ServerAuthEvent::LoginAttempted(attempt)) = server.ways.events.poll() {
            server.refuse(attempt).unwrap();
        }
        assert_eq!(server.auth.poll_timeout(), Some(came + delay));
        assert!(server.auth.is_held());
        server.ways.now = came + delay - Duration::from_millis(1);
        server.auth.handle_timeout(&mut server.ways.cx()).unwrap();
        assert!(server.ways.sent().is_empty() && server.auth.is_held());
        server.ways.now = came + delay;
        server.auth.handle_timeout(&mut server.ways.cx()).unwrap();
        assert_eq!(server.ways.sent(), [failure(FAILED, false)]);
        assert_eq!(
            (server.auth.is_held(), server.auth.poll_timeout()),
            (false, None)
        );
    }
    // What tells nothing about a secret does not wait.
    let query = |user| key_request(user, &ed25519(1), SignatureAlgorithm::Ed25519, None);
    for payload in [
        request("alice", "ssh-connection", "none", b""),
        query("alice"),
        query("nobody"),
    ] {
        let mut server = ServerEnd::listening(config.clone());
        server.handle(&payload).unwrap();
        if let Some(ServerAuthEvent::KeyOffered(offer)) = server.ways.events.poll() {
            server
                .auth
                .refuse_key(offer, &mut server.ways.cx())
                .unwrap();
        }
        assert_eq!(server.ways.sent(), [failure(FAILED, false)]);
    }
}

#[test]
fn a_malformed_request_ends_the_connection_whoever_is_asked_for() {
    for user in ["alice", "nobody"] {
        for (method, fields) in [
            ("none", &b"x"[..]),
            ("password", b""),
            ("password", b"\0\0\0\0\x05p"),
            ("password", b"\0\0\0\0\x01pp"),
            ("password", b"\x01\0\0\0\x01p"),
            ("publickey", b"\x01\0\0\0\x01x\0\0\0\x01x"),
            ("publickey", b"\0\0\0\0\x01x\0\0\0\x01xx"),
            ("publickey", b"\0\0\0\0\x01\xff\0\0\0\x01x"),
            ("keyboard-interactive", b"\0\0\0\0"),
        ] {
            let mut config = server_config();
            config.auth_methods.push(AuthMethod::None);
            let mut server = ServerEnd::listening(config);
            let outcome = server.handle(&request(user, "ssh-connection", method, fields));
            assert!(
                matches!(
                    outcome,
                    Err(Error::Peer(PeerError::Malformed { message: 50, .. }))
                ),
                "{method} {fields:?}: {outcome:?}"
            );
            assert!(server.ways.events.is_empty() && server.ways.sent().is_empty());
        }
    }
}

#[test]
fn the_log_knows_no_secrets() {
    let mut server = listening();
    server
        .handle(&password_request("alice\x1b", "hunter2"))
        .unwrap();
    let attempt = server.attempt();
    assert!(!format!("{attempt:?}").contains("hunter2"));
    server.refuse(attempt).unwrap();
    let record = server.ways.log.poll().unwrap();
    assert!(
        !record.text.contains("hunter2") && !record.text.contains('\x1b'),
        "{record}"
    );
}
