//! What the caller answers to a server's questions, each once, and the texts that it shows.
//!
//! In: tokens of the questions and verdicts. Out: SUCCESS, FAILURE, PK_OK, the next round. A token that does not belong
//! to the open question changes nothing.

use std::time::Instant;

use super::{Kind, Question, ServerAuth, State, with_crlf};
use crate::auth::attempt::{KeyOffer, LoginAttempt};
use crate::auth::event::ServerAuthEvent;
use crate::auth::prompt::PromptRound;
use crate::config::AuthMethod;
use crate::connection::cx::Cx;
use crate::error::{Misuse, printable};
use crate::limits::AUTH_PAYLOAD_LEN;
use crate::log::{LogLayer, LogLevel, LogSubject};
use crate::msg::auth::{
    UserauthBanner, UserauthInfoRequest, UserauthPasswdChangereq, UserauthPkOk, UserauthSuccess,
};
use crate::msg::{Message, Rest};
use crate::wire::Writer;

impl ServerAuth {
    /// The key would do: the client may sign with it.
    pub(crate) fn accept_key<E>(
        &mut self,
        offer: KeyOffer,
        cx: &mut Cx<'_, E>,
    ) -> Result<(), Misuse> {
        match &self.state {
            State::Asking {
                serial,
                question: Question::Key { key, algorithm },
                ..
            } if *serial == offer.serial => {
                cx.out.must(&UserauthPkOk {
                    algorithm: algorithm.name(),
                    key: key.blob(),
                });
                self.state = State::Listening;
                Ok(())
            }
            _ => Err(Misuse::StaleToken),
        }
    }

    /// The key would not do. It costs the client nothing but one of its queries.
    pub(crate) fn refuse_key<E>(
        &mut self,
        offer: KeyOffer,
        cx: &mut Cx<'_, E>,
    ) -> Result<(), Misuse> {
        match &self.state {
            State::Asking {
                serial,
                question: Question::Key { .. },
                ..
            } if *serial == offer.serial => {
                self.send_failure(false, cx);
                Ok(())
            }
            _ => Err(Misuse::StaleToken),
        }
    }

    /// The user is who they say, and may come in.
    pub(crate) fn grant<E: From<ServerAuthEvent>>(
        &mut self,
        attempt: LoginAttempt,
        cx: &mut Cx<'_, E>,
    ) -> Result<(), Misuse> {
        let method = self.proven(&attempt)?.method().name();
        cx.out.must(&UserauthSuccess {});
        let user = std::mem::take(&mut self.progress).user;
        cx.log
            .add_about(LogLevel::Info, LogLayer::Authentication, || {
                let user = printable(user.as_bytes(), 255);
                let text = format!("{user} by {method}");
                (LogSubject::LoggedIn(user), text)
            });
        self.state = State::Authenticated(user.clone());
        cx.events.push(ServerAuthEvent::Authenticated { user });
        Ok(())
    }

    /// The attempt failed. The answer leaves after the delay of the configuration, counted from the request.
    pub(crate) fn refuse<E>(
        &mut self,
        attempt: LoginAttempt,
        cx: &mut Cx<'_, E>,
    ) -> Result<(), Misuse> {
        let (kind, since) = self.asked(&attempt)?;
        if kind == Kind::None {
            self.send_failure(false, cx);
        } else {
            self.fail(since, "refused", cx);
        }
        Ok(())
    }

    /// The attempt was good, and one of `next` must follow, whether or not the configuration has it.
    pub(crate) fn partial<E>(
        &mut self,
        attempt: LoginAttempt,
        next: &[AuthMethod],
        cx: &mut Cx<'_, E>,
    ) -> Result<(), Misuse> {
        let kind = self.proven(&attempt)?;
        self.progress.completed.push(kind.method());
        self.progress.next = Some(
            next.iter()
                .copied()
                .filter(|method| *method != AuthMethod::None)
                .collect(),
        );
        self.send_failure(true, cx);
        Ok(())
    }

    /// Asks the user: the answer to a keyboard-interactive request, or to answers that are not enough.
    pub(crate) fn prompt<E>(
        &mut self,
        attempt: LoginAttempt,
        round: &PromptRound,
        cx: &mut Cx<'_, E>,
    ) -> Result<(), Misuse> {
        let (kind, _) = self.asked(&attempt)?;
        if kind.method() != AuthMethod::KeyboardInteractive {
            return Err(Misuse::Argument(
                "prompts are for keyboard-interactive only",
            ));
        }
        if round.prompts.len() > cx.limits.prompts {
            return Err(Misuse::Limit("prompts"));
        }
        let mut prompts = Vec::new();
        let mut writer = Writer::new(&mut prompts);
        for prompt in &round.prompts {
            writer.string(prompt.text.as_bytes()).boolean(prompt.echo);
        }
        let message = UserauthInfoRequest {
            name: round.name.as_bytes(),
            instruction: round.instruction.as_bytes(),
            language_tag: b"",
            num_prompts: u32::try_from(round.prompts.len()).unwrap_or(u32::MAX),
            prompts: Rest(&prompts),
        };
        if message.to_payload().len() > AUTH_PAYLOAD_LEN {
            return Err(Misuse::Limit("a packet of 32 KiB"));
        }
        cx.out.must(&message);
        self.state = State::Prompting(round.prompts.len());
        Ok(())
    }

    /// The password was right, but must be changed first (RFC 4252 section 8).
    pub(crate) fn require_password_change<E>(
        &mut self,
        attempt: LoginAttempt,
        prompt: &str,
        cx: &mut Cx<'_, E>,
    ) -> Result<(), Misuse> {
        let (kind, _) = self.asked(&attempt)?;
        if kind != Kind::Password {
            return Err(Misuse::Argument("only a password can be changed"));
        }
        if prompt.len() > cx.limits.text_len.min(AUTH_PAYLOAD_LEN / 2) {
            return Err(Misuse::Limit("text_len"));
        }
        cx.out.must(&UserauthPasswdChangereq {
            prompt: prompt.as_bytes(),
            language_tag: b"",
        });
        self.state = State::Listening;
        Ok(())
    }

    /// Shows text to the user. RFC 4252 section 5.4 allows it "at any time after this authentication protocol starts
    /// and before authentication is successful".
    pub(crate) fn banner<E>(&self, text: &str, cx: &mut Cx<'_, E>) -> Result<(), Misuse> {
        match self.state {
            State::New | State::Started => return Err(Misuse::TooEarly),
            State::Authenticated(_) => return Err(Misuse::AlreadyAuthenticated),
            _ => {}
        }
        let text = with_crlf(text);
        if text.len() > cx.limits.text_len.min(AUTH_PAYLOAD_LEN / 2) {
            return Err(Misuse::Limit("text_len"));
        }
        cx.out.request(&UserauthBanner {
            message: text.as_bytes(),
            language_tag: b"",
        })
    }

    /// The kind of the attempt that is open, and when it came.
    fn asked(&self, attempt: &LoginAttempt) -> Result<(Kind, Instant), Misuse> {
        match &self.state {
            State::Asking {
                serial,
                since,
                question: Question::Login(kind),
            } if *serial == attempt.serial => Ok((*kind, *since)),
            _ => Err(Misuse::StaleToken),
        }
    }

    /// The kind of the attempt that is open, when there is something to grant.
    fn proven(&self, attempt: &LoginAttempt) -> Result<Kind, Misuse> {
        match self.asked(attempt)? {
            (Kind::Interactive, _) => Err(Misuse::Argument(
                "a keyboard-interactive request proves nothing: prompt first",
            )),
            (kind, _) => Ok(kind),
        }
    }
}
