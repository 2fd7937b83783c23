//! A server's words: verdicts on attempts to log in, what a session was granted, which connections are dropped early.

use crate::auth::{LoginAttempt, PromptRound, Proof};
use crate::channel::{ChannelId, PtyRequest};
use crate::config::AuthMethod;
use crate::{Misuse, Server};

/// A verdict on an attempt to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The user is in.
    Accept,
    /// The user is not.
    Refuse,
    /// The proof was good, and one of these methods must follow (RFC 4252 section 5.1).
    /// [`LoginAttempt::completed`] tells what the user has shown so far.
    Partial(Vec<AuthMethod>),
    /// Only for keyboard-interactive: the user is asked this.
    Prompt(PromptRound),
    /// Only for a password: it has expired, and the user must choose another. The text says so.
    PasswordExpired(String),
}

impl Verdict {
    /// Answers the attempt. A verdict that does not fit the method is no permission.
    ///
    /// # Errors
    ///
    /// Those of [`Server::grant`] and its like. [`Misuse::Argument`] and [`Misuse::Limit`] are mistakes of who gave the
    /// verdict, such as a prompt that is too long: the question stays open, and the connection is best ended.
    pub fn give(self, server: &mut Server, attempt: LoginAttempt) -> Result<(), Misuse> {
        let interactive = matches!(
            attempt.proof(),
            Proof::KeyboardInteractive { .. } | Proof::Answers(_)
        );
        let password = matches!(
            attempt.proof(),
            Proof::Password(_) | Proof::PasswordChange { .. }
        );
        match self {
            Self::Accept => server.grant(attempt),
            Self::Partial(methods) => server.partial(attempt, &methods),
            Self::Prompt(round) if interactive => server.prompt(attempt, &round),
            Self::PasswordExpired(text) if password => {
                server.require_password_change(attempt, &text)
            }
            Self::Refuse | Self::Prompt(_) | Self::PasswordExpired(_) => server.refuse(attempt),
        }
    }
}

/// A session channel and what was granted to it so far.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GrantedSession {
    /// The channel.
    pub channel: ChannelId,
    /// The user.
    pub user: String,
    /// The terminal, with its present size.
    pub pty: Option<PtyRequest>,
    /// The environment variables.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
}

impl GrantedSession {
    /// A session that was granted nothing yet.
    pub const fn new(channel: ChannelId, user: String) -> Self {
        Self {
            channel,
            user,
            pty: None,
            env: Vec::new(),
        }
    }
}

/// When connections are dropped before any work is done for them: OpenSSH's `MaxStartups`.
///
/// From `start` connections on that are not authenticated, new ones are dropped at random: at first `rate` per cent of
/// them, more the more there are, and all of them from `full` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "as in sshd_config")]
pub struct MaxStartups {
    /// Below it nothing is dropped.
    pub start: usize,
    /// The share that is dropped at `start`, in per cent.
    pub rate: u32,
    /// From here on everything is dropped.
    pub full: usize,
}

impl Default for MaxStartups {
    fn default() -> Self {
        Self {
            start: 50,
            rate: 30,
            full: 100,
        }
    }
}

impl MaxStartups {
    /// Whether one more is dropped while there are `present` that are not authenticated; `draw` is random.
    pub fn drops(&self, present: usize, draw: u32) -> bool {
        if present < self.start {
            return false;
        }
        if present >= self.full {
            return true;
        }
        // From `rate` at `start` in a straight line to 100 at `full`, which is above `start` here.
        let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let above = wide(present.saturating_sub(self.start));
        let span = wide(self.full.saturating_sub(self.start));
        let rise = u64::from(100_u32.saturating_sub(self.rate))
            .saturating_mul(above)
            .checked_div(span)
            .unwrap_or_default();
        u64::from(draw % 100) < u64::from(self.rate).saturating_add(rise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_drops_rise_from_the_rate_to_everything() {
        let max = MaxStartups {
            start: 10,
            rate: 30,
            full: 20,
        };
        let dropped = |present| (0..100).filter(|&draw| max.drops(present, draw)).count();
        assert_eq!(dropped(9), 0);
        assert_eq!(dropped(10), 30);
        assert_eq!(dropped(15), 65);
        assert_eq!(dropped(20), 100);
        assert_eq!(dropped(2_000), 100);
    }
}
