//! One attempt to authenticate after the other, whoever waits for them.

use std::collections::VecDeque;

use crate::{ClientEvent, Misuse};

/// The attempts to authenticate of a client whose callers wait, one at a time, for what comes of theirs.
///
/// A caller may go away in the middle of its attempt: it panics, or its future is dropped. What then still comes belongs to
/// nobody, and must not be taken for what came of the next attempt.
#[derive(Debug, Default)]
pub struct Attempts {
    /// An attempt is with the server: its outcome will come, whoever is there to hear of it.
    is_open: bool,
}

impl Attempts {
    /// Starts an attempt once the one before it has its outcome. `None`: not yet, try again when something has come.
    ///
    /// What is in the inbox was for the attempt before; banners are for the user, and stay.
    pub fn begin(
        &mut self,
        inbox: &mut VecDeque<ClientEvent>,
        authenticate: impl FnOnce() -> Result<(), Misuse>,
    ) -> Option<Result<(), Misuse>> {
        inbox.retain(|event| {
            let is_banner = matches!(event, ClientEvent::Banner(_));
            self.is_open &= is_banner;
            is_banner
        });
        if self.is_open {
            return None;
        }
        match authenticate() {
            Err(Misuse::Blocked) => None,
            Err(misuse) => Some(Err(misuse)),
            Ok(()) => {
                self.is_open = true;
                Some(Ok(()))
            }
        }
    }

    /// The next thing that the attempt comes upon. While a question is with the caller the attempt rests: another one would
    /// make it void.
    pub fn next(&mut self, inbox: &mut VecDeque<ClientEvent>) -> Option<ClientEvent> {
        let event = inbox.pop_front()?;
        self.is_open &= matches!(event, ClientEvent::Banner(_));
        Some(event)
    }

    /// Answers a question of the attempt, which goes on with it.
    ///
    /// # Errors
    ///
    /// What the answer's are.
    pub fn answer(&mut self, answer: impl FnOnce() -> Result<(), Misuse>) -> Result<(), Misuse> {
        answer()?;
        self.is_open = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> ClientEvent {
        ClientEvent::AuthenticationRefused {
            methods: Vec::new(),
            partial_success: false,
        }
    }

    fn banner() -> ClientEvent {
        ClientEvent::Banner("hello".to_owned())
    }

    fn begun() -> Attempts {
        let mut attempts = Attempts::default();
        let begun = attempts.begin(&mut VecDeque::new(), || Ok(()));
        assert_eq!(begun, Some(Ok(())));
        attempts
    }

    #[test]
    fn the_next_attempt_waits_for_the_outcome_of_the_last() {
        let mut attempts = begun();
        let mut inbox = VecDeque::new();
        assert_eq!(attempts.begin(&mut inbox, || unreachable!()), None);
        // A banner is none.
        inbox.push_back(banner());
        assert_eq!(attempts.begin(&mut inbox, || unreachable!()), None);
        inbox.push_back(refused());
        assert_eq!(attempts.begin(&mut inbox, || Ok(())), Some(Ok(())));
    }

    #[test]
    fn what_came_of_an_attempt_that_nobody_waits_for_is_forgotten_but_for_banners() {
        let mut attempts = begun();
        let mut inbox = VecDeque::from([refused(), banner()]);
        assert_eq!(attempts.begin(&mut inbox, || Ok(())), Some(Ok(())));
        let next = attempts.next(&mut inbox);
        assert!(matches!(next, Some(ClientEvent::Banner(_))));
        assert!(attempts.next(&mut inbox).is_none());
        assert_eq!(attempts.begin(&mut inbox, || unreachable!()), None);
    }

    #[test]
    fn an_attempt_rests_while_its_question_is_with_the_caller() {
        let mut attempts = begun();
        let mut inbox = VecDeque::from([refused()]);
        assert!(attempts.next(&mut inbox).is_some());
        assert_eq!(attempts.answer(|| Err(Misuse::Closed)), Err(Misuse::Closed));
        assert_eq!(attempts.begin(&mut inbox, || Ok(())), Some(Ok(())));
        let mut attempts = begun();
        inbox.push_back(refused());
        assert!(attempts.next(&mut inbox).is_some());
        assert_eq!(attempts.answer(|| Ok(())), Ok(()));
        assert_eq!(attempts.begin(&mut inbox, || unreachable!()), None);
    }

    #[test]
    fn an_attempt_that_cannot_start_is_not_waited_for() {
        let mut attempts = Attempts::default();
        let mut inbox = VecDeque::new();
        assert_eq!(attempts.begin(&mut inbox, || Err(Misuse::Blocked)), None);
        let misuse = Some(Err(Misuse::Closed));
        assert_eq!(attempts.begin(&mut inbox, || Err(Misuse::Closed)), misuse);
        assert_eq!(attempts.begin(&mut inbox, || Ok(())), Some(Ok(())));
    }
}
