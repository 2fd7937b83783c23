//! Messages 30 and 31 of the exchanges with one value from each side (RFC 5656 section 4, RFC 8731,
//! RFC 10042): all of them have the same two messages.

use super::message;

message! {
    /// The client's value: `Q_C` of ECDH, `C_INIT` of the hybrid exchange.
    KexEcdhInit<'a> = 30 { q_c: &'a [u8] }
}
message! {
    /// The server's host key, its value (`Q_S`, `S_REPLY`), and its signature over the exchange hash.
    KexEcdhReply<'a> = 31 { k_s: &'a [u8], q_s: &'a [u8], signature: &'a [u8] }
}
