//! Random conversations, and random bytes.

use proptest::prelude::*;

use super::*;
use crate::auth::Proof;
use crate::auth::prompt::PromptRound;
use crate::secret::Secret;

/// What a client sends.
#[derive(Debug, Clone)]
enum Step {
    Service,
    None(u8),
    Password(u8),
    Query(u8),
    Signed { user: u8, good: bool },
    Interactive(u8),
    Answers(u8),
    OtherService(u8),
    OtherMethod(u8),
}

/// What the policy says when it is asked.
#[derive(Debug, Clone, Copy)]
enum Verdict {
    Grant,
    Refuse,
    Partial,
    Prompt,
    Change,
}

fn step() -> impl Strategy<Value = Step> {
    let user = 0..3_u8;
    prop_oneof![
        1 => Just(Step::Service),
        1 => user.clone().prop_map(Step::None),
        4 => user.clone().prop_map(Step::Password),
        2 => user.clone().prop_map(Step::Query),
        4 => (user.clone(), any::<bool>()).prop_map(|(user, good)| Step::Signed { user, good }),
        4 => user.clone().prop_map(Step::Interactive),
        4 => (0..3_u8).prop_map(Step::Answers),
        1 => user.clone().prop_map(Step::OtherService),
        1 => user.prop_map(Step::OtherMethod),
    ]
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        1 => Just(Verdict::Grant),
        3 => Just(Verdict::Refuse),
        4 => Just(Verdict::Partial),
        4 => Just(Verdict::Prompt),
        1 => Just(Verdict::Change),
    ]
}

const USERS: [&str; 3] = ["alice", "bob", ""];
const KEY: SignatureAlgorithm = SignatureAlgorithm::Ed25519;

impl Step {
    fn user(&self) -> Option<&'static str> {
        match *self {
            Self::Service | Self::Answers(_) => None,
            Self::None(user)
            | Self::Password(user)
            | Self::Query(user)
            | Self::Signed { user, .. }
            | Self::Interactive(user)
            | Self::OtherService(user)
            | Self::OtherMethod(user) => Some(USERS[usize::from(user)]),
        }
    }

    fn payload(&self, key: &PrivateKey) -> Vec<u8> {
        let user = self.user().unwrap_or_default();
        match *self {
            Self::Service => b"\x05\0\0\0\x0cssh-userauth".to_vec(),
            Self::None(_) => request(user, "ssh-connection", "none", b""),
            Self::Password(_) => password_request(user, "p"),
            Self::Query(_) => key_request(user, key, KEY, None),
            Self::Signed { good, .. } => {
                let mut payload = key_request(user, key, KEY, Some(KEY));
                *payload.last_mut().unwrap() ^= u8::from(!good);
                payload
            }
            Self::Interactive(_) => interactive_request(user),
            Self::Answers(count) => {
                let mut payload = vec![61];
                let mut writer = Writer::new(&mut payload);
                writer.uint32(count.into());
                (0..count).for_each(|_| _ = writer.string(b"a"));
                payload
            }
            Self::OtherService(_) => request(user, "other", "password", b"\0\0\0\0\0"),
            Self::OtherMethod(_) => request(user, "ssh-connection", "other", b""),
        }
    }
}

/// What must be true, told from the outside: the user of the last request, and what that user has passed since the
/// last change of user or service.
#[derive(Default)]
struct Model {
    user: String,
    completed: Vec<AuthMethod>,
}

impl Model {
    fn step(&mut self, step: &Step) {
        let Some(user) = step.user() else { return };
        if matches!(step, Step::OtherService(_)) {
            *self = Self::default();
        } else if self.user != user {
            *self = Self {
                user: user.to_owned(),
                completed: Vec::new(),
            };
        }
    }
}

proptest! {
    #[test]
    fn the_user_that_is_let_in_is_the_one_that_was_proven(
        steps in prop::collection::vec((step(), verdict()), 0..200),
        failures in 1..100_u32,
    ) {
        let key = ed25519(1);
        let mut config = server_config();
        config.auth_methods.push(AuthMethod::None);
        config.transport.limits.auth_failures = failures;
        let mut server = ServerEnd::listening(config);
        let mut model = Model::default();
        let mut handled = 1;
        for (step, verdict) in steps {
            model.step(&step);
            if server.handle(&step.payload(&key)).is_err() || server.wait().is_err() {
                prop_assert!(!server.auth.is_authenticated());
                return Ok(());
            }
            handled += 1;
            prop_assert!(handled <= 128, "the service request was the first");
            let answers = server.ways.sent().len();
            match server.ways.events.poll() {
                None => prop_assert_eq!(answers, 1),
                Some(ServerAuthEvent::KeyOffered(offer)) => {
                    prop_assert!(matches!(step, Step::Query(_)));
                    prop_assert_eq!(offer.user(), &model.user);
                    let accept = matches!(verdict, Verdict::Grant);
                    let (auth, ways) = (&mut server.auth, &mut server.ways);
                    if accept {
                        auth.accept_key(offer, &mut ways.cx()).unwrap();
                    } else {
                        auth.refuse_key(offer, &mut ways.cx()).unwrap();
                    }
                    prop_assert_eq!(server.ways.sent()[0][0], if accept { 60 } else { 51 });
                }
                Some(ServerAuthEvent::LoginAttempted(attempt)) => {
                    prop_assert_eq!(answers, 0, "one answer for each request");
                    prop_assert_eq!(attempt.user(), &model.user);
                    prop_assert_eq!(attempt.completed(), &model.completed);
                    let fits = matches!(
                        (attempt.proof(), &step),
                        (Proof::None, Step::None(_))
                            | (Proof::Password(_), Step::Password(_))
                            | (Proof::PublicKey(_), Step::Signed { good: true, .. })
                            | (Proof::KeyboardInteractive { .. }, Step::Interactive(_))
                            | (Proof::Answers(_), Step::Answers(_))
                    );
                    prop_assert!(fits, "{:?} after {:?}", attempt, step);
                    decide(&mut server, attempt, verdict, &mut model);
                    if server.auth.is_authenticated() {
                        prop_assert_eq!(server.auth.user(), Some(model.user.as_str()));
                        return Ok(());
                    }
                    if server.wait().is_err() {
                        return Ok(());
                    }
                    prop_assert_eq!(server.ways.sent().len(), 1, "one answer for each request");
                }
                Some(other) => prop_assert!(false, "{:?}", other),
            }
            prop_assert!(!server.auth.is_held());
        }
    }

    #[test]
    fn bytes_of_a_client_never_panic(
        payloads in prop::collection::vec((prop::sample::select(vec![5_u8, 50, 61]), any::<Vec<u8>>()), 0..20),
        methods in prop::collection::vec(0..5_usize, 0..20),
    ) {
        let mut server = prompting_or_listening(methods.len() % 2 == 0);
        for ((number, bytes), method) in payloads.into_iter().zip(methods) {
            let names = ["none", "password", "publickey", "keyboard-interactive", "x"];
            let payload = match number {
                50 => request("alice", "ssh-connection", names[method], &bytes),
                number => [&[number][..], &bytes].concat(),
            };
            if server.handle(&payload).is_err() || server.wait().is_err() {
                return Ok(());
            }
            match server.ways.events.poll() {
                Some(ServerAuthEvent::LoginAttempted(attempt)) => server.refuse(attempt).unwrap(),
                Some(ServerAuthEvent::KeyOffered(offer)) => {
                    let (auth, ways) = (&mut server.auth, &mut server.ways);
                    auth.refuse_key(offer, &mut ways.cx()).unwrap();
                }
                _ => {}
            }
            if server.wait().is_err() {
                return Ok(());
            }
        }
        prop_assert!(!server.auth.is_authenticated());
    }

    #[test]
    fn bytes_of_a_server_never_panic(
        payloads in prop::collection::vec((prop::sample::select(vec![6_u8, 51, 53, 60, 60, 60]), any::<Vec<u8>>()), 0..20),
        credentials in prop::collection::vec(0..4_usize, 20),
    ) {
        let mut client = ClientEnd::ready();
        for ((number, bytes), credential) in payloads.into_iter().zip(credentials) {
            // Refused only while an attempt is pending.
            let _ = client.authenticate("alice", match credential {
                0 => Credential::password("p"),
                1 => Credential::keyboard_interactive(),
                2 => Credential::PublicKey { key: ed25519(1), query: true },
                _ => Credential::None,
            });
            if client.handle(&[&[number][..], &bytes].concat()).is_err() {
                return Ok(());
            }
            if let Some(ClientAuthEvent::PromptsReceived(prompts)) = client.event() {
                let answers = vec![Secret::default(); prompts.prompts().len()];
                let (auth, ways) = (&mut client.auth, &mut client.ways);
                auth.answer(prompts, &answers, &mut ways.cx()).unwrap();
            }
        }
        prop_assert!(!client.auth.is_authenticated());
    }
}

/// Gives the verdict as far as it fits the attempt, and keeps the model in step.
fn decide(server: &mut ServerEnd, attempt: LoginAttempt, verdict: Verdict, model: &mut Model) {
    let method = attempt.method();
    let proven = !matches!(attempt.proof(), Proof::KeyboardInteractive { .. });
    match verdict {
        Verdict::Grant if proven => server.grant(attempt).unwrap(),
        Verdict::Partial if proven => {
            let next = [
                AuthMethod::Password,
                AuthMethod::PublicKey,
                AuthMethod::KeyboardInteractive,
            ];
            server.partial(attempt, &next).unwrap();
            model.completed.push(method);
        }
        Verdict::Prompt if method == AuthMethod::KeyboardInteractive => {
            let round = PromptRound::default().with_prompt("?", false);
            let (auth, ways) = (&mut server.auth, &mut server.ways);
            auth.prompt(attempt, &round, &mut ways.cx()).unwrap();
        }
        Verdict::Change if method == AuthMethod::Password => {
            let (auth, ways) = (&mut server.auth, &mut server.ways);
            auth.require_password_change(attempt, "", &mut ways.cx())
                .unwrap();
        }
        _ => server.refuse(attempt).unwrap(),
    }
}

fn prompting_or_listening(prompting: bool) -> ServerEnd {
    let mut server = ServerEnd::listening(server_config());
    if prompting {
        server.handle(&interactive_request("alice")).unwrap();
        let attempt = server.attempt();
        let round = PromptRound::default().with_prompt("?", false);
        let (auth, ways) = (&mut server.auth, &mut server.ways);
        auth.prompt(attempt, &round, &mut ways.cx()).unwrap();
    }
    server
}
