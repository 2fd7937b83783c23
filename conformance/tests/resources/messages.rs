//! Every message that a peer can say: each with a connection in the state that it is meant for, and what shows that it was
//! taken there, down to its last field.

use super::*;
use conformance::hostile::{password, request};
use ssh_proto::key::PrivateKey;
use ssh_proto::msg::auth::*;
use ssh_proto::msg::connection::*;
use ssh_proto::msg::transport::*;
use ssh_proto::msg::{Message, Rest};
use ssh_proto::names::SignatureAlgorithm;
use ssh_proto::wire::{NameList, Writer};
use ssh_proto::{Credential, ForwardAddress, OpenChannel, Stream};
use std::sync::Arc;

/// A message, and where it belongs.
pub(super) struct Case<R: Victim> {
    pub(super) name: &'static str,
    /// A connection that waits for it.
    state: fn() -> Hostile<R>,
    /// Its payload.
    message: fn(&mut Hostile<R>) -> Vec<u8>,
    pub(super) shown: Shown,
}

/// What shows that a message was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// With a byte more it is malformed, and at its end: it was read as far as that.
    Whole,
    /// The victim says a message of this number.
    Answered(u8),
    /// The application hears of it.
    Told,
    /// It ends the connection, and that is its meaning.
    Ended,
    /// It is passed over, unread.
    PassedOver,
}

use Shown::{Answered, Ended, PassedOver, Told, Whole};

impl<R: Victim> Case<R> {
    const fn new(
        name: &'static str,
        state: fn() -> Hostile<R>,
        message: fn(&mut Hostile<R>) -> Vec<u8>,
        shown: Shown,
    ) -> Self {
        Self {
            name,
            state,
            message,
            shown,
        }
    }

    /// A new connection in the state, of which nothing is measured yet, and the message.
    pub(super) fn begin(&self) -> (Hostile<R>, Vec<u8>) {
        let mut peer = (self.state)();
        let message = (self.message)(&mut peer);
        assert_eq!(peer.closed(), None, "{}", self.name);
        peer.cost.take_largest_look();
        (peer, message)
    }
}

// States.

fn greeted<R: Usual>() -> Hostile<R> {
    let mut peer = fresh();
    peer.say_version();
    peer
}

/// A value of the method is expected.
fn exchanging<R: Usual>() -> Hostile<R> {
    let mut peer = greeted();
    peer.say_kexinit();
    peer
}

/// NEWKEYS is expected.
fn exchanged<R: Usual>() -> Hostile<R> {
    let mut peer = exchanging();
    peer.say_method();
    peer
}

/// A user may try to log in, or the victim has.
fn login<R: Usual>() -> Hostile<R> {
    let mut peer = keyed();
    peer.ask_service();
    peer
}

fn exchanging_again<R: Usual>() -> Hostile<R> {
    let mut peer = open();
    peer.say_kexinit();
    peer
}

fn exchanged_again<R: Usual>() -> Hostile<R> {
    let mut peer = exchanging_again();
    peer.say_method();
    peer
}

fn with_channel<R: Usual>() -> Hostile<R> {
    let mut peer = open();
    peer.say(&open_of(OWN, b""));
    peer
}

/// The victim has asked for a channel.
fn opening<R: Usual>() -> Hostile<R> {
    let mut peer = open();
    let kind = OpenChannel::Custom {
        kind: OWN,
        data: b"",
    };
    let opened = peer.act(|conn, now| conn.open(kind, now));
    opened.expect("room for a channel");
    peer
}

/// The victim has asked something about a channel.
fn requesting<R: Usual>() -> Hostile<R> {
    let mut peer = with_channel();
    let id = *peer.manners.channels.last().expect("a channel");
    let asked = peer.act(|conn, _| {
        let mut channel = conn.channel(id).expect("a channel");
        channel.request("x", b"", true)
    });
    asked.expect("room for a request");
    peer
}

/// The victim has asked something about the connection.
fn requesting_globally<R: Usual>() -> Hostile<R> {
    let mut peer = open();
    let asked = peer.act(|conn, now| conn.global_request("x", b"", true, now));
    asked.expect("room for a request");
    peer
}

fn pinging<R: Usual>() -> Hostile<R> {
    let mut peer = open::<R>();
    let sent = peer.act(|conn, now| conn.ping(b"ping", now));
    sent.expect("a peer that answers");
    peer
}

/// A round of one prompt is out.
fn prompting() -> Hostile<ServerRole> {
    let mut peer = login();
    peer.say(&request("alice", "keyboard-interactive", &[0; 8]));
    peer
}

fn with_session() -> Hostile<ServerRole> {
    let mut peer = open();
    peer.say(&open_of("session", b""));
    peer
}

fn listening() -> Hostile<ServerRole> {
    let mut peer = open();
    peer.say(&global("tcpip-forward", &host_port("localhost", 80)));
    peer
}

fn listening_on_a_socket() -> Hostile<ServerRole> {
    let mut peer = open();
    peer.say(&global("streamlocal-forward@openssh.com", &string("/s")));
    peer
}

/// The victim has asked for prompts.
fn interactive() -> Hostile<ClientRole> {
    let mut peer = login();
    peer.say(&failure());
    peer
}

/// The victim has asked whether its key would do.
fn querying() -> Hostile<ClientRole> {
    let mut peer = login::<ClientRole>();
    peer.manners.next = Credential::PublicKey {
        key: Arc::new(user_key()),
        query: true,
    };
    peer.say(&failure());
    peer
}

/// The victim's session, open.
fn with_own_session() -> Hostile<ClientRole> {
    let mut peer = open::<ClientRole>();
    let opened = peer.act(|conn, now| conn.open(OpenChannel::Session, now));
    opened.expect("room for a channel");
    let confirmation = confirmation(&mut peer);
    peer.say(&confirmation);
    peer
}

/// The victim has asked for a listener on any port.
fn forwarding() -> Hostile<ClientRole> {
    forward_of(ForwardAddress::tcpip("localhost", 0))
}

fn forward_of(address: ForwardAddress) -> Hostile<ClientRole> {
    let mut peer = open::<ClientRole>();
    let asked = peer.act(|conn, now| conn.request_forward(address, now));
    asked.expect("room for a request");
    peer
}

fn forwarded() -> Hostile<ClientRole> {
    let mut peer = forward_of(ForwardAddress::tcpip("localhost", 80));
    peer.say(&[81]);
    peer
}

fn forwarded_from_a_socket() -> Hostile<ClientRole> {
    let mut peer = forward_of(ForwardAddress::streamlocal("/s"));
    peer.say(&[81]);
    peer
}

/// The states that decide which numbers are looked at.
pub(super) fn states<R: Usual>() -> Vec<fn() -> Hostile<R>> {
    vec![
        greeted,
        exchanging,
        exchanged,
        keyed,
        login,
        open,
        exchanging_again,
        exchanged_again,
        with_channel,
        opening,
        requesting,
        requesting_globally,
        pinging,
    ]
}

pub(super) fn states_of_servers() -> Vec<fn() -> Hostile<ServerRole>> {
    let mut states = states();
    states.extend([prompting as fn() -> _, with_session, listening]);
    states
}

pub(super) fn states_of_clients() -> Vec<fn() -> Hostile<ClientRole>> {
    let mut states = states();
    states.extend([
        interactive as fn() -> _,
        querying,
        with_own_session,
        forwarded,
    ]);
    states
}

// Parts of messages.

fn string(text: &str) -> Vec<u8> {
    let mut string = Vec::new();
    Writer::new(&mut string).string(text.as_bytes());
    string
}

fn two_strings(one: &str, other: &str) -> Vec<u8> {
    [string(one), string(other)].concat()
}

fn host_port(host: &str, port: u32) -> Vec<u8> {
    [string(host), port.to_be_bytes().to_vec()].concat()
}

/// The fields of a channel for a TCP connection.
fn tcpip() -> Vec<u8> {
    [host_port("localhost", 80), host_port("127.0.0.1", 4_000)].concat()
}

fn open_of(channel_type: &str, data: &[u8]) -> Vec<u8> {
    ChannelOpen {
        channel_type,
        sender_channel: 7,
        initial_window_size: 100_000,
        maximum_packet_size: 32_768,
        data: Rest(data),
    }
    .to_payload()
}

fn global(request_name: &str, data: &[u8]) -> Vec<u8> {
    GlobalRequest {
        request_name,
        want_reply: true,
        data: Rest(data),
    }
    .to_payload()
}

/// The victim's number of the channel that the state is about.
fn channel<R: Victim>(peer: &Hostile<R>) -> u32 {
    ChannelOpenConfirmation::decode(peer.confirmation())
        .map(|theirs| theirs.sender_channel)
        .or_else(|_| ChannelOpen::decode(peer.open_request()).map(|asked| asked.sender_channel))
        .expect("a channel")
}

fn of_channel<R: Victim>(peer: &Hostile<R>, request_type: &str, data: &[u8]) -> Vec<u8> {
    ChannelRequest {
        recipient_channel: channel(peer),
        request_type,
        want_reply: true,
        data: Rest(data),
    }
    .to_payload()
}

fn confirmation<R: Victim>(peer: &mut Hostile<R>) -> Vec<u8> {
    ChannelOpenConfirmation {
        recipient_channel: channel(peer),
        sender_channel: 7,
        initial_window_size: 100_000,
        maximum_packet_size: 32_768,
        data: Rest(b"data"),
    }
    .to_payload()
}

fn disconnect<R: Victim>(_: &mut Hostile<R>) -> Vec<u8> {
    Disconnect {
        reason_code: 11,
        description: b"bye",
        language_tag: b"",
    }
    .to_payload()
}

fn ignore<R: Victim>(_: &mut Hostile<R>) -> Vec<u8> {
    Ignore { data: b"data" }.to_payload()
}

fn unimplemented<R: Victim>(_: &mut Hostile<R>) -> Vec<u8> {
    Unimplemented { sequence_number: 3 }.to_payload()
}

fn debug<R: Victim>(_: &mut Hostile<R>) -> Vec<u8> {
    Debug {
        always_display: true,
        message: b"text",
        language_tag: b"",
    }
    .to_payload()
}

fn kexinit<R: Victim>(peer: &mut Hostile<R>) -> Vec<u8> {
    peer.kexinit("")
}

fn newkeys<R: Victim>(_: &mut Hostile<R>) -> Vec<u8> {
    vec![21]
}

fn ext_info<R: Victim>(_: &mut Hostile<R>) -> Vec<u8> {
    let extensions = [
        two_strings("server-sig-algs", "ssh-ed25519,rsa-sha2-256"),
        two_strings("ping@openssh.com", "0"),
        two_strings("x", "y"),
    ];
    ExtInfo {
        nr_extensions: 3,
        extensions: Rest(&extensions.concat()),
    }
    .to_payload()
}

fn failure() -> Vec<u8> {
    UserauthFailure {
        authentications_that_can_continue: NameList::new("password,publickey"),
        partial_success: false,
    }
    .to_payload()
}

fn user_key() -> PrivateKey {
    PrivateKey::generate(KeyKind::Ed25519, &[7; 32]).expect("a key")
}

/// The fields of a question whether a key would do.
fn query(algorithm: &str, blob: &[u8]) -> Vec<u8> {
    let mut fields = vec![0];
    Writer::new(&mut fields)
        .string(algorithm.as_bytes())
        .string(blob);
    fields
}

/// A request with a signature that is right.
fn signed(peer: &mut Hostile<ServerRole>) -> Vec<u8> {
    let key = user_key();
    let mut fields = query("ssh-ed25519", key.public().blob());
    fields[0] = 1;
    let mut data = Vec::new();
    let session = peer.conn.session().expect("keys");
    Writer::new(&mut data).string(session.id);
    data.extend(request("alice", "publickey", &fields));
    let signature = key.sign(SignatureAlgorithm::Ed25519, &data);
    Writer::new(&mut fields).string(&signature.expect("a signature"));
    request("alice", "publickey", &fields)
}

/// What both roles take.
fn to_both<R: Usual>() -> Vec<Case<R>> {
    let mut cases = Vec::new();
    // Whatever the connection has come to, and in the first exchange what does not confuse it.
    for state in [greeted as fn() -> _, login, open] {
        cases.extend([
            Case::new("IGNORE", state, ignore, Whole),
            Case::new("UNIMPLEMENTED", state, unimplemented, Whole),
            Case::new("DEBUG", state, debug, Whole),
            Case::new("KEXINIT", state, kexinit, Whole),
        ]);
    }
    for state in [greeted as fn() -> _, exchanging, login, open] {
        cases.push(Case::new("DISCONNECT", state, disconnect, Ended));
    }
    let answer = if R::IS_CLIENT { 21 } else { 31 };
    for state in [exchanging as fn() -> _, exchanging_again] {
        let method = |peer: &mut Hostile<R>| peer.method();
        cases.push(Case::new("a value", state, method, Answered(answer)));
    }
    for state in [exchanged as fn() -> _, exchanged_again] {
        cases.push(Case::new("NEWKEYS", state, newkeys, Whole));
    }
    cases.push(Case::new("EXT_INFO", keyed, ext_info, Whole));
    cases.extend(of_the_connection());
    cases.extend(of_channels());
    cases
}

fn of_the_connection<R: Usual>() -> Vec<Case<R>> {
    vec![
        Case::new("own", open, |_| global(OWN, b"data"), Answered(81)),
        Case::new("unknown", open, |_| global("x", b"data"), Answered(82)),
        Case::new(
            "keepalive",
            open,
            |_| global("keepalive@openssh.com", b""),
            Answered(82),
        ),
        Case::new(
            "REQUEST_SUCCESS",
            requesting_globally,
            |_| {
                let data = Rest(b"data");
                RequestSuccess { data }.to_payload()
            },
            Told,
        ),
        Case::new("REQUEST_FAILURE", requesting_globally, |_| vec![82], Told),
        Case::new(
            "PING",
            open,
            |_| Ping { data: b"ping" }.to_payload(),
            Answered(193),
        ),
        Case::new(
            "PONG",
            pinging,
            |_| Pong { data: b"ping" }.to_payload(),
            Told,
        ),
    ]
}

fn of_channels<R: Usual>() -> Vec<Case<R>> {
    vec![
        Case::new("a channel", open, |_| open_of(OWN, b"data"), Answered(91)),
        Case::new("no kind", open, |_| open_of("x", b"data"), Answered(92)),
        Case::new("CHANNEL_OPEN_CONFIRMATION", opening, confirmation, Told),
        Case::new(
            "CHANNEL_OPEN_FAILURE",
            opening,
            |peer| {
                ChannelOpenFailure {
                    recipient_channel: channel(peer),
                    reason_code: 1,
                    description: b"no",
                    language_tag: b"",
                }
                .to_payload()
            },
            Told,
        ),
        Case::new(
            "WINDOW_ADJUST",
            with_channel,
            |peer| {
                ChannelWindowAdjust {
                    recipient_channel: channel(peer),
                    bytes_to_add: 100,
                }
                .to_payload()
            },
            Whole,
        ),
        Case::new(
            "DATA",
            with_channel,
            |peer| {
                ChannelData {
                    recipient_channel: channel(peer),
                    data: b"data",
                }
                .to_payload()
            },
            Told,
        ),
        Case::new(
            "EXTENDED_DATA",
            with_channel,
            |peer| {
                ChannelExtendedData {
                    recipient_channel: channel(peer),
                    data_type_code: Stream::STDERR.0,
                    data: b"data",
                }
                .to_payload()
            },
            Told,
        ),
        Case::new(
            "EOF",
            with_channel,
            |peer| {
                ChannelEof {
                    recipient_channel: channel(peer),
                }
                .to_payload()
            },
            Told,
        ),
        Case::new(
            "CLOSE",
            with_channel,
            |peer| {
                ChannelClose {
                    recipient_channel: channel(peer),
                }
                .to_payload()
            },
            Answered(97),
        ),
        Case::new(
            "own request",
            with_channel,
            |peer| of_channel(peer, OWN, b"data"),
            Answered(99),
        ),
        Case::new(
            "unknown request",
            with_channel,
            |peer| of_channel(peer, "x", b"data"),
            Answered(100),
        ),
        Case::new(
            "end of write",
            with_channel,
            |peer| of_channel(peer, "eow@openssh.com", b""),
            Told,
        ),
        Case::new(
            "CHANNEL_SUCCESS",
            requesting,
            |peer| {
                ChannelSuccess {
                    recipient_channel: channel(peer),
                }
                .to_payload()
            },
            Told,
        ),
        Case::new(
            "CHANNEL_FAILURE",
            requesting,
            |peer| {
                ChannelFailure {
                    recipient_channel: channel(peer),
                }
                .to_payload()
            },
            Told,
        ),
    ]
}

/// All that a server takes.
pub(super) fn to_servers() -> Vec<Case<ServerRole>> {
    let mut cases = to_both();
    cases.extend(logins());
    cases.extend(forwards_at_servers());
    cases.extend(of_sessions());
    cases
}

fn logins() -> Vec<Case<ServerRole>> {
    fn service(_: &mut Hostile<ServerRole>) -> Vec<u8> {
        ServiceRequest {
            service_name: "ssh-userauth",
        }
        .to_payload()
    }
    fn rsa(_: &mut Hostile<ServerRole>) -> Vec<u8> {
        let mut blob = string("ssh-rsa");
        Writer::new(&mut blob).mpint(&[1, 0, 1]).mpint(&[0x91; 256]);
        request("alice", "publickey", &query("rsa-sha2-256", &blob))
    }
    fn ecdsa(_: &mut Hostile<ServerRole>) -> Vec<u8> {
        let key = host_key(KeyKind::EcdsaNistp256);
        let fields = query("ecdsa-sha2-nistp256", key.public().blob());
        request("alice", "publickey", &fields)
    }
    fn ed25519(_: &mut Hostile<ServerRole>) -> Vec<u8> {
        let fields = query("ssh-ed25519", user_key().public().blob());
        request("alice", "publickey", &fields)
    }
    fn change(_: &mut Hostile<ServerRole>) -> Vec<u8> {
        let fields = [vec![1], two_strings("secret", "another")].concat();
        request("alice", "password", &fields)
    }
    fn interactive(_: &mut Hostile<ServerRole>) -> Vec<u8> {
        let fields = two_strings("en", "pam,totp");
        request("alice", "keyboard-interactive", &fields)
    }
    fn answers(_: &mut Hostile<ServerRole>) -> Vec<u8> {
        UserauthInfoResponse {
            num_responses: 1,
            responses: Rest(&string("answer")),
        }
        .to_payload()
    }
    fn plain(_: &mut Hostile<ServerRole>) -> Vec<u8> {
        request("alice", "password", &password("secret"))
    }
    vec![
        Case::new("SERVICE_REQUEST", keyed, service, Answered(6)),
        Case::new(
            "none",
            login,
            |_| request("alice", "none", b""),
            Answered(52),
        ),
        Case::new(
            "no method",
            login,
            |_| request("alice", "x", b"data"),
            Answered(51),
        ),
        Case::new("password", login, plain, Answered(52)),
        Case::new("a new password", login, change, Answered(52)),
        Case::new("a query of RSA", login, rsa, Answered(60)),
        Case::new("a query of ECDSA", login, ecdsa, Answered(60)),
        Case::new("a query of Ed25519", login, ed25519, Answered(60)),
        Case::new("a signature", login, signed, Answered(52)),
        Case::new("keyboard-interactive", login, interactive, Answered(60)),
        Case::new("INFO_RESPONSE", prompting, answers, Answered(52)),
        Case::new("a request after SUCCESS", open, plain, PassedOver),
    ]
}

fn forwards_at_servers() -> Vec<Case<ServerRole>> {
    vec![
        Case::new(
            "tcpip-forward",
            open,
            |_| global("tcpip-forward", &host_port("localhost", 0)),
            Answered(81),
        ),
        Case::new(
            "cancel-tcpip-forward",
            listening,
            |_| global("cancel-tcpip-forward", &host_port("localhost", 80)),
            Answered(81),
        ),
        Case::new(
            "streamlocal-forward",
            open,
            |_| global("streamlocal-forward@openssh.com", &string("/s")),
            Answered(81),
        ),
        Case::new(
            "cancel-streamlocal-forward",
            listening_on_a_socket,
            |_| global("cancel-streamlocal-forward@openssh.com", &string("/s")),
            Answered(81),
        ),
        Case::new(
            "no-more-sessions",
            open,
            |_| global("no-more-sessions@openssh.com", b""),
            Answered(81),
        ),
        Case::new("a session", open, |_| open_of("session", b""), Answered(91)),
        Case::new(
            "direct-tcpip",
            open,
            |_| open_of("direct-tcpip", &tcpip()),
            Answered(91),
        ),
        Case::new(
            "direct-streamlocal",
            open,
            |_| {
                let fields = [two_strings("/s", ""), vec![0; 4]].concat();
                open_of("direct-streamlocal@openssh.com", &fields)
            },
            Answered(91),
        ),
        Case::new(
            "forwarded-tcpip",
            open,
            |_| open_of("forwarded-tcpip", &tcpip()),
            Answered(92),
        ),
    ]
}

fn of_sessions() -> Vec<Case<ServerRole>> {
    macro_rules! asks {
        ($name:literal, $fields:expr, $answer:literal) => {
            Case::new(
                $name,
                with_session,
                |peer| of_channel(peer, $name, &$fields),
                Answered($answer),
            )
        };
    }
    vec![
        asks!(
            "pty-req",
            {
                let mut pty = host_port("xterm", 80);
                pty.extend([[0, 0, 0, 24], [0; 4], [0; 4]].concat());
                let modes = [53, 0, 0, 0, 1, 128, 0, 0, 0x96, 0, 0];
                Writer::new(&mut pty).string(&modes);
                pty
            },
            99
        ),
        asks!("env", two_strings("LANG", "C"), 99),
        asks!("shell", [], 99),
        asks!("exec", string("true"), 99),
        asks!("subsystem", string("sftp"), 99),
        asks!("window-change", [0, 0, 0, 80].repeat(4), 99),
        asks!("signal", string("TERM"), 99),
        asks!("break", [0, 0, 1, 0], 99),
        // Those that the library refuses, whatever is in them.
        asks!(
            "x11-req",
            [
                vec![0],
                two_strings("MIT-MAGIC-COOKIE-1", "00ff"),
                vec![0; 4]
            ]
            .concat(),
            100
        ),
        asks!("auth-agent-req@openssh.com", [], 100),
        asks!("exit-status", [0; 4], 100),
    ]
}

/// All that a client takes.
pub(super) fn to_clients() -> Vec<Case<ClientRole>> {
    let mut cases = to_both();
    cases.extend(answers_to_logins());
    cases.extend(forwards_at_clients());
    cases.extend(of_own_sessions());
    cases
}

fn answers_to_logins() -> Vec<Case<ClientRole>> {
    fn accept(_: &mut Hostile<ClientRole>) -> Vec<u8> {
        ServiceAccept {
            service_name: "ssh-userauth",
        }
        .to_payload()
    }
    fn banner(_: &mut Hostile<ClientRole>) -> Vec<u8> {
        UserauthBanner {
            message: b"text",
            language_tag: b"",
        }
        .to_payload()
    }
    fn pk_ok(_: &mut Hostile<ClientRole>) -> Vec<u8> {
        UserauthPkOk {
            algorithm: "ssh-ed25519",
            key: user_key().public().blob(),
        }
        .to_payload()
    }
    fn change(_: &mut Hostile<ClientRole>) -> Vec<u8> {
        UserauthPasswdChangereq {
            prompt: b"another",
            language_tag: b"en",
        }
        .to_payload()
    }
    fn round(_: &mut Hostile<ClientRole>) -> Vec<u8> {
        let prompts = [string("user"), vec![1], string("code"), vec![0]].concat();
        UserauthInfoRequest {
            name: b"name",
            instruction: b"text",
            language_tag: b"",
            num_prompts: 2,
            prompts: Rest(&prompts),
        }
        .to_payload()
    }
    vec![
        Case::new("SERVICE_ACCEPT", keyed, accept, Answered(50)),
        Case::new("the second EXT_INFO", login, ext_info, Whole),
        Case::new("FAILURE", login, |_| failure(), Answered(50)),
        Case::new("SUCCESS", login, |_| vec![52], Told),
        Case::new("BANNER", login, banner, Told),
        Case::new("PK_OK", querying, pk_ok, Answered(50)),
        Case::new("PASSWD_CHANGEREQ", login, change, Answered(50)),
        Case::new("INFO_REQUEST", interactive, round, Answered(61)),
    ]
}

fn forwards_at_clients() -> Vec<Case<ClientRole>> {
    vec![
        Case::new(
            "the port of a listener",
            forwarding,
            |_| vec![81, 0, 0, 0x0f, 0xa0],
            Told,
        ),
        Case::new(
            "forwarded-tcpip",
            forwarded,
            |_| open_of("forwarded-tcpip", &tcpip()),
            Answered(91),
        ),
        Case::new(
            "forwarded-streamlocal",
            forwarded_from_a_socket,
            |_| open_of("forwarded-streamlocal@openssh.com", &two_strings("/s", "")),
            Answered(91),
        ),
        Case::new(
            "forwarded-tcpip that nobody asked for",
            open,
            |_| open_of("forwarded-tcpip", &tcpip()),
            Answered(92),
        ),
        Case::new(
            "direct-tcpip",
            open,
            |_| open_of("direct-tcpip", &tcpip()),
            Answered(92),
        ),
        Case::new("a session", open, |_| open_of("session", b""), Answered(92)),
    ]
}

fn of_own_sessions() -> Vec<Case<ClientRole>> {
    vec![
        Case::new(
            "exit-status",
            with_own_session,
            |peer| of_channel(peer, "exit-status", &[0, 0, 0, 7]),
            Told,
        ),
        Case::new(
            "exit-signal",
            with_own_session,
            |peer| {
                let fields = [string("TERM"), vec![0], two_strings("text", "")];
                of_channel(peer, "exit-signal", &fields.concat())
            },
            Told,
        ),
        Case::new(
            "pty-req",
            with_own_session,
            |peer| of_channel(peer, "pty-req", b"data"),
            Answered(100),
        ),
    ]
}
