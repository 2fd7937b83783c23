//! Writes the first inputs of the corpora: what a peer that keeps to the protocol would say, an application that does
//! the usual, and keys and recordings as they are. libFuzzer makes the rest of them.

use std::fs;
use std::path::Path;

use fuzz::session::{METHODS, host_public_key, suite_byte};
use ssh_proto::key::{KeyKind, PrivateKey, PublicKey};
use ssh_proto::msg::auth::*;
use ssh_proto::msg::connection::*;
use ssh_proto::msg::kex::*;
use ssh_proto::msg::transport::*;
use ssh_proto::msg::{Message, Rest};
use ssh_proto::wire::{NameList, Writer};

fn string(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Writer::new(&mut out).string(bytes);
    out
}

fn concat(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// One of each message, and several of those that mean several things.
fn messages() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    macro_rules! add { ($($message:expr),* $(,)?) => { $(all.push($message.to_payload());)* }; }
    let open = |kind, data| ChannelOpen {
        channel_type: kind,
        sender_channel: 0,
        initial_window_size: 2 << 20,
        maximum_packet_size: 32 << 10,
        data: Rest(data),
    };
    let tcpip = concat(&[
        &string(b"host"),
        &[0, 0, 0, 80],
        &string(b"127.0.0.1"),
        &[0, 0, 4, 0],
    ]);
    let streamlocal = concat(&[&string(b"/path"), &string(b""), &[0; 4]]);
    add!(
        open("session", b""),
        open("direct-tcpip", &tcpip),
        open("forwarded-tcpip", &tcpip),
        open("direct-streamlocal@openssh.com", &streamlocal),
        open("own@example.com", b"data"),
        ChannelOpenConfirmation {
            recipient_channel: 0,
            sender_channel: 0,
            initial_window_size: 100_000,
            maximum_packet_size: 32 << 10,
            data: Rest(b""),
        },
        ChannelOpenFailure {
            recipient_channel: 0,
            reason_code: 1,
            description: b"no",
            language_tag: b""
        },
        ChannelWindowAdjust {
            recipient_channel: 0,
            bytes_to_add: 100_000
        },
        ChannelData {
            recipient_channel: 0,
            data: b"some data"
        },
        ChannelExtendedData {
            recipient_channel: 0,
            data_type_code: 1,
            data: b"some data"
        },
        ChannelEof {
            recipient_channel: 0
        },
        ChannelClose {
            recipient_channel: 0
        },
        ChannelSuccess {
            recipient_channel: 0
        },
        ChannelFailure {
            recipient_channel: 0
        },
        RequestSuccess {
            data: Rest(&[0, 0, 0, 80])
        },
        RequestFailure {},
        Disconnect {
            reason_code: 11,
            description: b"bye",
            language_tag: b""
        },
        Ignore { data: b"ignored" },
        Unimplemented { sequence_number: 3 },
        Debug {
            always_display: true,
            message: b"text",
            language_tag: b""
        },
        ServiceRequest {
            service_name: "ssh-userauth"
        },
        ServiceAccept {
            service_name: "ssh-userauth"
        },
        NewKeys {},
        Ping { data: b"ping" },
        Pong { data: b"ping" },
        UserauthSuccess {},
        UserauthBanner {
            message: b"banner\n",
            language_tag: b""
        },
        UserauthPasswdChangereq {
            prompt: b"change it",
            language_tag: b""
        },
        UserauthInfoRequest {
            name: b"name",
            instruction: b"text",
            language_tag: b"",
            num_prompts: 1,
            prompts: Rest(&concat(&[&string(b"prompt"), &[0]])),
        },
        UserauthInfoResponse {
            num_responses: 1,
            responses: Rest(&string(b"answer"))
        },
        UserauthFailure {
            authentications_that_can_continue: NameList::parse(b"publickey,password")
                .expect("names"),
            partial_success: false,
        },
        ExtInfo {
            nr_extensions: 2,
            extensions: Rest(&concat(&[
                &string(b"server-sig-algs"),
                &string(b"ssh-ed25519,rsa-sha2-256"),
                &string(b"ping@openssh.com"),
                &string(b"0"),
            ])),
        },
        KexEcdhInit { q_c: &[9; 32] },
        KexEcdhReply {
            k_s: &string(b"ssh-ed25519"),
            q_s: &[9; 32],
            signature: &string(b"ssh-ed25519")
        },
    );
    let key = PrivateKey::generate(KeyKind::Ed25519, &[9; 32]).expect("a key");
    let signature = concat(&[&string(b"ssh-ed25519"), &string(&[0; 64])]);
    let methods: [(&str, Vec<u8>); 6] = [
        ("none", vec![]),
        ("password", concat(&[&[0], &string(b"secret")])),
        (
            "password",
            concat(&[&[1], &string(b"old"), &string(b"new")]),
        ),
        (
            "publickey",
            concat(&[&[0], &string(b"ssh-ed25519"), &string(key.public().blob())]),
        ),
        (
            "publickey",
            concat(&[
                &[1],
                &string(b"ssh-ed25519"),
                &string(key.public().blob()),
                &string(&signature),
            ]),
        ),
        (
            "keyboard-interactive",
            concat(&[&string(b""), &string(b"")]),
        ),
    ];
    for (method_name, fields) in &methods {
        add!(UserauthRequest {
            user_name: "user",
            service_name: "ssh-connection",
            method_name,
            method_fields: Rest(fields),
        });
    }
    let pty = concat(&[
        &string(b"vt100"),
        &[0, 0, 0, 80, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0],
        &string(&[1, 0, 0, 0, 3, 0]),
    ]);
    let requests: [(&str, Vec<u8>); 14] = [
        ("pty-req", pty),
        ("env", concat(&[&string(b"LANG"), &string(b"C")])),
        ("shell", vec![]),
        ("exec", string(b"command")),
        ("subsystem", string(b"sftp")),
        ("window-change", vec![0; 16]),
        ("signal", string(b"TERM")),
        ("break", vec![0, 0, 1, 0]),
        ("exit-status", vec![0, 0, 0, 1]),
        (
            "exit-signal",
            concat(&[&string(b"TERM"), &[0], &string(b"text"), &string(b"")]),
        ),
        ("eow@openssh.com", vec![]),
        ("keepalive@openssh.com", vec![]),
        ("xon-xoff", vec![1]),
        ("own@example.com", b"data".to_vec()),
    ];
    for (request_type, data) in &requests {
        for want_reply in [false, true] {
            add!(ChannelRequest {
                recipient_channel: 0,
                request_type,
                want_reply,
                data: Rest(data)
            });
        }
    }
    let globals: [(&str, Vec<u8>); 6] = [
        ("tcpip-forward", concat(&[&string(b"localhost"), &[0; 4]])),
        (
            "cancel-tcpip-forward",
            concat(&[&string(b"localhost"), &[0, 0, 0x0f, 0xa0]]),
        ),
        ("streamlocal-forward@openssh.com", string(b"/path")),
        ("keepalive@openssh.com", vec![]),
        ("no-more-sessions@openssh.com", vec![]),
        ("own@example.com", b"data".to_vec()),
    ];
    for (request_name, data) in &globals {
        add!(GlobalRequest {
            request_name,
            want_reply: true,
            data: Rest(data)
        });
    }
    add!(
        kex_init(
            "curve25519-sha256,ext-info-c,kex-strict-c-v00@openssh.com",
            "ssh-ed25519"
        ),
        UserauthPkOk {
            algorithm: "ssh-ed25519",
            key: key.public().blob()
        },
    );
    all
}

fn kex_init<'a>(methods: &'a str, host_key_algorithms: &'a str) -> KexInit<'a> {
    fn names(text: &str) -> NameList<'_> {
        NameList::parse(text.as_bytes()).expect("names")
    }
    let cipher = names("aes128-gcm@openssh.com");
    let mac = names("hmac-sha2-256");
    KexInit {
        cookie: [7; 16],
        kex_algorithms: names(methods),
        server_host_key_algorithms: names(host_key_algorithms),
        encryption_algorithms_client_to_server: cipher,
        encryption_algorithms_server_to_client: cipher,
        mac_algorithms_client_to_server: mac,
        mac_algorithms_server_to_client: mac,
        compression_algorithms_client_to_server: names("none"),
        compression_algorithms_server_to_client: names("none"),
        languages_client_to_server: names(""),
        languages_server_to_client: names(""),
        first_kex_packet_follows: false,
        reserved: 0,
    }
}

/// What a peer says in a key exchange by the method of that number in [`METHODS`]: a client, and a server.
fn key_exchange(method: u8, rsa: bool) -> [Vec<Vec<u8>>; 2] {
    let curve = match method {
        1 => KeyKind::EcdsaNistp256,
        2 => KeyKind::EcdsaNistp384,
        _ => KeyKind::EcdsaNistp521,
    };
    // A point ends the blob of a key (RFC 5656 section 3.1): 0x04, x, y.
    let key = PrivateKey::generate(curve, &[6; 32]).expect("a key");
    let point = match method {
        0 => &[9; 32][..],
        1 => &key.public().blob()[key.public().blob().len() - 65..],
        2 => &key.public().blob()[key.public().blob().len() - 97..],
        _ => &key.public().blob()[key.public().blob().len() - 133..],
    };
    let algorithm = if rsa { "rsa-sha2-512" } else { "ssh-ed25519" };
    let signature = concat(&[&string(algorithm.as_bytes()), &string(&[0; 64])]);
    let init = kex_init(METHODS[usize::from(method)], algorithm).to_payload();
    let host_key = host_public_key(rsa);
    let reply = KexEcdhReply {
        k_s: host_key.blob(),
        q_s: point,
        signature: &signature,
    };
    let share = KexEcdhInit { q_c: point }.to_payload();
    let new_keys = NewKeys {}.to_payload();
    [
        vec![init.clone(), share, new_keys.clone()],
        vec![init, reply.to_payload(), new_keys],
    ]
}

/// As `Choices::piece` reads it.
fn piece(bytes: &[u8]) -> Vec<u8> {
    let len = bytes.len() as u32;
    let mut out = if len < 128 {
        vec![len as u8]
    } else {
        [&[255][..], &len.to_be_bytes()].concat()
    };
    out.extend_from_slice(bytes);
    out
}

/// The choices that make a session of the stage (0: start, 1: keys, 2: in) with the first cipher.
fn session(stage: u8) -> Vec<u8> {
    vec![stage, 0, 0, 1, 1, 1, 1, 1, 1]
}

/// To those between two sides it says, wherever it stands: do nothing, accept what is asked, pass everything on.
const PASS_ON: u8 = 150;

fn main() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let keep = |target: &str, name: &str, data: &[u8]| {
        let folder = corpora.join(target);
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(name), data).expect("a file");
    };
    let messages = messages();
    for (i, payload) in messages.iter().enumerate() {
        keep("message", &format!("seed-{i:02}"), payload);
        for target in ["client", "server"] {
            for stage in 0..3 {
                // Accept what is asked, hear the message, react.
                let mut input = session(stage);
                input.extend([1]);
                input.extend(piece(payload));
                input.extend([4, 2, 2, 2, 2]);
                keep(target, &format!("seed-{stage}-{i:02}"), &input);
            }
        }
    }
    for target in ["client", "server"] {
        // All of the connection protocol in one session.
        let mut input = session(2);
        for payload in messages
            .iter()
            .filter(|payload| payload[0] >= 80 && payload[0] < 128)
        {
            input.extend([1]);
            input.extend(piece(payload));
            input.extend([4, 1, 1, 1, 7, 1, 200, 0]);
        }
        keep(target, "seed-all", &input);
    }
    for rsa in [false, true] {
        for method in 0..METHODS.len() as u8 {
            let name = format!(
                "seed-{}{}",
                METHODS[usize::from(method)],
                if rsa { "-rsa" } else { "" }
            );
            let suite = suite_byte(0, method, rsa);
            // React, and accept what the client is asked: the host key, when it has heard the reply.
            let reactions: [[&[u8]; 3]; 2] = [[&[4], &[4], &[4]], [&[4], &[4, 2], &[4]]];
            let both = ["server", "client"]
                .into_iter()
                .zip(key_exchange(method, rsa));
            for ((target, said), reactions) in both.zip(reactions) {
                let mut input = session(0);
                input[1] = suite;
                for (payload, reaction) in said.iter().zip(reactions) {
                    input.extend([1]);
                    input.extend(piece(payload));
                    input.extend(reaction);
                }
                keep(target, &name, &input);
            }
            // The client asks for new keys, and all is passed on.
            let mut input = vec![2, suite, 0, 1, 1, 1, 1, 1, 1];
            for _ in 0..3 {
                input.extend([0, 11, 0, PASS_ON]);
                input.extend([PASS_ON; 10]);
            }
            keep("mitm", &name, &input);
            let mut input = vec![suite, 0, 1, 1, 1, 1, 1, 1];
            input.extend([PASS_ON; 60]);
            keep("kex", &name, &input);
        }
    }
    for cipher in 0..6 {
        keep(
            "deframe",
            &format!("seed-{cipher}"),
            &[
                &[cipher, cipher % 4, 1, 1, 1, 1, 1, 1][..],
                &[0; 64],
                &[0xff; 64],
            ]
            .concat(),
        );
        let mut input = vec![2, cipher, cipher % 4, 1, 1, 1, 1, 1];
        for act in 0..40 {
            input.extend([act % 2, act, act / 3, 4, 200, 0, 200, 0]);
        }
        keep("mitm", &format!("seed-{cipher}"), &input);
        let mut input = vec![cipher, cipher % 4, 1, 1, 1, 1, 1, 1];
        for _ in 0..20 {
            input.extend([6, 2, 2, 255, 0, 0, 255, 255]);
        }
        keep("kex", &format!("seed-{cipher}"), &input);
    }
    for (i, line) in [
        "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
        "hello\r\nSSH-1.99-x\n",
        "SSH-1.5-old\r\n",
        "GET / HTTP/1.1\r\n\r\n",
    ]
    .iter()
    .enumerate()
    {
        keep("ident", &format!("seed-{i}"), line.as_bytes());
    }
    for (i, kind) in [
        KeyKind::Ed25519,
        KeyKind::EcdsaNistp256,
        KeyKind::EcdsaNistp384,
        KeyKind::EcdsaNistp521,
    ]
    .into_iter()
    .enumerate()
    {
        let key = PrivateKey::generate(kind, &[5; 32])
            .expect("a key")
            .with_comment("comment");
        keep(
            "private_key",
            &format!("seed-{i}"),
            key.to_openssh(None, 7).expect("a file").expose(),
        );
        keep("public_key", &format!("seed-blob-{i}"), key.public().blob());
        keep(
            "public_key",
            &format!("seed-line-{i}"),
            key.public().to_openssh("comment").as_bytes(),
        );
    }
    // Files of `ssh-keygen`: RSA, and each cipher that a file may be under.
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ssh-proto/src/key/fixtures");
    for name in [
        "rsa2048",
        "rsa2048.enc",
        "ed25519.enc",
        "nistp256.enc",
        "nistp384.enc",
        "nistp521.enc",
        "ed25519.aes128-ctr",
        "ed25519.aes192-ctr",
        "ed25519.aes128-cbc",
        "ed25519.aes192-cbc",
        "ed25519.aes256-cbc",
        "ed25519.aes128-gcm",
        "ed25519.aes256-gcm",
    ] {
        let file = fs::read(files.join(name)).expect("a file");
        keep("private_key", &format!("seed-{name}"), &file);
    }
    let line = fs::read_to_string(files.join("rsa2048.pub")).expect("a file");
    let (rsa, comment) = PublicKey::from_openssh(&line).expect("a key");
    let ed25519 = PrivateKey::generate(KeyKind::Ed25519, &[5; 32]).expect("a key");
    // OpenSSH's PROTOCOL.certkeys and PROTOCOL.u2f: types of which the name alone is known.
    let mut certificate = Vec::new();
    Writer::new(&mut certificate)
        .string(b"ssh-ed25519-cert-v01@openssh.com")
        .string(&[1; 32])
        .string(&[2; 32])
        .uint64(1)
        .uint32(1)
        .string(b"id")
        .string(&string(b"user"))
        .uint64(0)
        .uint64(u64::MAX)
        .string(b"")
        .string(&concat(&[&string(b"permit-pty"), &string(b"")]))
        .string(b"")
        .string(ed25519.public().blob())
        .string(&concat(&[&string(b"ssh-ed25519"), &string(&[0; 64])]));
    let mut security_key = Vec::new();
    Writer::new(&mut security_key)
        .string(b"sk-ssh-ed25519@openssh.com")
        .string(&[2; 32])
        .string(b"ssh:");
    let certificate = PublicKey::from_blob(&certificate).expect("a key");
    let security_key = PublicKey::from_blob(&security_key).expect("a key");
    for (name, key) in [
        ("rsa", &rsa),
        ("certificate", &certificate),
        ("security-key", &security_key),
    ] {
        keep("public_key", &format!("seed-blob-{name}"), key.blob());
        let line = key.to_openssh(&comment);
        keep("public_key", &format!("seed-line-{name}"), line.as_bytes());
    }
    // Sessions with OpenSSH: both roles, and between them a curve of each kind, ML-KEM, and every way to log in.
    let recordings = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/recordings");
    for (i, name) in [
        "client-mio-none",
        "server-mio-password-change",
        "client-mio-publickey",
        "server-blocking-two-factors",
    ]
    .iter()
    .enumerate()
    {
        let recording = fs::read(recordings.join(format!("{name}.trace"))).expect("a file");
        keep("trace", &format!("seed-{i}"), &recording);
    }
    let socks: [&[u8]; 4] = [
        b"\x00\x0e\x04\x01\x00\x50\x7f\x00\x00\x01user\x00\x00",
        b"\x00\x13\x04\x01\x00\x50\x00\x00\x00\x01user\x00host\x00\x00",
        b"\x00\x03\x05\x01\x00\x20\x0b\x05\x01\x00\x03\x04host\x00\x50\x00",
        b"\x01\x01\x04host\x02\x05\x00\x0a\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50",
    ];
    for (i, input) in socks.iter().enumerate() {
        keep("socks", &format!("seed-{i}"), input);
    }
}
