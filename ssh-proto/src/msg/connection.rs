//! Messages 80 to 100: the connection protocol (RFC 4254).

use super::{Rest, message};

message! {
    /// A request that is not about a channel (RFC 4254 section 4).
    GlobalRequest<'a> = 80 { request_name: &'a str, want_reply: bool, data: Rest<'a> }
}
message! {
    /// The request was granted (RFC 4254 section 4).
    RequestSuccess<'a> = 81 { data: Rest<'a> }
}
message! {
    /// The request was refused (RFC 4254 section 4).
    RequestFailure = 82 {}
}
message! {
    /// Asks for a channel (RFC 4254 section 5.1).
    ChannelOpen<'a> = 90 {
        channel_type: &'a str,
        sender_channel: u32,
        initial_window_size: u32,
        maximum_packet_size: u32,
        data: Rest<'a>,
    }
}
message! {
    /// The channel is open (RFC 4254 section 5.1).
    ChannelOpenConfirmation<'a> = 91 {
        recipient_channel: u32,
        sender_channel: u32,
        initial_window_size: u32,
        maximum_packet_size: u32,
        data: Rest<'a>,
    }
}
message! {
    /// The channel is refused (RFC 4254 section 5.1).
    ChannelOpenFailure<'a> = 92 {
        recipient_channel: u32,
        reason_code: u32,
        description: &'a [u8],
        language_tag: &'a [u8],
    }
}
message! {
    /// The receiver of this may send so many bytes more (RFC 4254 section 5.2).
    ChannelWindowAdjust = 93 { recipient_channel: u32, bytes_to_add: u32 }
}
message! {
    /// Data (RFC 4254 section 5.2).
    ChannelData<'a> = 94 { recipient_channel: u32, data: &'a [u8] }
}
message! {
    /// Data of another stream, such as stderr (RFC 4254 section 5.2).
    ChannelExtendedData<'a> = 95 { recipient_channel: u32, data_type_code: u32, data: &'a [u8] }
}
message! {
    /// No more data will be sent (RFC 4254 section 5.3).
    ChannelEof = 96 { recipient_channel: u32 }
}
message! {
    /// The sender is done with the channel (RFC 4254 section 5.3).
    ChannelClose = 97 { recipient_channel: u32 }
}
message! {
    /// A request about a channel (RFC 4254 section 5.4).
    ChannelRequest<'a> = 98 {
        recipient_channel: u32,
        request_type: &'a str,
        want_reply: bool,
        data: Rest<'a>,
    }
}
message! {
    /// The channel request was granted (RFC 4254 section 5.4).
    ChannelSuccess = 99 { recipient_channel: u32 }
}
message! {
    /// The channel request was refused (RFC 4254 section 5.4).
    ChannelFailure = 100 { recipient_channel: u32 }
}
