//! Each method, role against role.

use super::*;
use crate::auth::prompt::{PromptRound, Prompts};
use crate::auth::{PasswordChange, Proof, SignaturePurpose, SignatureRequest};
use crate::secret::Secret;

const ALL: &str = "publickey,password,keyboard-interactive";

fn prompts(pair: &mut Pair) -> Prompts {
    match pair.client.event() {
        Some(ClientAuthEvent::PromptsReceived(prompts)) => prompts,
        other => panic!("{other:?}"),
    }
}

fn change(pair: &mut Pair) -> PasswordChange {
    match pair.client.event() {
        Some(ClientAuthEvent::PasswordChangeRequested(change)) => change,
        other => panic!("{other:?}"),
    }
}

fn signature(pair: &mut Pair) -> SignatureRequest {
    match pair.client.event() {
        Some(ClientAuthEvent::SignatureNeeded(request)) => request,
        other => panic!("{other:?}"),
    }
}

#[test]
fn none_tells_the_methods_and_costs_nothing() {
    let mut pair = Pair::new(server_config());
    for _ in 0..10 {
        pair.authenticate("alice", Credential::None);
        assert_eq!(pair.client.refused(), (ALL.to_owned(), false));
    }
    assert!(pair.server.ways.events.is_empty(), "nobody is asked");
}

#[test]
fn none_is_granted_where_it_is_configured() {
    let mut config = server_config();
    config.auth_methods.push(AuthMethod::None);
    let mut pair = Pair::new(config);
    for _ in 0..10 {
        pair.authenticate("guest", Credential::None);
        let attempt = pair.server.attempt();
        assert!(matches!(attempt.proof(), Proof::None));
        pair.server.refuse(attempt).unwrap();
        pair.run();
        assert_eq!(pair.client.refused(), (ALL.to_owned(), false), "not listed");
    }
    pair.authenticate("guest", Credential::None);
    let attempt = pair.server.attempt();
    pair.grant(attempt);
}

#[test]
fn a_password_is_refused_and_another_one_granted() {
    let mut pair = Pair::new(server_config());
    for (password, good) in [("wrong", false), ("", false), ("right", true)] {
        pair.authenticate("alice", Credential::password(password));
        let attempt = pair.server.attempt();
        assert_eq!(attempt.user(), "alice");
        let Proof::Password(shown) = attempt.proof() else {
            panic!("{attempt:?}");
        };
        assert_eq!(shown.expose(), password.as_bytes());
        if good {
            pair.grant(attempt);
        } else {
            pair.server.refuse(attempt).unwrap();
            pair.run();
            assert_eq!(pair.client.refused(), (ALL.to_owned(), false));
        }
    }
    assert_eq!(pair.trace, [50, -51, 50, -51, 50, -52], "each is sent once");
}

#[test]
fn an_expired_password_is_changed() {
    let mut pair = Pair::new(server_config());
    pair.authenticate("alice", Credential::password("old"));
    let attempt = pair.server.attempt();
    let (auth, ways) = (&mut pair.server.auth, &mut pair.server.ways);
    auth.require_password_change(attempt, "expired\x1b[2J", &mut ways.cx())
        .unwrap();
    pair.run();
    let request = change(&mut pair);
    assert_eq!(request.prompt(), "expired\\u{1b}[2J");
    assert!(pair.client.auth.is_held() && !pair.client.auth.is_waiting_for_peer());

    // The new one is too short for the server, which asks again.
    let (auth, ways) = (&mut pair.client.auth, &mut pair.client.ways);
    auth.change_password(request, "old".into(), "new".into(), &mut ways.cx())
        .unwrap();
    pair.run();
    let attempt = pair.server.attempt();
    let (auth, ways) = (&mut pair.server.auth, &mut pair.server.ways);
    auth.require_password_change(attempt, "longer", &mut ways.cx())
        .unwrap();
    pair.run();
    let request = change(&mut pair);
    let (auth, ways) = (&mut pair.client.auth, &mut pair.client.ways);
    auth.change_password(request, "old".into(), "longer".into(), &mut ways.cx())
        .unwrap();
    pair.run();
    let attempt = pair.server.attempt();
    let Proof::PasswordChange { old, new } = attempt.proof() else {
        panic!("{attempt:?}");
    };
    assert_eq!((old.expose(), new.expose()), (&b"old"[..], &b"longer"[..]));
    pair.grant(attempt);
    assert_eq!(pair.trace, [50, -60, 50, -60, 50, -52]);
}

#[test]
fn a_key_of_each_kind_signs_at_once() {
    for key in [ed25519(1), p256(), Arc::clone(&RSA)] {
        let mut pair = Pair::new(server_config());
        pair.authenticate("alice", Credential::public_key(Arc::clone(&key)));
        let attempt = pair.server.attempt();
        let Proof::PublicKey(proven) = attempt.proof() else {
            panic!("{attempt:?}");
        };
        assert_eq!(proven, key.public());
        pair.grant(attempt);
        assert_eq!(pair.trace, [50, -52]);
    }
}

#[test]
fn a_key_is_queried_and_then_signs() {
    let key = ed25519(1);
    let mut pair = Pair::new(server_config());
    let credential = Credential::PublicKey {
        key: Arc::clone(&key),
        query: true,
    };
    pair.authenticate("alice", credential);
    let offer = pair.server.offer();
    assert_eq!((offer.user(), offer.key()), ("alice", key.public()));
    let (auth, ways) = (&mut pair.server.auth, &mut pair.server.ways);
    auth.accept_key(offer, &mut ways.cx()).unwrap();
    pair.run();
    let attempt = pair.server.attempt();
    assert!(matches!(attempt.proof(), Proof::PublicKey(proven) if proven == key.public()));
    pair.grant(attempt);
    assert_eq!(pair.trace, [50, -60, 50, -52]);
}

#[test]
fn a_refused_query_sends_no_signature_and_costs_no_attempt() {
    let mut pair = Pair::new(server_config());
    for number in 0..10 {
        let credential = Credential::PublicKey {
            key: ed25519(number),
            query: true,
        };
        pair.authenticate("alice", credential);
        let offer = pair.server.offer();
        let (auth, ways) = (&mut pair.server.auth, &mut pair.server.ways);
        auth.refuse_key(offer, &mut ways.cx()).unwrap();
        pair.run();
        assert_eq!(pair.client.refused(), (ALL.to_owned(), false));
    }
    assert_eq!(pair.trace, [50, -51].repeat(10));
}

/// An external key, queried and accepted.
fn external(key: &Arc<PrivateKey>) -> (Pair, SignatureRequest) {
    let mut pair = Pair::new(server_config());
    let request = asked_outside(&mut pair, key);
    (pair, request)
}

fn asked_outside(pair: &mut Pair, key: &Arc<PrivateKey>) -> SignatureRequest {
    pair.authenticate("alice", Credential::external(key.public().clone()));
    let offer = pair.server.offer();
    let (auth, ways) = (&mut pair.server.auth, &mut pair.server.ways);
    auth.accept_key(offer, &mut ways.cx()).unwrap();
    pair.run();
    let request = signature(pair);
    assert!(pair.client.auth.is_held());
    request
}

#[test]
fn a_signature_for_another_connection_is_not_taken() {
    let (mut pair, own) = external(&RSA);
    let foreign = {
        let mut pair = Pair::new(server_config());
        // Two connections do not share a generator's state.
        pair.client.ways.out.rng().fill(&mut [0; 1]);
        asked_outside(&mut pair, &RSA)
    };
    let made = RSA.sign(foreign.algorithm(), foreign.data()).unwrap();
    let (auth, ways) = (&mut pair.client.auth, &mut pair.client.ways);
    let outcome = auth.supply_signature(foreign, Ok(&made), &mut ways.cx());
    assert_eq!(outcome, Err(Misuse::StaleToken));
    assert!(
        auth.is_held() && ways.sent().is_empty(),
        "it is still asked"
    );
    auth.supply_signature(own, Ok(&made), &mut ways.cx())
        .unwrap();
    assert_eq!(ways.sent().len(), 1);
}

#[test]
fn a_password_change_for_another_question_is_not_taken() {
    let mut pair = Pair::new(server_config());
    pair.authenticate("alice", Credential::password("old"));
    let attempt = pair.server.attempt();
    let (auth, ways) = (&mut pair.server.auth, &mut pair.server.ways);
    auth.require_password_change(attempt, "", &mut ways.cx())
        .unwrap();
    pair.run();
    let own = change(&mut pair);
    let foreign = PasswordChange::numbered(own.serial().wrapping_add(1));
    let (auth, ways) = (&mut pair.client.auth, &mut pair.client.ways);
    let outcome = auth.change_password(foreign, "old".into(), "new".into(), &mut ways.cx());
    assert_eq!(outcome, Err(Misuse::StaleToken));
    assert!(
        auth.is_held() && ways.sent().is_empty(),
        "it is still asked"
    );
    auth.change_password(own, "old".into(), "new".into(), &mut ways.cx())
        .unwrap();
    assert_eq!(ways.sent().len(), 1);
}

#[test]
fn a_key_of_another_question_is_neither_accepted_nor_refused() {
    let mut pair = Pair::new(server_config());
    pair.authenticate("alice", Credential::external(RSA.public().clone()));
    let own = pair.server.offer();
    let foreign = || KeyOffer::numbered(own.serial().wrapping_add(1), RSA.public().clone());
    let (auth, ways) = (&mut pair.server.auth, &mut pair.server.ways);
    let outcome = auth.accept_key(foreign(), &mut ways.cx());
    assert_eq!(outcome, Err(Misuse::StaleToken));
    let outcome = auth.refuse_key(foreign(), &mut ways.cx());
    assert_eq!(outcome, Err(Misuse::StaleToken));
    assert!(ways.sent().is_empty(), "neither PK_OK nor FAILURE");
    auth.accept_key(own, &mut ways.cx()).unwrap();
    assert_eq!(ways.sent().len(), 1);
}

#[test]
fn a_signature_is_made_outside() {
    let (mut pair, request) = external(&RSA);
    assert_eq!(request.key(), RSA.public());
    assert_eq!(request.purpose(), SignaturePurpose::UserAuthentication);
    let shown = format!("{request:?}");
    assert!(shown.contains("UserAuthentication") && shown.contains("algorithm"));
    assert!(!shown.contains("data"), "{shown}");
    let made = RSA.sign(request.algorithm(), request.data()).unwrap();
    let (auth, ways) = (&mut pair.client.auth, &mut pair.client.ways);
    auth.supply_signature(request, Ok(&made), &mut ways.cx())
        .unwrap();
    pair.run();
    let attempt = pair.server.attempt();
    pair.grant(attempt);
}

#[test]
fn a_signature_that_is_missing_or_of_another_algorithm_is_not_sent() {
    let (_, probe) = external(&RSA);
    let sha1_like = b"\0\0\0\x07ssh-rsa\0\0\0\x01x".to_vec();
    let sha256 = RSA
        .sign(SignatureAlgorithm::RsaSha256, probe.data())
        .unwrap();
    for supplied in [Err(()), Ok(&sha1_like), Ok(&sha256), Ok(&Vec::new())] {
        let (mut pair, request) = external(&RSA);
        assert_eq!(request.algorithm(), SignatureAlgorithm::RsaSha512);
        let (auth, ways) = (&mut pair.client.auth, &mut pair.client.ways);
        auth.supply_signature(request, supplied.map(Vec::as_slice), &mut ways.cx())
            .unwrap();
        pair.run();
        assert_eq!(pair.trace, [50, -60]);
        assert_eq!(pair.client.refused(), (String::new(), false));
        assert!(!pair.client.auth.is_held() && !pair.client.auth.is_waiting_for_peer());
        pair.authenticate("alice", Credential::password("instead"));
        let attempt = pair.server.attempt();
        pair.grant(attempt);
    }
}

#[test]
fn an_rsa_key_signs_with_what_the_server_takes() {
    use SignatureAlgorithm::{EcdsaNistp256, Ed25519, RsaSha256, RsaSha512};
    let own = |list: &str| {
        let mut config = ClientConfig::new();
        config.transport.algorithms.user_keys = list.parse().unwrap();
        config
    };
    let both = "ssh-ed25519,rsa-sha2-512,rsa-sha2-256";
    for (list, peer, expected) in [
        (both, None, Some(RsaSha512)),
        (both, Some(vec![RsaSha256, RsaSha512]), Some(RsaSha512)),
        (both, Some(vec![RsaSha256]), Some(RsaSha256)),
        (both, Some(vec![Ed25519, EcdsaNistp256]), None),
        (both, Some(vec![]), None),
        ("rsa-sha2-256,rsa-sha2-512", None, Some(RsaSha256)),
        (
            "rsa-sha2-256",
            Some(vec![RsaSha512, RsaSha256]),
            Some(RsaSha256),
        ),
        ("rsa-sha2-256", Some(vec![RsaSha512]), None),
    ] {
        let mut pair = Pair::new(server_config());
        pair.client = ClientEnd::new(own(list));
        pair.client.algorithms = peer;
        pair.client.auth.start(&mut pair.client.ways.cx());
        pair.run();
        let credential = Credential::PublicKey {
            key: Arc::clone(&RSA),
            query: true,
        };
        pair.authenticate("alice", credential);
        match expected {
            Some(algorithm) => assert_eq!(pair.server.offer().algorithm(), algorithm),
            None => {
                pair.client.refused();
                assert!(pair.server.ways.events.is_empty(), "nothing was sent");
            }
        }
    }
}

#[test]
fn other_keys_sign_whatever_the_server_lists() {
    let mut pair = Pair::new(server_config());
    pair.client.algorithms = Some(vec![SignatureAlgorithm::RsaSha256]);
    pair.authenticate("alice", Credential::public_key(ed25519(1)));
    let attempt = pair.server.attempt();
    pair.grant(attempt);
}

#[test]
fn keyboard_interactive_goes_any_number_of_rounds() {
    let mut pair = Pair::new(server_config());
    let credential = Credential::KeyboardInteractive {
        submethods: "otp,pam".to_owned(),
    };
    pair.authenticate("alice", credential);
    let mut attempt = pair.server.attempt();
    assert!(
        matches!(attempt.proof(), Proof::KeyboardInteractive { submethods } if submethods == "otp,pam")
    );
    for count in [2, 0, 1, 32] {
        let mut round = PromptRound::new("title", "read\x07 this");
        for number in 0..count {
            round = round.with_prompt(format!("{number}: "), number == 1);
        }
        let (auth, ways) = (&mut pair.server.auth, &mut pair.server.ways);
        auth.prompt(attempt, &round, &mut ways.cx()).unwrap();
        assert!(!pair.server.auth.is_held(), "the client is to answer");
        pair.run();
        let asked = prompts(&mut pair);
        assert_eq!(asked.name(), "title");
        assert_eq!(asked.instruction(), "read\\u{7} this");
        assert_eq!(asked.prompts(), round.prompts);
        let answers: Vec<Secret> = (0..count).map(|n| Secret::from(format!("a{n}"))).collect();
        let (auth, ways) = (&mut pair.client.auth, &mut pair.client.ways);
        auth.answer(asked, &answers, &mut ways.cx()).unwrap();
        pair.run();
        attempt = pair.server.attempt();
        assert!(matches!(attempt.proof(), Proof::Answers(given) if *given == answers));
    }
    pair.grant(attempt);
}

#[test]
fn a_chain_of_factors_leads_in_and_only_in_its_order() {
    use AuthMethod::{KeyboardInteractive, Password, PublicKey};
    let mut pair = Pair::new(server_config());
    pair.authenticate("alice", Credential::public_key(ed25519(1)));
    let attempt = pair.server.attempt();
    assert!(attempt.completed().is_empty());
    pair.server.partial(attempt, &[Password]).unwrap();
    pair.run();
    assert_eq!(pair.client.refused(), ("password".to_owned(), true));

    // The key again, which is not what must follow: nobody is asked.
    pair.authenticate("alice", Credential::public_key(ed25519(1)));
    assert_eq!(pair.client.refused(), ("password".to_owned(), false));
    // `none` neither flushes nor helps.
    pair.authenticate("alice", Credential::None);
    assert_eq!(pair.client.refused(), ("password".to_owned(), false));

    pair.authenticate("alice", Credential::password("right"));
    let attempt = pair.server.attempt();
    assert_eq!(attempt.completed(), [PublicKey]);
    pair.server
        .partial(attempt, &[AuthMethod::None, KeyboardInteractive])
        .unwrap();
    pair.run();
    assert_eq!(
        pair.client.refused(),
        ("keyboard-interactive".to_owned(), true)
    );

    pair.authenticate("alice", Credential::keyboard_interactive());
    let attempt = pair.server.attempt();
    assert_eq!(attempt.completed(), [PublicKey, Password]);
    let (auth, ways) = (&mut pair.server.auth, &mut pair.server.ways);
    auth.prompt(attempt, &PromptRound::default(), &mut ways.cx())
        .unwrap();
    pair.run();
    let asked = prompts(&mut pair);
    let (auth, ways) = (&mut pair.client.auth, &mut pair.client.ways);
    auth.answer(asked, &[], &mut ways.cx()).unwrap();
    pair.run();
    let attempt = pair.server.attempt();
    pair.grant(attempt);
}

#[test]
fn another_user_starts_from_nothing() {
    let mut pair = Pair::new(server_config());
    pair.authenticate("alice", Credential::public_key(ed25519(1)));
    let attempt = pair.server.attempt();
    pair.server
        .partial(attempt, &[AuthMethod::Password])
        .unwrap();
    pair.run();
    pair.client.refused();
    for user in ["mallory", "alice"] {
        pair.authenticate(user, Credential::password("right"));
        let attempt = pair.server.attempt();
        assert_eq!((attempt.user(), attempt.completed()), (user, &[][..]));
        pair.server.refuse(attempt).unwrap();
        pair.run();
        assert_eq!(pair.client.refused(), (ALL.to_owned(), false));
    }
}

#[test]
fn an_attempt_may_be_started_before_there_is_a_connection() {
    let mut pair = Pair::new(server_config());
    pair.client = ClientEnd::new(ClientConfig::new());
    let (auth, ways) = (&mut pair.client.auth, &mut pair.client.ways);
    auth.authenticate("alice", Credential::password("p"), None, &mut ways.cx())
        .unwrap();
    assert_eq!(
        auth.authenticate("bob", Credential::None, None, &mut ways.cx()),
        Err(Misuse::AttemptPending)
    );
    pair.run();
    assert!(
        pair.trace.is_empty(),
        "nothing leaves before the keys are there"
    );
    pair.client.auth.start(&mut pair.client.ways.cx());
    pair.run();
    assert_eq!(pair.trace, [5, -6, 50]);
    let attempt = pair.server.attempt();
    pair.grant(attempt);
}

#[test]
fn another_attempt_makes_an_open_question_void() {
    let mut pair = Pair::new(server_config());
    pair.authenticate("alice", Credential::keyboard_interactive());
    let attempt = pair.server.attempt();
    let round = PromptRound::new("", "").with_prompt("Code: ", true);
    let (auth, ways) = (&mut pair.server.auth, &mut pair.server.ways);
    auth.prompt(attempt, &round, &mut ways.cx()).unwrap();
    pair.run();
    let asked = prompts(&mut pair);
    pair.authenticate("alice", Credential::password("instead"));
    let (auth, ways) = (&mut pair.client.auth, &mut pair.client.ways);
    assert_eq!(
        auth.answer(asked, &["1".into()], &mut ways.cx()),
        Err(Misuse::StaleToken)
    );
    let attempt = pair.server.attempt();
    assert!(matches!(attempt.proof(), Proof::Password(_)));
    pair.grant(attempt);
    assert_eq!(pair.trace, [50, -60, 50, -52]);
}

#[test]
fn banners_are_shown_once_and_safely() {
    let mut config = server_config();
    config.banner = Some("Welcome\nto \x1b]0;x\x07".to_owned());
    let mut pair = Pair::new(config);
    pair.authenticate("alice", Credential::None);
    assert_eq!(pair.trace, [50, -53, -51], "in front of the first answer");
    match pair.client.event() {
        Some(ClientAuthEvent::Banner(text)) => {
            assert_eq!(text, "Welcome\nto \\u{1b}]0;x\\u{7}");
        }
        other => panic!("{other:?}"),
    }
    pair.client.refused();
    for _ in 0..20 {
        let (auth, ways) = (&mut pair.server.auth, &mut pair.server.ways);
        auth.banner("more", &mut ways.cx()).unwrap();
    }
    pair.authenticate("alice", Credential::None);
    for _ in 1..pair.client.ways.limits.banners {
        assert!(matches!(
            pair.client.event(),
            Some(ClientAuthEvent::Banner(_))
        ));
    }
    pair.client.refused();
}
