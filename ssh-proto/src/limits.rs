//! Every bound, in one place (rule 4 of the house): first those that a caller may set, then those that nobody has reason
//! to change. Each has a test that reaches it.

use std::ops::RangeInclusive;
use std::time::Duration;

/// The most data that one packet of ours carries, in bytes. Two such packets fill one segment of a loopback socket
/// (65,483 bytes) whatever the cipher: who copies from somewhere does best to read twice as much at a time.
pub const PACKET_DATA_LEN: usize = 32_640;

/// The longest user or host name of a SOCKS request: what the length byte of SOCKS 5 can say.
pub const SOCKS_NAME_LEN: usize = 255;

/// The bounds of one connection. Lengths are in bytes.
///
/// The defaults take every correct peer that is known; a caller may tighten or widen them. With them a connection takes
/// 128 KiB of heap at the most until the user is authenticated, whatever the peer sends, when log records are taken or not
/// kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The longest version line, CR LF included. RFC 4253 section 4.2 says 255.
    pub version_line_len: usize,
    /// How many lines a server may send before its version line. OpenSSH takes 1,024.
    pub lines_before_version: usize,
    /// All lines before the version line together.
    pub bytes_before_version: usize,
    /// The largest `packet_length` before authentication. RFC 4253 section 6.1 asks for 35,000.
    pub packet_len_before_auth: usize,
    /// The largest `packet_length` after authentication: what OpenSSH takes.
    pub packet_len: usize,
    /// The longest list of names in KEXINIT.
    pub name_list_len: usize,
    /// Entries of one EXT_INFO (RFC 8308).
    pub ext_info_entries: usize,
    /// Bytes that a peer may send before it is authenticated.
    pub bytes_before_auth: u64,
    /// Packets that a peer may send before it is authenticated.
    pub packets_before_auth: u64,
    /// IGNORE, DEBUG and UNIMPLEMENTED messages between two key exchanges, on top of one for each
    /// KiB of other traffic.
    pub idle_messages: u32,
    /// Key exchanges that a peer may start sooner than 10 s and 16 KiB, sent or received, after the one before.
    pub cheap_rekeys: u32,
    /// Replies that the peer provoked while a key exchange holds them back.
    pub deferred_len: usize,
    /// Failed attempts to authenticate before a server ends the connection. OpenSSH has 6.
    pub auth_failures: u32,
    /// All authentication requests, whatever their outcome.
    pub auth_requests: u32,
    /// Queries whether a public key would do.
    pub public_key_queries: u32,
    /// The longest user name. A server refuses a longer one as it refuses any other; to a client it is
    /// [`Misuse::Limit`](crate::Misuse::Limit).
    pub user_len: usize,
    /// The longest password, and the longest answer to a prompt. As [`user_len`](Self::user_len).
    pub password_len: usize,
    /// Prompts, and answers, of one keyboard-interactive round.
    pub prompts: usize,
    /// The longest prompt, instruction or banner, and the longest text of DISCONNECT and DEBUG. What the peer's have
    /// beyond it is not kept; nor what all texts of one keyboard-interactive round together have beyond 16 KiB.
    pub text_len: usize,
    /// Names of methods that a client keeps from one refusal; the rest is passed over.
    pub auth_methods: usize,
    /// Banners that a client passes on.
    pub banners: u32,
    /// Channels at once.
    pub channels: usize,
    /// Channels that were asked for and are not answered yet: those that this side asked for, and those that the peer
    /// asked for. Beyond it a command is [`Misuse::Limit`](crate::Misuse::Limit), and the peer is refused.
    pub pending_opens: usize,
    /// Requests of this side, on one channel or globally, that are not answered yet.
    pub pending_requests: usize,
    /// Requests of the peer that the caller has not answered yet, on one channel or
    /// globally. What comes beyond them is refused by the library.
    pub open_questions: usize,
    /// Listeners of one connection that a client has asked for, or that a server has granted or is being asked about.
    /// Beyond it a command is [`Misuse::Limit`](crate::Misuse::Limit), and the peer is refused.
    pub forwards: usize,
    /// The longest data of one request, of its reply, of one open and of its confirmation, in either direction: all
    /// that follows the fields that each of them has, as it is encoded. So a command, or the name of a subsystem, may
    /// have four bytes less. Beyond it a command is [`Misuse::Limit`](crate::Misuse::Limit), and the peer is refused.
    pub request_len: usize,
    /// The longest terminal name.
    pub term_len: usize,
    /// The longest encoded list of terminal modes.
    pub modes_len: usize,
    /// Environment variables on one channel.
    pub env_variables: usize,
    /// The longest name, and the longest value, of an environment variable.
    pub env_len: usize,
    /// Replies that nobody asked for, and messages for channels just closed, before the peer is
    /// taken to be broken.
    pub stray_messages: u32,
    /// The receive window of one channel at the most.
    pub window: u32,
    /// All bytes of a connection that were granted or are unread, together. Half of it is shared equally by as many
    /// [`channels`](Self::channels) as there may be, so that each has a window whatever the others have: 32 KiB with the
    /// defaults, never more than 64 KiB and, beyond the budget if need be, never less than 1 KiB. The other half goes to
    /// whoever needs more.
    pub window_budget: u32,
    /// Log records kept until they are taken; then the oldest goes, as it does when all their text together exceeds
    /// 4 MiB.
    pub log_records: usize,
    /// Connection events that wait for the caller; then input stops.
    pub events: usize,
    /// Text of a recording that waits to be taken (feature `replay`); what it exceeds this with is kept, and then the
    /// recording stops.
    pub recording_len: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            version_line_len: 255,
            lines_before_version: 1_024,
            bytes_before_version: 64 * 1024,
            packet_len_before_auth: 35_000,
            packet_len: 256 * 1024,
            name_list_len: 16 * 1024,
            ext_info_entries: 64,
            bytes_before_auth: 1024 * 1024,
            packets_before_auth: 10_000,
            idle_messages: 10_000,
            cheap_rekeys: 16,
            deferred_len: 64 * 1024,
            auth_failures: 6,
            auth_requests: 128,
            public_key_queries: 20,
            user_len: 255,
            password_len: 1_024,
            prompts: 32,
            text_len: 4 * 1024,
            auth_methods: 32,
            banners: 16,
            channels: 1_024,
            pending_opens: 64,
            pending_requests: 64,
            open_questions: 16,
            forwards: 16,
            request_len: 32 * 1024,
            term_len: 256,
            modes_len: 2 * 1024,
            env_variables: 64,
            env_len: 4 * 1024,
            stray_messages: 1_000,
            window: 32 * 1024 * 1024,
            window_budget: 64 * 1024 * 1024,
            log_records: 256,
            events: 64,
            recording_len: 16 * 1024 * 1024,
        }
    }
}

/// The deadlines of a connection. `None`: no deadline.
///
/// On the client they count the peer's time only: they stop while the library waits for an answer of
/// the caller. On the server `authentication` is absolute, from the first byte on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deadlines {
    /// Until the peer's version line is there.
    pub version: Option<Duration>,
    /// For one key exchange.
    pub key_exchange: Option<Duration>,
    /// Until the user is authenticated: OpenSSH's `LoginGraceTime`.
    pub authentication: Option<Duration>,
    /// Until a channel that this side asked for is confirmed or refused.
    pub channel_open: Option<Duration>,
    /// Without any packet in either direction.
    pub idle: Option<Duration>,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            version: Some(Duration::from_secs(15)),
            key_exchange: Some(Duration::from_secs(30)),
            authentication: Some(Duration::from_secs(120)),
            channel_open: Some(Duration::from_secs(60)),
            idle: None,
        }
    }
}

/// When this side starts a new key exchange (RFC 4253 section 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RekeyLimits {
    /// After so many bytes in one direction.
    pub bytes: u64,
    /// After so many packets in one direction. Never more than 2^31, whatever is asked for.
    pub packets: u64,
    /// After so much time, also on an idle connection.
    pub time: Option<Duration>,
}

impl RekeyLimits {
    /// What is asked for below this is taken as this: an exchange has to end before the next one is due.
    pub const LEAST_BYTES: u64 = 1024;
    /// As [`LEAST_BYTES`](Self::LEAST_BYTES), in packets.
    pub const LEAST_PACKETS: u64 = 4;
    /// As [`LEAST_BYTES`](Self::LEAST_BYTES), in time.
    pub const LEAST_TIME: Duration = Duration::from_millis(100);
}

impl Default for RekeyLimits {
    fn default() -> Self {
        Self {
            bytes: 1 << 30,
            packets: 1 << 31,
            time: Some(Duration::from_secs(3_600)),
        }
    }
}

// The output (`packet/output.rs`), in bytes that wait to be written.

/// Channel data stops here: what one write to a socket takes at best. Loopback's segments hold 65,483 bytes, and two
/// full packets fit one of them whatever the cipher.
pub(crate) const DATA_MARK: usize = 65_480;
/// Our own requests stop above this: data never fills the room that they need.
pub(crate) const REQUEST_MARK: usize = DATA_MARK + 16 * 1024;
/// Input stops above this: replies always have room below it.
pub(crate) const REPLY_MARK: usize = DATA_MARK + 128 * 1024;
/// Input that was stopped goes on from here, and not for a packet or two.
pub(crate) const RESUME_MARK: usize = REPLY_MARK - 32 * 1024;
/// The same two before the user is authenticated, when nothing is asked that has a long reply: a peer that is nobody yet
/// and does not read is owed little.
pub(crate) const REPLY_MARK_BEFORE_AUTH: usize = 24 * 1024;
/// See [`REPLY_MARK_BEFORE_AUTH`].
pub(crate) const RESUME_MARK_BEFORE_AUTH: usize = 16 * 1024;
/// Our own messages behind a key exchange stop above this: there is no room to be waited for, only its end.
pub(crate) const OWN_HELD_MARK: usize = 16 * 1024;

// The transport layer (`transport`, `connection/spine.rs`).

/// The most that is read at once before the user is authenticated, in bytes: what follows a question waits in the
/// connection, and a peer that is nobody yet gets no 128 KiB for it.
pub(crate) const READ_BEFORE_AUTH: usize = 16 * 1024;
/// The longest PING that is answered, and that is sent, in bytes of its data. OpenSSH's have eight.
pub(crate) const PING_LEN: usize = 256;
/// Lines of the key log that wait to be taken; then the oldest goes. Whoever takes them does so after each turn, and more
/// than a few key exchanges in one turn the peer is not allowed.
#[cfg(any(test, feature = "keylog"))]
pub(crate) const KEY_LOG_LINES: usize = 16;
/// All text of log records that wait to be taken, in bytes; then the oldest goes. The dump of a packet is four times as
/// long as the packet.
pub(crate) const LOG_TEXT_LEN: usize = 4 * 1024 * 1024;
/// How many EXT_INFO a peer may send (RFC 8308 section 2.4: after NEWKEYS, and before SUCCESS).
pub(crate) const EXT_INFOS: u8 = 2;
/// The longest EXT_INFO that is read, in bytes of its payload. OpenSSH's has about 300.
pub(crate) const EXT_INFO_LEN: usize = 16 * 1024;
/// RFC 4344 section 3.1: "an implementation SHOULD rekey after at most 2**31 packets".
pub(crate) const REKEY_PACKETS: u64 = 1 << 31;
/// Exchanges of the peer further apart than this are not counted towards [`Limits::cheap_rekeys`].
pub(crate) const CHEAP_REKEY_TIME: Duration = Duration::from_secs(10);
/// The same, in bytes of either direction. The peer may have asked for few bytes and mean it: OpenSSH with `RekeyLimit
/// 1M` begins after half of that, with anything below 512K after each full packet, and what it counts may all be what it
/// has received.
pub(crate) const CHEAP_REKEY_BYTES: u64 = 16 * 1024;
/// So many packets are sealed and opened with one AEAD key: neither the 32-bit sequence number nor the 64-bit invocation
/// counter has gone around by then.
pub(crate) const AEAD_RECORDS: u64 = 1 << 32;

// Authentication (`auth`).

/// All text of one keyboard-interactive round together, as it is printed. What is beyond it is not kept: escapes are
/// longer than what they stand for.
pub(crate) const ROUND_TEXT_LEN: usize = 16 * 1024;
/// RFC 4253 section 6.1: "All implementations MUST be able to process packets with an uncompressed payload length of
/// 32768 bytes or less". No longer request, prompt or banner is sent, since a peer may refuse it.
pub(crate) const AUTH_PAYLOAD_LEN: usize = 32_768;

// Channels (`channel`).

/// The largest data packet that is announced and taken: what every peer announces.
pub(crate) const MAX_PACKET: u32 = 32 * 1024;
/// The first receive window where the budget allows it: what every peer is used to.
pub(crate) const FIRST_WINDOW: u32 = 2 * 1024 * 1024;
/// The window that every channel is sure of, however many there are, lies between these: see
/// [`Limits::window_budget`].
pub(crate) const SURE_WINDOW: RangeInclusive<u32> = 1024..=64 * 1024;
/// Refusals that may wait behind open questions, for each question that may be open and one more.
pub(crate) const REFUSALS_PER_QUESTION: usize = 64;
/// Blocks kept for the next reads, for a second at the most: no fewer than a reader fills before a consumer has its turn
/// again, with the first window full. Memory that is given back and asked for anew costs more than half of what decryption does.
pub(crate) const SPARE_BLOCKS: usize = 32;
/// So much dead memory in blocks that hold unread data is tolerated, in bytes, or as much as there is unread data when
/// that is more. Three of the largest blocks: compacting any sooner would copy more than it frees.
pub(crate) const BLOCK_WASTE: usize = 384 * 1024;
/// The memory that the copied end of a queue keeps when it is emptied, in bytes: as much as a channel is sure of at the most.
pub(crate) const TAIL_KEPT: usize = 64 * 1024;

// Keys (`key`).

/// The longest private key file that is read, in bytes. One of a key of 8,192 bits has about 6 KiB.
pub(crate) const KEY_FILE_LEN: usize = 64 * 1024;
/// The longest public key blob that is read, in bytes. The longest in use, certificates, have a few KiB.
pub(crate) const KEY_BLOB_LEN: usize = 64 * 1024;
/// RFC 4250 section 4.6.1: "Names [...] MUST NOT be longer than 64 characters."
pub(crate) const KEY_NAME_LEN: usize = 64;
/// The longest salt of an encrypted private key, in bytes. OpenSSH's has 16.
#[cfg(feature = "encrypted-keys")]
pub(crate) const KEY_SALT_LEN: usize = 64;
/// The sizes of RSA keys that signatures are verified with: what OpenSSH can make, but for those that are too short.
pub(crate) const RSA_BITS: RangeInclusive<u32> = 2_048..=16_384;
