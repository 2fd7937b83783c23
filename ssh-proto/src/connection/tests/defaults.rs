//! The bounds as they are when nobody says otherwise. Their edges are tested at other values as well, where the default is
//! too large to be reached in a test, so what they are is written down here once more.

use super::*;
use crate::limits::{
    AEAD_RECORDS, AUTH_PAYLOAD_LEN, BLOCK_WASTE, CHEAP_REKEY_BYTES, CHEAP_REKEY_TIME, DATA_MARK,
    Deadlines, EXT_INFO_LEN, EXT_INFOS, FIRST_WINDOW, KEY_BLOB_LEN, KEY_FILE_LEN, KEY_LOG_LINES,
    KEY_NAME_LEN, LOG_TEXT_LEN, Limits, MAX_PACKET, OWN_HELD_MARK, PACKET_DATA_LEN, PING_LEN,
    READ_BEFORE_AUTH, REFUSALS_PER_QUESTION, REKEY_PACKETS, REPLY_MARK, REPLY_MARK_BEFORE_AUTH,
    REQUEST_MARK, RESUME_MARK, RESUME_MARK_BEFORE_AUTH, ROUND_TEXT_LEN, RSA_BITS, RekeyLimits,
    SOCKS_NAME_LEN, SPARE_BLOCKS, SURE_WINDOW, TAIL_KEPT,
};

#[test]
fn limits_that_nobody_set() {
    // Every field, none by way of another default: who adds one says here what it is. The numbers are those of the rows in
    // `conformance/coverage.txt`.
    let expected = Limits {
        // 2-1, 2-2: version lines.
        version_line_len: 255,
        lines_before_version: 1_024,
        bytes_before_version: 65_536,
        // 2-3: packets.
        packet_len_before_auth: 35_000,
        packet_len: 262_144,
        // 2-6, 2-8, 2-7, 2-33: key exchange.
        name_list_len: 16_384,
        ext_info_entries: 64,
        deferred_len: 65_536,
        cheap_rekeys: 16,
        // 2-22, 2-31, 2-29: traffic that leads nowhere.
        bytes_before_auth: 1_048_576,
        packets_before_auth: 10_000,
        idle_messages: 10_000,
        stray_messages: 1_000,
        // 2-14 to 2-17, 2-35, 2-49: authentication.
        auth_failures: 6,
        auth_requests: 128,
        public_key_queries: 20,
        user_len: 255,
        password_len: 1_024,
        prompts: 32,
        text_len: 4_096,
        auth_methods: 32,
        banners: 16,
        // 2-24, 2-25, 2-36, 2-38, 2-47: channels, their requests, forwarding.
        channels: 1_024,
        pending_opens: 64,
        pending_requests: 64,
        open_questions: 16,
        forwards: 16,
        request_len: 32_768,
        term_len: 256,
        modes_len: 2_048,
        env_variables: 64,
        env_len: 4_096,
        window: 33_554_432,
        window_budget: 67_108_864,
        // 2-48: what waits for the caller.
        log_records: 256,
        events: 64,
        recording_len: 16_777_216,
    };
    assert_eq!(Limits::default(), expected);
    assert_eq!(ClientConfig::new().transport.limits, expected);
    assert_eq!(ServerConfig::new(vec![]).transport.limits, expected);
}

#[test]
fn deadlines_that_nobody_set() {
    // 2-20, 2-34, 2-50.
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let expected = Deadlines {
        version: seconds(15),
        key_exchange: seconds(30),
        authentication: seconds(120),
        channel_open: seconds(60),
        idle: None,
    };
    assert_eq!(Deadlines::default(), expected);
    assert_eq!(ClientConfig::new().transport.deadlines, expected);
    assert_eq!(ServerConfig::new(vec![]).transport.deadlines, expected);
}

#[test]
fn new_keys_that_nobody_set() {
    // 2-32.
    let expected = RekeyLimits {
        bytes: 1_073_741_824,
        packets: 2_147_483_648,
        time: Some(Duration::from_secs(3_600)),
    };
    assert_eq!(RekeyLimits::default(), expected);
    assert_eq!(ClientConfig::new().transport.rekey, expected);
    assert_eq!(ServerConfig::new(vec![]).transport.rekey, expected);
    assert_eq!(RekeyLimits::LEAST_BYTES, 1_024);
    assert_eq!(RekeyLimits::LEAST_PACKETS, 4);
    assert_eq!(RekeyLimits::LEAST_TIME, Duration::from_millis(100));
}

#[test]
fn bounds_that_nobody_can_set() {
    for (what, bound, expected) in [
        ("data of a packet", PACKET_DATA_LEN, 32_640),
        ("a name in SOCKS", SOCKS_NAME_LEN, 255),
        ("data stops", DATA_MARK, 65_480),
        ("requests stop", REQUEST_MARK, 81_864),
        ("input stops", REPLY_MARK, 196_552),
        ("input goes on", RESUME_MARK, 163_784),
        ("input stops, nobody in", REPLY_MARK_BEFORE_AUTH, 24_576),
        ("input goes on, nobody in", RESUME_MARK_BEFORE_AUTH, 16_384),
        ("ours behind an exchange", OWN_HELD_MARK, 16_384),
        ("read at once, nobody in", READ_BEFORE_AUTH, 16_384),
        ("data of PING", PING_LEN, 256),
        ("lines of the key log", KEY_LOG_LINES, 16),
        ("text of the log", LOG_TEXT_LEN, 4_194_304),
        ("EXT_INFOs", EXT_INFOS.into(), 2),
        ("an EXT_INFO", EXT_INFO_LEN, 16_384),
        ("text of a round", ROUND_TEXT_LEN, 16_384),
        ("a message of authentication", AUTH_PAYLOAD_LEN, 32_768),
        ("refusals for a question", REFUSALS_PER_QUESTION, 64),
        ("blocks for the next reads", SPARE_BLOCKS, 32),
        ("dead memory", BLOCK_WASTE, 393_216),
        ("memory of a queue's end", TAIL_KEPT, 65_536),
        ("a file of a key", KEY_FILE_LEN, 65_536),
        ("a blob of a key", KEY_BLOB_LEN, 65_536),
        ("a type of a key", KEY_NAME_LEN, 64),
    ] {
        assert_eq!(bound, expected, "{what}");
    }
    assert_eq!((MAX_PACKET, FIRST_WINDOW), (32_768, 2_097_152));
    assert_eq!(SURE_WINDOW, 1_024..=65_536);
    assert_eq!(RSA_BITS, 2_048..=16_384);
    assert_eq!((REKEY_PACKETS, AEAD_RECORDS), (1 << 31, 1 << 32));
    assert_eq!(CHEAP_REKEY_TIME, Duration::from_secs(10));
    assert_eq!(CHEAP_REKEY_BYTES, 16_384);
    #[cfg(feature = "encrypted-keys")]
    assert_eq!(crate::limits::KEY_SALT_LEN, 64);
}
