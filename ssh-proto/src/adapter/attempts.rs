//! One attempt to authenticate after the other, whoever waits for them.

use std::collections::VecDeque;

use crate::{ClientEvent, Misuse};

/// The attempts to authenticate of a client whose callers wait, one at a time, for what comes of theirs. The caller's inbox
/// has the events of all attempts, in order.
///
/// A caller may go away in the middle of its attempt: it panics, or its future is dropped. What then still comes belongs to
/// nobody, and must not be taken for what came of the next attempt.
#[derive(Debug, Default)]
pub struct Attempts {
    /// An attempt is with the server: its outcome will come, whoever is there to hear of it.
    is_open: bool,
}

/// Whether an event came of an attempt: its outcome, or a question, with which it rests.
const fn is_of_attempt(event: &ClientEvent) -> bool {
    matches!(
        event,
        ClientEvent::Authenticated
            | ClientEvent::AuthenticationRefused { .. }
            | ClientEvent::PromptsReceived(_)
            | ClientEvent::PasswordChangeRequested(_)
            | ClientEvent::SignatureNeeded(_)
    )
}

impl Attempts {
    /// Starts an attempt once the one before it has its outcome. `None`: not yet; try again when there is another event, or
    /// room for a request.
    ///
    /// What came of the attempt before leaves the inbox. Banners are for the user, and stay.
    pub fn begin(
        &mut self,
        inbox: &mut VecDeque<ClientEvent>,
        authenticate: impl FnOnce() -> Result<(), Misuse>,
    ) -> Option<Result<(), Misuse>> {
        inbox.retain(|event| {
            let is_of_attempt = is_of_attempt(event);
            self.is_open &= !is_of_attempt;
            !is_of_attempt
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

    /// The next event. While a question is with the caller the attempt rests: another attempt would make it void.
    pub fn next(&mut self, inbox: &mut VecDeque<ClientEvent>) -> Option<ClientEvent> {
        let event = inbox.pop_front()?;
        self.is_open &= !is_of_attempt(&event);
        Some(event)
    }

    /// Answers a question of the attempt, which goes on with it.
    ///
    /// # Errors
    ///
    /// Those of `answer`; the attempt then goes on resting.
    pub fn answer(&mut self, answer: impl FnOnce() -> Result<(), Misuse>) -> Result<(), Misuse> {
        answer()?;
        self.is_open = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Prompts;

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
        let question = || ClientEvent::PromptsReceived(Prompts::numbered(1));
        let mut inbox = VecDeque::new();
        // Another attempt may begin, and makes it void, whether the caller has taken it or not.
        for is_taken in [true, false] {
            let mut attempts = begun();
            inbox.push_back(question());
            if is_taken {
                assert!(attempts.next(&mut inbox).is_some());
            }
            assert_eq!(attempts.begin(&mut inbox, || Ok(())), Some(Ok(())));
            assert!(inbox.is_empty());
        }
        // An answer that is misuse changes nothing.
        let mut attempts = begun();
        inbox.push_back(question());
        assert!(attempts.next(&mut inbox).is_some());
        let misuse = Err(Misuse::StaleToken);
        assert_eq!(attempts.answer(|| misuse), misuse);
        assert_eq!(attempts.begin(&mut inbox, || Ok(())), Some(Ok(())));
        // Once it is answered its outcome is waited for.
        let mut attempts = begun();
        inbox.push_back(question());
        assert!(attempts.next(&mut inbox).is_some());
        assert_eq!(attempts.answer(|| Ok(())), Ok(()));
        assert_eq!(attempts.begin(&mut inbox, || unreachable!()), None);
    }

    #[test]
    fn events_that_came_of_no_attempt_stay() {
        let mut attempts = begun();
        let mut inbox = VecDeque::from([ClientEvent::Rekeyed]);
        assert_eq!(attempts.begin(&mut inbox, || unreachable!()), None);
        assert_eq!(inbox.len(), 1);
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
