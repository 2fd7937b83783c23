//! Messages 1 to 29: the transport layer (RFC 4253, RFC 8308), and OpenSSH's PING and PONG.

use super::{Rest, message};
use crate::wire::NameList;

message! {
    /// Ends the connection (RFC 4253 section 11.1).
    Disconnect<'a> = 1 { reason_code: u32, description: &'a [u8], language_tag: &'a [u8] }
}
message! {
    /// Ignored data (RFC 4253 section 11.2).
    Ignore<'a> = 2 { data: &'a [u8] }
}
message! {
    /// The answer to a message that is not known (RFC 4253 section 11.4).
    Unimplemented = 3 { sequence_number: u32 }
}
message! {
    /// A line for whoever debugs the connection (RFC 4253 section 11.3).
    Debug<'a> = 4 { always_display: bool, message: &'a [u8], language_tag: &'a [u8] }
}
message! {
    /// Asks for a service (RFC 4253 section 10).
    ServiceRequest<'a> = 5 { service_name: &'a str }
}
message! {
    /// Grants a service (RFC 4253 section 10).
    ServiceAccept<'a> = 6 { service_name: &'a str }
}
message! {
    /// Extensions: `nr_extensions` pairs of name and value follow (RFC 8308 section 2.3).
    ExtInfo<'a> = 7 { nr_extensions: u32, extensions: Rest<'a> }
}
message! {
    /// The algorithms that a side has (RFC 4253 section 7.1).
    KexInit<'a> = 20 {
        cookie: [u8; 16],
        kex_algorithms: NameList<'a>,
        server_host_key_algorithms: NameList<'a>,
        encryption_algorithms_client_to_server: NameList<'a>,
        encryption_algorithms_server_to_client: NameList<'a>,
        mac_algorithms_client_to_server: NameList<'a>,
        mac_algorithms_server_to_client: NameList<'a>,
        compression_algorithms_client_to_server: NameList<'a>,
        compression_algorithms_server_to_client: NameList<'a>,
        languages_client_to_server: NameList<'a>,
        languages_server_to_client: NameList<'a>,
        first_kex_packet_follows: bool,
        reserved: u32,
    }
}
message! {
    /// From here on the new keys are used (RFC 4253 section 7.3).
    NewKeys = 21 {}
}
message! {
    /// Asks for a [`Pong`] (`ping@openssh.com`, OpenSSH's PROTOCOL section 1.9).
    Ping<'a> = 192 { data: &'a [u8] }
}
message! {
    /// Answers a [`Ping`] with its data.
    Pong<'a> = 193 { data: &'a [u8] }
}
