//! Who may log in on a server, and how.

use std::borrow::Cow;

use russh::keys::PublicKey;
use russh::server::Auth;
use russh::{MethodKind, MethodSet};

use super::Fields;
use crate::Failure;

/// The same for every user name.
pub(super) struct Accounts {
    none: bool,
    keys: Vec<PublicKey>,
    password: Option<String>,
    rounds: Vec<Round>,
    factors: Vec<MethodKind>,
}

/// One round of questions, with the right answers.
struct Round {
    name: String,
    instruction: String,
    prompts: Vec<(Cow<'static, str>, bool)>,
    answers: Vec<String>,
}

impl Accounts {
    pub(super) fn parse(fields: &Fields) -> Result<Self, Failure> {
        let keys = fields.members("keys");
        let keys = keys.iter().map(|line| PublicKey::from_openssh(line));
        let factors = fields.members("factors").into_iter().map(|name| {
            let method: Result<MethodKind, ()> = name.parse();
            method.map_err(|()| Failure::from(format!("no method {name}")))
        });
        let rounds = fields.some("rounds").map(|_| fields.rows("rounds"));
        Ok(Self {
            none: fields.some("none").is_some(),
            keys: keys.collect::<Result<_, _>>()?,
            password: fields.some("password").map(str::to_owned),
            rounds: rounds
                .unwrap_or_default()
                .iter()
                .map(|row| Round::parse(row))
                .collect(),
            factors: factors.collect::<Result<_, _>>()?,
        })
    }

    /// The methods that a server with these accounts offers first.
    pub(super) fn methods(&self) -> MethodSet {
        self.methods_after(0)
    }

    fn methods_after(&self, factors: usize) -> MethodSet {
        if let Some(next) = self.factors.get(factors) {
            return MethodSet::from(&[*next][..]);
        }
        let offered = [
            (self.none, MethodKind::None),
            (!self.keys.is_empty(), MethodKind::PublicKey),
            (self.password.is_some(), MethodKind::Password),
            (!self.rounds.is_empty(), MethodKind::KeyboardInteractive),
        ];
        let methods: Vec<_> = offered
            .into_iter()
            .filter_map(|(has, method)| has.then_some(method))
            .collect();
        MethodSet::from(&methods[..])
    }
}

impl Round {
    fn parse(row: &[String]) -> Self {
        let cell = |at: usize| row.get(at).cloned().unwrap_or_default();
        let (mut prompts, mut answers) = (Vec::new(), Vec::new());
        for prompt in row.get(2..).unwrap_or_default().chunks_exact(3) {
            prompts.push((prompt[0].clone().into(), prompt[1] == "1"));
            answers.push(prompt[2].clone());
        }
        Self {
            name: cell(0),
            instruction: cell(1),
            prompts,
            answers,
        }
    }
}

/// How far one connection has come.
#[derive(Default)]
pub(super) struct Progress {
    factors: usize,
    round: usize,
}

impl Accounts {
    /// What a good proof is worth.
    fn passed(&self, progress: &mut Progress, method: MethodKind) -> Auth {
        if self.factors.is_empty() {
            return Auth::Accept;
        }
        if self.factors.get(progress.factors) != Some(&method) {
            return self.reject(progress, false);
        }
        progress.factors += 1;
        if progress.factors < self.factors.len() {
            self.reject(progress, true)
        } else {
            Auth::Accept
        }
    }

    /// Not yet. Left to itself russh would take a method that has failed out of the list.
    fn reject(&self, progress: &Progress, partial_success: bool) -> Auth {
        Auth::Reject {
            proceed_with_methods: Some(self.methods_after(progress.factors)),
            partial_success,
        }
    }

    fn verdict(&self, progress: &mut Progress, method: MethodKind, right: bool) -> Auth {
        if right {
            self.passed(progress, method)
        } else {
            self.reject(progress, false)
        }
    }

    pub(super) fn none(&self, progress: &mut Progress) -> Auth {
        self.verdict(progress, MethodKind::None, self.none)
    }

    pub(super) fn knows(&self, key: &PublicKey) -> bool {
        self.keys
            .iter()
            .any(|known| known.key_data() == key.key_data())
    }

    pub(super) fn key(&self, progress: &mut Progress, key: &PublicKey) -> Auth {
        self.verdict(progress, MethodKind::PublicKey, self.knows(key))
    }

    pub(super) fn password(&self, progress: &mut Progress, password: &str) -> Auth {
        let right = self.password.as_deref() == Some(password);
        self.verdict(progress, MethodKind::Password, right)
    }

    /// The first round where there are no answers yet.
    pub(super) fn answers(&self, progress: &mut Progress, answers: Option<Vec<String>>) -> Auth {
        match answers {
            None => progress.round = 0,
            Some(answers) => {
                let round = self.rounds.get(progress.round);
                if round.is_none_or(|round| round.answers != answers) {
                    return self.reject(progress, false);
                }
                progress.round += 1;
            }
        }
        match self.rounds.get(progress.round) {
            Some(round) => Auth::Partial {
                name: round.name.clone().into(),
                instructions: round.instruction.clone().into(),
                prompts: round.prompts.clone().into(),
            },
            None => {
                let asked = progress.round > 0;
                self.verdict(progress, MethodKind::KeyboardInteractive, asked)
            }
        }
    }
}
