//! Which message number the peer may send when: the one table (rule 7 of the house).
//!
//! In: a number, the phase, our side. Out: what to do with the message. What the state of a layer adds is the layer's own:
//! which message of authentication may follow which, and what may be said about which channel.

use crate::connection::role::Side;

/// How far the connection is, as far as the peer's messages go.
///
/// ```text
/// Begin ── KEXINIT ──► Guess ── a packet ──► Method ── its last message ──► NewKeys ── NEWKEYS ──► Greeting
///              └── no wrong guess ────────────► (all three of the first exchange, strict or not)      │ a packet
///                                                                                                     ▼
/// Open ◄── SUCCESS ── Auth      Auth, Open ── KEXINIT ──► the three of a later exchange ──► back     Auth
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Until the peer's first KEXINIT.
    Begin,
    /// In a key exchange: between the peer's KEXINIT and its NEWKEYS.
    Kex(Exchange, Step),
    /// The first packet behind the peer's first NEWKEYS.
    Greeting,
    /// From then until the user is authenticated.
    Auth,
    /// The user is authenticated.
    Open,
}

/// Which key exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exchange {
    /// The first one, between peers of which one does not know strict key exchange.
    First,
    /// The first one, strict.
    Strict,
    /// A later one.
    Later,
}

/// How far a key exchange is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A packet follows that the peer guessed wrong.
    Guess,
    /// Messages of the method follow.
    Method,
    /// Nothing is missing but NEWKEYS.
    NewKeys,
}

/// What to do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// The layer of the number handles it.
    Handle,
    /// It is passed over, and counted.
    Ignore,
    /// It is passed over: the wrong guess of a key exchange.
    Skip,
    /// It is answered with UNIMPLEMENTED and otherwise ignored (RFC 4253 section 11.4).
    Unimplemented,
    /// The connection ends.
    Refuse,
}

/// The table.
pub(crate) const fn reaction(number: u8, phase: Phase, side: Side) -> Reaction {
    use Phase::{Auth, Begin, Greeting, Kex, Open};
    use Reaction::{Handle, Ignore, Refuse, Skip, Unimplemented};
    use Side::{Client, Server};
    use Step::{Guess, Method, NewKeys};
    match (number, phase, side) {
        (1, _, _) => Handle,
        // IGNORE, UNIMPLEMENTED, DEBUG. Strict key exchange (OpenSSH's PROTOCOL section 1.10): "terminating the
        // connection if they receive any message that is not strictly required".
        (2..=4, Kex(Exchange::Strict, _), _) => Refuse,
        (2..=4, _, _) => Handle,
        // KEXINIT: not a second one of the same exchange.
        (20, Begin | Greeting | Auth | Open, _) => Handle,
        (21, Kex(_, NewKeys), _) => Handle,
        // RFC 4253 section 7: "if the guess was wrong, [the packet] MUST be silently ignored".
        (30..=49, Kex(_, Guess), _) => Skip,
        // The method's: all methods that are known here have INIT and REPLY of RFC 5656 section 4.
        (30, Kex(_, Method), Server) | (31, Kex(_, Method), Client) => Handle,
        (20 | 21 | 30..=49, _, _) => Refuse,
        // RFC 4253 section 7.1: between KEXINIT and NEWKEYS nothing else, service requests included.
        (_, Begin | Kex(..), _) => Refuse,
        // SERVICE_REQUEST and SERVICE_ACCEPT.
        (5, Greeting | Auth, Server) | (6, Greeting | Auth, Client) => Handle,
        // EXT_INFO (RFC 8308 section 2.4): "As the next packet following [..] first SSH_MSG_NEWKEYS", and the server's
        // "Immediately preceding the server's SSH_MSG_USERAUTH_SUCCESS": OpenSSH sends it earlier.
        (7, Greeting, _) | (7, Auth, Client) => Handle,
        (5..=7, _, _) => Refuse,
        // Authentication (RFC 4252). Section 5.1: requests after SUCCESS "SHOULD be silently ignored".
        (50, Greeting | Auth, Server) => Handle,
        (50, Open, Server) => Ignore,
        (51..=53 | 60, Greeting | Auth, Client) => Handle,
        (61, Greeting | Auth, Server) => Handle,
        (50..=53 | 60..=79, _, _) => Refuse,
        // RFC 4252 section 6: the numbers from 80 on are refused before authentication.
        (80..=127, Greeting | Auth, _) => Refuse,
        // The connection protocol (RFC 4254).
        (80..=82 | 90..=100, Open, _) => Handle,
        // PING and PONG (OpenSSH's PROTOCOL section 1.9), once the user is authenticated.
        (192 | 193, Open, _) => Handle,
        (0..=255, _, _) => Unimplemented,
    }
}
