//! What both sides of every scenario say to what the other asks. It is told by the question alone, so that all backends
//! say the same: what begins with `no` is refused.

use ssh_proto::{
    AuthMethod, ChannelRequest, ForwardAddress, LoginAttempt, PromptRound, Proof, Secret,
};

use crate::pair::user_key;

/// The port that is bound when the server may choose.
pub const BOUND: u16 = 4242;

/// A verdict on an attempt to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "as in the adapters")]
pub enum Judgement {
    /// The user is in.
    Accept,
    /// The user is not.
    Refuse,
    /// One of these must follow.
    Partial(Vec<AuthMethod>),
    /// The user is asked this.
    Prompt(PromptRound),
    /// The password has expired.
    Expired(&'static str),
}

fn may(words: impl AsRef<[u8]>) -> bool {
    !words.as_ref().starts_with(b"no")
}

/// Whether a request about a channel is granted. Programs are the scenario's own business.
pub fn grants(request: &ChannelRequest) -> bool {
    match request {
        ChannelRequest::Pty(pty) => may(&pty.term),
        ChannelRequest::Env { name, .. } => may(name),
        ChannelRequest::Break { ms } => *ms == 500,
        ChannelRequest::Custom { data, .. } => may(data),
        _ => true,
    }
}

/// The answer to a request about the connection.
pub fn global(data: &[u8]) -> Option<Vec<u8>> {
    may(data).then(|| [b"you said ", data].concat())
}

/// The port that is bound for a listener, if it is granted.
pub fn listens(address: &ForwardAddress) -> Option<u16> {
    match address {
        ForwardAddress::Tcpip { address, port } => {
            may(address).then_some(if *port == 0 { BOUND } else { *port })
        }
        ForwardAddress::Streamlocal { path } => may(path).then_some(0),
        _ => None,
    }
}

/// Whether a key is worth a proof.
pub fn likes(key: &ssh_proto::key::PublicKey) -> bool {
    key == user_key().public()
}

/// The verdict on an attempt to log in.
pub fn judge(attempt: &LoginAttempt) -> Judgement {
    let granted = |fine: bool| {
        if fine {
            Judgement::Accept
        } else {
            Judgement::Refuse
        }
    };
    let passed = |method| attempt.completed().contains(&method);
    match (attempt.user(), attempt.proof()) {
        ("anybody", Proof::None) => Judgement::Accept,
        ("factors", Proof::PublicKey(key)) if likes(key) => {
            Judgement::Partial(vec![AuthMethod::Password])
        }
        ("factors", Proof::Password(password)) => {
            granted(*password == Secret::from("sesame") && passed(AuthMethod::PublicKey))
        }
        ("forgetful", Proof::Password(_)) => Judgement::Expired("choose another"),
        ("forgetful", Proof::PasswordChange { old, new }) => {
            granted(*old == Secret::from("sesame") && *new == Secret::from("tahini"))
        }
        ("alice", Proof::PublicKey(key)) => granted(likes(key)),
        ("alice", Proof::Password(password)) => granted(*password == Secret::from("sesame")),
        ("quiz", Proof::KeyboardInteractive { .. }) => Judgement::Prompt(
            PromptRound::new("first", "two questions")
                .with_prompt("Colour: ", true)
                .with_prompt("Code: ", false),
        ),
        ("quiz", Proof::Answers(answers)) => match answers.as_slice() {
            [colour, code] if *colour == Secret::from("blue") && *code == Secret::from("42") => {
                Judgement::Prompt(PromptRound::new("second", "").with_prompt("Sure? ", true))
            }
            [sure] => granted(*sure == Secret::from("yes")),
            _ => Judgement::Refuse,
        },
        _ => Judgement::Refuse,
    }
}

/// An attempt in the words of the log.
pub fn describe(attempt: &LoginAttempt, judgement: &Judgement) -> String {
    let what = match attempt.proof() {
        Proof::PasswordChange { .. } => "password change",
        Proof::Answers(_) => "answers",
        proof => proof.method().name(),
    };
    let verdict = match judgement {
        Judgement::Accept => "accepted",
        Judgement::Refuse => "refused",
        Judgement::Partial(_) => "accepted in part",
        Judgement::Prompt(_) => "asked",
        Judgement::Expired(_) => "expired",
    };
    format!("{what} of {} {verdict}", attempt.user())
}

/// The signature of the user's key, made outside of the library.
pub fn sign(request: &ssh_proto::SignatureRequest) -> Vec<u8> {
    let signed = user_key().sign(request.algorithm(), request.data());
    signed.expect("an Ed25519 key signs")
}
