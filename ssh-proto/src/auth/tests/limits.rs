//! Each bound of authentication on both sides: one below, at, one above, and what comes of it.

use proptest::prelude::*;

use super::*;
use crate::auth::prompt::PromptRound;
use crate::error::PeerError;
use crate::limits::ROUND_TEXT_LEN;
use crate::msg::auth::{UserauthBanner, UserauthInfoRequest, UserauthPasswdChangereq};

const FAILED: &str = "publickey,password,keyboard-interactive";

fn listening() -> ServerEnd {
    ServerEnd::listening(server_config())
}

fn text(len: usize) -> String {
    "x".repeat(len)
}

/// A password request with a new password.
fn change_request(old: usize, new: usize) -> Vec<u8> {
    let mut fields = vec![1];
    let mut writer = Writer::new(&mut fields);
    writer
        .string(text(old).as_bytes())
        .string(text(new).as_bytes());
    request("alice", "ssh-connection", "password", &fields)
}

#[test]
fn user_len() {
    for (len, asked) in [(254, true), (255, true), (256, false)] {
        let mut server = listening();
        server.handle(&password_request(&text(len), "p")).unwrap();
        if asked {
            assert_eq!(server.attempt().user().len(), len);
        } else {
            // As any other user that may not come in: after the delay, and counted.
            assert!(server.ways.events.is_empty());
            server.wait().unwrap();
            assert_eq!(server.ways.sent(), [failure(FAILED, false)]);
        }
        let expected = if asked {
            Ok(())
        } else {
            Err(Misuse::Limit("user_len"))
        };
        let mut client = ClientEnd::ready();
        assert_eq!(client.authenticate(&text(len), Credential::None), expected);
        assert_eq!(client.ways.sent().len(), usize::from(asked));
    }
}

#[test]
fn password_len() {
    for (len, asked) in [(1_023, true), (1_024, true), (1_025, false)] {
        for payload in [
            password_request("alice", &text(len)),
            change_request(len, 1),
            change_request(1, len),
        ] {
            let mut server = listening();
            server.handle(&payload).unwrap();
            if asked {
                drop(server.attempt());
            } else {
                assert!(server.ways.events.is_empty());
                server.wait().unwrap();
                assert_eq!(server.ways.sent(), [failure(FAILED, false)]);
            }
        }
        let expected = if asked {
            Ok(())
        } else {
            Err(Misuse::Limit("password_len"))
        };
        let mut client = ClientEnd::ready();
        let outcome = client.authenticate("alice", Credential::password(text(len)));
        assert_eq!(outcome, expected);

        // An answer to a prompt, and a new password.
        let mut client = ClientEnd::ready();
        client
            .authenticate("alice", Credential::keyboard_interactive())
            .unwrap();
        client.handle(&info_request(1)).unwrap();
        let Some(ClientAuthEvent::PromptsReceived(prompts)) = client.event() else {
            panic!("no prompts");
        };
        let (auth, ways) = (&mut client.auth, &mut client.ways);
        let outcome = auth.answer(prompts, &[text(len).into()], &mut ways.cx());
        assert_eq!(outcome, expected);
        for (old, new) in [(len, 1), (1, len)] {
            let mut client = ClientEnd::ready();
            client
                .authenticate("alice", Credential::password("expired"))
                .unwrap();
            client.handle(&change_wanted(1)).unwrap();
            let Some(ClientAuthEvent::PasswordChangeRequested(change)) = client.event() else {
                panic!("no question");
            };
            let (auth, ways) = (&mut client.auth, &mut client.ways);
            let (old, new) = (text(old).into(), text(new).into());
            let outcome = auth.change_password(change, old, new, &mut ways.cx());
            assert_eq!(outcome, expected);
        }
    }
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

fn change_wanted(prompt: usize) -> Vec<u8> {
    UserauthPasswdChangereq {
        prompt: text(prompt).as_bytes(),
        language_tag: b"",
    }
    .to_payload()
}

#[test]
fn prompts() {
    for (count, asked) in [(31, true), (32, true), (33, false)] {
        let mut client = ClientEnd::ready();
        client
            .authenticate("alice", Credential::keyboard_interactive())
            .unwrap();
        let outcome = client.handle(&info_request(count));
        if asked {
            assert_eq!(outcome, Ok(()));
            assert!(matches!(
                client.event(),
                Some(ClientAuthEvent::PromptsReceived(prompts)) if prompts.prompts().len() == count as usize
            ));
        } else {
            assert_eq!(
                outcome,
                Err(PeerError::Limit("prompts of one round").into())
            );
        }
        let mut server = listening();
        server.handle(&interactive_request("alice")).unwrap();
        let attempt = server.attempt();
        let mut round = PromptRound::default();
        for _ in 0..count {
            round = round.with_prompt("Code: ", false);
        }
        let outcome = server.auth.prompt(attempt, &round, &mut server.ways.cx());
        let expected = if asked {
            Ok(())
        } else {
            Err(Misuse::Limit("prompts"))
        };
        assert_eq!(outcome, expected);
    }
}

#[test]
fn text_len() {
    for (len, kept) in [(4_095, 4_095), (4_096, 4_096), (4_097, 4_096)] {
        let long = text(len);
        // The server's texts, as a client keeps them.
        let mut client = ClientEnd::ready();
        let banner = UserauthBanner {
            message: long.as_bytes(),
            language_tag: b"",
        };
        client.handle(&banner.to_payload()).unwrap();
        assert!(matches!(
            client.event(),
            Some(ClientAuthEvent::Banner(text)) if text.len() == kept
        ));
        client
            .authenticate("alice", Credential::password("expired"))
            .unwrap();
        client.handle(&change_wanted(len)).unwrap();
        assert!(matches!(
            client.event(),
            Some(ClientAuthEvent::PasswordChangeRequested(change)) if change.prompt().len() == kept
        ));
        let mut client = ClientEnd::ready();
        client
            .authenticate("alice", Credential::keyboard_interactive())
            .unwrap();
        let mut prompt = Vec::new();
        Writer::new(&mut prompt)
            .string(text(len).as_bytes())
            .boolean(true);
        let request = UserauthInfoRequest {
            name: long.as_bytes(),
            instruction: long.as_bytes(),
            language_tag: b"",
            num_prompts: 1,
            prompts: Rest(&prompt),
        };
        client.handle(&request.to_payload()).unwrap();
        let Some(ClientAuthEvent::PromptsReceived(prompts)) = client.event() else {
            panic!("no prompts");
        };
        let lens = [
            prompts.name().len(),
            prompts.instruction().len(),
            prompts.prompts()[0].text.len(),
        ];
        assert_eq!(lens, [kept; 3]);

        // Our own texts.
        let expected = if kept == len {
            Ok(())
        } else {
            Err(Misuse::Limit("text_len"))
        };
        let mut server = listening();
        let outcome = server.auth.banner(&text(len), &mut server.ways.cx());
        assert_eq!(outcome, expected);
        server.handle(&password_request("alice", "p")).unwrap();
        let attempt = server.attempt();
        let (auth, ways) = (&mut server.auth, &mut server.ways);
        let outcome = auth.require_password_change(attempt, &text(len), &mut ways.cx());
        assert_eq!(outcome, expected);
    }
}

#[test]
fn round_text_len() {
    const LONGEST: usize = 4_096;
    assert_eq!(ROUND_TEXT_LEN, 4 * LONGEST);
    let long = text(LONGEST);
    for last in [LONGEST - 1, LONGEST, LONGEST + 1] {
        let mut client = ClientEnd::ready();
        client
            .authenticate("alice", Credential::keyboard_interactive())
            .unwrap();
        let mut asked = Vec::new();
        Writer::new(&mut asked)
            .string(long.as_bytes())
            .boolean(true)
            .string(text(last - 1).as_bytes())
            .boolean(true)
            .string(b"?!")
            .boolean(false);
        let request = UserauthInfoRequest {
            name: long.as_bytes(),
            instruction: long.as_bytes(),
            language_tag: b"",
            num_prompts: 3,
            prompts: Rest(&asked),
        };
        client.handle(&request.to_payload()).unwrap();
        let Some(ClientAuthEvent::PromptsReceived(round)) = client.event() else {
            panic!("no prompts");
        };
        // One byte more than fits is not kept, and each prompt is asked.
        let lens: Vec<_> = round.prompts().iter().map(|p| p.text.len()).collect();
        assert_eq!(lens, [LONGEST, last - 1, (LONGEST + 1 - last).min(2)]);
        let all = round.name().len() + round.instruction().len() + lens.iter().sum::<usize>();
        assert!(all <= ROUND_TEXT_LEN);
    }
}

#[test]
fn auth_methods() {
    for (count, kept) in [(31, 31), (32, 32), (33, 32)] {
        let names: Vec<String> = (0..count)
            .map(|number| format!("method-{number}"))
            .collect();
        let mut client = ClientEnd::ready();
        client.authenticate("alice", Credential::None).unwrap();
        client.handle(&failure(&names.join(","), false)).unwrap();
        let (methods, _) = client.refused();
        assert_eq!(methods, names[..kept].join(","), "the first ones");
    }
}

#[test]
fn banners() {
    let mut client = ClientEnd::ready();
    let banner = UserauthBanner {
        message: b"hello",
        language_tag: b"",
    };
    for count in 1..=20 {
        client.handle(&banner.to_payload()).unwrap();
        assert_eq!(client.event().is_some(), count <= 16, "{count}");
    }
}

#[test]
fn what_fits_in_a_packet_when_passwords_may_be_longer() {
    let client = || {
        let mut config = ClientConfig::new();
        config.transport.limits.password_len = 40_000;
        ClientEnd::accepted(config)
    };
    let too_long = Err(Misuse::Limit("a packet of 32 KiB"));
    // 256 bytes are kept for names; before the password stand a flag and its length.
    for (user, most) in [("a", 32_506), ("alice", 32_502)] {
        let mut client = client();
        let longer = Credential::password(text(most + 1));
        assert_eq!(client.authenticate(user, longer), too_long);
        assert!(client.ways.sent().is_empty());
        let longest = Credential::password(text(most));
        client.authenticate(user, longest).unwrap();
        assert_eq!(client.ways.sent().len(), 1, "it leaves");
    }
    for (new, fits) in [(32_400, true), (32_401, false)] {
        let mut client = client();
        let old = Credential::password("old");
        client.authenticate("alice", old).unwrap();
        client.ways.sent();
        client.handle(&change_wanted(0)).unwrap();
        let Some(ClientAuthEvent::PasswordChangeRequested(change)) = client.event() else {
            panic!("asked");
        };
        let (auth, ways) = (&mut client.auth, &mut client.ways);
        let (old, new) = (text(103).into(), text(new).into());
        let outcome = auth.change_password(change, old, new, &mut ways.cx());
        assert_eq!(outcome, if fits { Ok(()) } else { too_long });
        assert_eq!(ways.sent().len(), usize::from(fits));
    }
}

#[test]
fn a_round_of_prompts_that_fills_a_packet() {
    // 17 bytes are the number, four lengths and the count.
    for (len, fits) in [(32_751, true), (32_752, false)] {
        let mut server = listening();
        server.handle(&interactive_request("alice")).unwrap();
        let attempt = server.attempt();
        let round = PromptRound {
            instruction: text(len),
            ..PromptRound::default()
        };
        let outcome = server.auth.prompt(attempt, &round, &mut server.ways.cx());
        let too_long = Err(Misuse::Limit("a packet of 32 KiB"));
        assert_eq!(outcome, if fits { Ok(()) } else { too_long });
    }
}

#[test]
fn texts_for_the_user_when_they_may_be_longer() {
    for (len, fits) in [(16_384, true), (16_385, false)] {
        let mut config = server_config();
        config.transport.limits.text_len = 40_000;
        let mut server = ServerEnd::listening(config);
        server.handle(&password_request("alice", "p")).unwrap();
        let expected = if fits {
            Ok(())
        } else {
            Err(Misuse::Limit("text_len"))
        };
        let (auth, ways) = (&mut server.auth, &mut server.ways);
        let banner = auth.banner(&text(len), &mut ways.cx());
        assert_eq!(banner, expected, "half of a packet");
        let attempt = server.attempt();
        let (auth, ways) = (&mut server.auth, &mut server.ways);
        let prompt = auth.require_password_change(attempt, &text(len), &mut ways.cx());
        assert_eq!(prompt, expected);
    }
}

#[test]
fn a_configured_banner() {
    for (len, kept) in [(16_383, 16_383), (16_384, 16_384), (16_385, 16_384)] {
        let mut config = server_config();
        config.banner = Some(text(len));
        let mut server = ServerEnd::listening(config);
        server.handle(&password_request("alice", "p")).unwrap();
        let attempt = server.attempt();
        server.refuse(attempt).unwrap();
        server.wait().unwrap();
        let sent = server.ways.sent();
        let banner = UserauthBanner::decode(&sent[0]).unwrap();
        assert_eq!(banner.message.len(), kept, "half of a packet");
    }
}

#[test]
fn auth_requests() {
    // The request for the service is the first of 128; one that is never an attempt counts as well.
    let probe = request("alice", "ssh-connection", "none", b"");
    let mut server = listening();
    for _ in 2..=128 {
        server.handle(&probe).unwrap();
    }
    assert_eq!(
        server.handle(&probe),
        Err(PeerError::Limit("authentication requests").into())
    );
}

/// What a client sends, and what it leads to: each of them is one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    /// SERVICE_REQUEST, again.
    Service,
    /// A method that is never an attempt: the list of methods.
    Probe,
    /// A password that is a partial success.
    Partial,
    /// A password that must be changed.
    Expired,
    /// A new password, which is a partial success.
    Change,
    /// A query about a key that would do.
    Query,
    /// A query about a key of a kind that nobody knows.
    StrangeQuery,
    /// A signature, which is a partial success.
    Signed,
    /// A round of prompts is asked for.
    Interactive,
    /// Answers to a round, and another one.
    Answers,
    /// Answers to a round, which are a partial success.
    LastAnswers,
    /// A password that is wrong.
    Wrong,
    /// A method that is not offered.
    Strange,
    /// A service that there is not.
    OtherService,
}

const REQUESTS: [Request; 14] = [
    Request::Service,
    Request::Probe,
    Request::Partial,
    Request::Expired,
    Request::Change,
    Request::Query,
    Request::StrangeQuery,
    Request::Signed,
    Request::Interactive,
    Request::Answers,
    Request::LastAnswers,
    Request::Wrong,
    Request::Strange,
    Request::OtherService,
];

const METHODS: [AuthMethod; 3] = [
    AuthMethod::PublicKey,
    AuthMethod::Password,
    AuthMethod::KeyboardInteractive,
];

impl Request {
    const fn is_failure(self) -> bool {
        matches!(self, Self::Wrong | Self::Strange | Self::OtherService)
    }

    const fn is_query(self) -> bool {
        matches!(self, Self::Query | Self::StrangeQuery)
    }

    const fn is_answer(self) -> bool {
        matches!(self, Self::Answers | Self::LastAnswers)
    }

    fn payload(self) -> Vec<u8> {
        const KEY: SignatureAlgorithm = SignatureAlgorithm::Ed25519;
        match self {
            Self::Service => b"\x05\0\0\0\x0cssh-userauth".to_vec(),
            Self::Probe => request("alice", "ssh-connection", "none", b""),
            Self::Partial | Self::Expired | Self::Wrong => password_request("alice", "p"),
            Self::Change => change_request(1, 1),
            Self::Query => key_request("alice", &ed25519(1), KEY, None),
            Self::StrangeQuery => {
                let fields = b"\0\0\0\0\x01x\0\0\0\x01x";
                request("alice", "ssh-connection", "publickey", fields)
            }
            Self::Signed => key_request("alice", &ed25519(1), KEY, Some(KEY)),
            Self::Interactive => interactive_request("alice"),
            Self::Answers | Self::LastAnswers => b"\x3d\0\0\0\x01\0\0\0\x01a".to_vec(),
            Self::Strange => request("alice", "ssh-connection", "hostbased", b""),
            Self::OtherService => request("alice", "ssh-userauth", "password", b""),
        }
    }

    /// The caller's verdict, where there is a question.
    fn judge(self, server: &mut ServerEnd) {
        match self {
            Self::Service
            | Self::Probe
            | Self::StrangeQuery
            | Self::Strange
            | Self::OtherService => {}
            Self::Query => {
                let offer = server.offer();
                let (auth, ways) = (&mut server.auth, &mut server.ways);
                auth.accept_key(offer, &mut ways.cx()).unwrap();
            }
            Self::Partial | Self::Change | Self::Signed | Self::LastAnswers => {
                let attempt = server.attempt();
                server.partial(attempt, &METHODS).unwrap();
            }
            Self::Expired => {
                let attempt = server.attempt();
                let (auth, ways) = (&mut server.auth, &mut server.ways);
                auth.require_password_change(attempt, "", &mut ways.cx())
                    .unwrap();
            }
            Self::Interactive | Self::Answers => {
                let attempt = server.attempt();
                let round = PromptRound::default().with_prompt("Code: ", false);
                let (auth, ways) = (&mut server.auth, &mut server.ways);
                auth.prompt(attempt, &round, &mut ways.cx()).unwrap();
            }
            Self::Wrong => {
                let attempt = server.attempt();
                server.refuse(attempt).unwrap();
            }
        }
    }
}

proptest! {
    #[test]
    fn the_129th_request_is_the_last_whatever_the_mix(
        mix in prop::collection::vec(prop::sample::select(&REQUESTS[..]), 500),
        last in prop::sample::select(&REQUESTS[..]),
    ) {
        // Failures and queries have edges of their own: as many as they let pass.
        let (mut failures, mut queries) = (5, 20);
        let mut server = listening();
        let mut prompting = false;
        // The request for the service was the first.
        let mut count = 1;
        let mut mix = mix.into_iter().chain(std::iter::repeat(Request::Partial));
        while count < 128 {
            let request = match mix.next().unwrap() {
                request if request.is_failure() && failures == 0 => continue,
                request if request.is_query() && queries == 0 => continue,
                request if request.is_answer() && !prompting => Request::Interactive,
                // What is one too many may be answers.
                _ if count == 127 && last.is_answer() && !prompting => Request::Interactive,
                request => request,
            };
            failures -= u32::from(request.is_failure());
            queries -= u32::from(request.is_query());
            prompting = matches!(request, Request::Interactive | Request::Answers)
                || prompting && request == Request::Service;
            prop_assert_eq!(server.handle(&request.payload()), Ok(()), "{:?}", request);
            request.judge(&mut server);
            prop_assert_eq!(server.wait(), Ok(()));
            prop_assert!(!server.ways.sent().is_empty(), "{:?} has its answer", request);
            count += 1;
        }
        let last = match last {
            last if last.is_answer() && !prompting => Request::Probe,
            last => last,
        };
        let outcome = server.handle(&last.payload());
        prop_assert_eq!(outcome, Err(PeerError::Limit("authentication requests").into()));
        prop_assert!(server.ways.events.is_empty(), "nobody is asked");
        prop_assert!(server.ways.sent().is_empty(), "nothing is answered");
    }
}

#[test]
fn auth_failures() {
    for (failures, over) in [(5, false), (6, true)] {
        let mut server = listening();
        let mut outcome = Ok(());
        for _ in 0..failures {
            server.handle(&password_request("alice", "p")).unwrap();
            let attempt = server.attempt();
            server.refuse(attempt).unwrap();
            outcome = server.wait();
        }
        assert_eq!(outcome.is_err(), over, "{failures}");
        if over {
            assert_eq!(outcome, Err(PeerError::TooManyAuthFailures.into()));
        }
    }
}
