//! Messages 50 to 79: user authentication (RFC 4252), keyboard-interactive (RFC 4256).
//!
//! Number 60 is three different messages; the method that is under way says which.

use super::{Rest, message};
use crate::wire::NameList;

message! {
    /// A request to authenticate; the method's fields follow (RFC 4252 section 5).
    UserauthRequest<'a> = 50 {
        user_name: &'a str,
        service_name: &'a str,
        method_name: &'a str,
        method_fields: Rest<'a>,
    }
}
message! {
    /// A refusal, or a partial success (RFC 4252 section 5.1).
    UserauthFailure<'a> = 51 { authentications_that_can_continue: NameList<'a>, partial_success: bool }
}
message! {
    /// The user is authenticated (RFC 4252 section 5.1).
    UserauthSuccess = 52 {}
}
message! {
    /// Text for the user (RFC 4252 section 5.4).
    UserauthBanner<'a> = 53 { message: &'a [u8], language_tag: &'a [u8] }
}
message! {
    /// The key would do (RFC 4252 section 7).
    UserauthPkOk<'a> = 60 { algorithm: &'a str, key: &'a [u8] }
}
message! {
    /// The password has expired (RFC 4252 section 8).
    UserauthPasswdChangereq<'a> = 60 { prompt: &'a [u8], language_tag: &'a [u8] }
}
message! {
    /// A round of prompts: `num_prompts` pairs of text and echo follow (RFC 4256 section 3.2).
    UserauthInfoRequest<'a> = 60 {
        name: &'a [u8],
        instruction: &'a [u8],
        language_tag: &'a [u8],
        num_prompts: u32,
        prompts: Rest<'a>,
    }
}
message! {
    /// The answers: `num_responses` strings follow (RFC 4256 section 3.4).
    UserauthInfoResponse<'a> = 61 { num_responses: u32, responses: Rest<'a> }
}
