//! What tests of authentication share: verdicts on outcomes, and rounds of questions.
//!
//! These are tools for tests: they panic instead of returning errors.

use ssh_blocking::Client;
use ssh_blocking::ssh_proto::adapter::AuthOutcome;
use ssh_blocking::ssh_proto::{PromptRound, Prompts, Secret};

/// # Panics
/// If the outcome is not this refusal.
#[track_caller]
pub fn assert_refused(outcome: AuthOutcome, wanted: &[&str], partial: bool) {
    match outcome {
        AuthOutcome::Refused {
            methods,
            partial_success,
        } => {
            assert_eq!(methods, wanted);
            assert_eq!(partial_success, partial);
        }
        other => panic!("{other:?}"),
    }
}

/// # Panics
/// If the user cannot run a command.
#[track_caller]
pub fn assert_in(client: &Client) {
    let output = client.exec("echo in").output();
    assert!(
        output.as_ref().is_ok_and(|output| output.stdout == b"in\n"),
        "{output:?}"
    );
}

/// Rounds of questions with their right answers: two prompts, one that is shown and one that is not; none at all; and one.
#[must_use]
pub fn rounds() -> Vec<(PromptRound, Vec<String>)> {
    vec![
        (
            PromptRound::new("First", "Two questions.")
                .with_prompt("Colour: ", true)
                .with_prompt("Code: ", false),
            vec!["blue".to_owned(), "42".to_owned()],
        ),
        (PromptRound::new("", "Nothing to ask."), Vec::new()),
        (
            PromptRound::new("Third", "").with_prompt("Sure? ", true),
            vec!["yes".to_owned()],
        ),
    ]
}

/// Answers the rounds one after the other, and notes whether they are what was asked.
#[derive(Debug)]
pub struct Answers {
    rounds: Vec<(PromptRound, Vec<String>)>,
    /// How many rounds were asked.
    pub asked: usize,
    /// They were these.
    pub as_expected: bool,
}

impl Answers {
    /// For these rounds.
    #[must_use]
    pub const fn new(rounds: Vec<(PromptRound, Vec<String>)>) -> Self {
        Self {
            rounds,
            asked: 0,
            as_expected: true,
        }
    }

    /// The answers to the next round.
    pub fn next(&mut self, prompts: &Prompts) -> Option<Vec<Secret>> {
        let Some((round, answers)) = self.rounds.get(self.asked) else {
            // A server may end with a round that asks nothing.
            self.as_expected &= prompts.prompts().is_empty();
            return Some(Vec::new());
        };
        self.asked += 1;
        self.as_expected &= prompts.name() == round.name
            && prompts.instruction() == round.instruction
            && prompts.prompts() == round.prompts;
        Some(
            answers
                .iter()
                .map(|answer| answer.as_str().into())
                .collect(),
        )
    }
}
