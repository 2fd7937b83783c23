//! Which message number the peer may send when: the one table (rule 7 of the house).
//!
//! In: a number, the phase, our side. Out: what to do with the message. Finer conditions, such as a second KEXINIT, are
//! the layer's own.

use crate::connection::role::Side;

/// How far the connection is, as far as the peer's messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Until the peer's first NEWKEYS.
    FirstKex,
    /// From then until the user is authenticated.
    Auth,
    /// The user is authenticated.
    Open,
    /// Between a later KEXINIT of the peer and its NEWKEYS.
    Rekey,
}

/// What to do with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// The layer of the number handles it.
    Handle,
    /// It is answered with UNIMPLEMENTED and otherwise ignored (RFC 4253 section 11.4).
    Unimplemented,
    /// The connection ends.
    Refuse,
}

/// The table.
pub(crate) const fn reaction(number: u8, phase: Phase, side: Side) -> Reaction {
    use Phase::{Auth, FirstKex, Open, Rekey};
    use Reaction::{Handle, Refuse, Unimplemented};
    match (number, phase, side) {
        // DISCONNECT, IGNORE, UNIMPLEMENTED, DEBUG: always (strict key exchange narrows it, see `Transport`).
        (1..=4, _, _) => Handle,
        // KEXINIT; a second one of the same exchange is refused where the exchange is known.
        (20, FirstKex | Auth | Open, _) => Handle,
        // NEWKEYS and the messages of the method.
        (21 | 30..=49, FirstKex | Rekey, _) => Handle,
        (20 | 21 | 30..=49, _, _) => Refuse,
        // RFC 4253 section 7.1: between KEXINIT and NEWKEYS nothing else, service requests included.
        (_, FirstKex | Rekey, _) => Refuse,
        // SERVICE_REQUEST and SERVICE_ACCEPT.
        (5, Auth, Side::Server) | (6, Auth, Side::Client) => Handle,
        (5 | 6, _, _) => Refuse,
        // EXT_INFO (RFC 8308 section 2.4); its place is checked where it is read.
        (7, Auth, _) => Handle,
        (7, _, _) => Refuse,
        // RFC 4252 section 5.1: requests after SUCCESS "SHOULD be silently ignored".
        (50, Auth | Open, Side::Server) => Handle,
        (51..=53 | 60..=79, Auth, Side::Client) => Handle,
        (61, Auth, Side::Server) => Handle,
        (50..=53 | 60..=79, _, _) => Refuse,
        // RFC 4252 section 6: the numbers from 80 on are refused before authentication.
        (80..=82 | 90..=100, Open, _) => Handle,
        (80..=127, Auth, _) => Refuse,
        // PING and PONG (OpenSSH's PROTOCOL section 1.9), once the user is authenticated.
        (192 | 193, Open, _) => Handle,
        (0..=255, _, _) => Unimplemented,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Phase::{Auth, FirstKex, Open, Rekey};

    #[test]
    fn nothing_of_a_channel_passes_before_authentication() {
        for number in 80..=127 {
            for side in [Side::Client, Side::Server] {
                for phase in [FirstKex, Auth] {
                    assert_eq!(reaction(number, phase, side), Reaction::Refuse, "{number}");
                }
            }
        }
    }

    #[test]
    fn a_server_takes_no_answers_of_a_server_and_a_client_no_requests_of_a_client() {
        for number in [6, 51, 52, 53, 60] {
            for phase in [FirstKex, Auth, Open, Rekey] {
                assert_eq!(
                    reaction(number, phase, Side::Server),
                    Reaction::Refuse,
                    "{number}"
                );
            }
        }
        for number in [5, 50] {
            for phase in [FirstKex, Auth, Open, Rekey] {
                assert_eq!(
                    reaction(number, phase, Side::Client),
                    Reaction::Refuse,
                    "{number}"
                );
            }
        }
    }

    #[test]
    fn only_a_key_exchange_passes_between_kexinit_and_newkeys() {
        for number in (5..=255).filter(|number| !matches!(number, 20 | 21 | 30..=49)) {
            for side in [Side::Client, Side::Server] {
                assert_eq!(
                    reaction(number, FirstKex, side),
                    Reaction::Refuse,
                    "{number}"
                );
                assert_eq!(reaction(number, Rekey, side), Reaction::Refuse, "{number}");
            }
        }
        assert_eq!(reaction(20, Rekey, Side::Client), Reaction::Refuse);
    }
}
