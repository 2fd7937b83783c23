//! A client against a server that does what it must not.

use super::*;
use crate::error::PeerError;
use crate::msg::auth::{UserauthInfoRequest, UserauthPkOk};
use crate::secret::Secret;
use crate::wire::Malformed;

/// A client in each state in which packets come in, and the messages that are legal there.
fn states() -> Vec<(&'static str, ClientEnd, &'static [u8])> {
    let trying = |credential| {
        let mut client = ClientEnd::ready();
        client.authenticate("alice", credential).unwrap();
        client
    };
    let mut requested = ClientEnd::new(ClientConfig::new());
    requested.auth.start(&mut requested.ways.cx());
    let mut authenticated = trying(Credential::None);
    authenticated.handle(&[52]).unwrap();
    let mut asked_twice = trying(Credential::keyboard_interactive());
    asked_twice.handle(&info_request(0)).unwrap();
    answer(&mut asked_twice);
    let query = Credential::PublicKey {
        key: ed25519(1),
        query: true,
    };
    vec![
        ("new", ClientEnd::new(ClientConfig::new()), &[]),
        ("requested", requested, &[6]),
        ("ready", ClientEnd::ready(), &[53]),
        ("none", trying(Credential::None), &[51, 52, 53]),
        (
            "password",
            trying(Credential::password("p")),
            &[51, 52, 53, 60],
        ),
        (
            "key",
            trying(Credential::public_key(ed25519(1))),
            &[51, 52, 53],
        ),
        ("query", trying(query), &[51, 53, 60]),
        (
            "interactive",
            trying(Credential::keyboard_interactive()),
            &[51, 52, 53, 60],
        ),
        ("answered", asked_twice, &[51, 52, 53, 60]),
        ("authenticated", authenticated, &[]),
    ]
}

fn info_request(prompts: u32) -> Vec<u8> {
    let mut texts = Vec::new();
    for _ in 0..prompts {
        Writer::new(&mut texts).string(b"Code: ").boolean(false);
    }
    UserauthInfoRequest {
        name: b"",
        instruction: b"",
        language_tag: b"",
        num_prompts: prompts,
        prompts: Rest(&texts),
    }
    .to_payload()
}

fn answer(client: &mut ClientEnd) {
    match client.event() {
        Some(ClientAuthEvent::PromptsReceived(prompts)) => {
            let answers = vec![Secret::default(); prompts.prompts().len()];
            let (auth, ways) = (&mut client.auth, &mut client.ways);
            auth.answer(prompts, &answers, &mut ways.cx()).unwrap();
        }
        other => panic!("{other:?}"),
    }
}

/// A well-formed message of each number that has a form in authentication.
fn message(number: u8, state: &str) -> Vec<u8> {
    let key = ed25519(1);
    match number {
        5 | 6 => [&[number][..], b"\0\0\0\x0cssh-userauth"].concat(),
        50 => password_request("alice", "p"),
        51 => failure("password", false),
        53 => b"\x35\0\0\0\x02hi\0\0\0\0".to_vec(),
        60 if state == "password" => b"\x3c\0\0\0\x03old\0\0\0\0".to_vec(),
        60 if state == "query" => UserauthPkOk {
            algorithm: "ssh-ed25519",
            key: key.public().blob(),
        }
        .to_payload(),
        60 => info_request(1),
        61 => b"\x3d\0\0\0\0".to_vec(),
        number => vec![number],
    }
}

#[test]
fn only_the_messages_of_a_state_are_taken_in_it() {
    for number in 0..=255 {
        for (name, mut client, legal) in states() {
            let before = client.auth.is_authenticated();
            client.ways.sent();
            let outcome = client.handle(&message(number, name));
            if legal.contains(&number) {
                assert_eq!(outcome, Ok(()), "{number} in {name}");
                continue;
            }
            assert!(
                matches!(
                    outcome,
                    Err(Error::Peer(PeerError::UnexpectedMessage { message, .. })) if message == number
                ),
                "{number} in {name}: {outcome:?}"
            );
            assert_eq!(client.auth.is_authenticated(), before, "{number} in {name}");
            assert_eq!(client.ways.sent(), [[0; 0]; 0], "{number} in {name}");
        }
    }
}

#[test]
fn an_empty_message_is_no_message() {
    for (_, mut client, _) in states() {
        assert!(matches!(client.handle(&[]), Err(Error::Peer(_))));
    }
}

#[test]
fn a_key_that_was_not_offered_is_not_signed_with() {
    let (offered, other) = (ed25519(1), ed25519(2));
    for (algorithm, key) in [
        ("ssh-ed25519", other.public().blob()),
        ("ssh-rsa", offered.public().blob()),
        ("rsa-sha2-512", offered.public().blob()),
        ("", offered.public().blob()),
        ("ssh-ed25519", b""),
    ] {
        let mut client = ClientEnd::ready();
        let credential = Credential::PublicKey {
            key: Arc::clone(&offered),
            query: true,
        };
        client.authenticate("alice", credential).unwrap();
        client.ways.sent();
        assert!(matches!(
            client.handle(&UserauthPkOk { algorithm, key }.to_payload()),
            Err(Error::Peer(PeerError::Authentication(_)))
        ));
        assert!(client.ways.sent().is_empty());
    }
}

#[test]
fn a_service_that_was_not_asked_for_is_not_taken() {
    let mut client = ClientEnd::new(ClientConfig::new());
    client.auth.start(&mut client.ways.cx());
    assert_eq!(client.ways.sent(), [b"\x05\0\0\0\x0cssh-userauth"]);
    client.auth.start(&mut client.ways.cx());
    assert!(client.ways.sent().is_empty(), "asked for once");
    assert!(matches!(
        client.handle(b"\x06\0\0\0\x0essh-connection"),
        Err(Error::Peer(PeerError::Authentication(_)))
    ));
}

#[test]
fn a_count_of_prompts_is_not_believed() {
    let interactive = || {
        let mut client = ClientEnd::ready();
        let credential = Credential::keyboard_interactive();
        client.authenticate("alice", credential).unwrap();
        client
    };
    assert_eq!(interactive().handle(&info_request(32)), Ok(()));
    let limit = Err(PeerError::Limit("prompts of one round").into());
    assert_eq!(interactive().handle(&info_request(33)), limit);
    for (claimed, problem) in [
        (u32::MAX, None),
        (32, Some(Malformed::Truncated)),
        (1, Some(Malformed::Trailing)),
    ] {
        let mut request = info_request(2);
        let at = request.len() - 2 * 11 - 4;
        request[at..at + 4].copy_from_slice(&claimed.to_be_bytes());
        match (interactive().handle(&request), problem) {
            (outcome, None) => assert_eq!(outcome, limit),
            (Err(Error::Peer(PeerError::Malformed { problem, .. })), Some(expected)) => {
                assert_eq!(problem, expected);
            }
            (outcome, _) => panic!("{claimed}: {outcome:?}"),
        }
    }
}

#[test]
fn a_long_list_of_methods_is_cut() {
    let mut client = ClientEnd::ready();
    client.authenticate("alice", Credential::None).unwrap();
    client
        .handle(&failure(&"a,".repeat(16_000), false))
        .unwrap();
    let (methods, _) = client.refused();
    assert_eq!(methods.split(',').count(), 32);
}

#[test]
fn long_texts_are_cut() {
    let mut client = ClientEnd::ready();
    let mut banner = vec![53];
    Writer::new(&mut banner).string(&[b'x'; 5_000]).string(b"");
    client.handle(&banner).unwrap();
    assert!(matches!(client.event(), Some(ClientAuthEvent::Banner(text)) if text.len() == 4_096));
}

#[test]
fn what_cannot_be_sent_is_misuse_and_changes_nothing() {
    let mut client = ClientEnd::ready();
    let long = |len| "x".repeat(len);
    let odd = {
        let mut config = ClientConfig::new();
        config.transport.algorithms.user_keys = "rsa-sha2-256".parse().unwrap();
        let mut client = ClientEnd::new(config);
        client.authenticate("alice", Credential::public_key(ed25519(1)))
    };
    assert!(matches!(odd, Err(Misuse::Argument(_))), "{odd:?}");
    for (user, credential, expected) in [
        (
            "",
            Credential::None,
            Misuse::Argument("the user name is empty"),
        ),
        (&long(256)[..], Credential::None, Misuse::Limit("user_len")),
        (
            "alice",
            Credential::password(long(1_025)),
            Misuse::Limit("password_len"),
        ),
        (
            "alice",
            Credential::KeyboardInteractive {
                submethods: long(32_768),
            },
            Misuse::Limit("a packet of 32 KiB"),
        ),
    ] {
        assert_eq!(client.authenticate(user, credential), Err(expected));
        assert!(client.ways.sent().is_empty() && !client.auth.is_waiting_for_peer());
    }
    client
        .authenticate(&long(255), Credential::password(long(1_024)))
        .unwrap();
    assert_eq!(
        client.authenticate("alice", Credential::None),
        Err(Misuse::AttemptPending)
    );
    client.handle(&[52]).unwrap();
    assert_eq!(
        client.authenticate("alice", Credential::None),
        Err(Misuse::AlreadyAuthenticated)
    );
    assert_eq!(client.ways.sent().len(), 1);
}

#[test]
fn a_question_is_answered_once_and_with_its_own_token() {
    let asked = || {
        let mut client = ClientEnd::ready();
        // Two connections do not share a generator's state.
        client.ways.out.rng().fill(&mut [0; 16]);
        let credential = Credential::keyboard_interactive();
        client.authenticate("alice", credential).unwrap();
        client
    };
    let (mut one, mut other) = (asked(), asked());
    other.ways.out.rng().fill(&mut [0; 1]);
    for client in [&mut one, &mut other] {
        client.handle(&info_request(1)).unwrap();
        client.ways.sent();
    }
    let (
        Some(ClientAuthEvent::PromptsReceived(own)),
        Some(ClientAuthEvent::PromptsReceived(foreign)),
    ) = (one.event(), other.event())
    else {
        panic!("both are asked");
    };
    let answers = [Secret::from("1")];
    assert_eq!(
        one.auth.answer(foreign, &answers, &mut one.ways.cx()),
        Err(Misuse::StaleToken)
    );
    assert!(one.auth.is_held() && one.ways.sent().is_empty());
    one.auth.answer(own, &answers, &mut one.ways.cx()).unwrap();
    assert_eq!(one.ways.sent(), [b"\x3d\0\0\0\x01\0\0\0\x011"]);
    assert!(one.auth.is_waiting_for_peer());
}

#[test]
fn a_round_with_too_few_answers_stays_open() {
    let mut client = ClientEnd::ready();
    let credential = Credential::keyboard_interactive();
    client.authenticate("alice", credential).unwrap();
    client.handle(&info_request(2)).unwrap();
    client.ways.sent();
    let Some(ClientAuthEvent::PromptsReceived(prompts)) = client.event() else {
        panic!("asked");
    };
    let (auth, ways) = (&mut client.auth, &mut client.ways);
    let outcome = auth.answer(prompts, &[Secret::default()], &mut ways.cx());
    assert!(matches!(outcome, Err(Misuse::Argument(_))));
    assert!(client.auth.is_held() && client.ways.sent().is_empty());
    client.authenticate("alice", Credential::None).unwrap();
    assert!(!client.auth.is_held());
}

#[test]
fn a_packet_during_a_question_is_a_bug_of_the_layer_below() {
    let mut client = ClientEnd::ready();
    let credential = Credential::keyboard_interactive();
    client.authenticate("alice", credential).unwrap();
    client.handle(&info_request(1)).unwrap();
    assert!(matches!(client.handle(&[52]), Err(Error::Bug(_))));
    assert!(!client.auth.is_authenticated());
}

#[test]
fn the_log_knows_no_secrets() {
    let mut client = ClientEnd::ready();
    client
        .authenticate("alice", Credential::password("hunter2"))
        .unwrap();
    client.handle(&failure("password", false)).unwrap();
    client
        .authenticate("alice", Credential::password("hunter2"))
        .unwrap();
    client.handle(&[52]).unwrap();
    let mut lines = 0;
    while let Some(record) = client.ways.log.poll() {
        assert!(!record.text.contains("hunter2"));
        lines += 1;
    }
    assert!(lines >= 4);
    let credential = Credential::password("hunter2");
    assert!(!format!("{credential:?} {client:?}", client = client.auth).contains("hunter2"));
}
