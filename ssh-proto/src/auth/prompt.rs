//! Questions to the user: keyboard-interactive rounds (RFC 4256), and the change of an expired password.

use crate::config::AuthMethod;

/// One question of a keyboard-interactive round.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Prompt {
    /// What to show. A client receives it with control characters escaped, cut to
    /// [`Limits::text_len`](crate::limits::Limits::text_len) bytes.
    pub text: String,
    /// Whether the answer may be seen while it is typed.
    pub echo: bool,
}

impl Prompt {
    /// A question.
    pub fn new(text: impl Into<String>, echo: bool) -> Self {
        Self {
            text: text.into(),
            echo,
        }
    }
}

/// A keyboard-interactive round of the server (RFC 4256 section 3.2): the question of the client's event
/// `PromptsReceived`, answered once with as many answers as there are prompts. Packets of the server wait meanwhile.
///
/// A round may have no prompts at all: it only shows text, and still waits for its answer, an empty one (RFC 4256
/// section 3.4).
///
/// ```compile_fail
/// fn answered_once(prompts: ssh_proto::Prompts) -> [ssh_proto::Prompts; 2] {
///     [prompts.clone(), prompts]
/// }
/// ```
#[derive(Debug)]
#[must_use = "the server waits for the answers"]
pub struct Prompts {
    pub(super) serial: u64,
    pub(super) name: String,
    pub(super) instruction: String,
    pub(super) prompts: Vec<Prompt>,
}

impl Prompts {
    /// What answers the question of that number: all that is looked at when it comes back.
    #[cfg(any(test, feature = "replay"))]
    pub(crate) const fn numbered(serial: u64) -> Self {
        Self {
            serial,
            name: String::new(),
            instruction: String::new(),
            prompts: Vec::new(),
        }
    }

    #[cfg(any(test, feature = "replay"))]
    pub(crate) const fn serial(&self) -> u64 {
        self.serial
    }

    /// A title for the round; often empty. Control characters are escaped.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Text to show above the prompts; often empty. Control characters are escaped.
    pub fn instruction(&self) -> &str {
        &self.instruction
    }

    /// The prompts, in the order that the answers must have.
    pub fn prompts(&self) -> &[Prompt] {
        &self.prompts
    }
}

/// The server wants the user's password changed before it lets the user in (RFC 4252 section 8): the question of the
/// client's event `PasswordChangeRequested`.
#[derive(Debug)]
#[must_use = "the attempt rests until it is answered or another one is started"]
pub struct PasswordChange {
    pub(super) serial: u64,
    pub(super) prompt: String,
}

impl PasswordChange {
    /// What answers the question of that number: all that is looked at when it comes back.
    #[cfg(any(test, feature = "replay"))]
    pub(crate) const fn numbered(serial: u64) -> Self {
        Self {
            serial,
            prompt: String::new(),
        }
    }

    #[cfg(any(test, feature = "replay"))]
    pub(crate) const fn serial(&self) -> u64 {
        self.serial
    }

    /// What the server wants shown. Control characters are escaped.
    pub fn prompt(&self) -> &str {
        &self.prompt
    }
}

/// A keyboard-interactive round that a server puts to the user.
///
/// ```
/// use ssh_proto::PromptRound;
///
/// let round = PromptRound::new("Second factor", "The code is on your token.").with_prompt("Code: ", true);
/// assert_eq!(round.prompts.len(), 1);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PromptRound {
    /// A title; may be empty.
    pub name: String,
    /// Text above the prompts; may be empty.
    pub instruction: String,
    /// The prompts: at most [`Limits::prompts`](crate::limits::Limits::prompts), none for a round that only shows
    /// text. All text together must fit a packet of 32 KiB.
    pub prompts: Vec<Prompt>,
}

impl PromptRound {
    /// A round without prompts yet.
    pub fn new(name: impl Into<String>, instruction: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            instruction: instruction.into(),
            prompts: Vec::new(),
        }
    }

    /// The round with one more prompt.
    #[must_use]
    pub fn with_prompt(mut self, text: impl Into<String>, echo: bool) -> Self {
        self.prompts.push(Prompt::new(text, echo));
        self
    }
}

/// The names of methods as a list, without `none`, which RFC 4252 section 5.2 forbids to list.
pub(super) fn method_list(methods: &[AuthMethod]) -> String {
    let names: Vec<&str> = methods
        .iter()
        .filter(|&&method| method != AuthMethod::None)
        .map(|method| method.name())
        .collect();
    names.join(",")
}
