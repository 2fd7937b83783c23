//! A peer that says any payload at any time, in the build that users get: it makes key exchanges by hand, with primitives
//! of its own, and so holds the session keys. Across from it is a connection under the meter, with an application that
//! agrees to what is asked.
//!
//! The tests of `ssh-proto` have one like it, inside; this one knows the public API only, and counts what everything costs.

mod keys;
mod victim;

use std::sync::Arc;
use std::time::{Duration, Instant};

use meter::{Cost, heap};
use ssh_proto::key::{KeyKind, PrivateKey};
use ssh_proto::msg::Message;
use ssh_proto::msg::kex::{KexEcdhInit, KexEcdhReply};
use ssh_proto::msg::transport::KexInit;
use ssh_proto::names::SignatureAlgorithm;
use ssh_proto::wire::{NameList, Writer};
use ssh_proto::{Connection, Error, Seed};

use keys::{Agreed, Keys, Share};
pub use victim::{Held, Manners, Verdict, Victim};

const VERSION: &[u8] = b"SSH-2.0-hostile";
/// What goes to the victim at once: a segment of a network.
const SEGMENT: usize = 1_400;
/// Room for what is said and heard, made before anything is measured.
const ROOM: usize = 1 << 20;

/// The peer, and the connection that it speaks to.
pub struct Hostile<R: Victim> {
    /// The connection under test.
    pub conn: Connection<R>,
    /// What it has cost.
    pub cost: Cost,
    /// The time that it is told.
    pub now: Instant,
    /// What its application does.
    pub manners: Manners,
    /// How many messages of each number it has said.
    pub heard: [u64; 256],
    /// How much is handed over at once, in bytes: see [`reads_of`](Self::reads_of).
    segment: usize,
    /// The peer reads what it is told.
    pub reads: bool,
    /// What was said and not taken.
    out: Vec<u8>,
    unread: Vec<u8>,
    sealing: Option<Keys>,
    opening: Option<Keys>,
    host_key: Arc<PrivateKey>,
    victim_version: Vec<u8>,
    /// The last payload of these numbers: KEXINIT, a value of the method, CHANNEL_OPEN_CONFIRMATION, CHANNEL_OPEN.
    last: [Vec<u8>; 4],
    kexinit: Vec<u8>,
    share: Option<Share>,
    agreed: Option<Agreed>,
    session_id: Option<[u8; 32]>,
    exchanges: u8,
}

const KEPT: [u8; 4] = [20, 31, 91, 90];

impl<R: Victim> Hostile<R> {
    /// A connection of this configuration, and its peer. The peer has said nothing.
    pub fn new(config: impl Into<Arc<R::Config>>) -> Self {
        let config = config.into();
        let now = Instant::now();
        let out = Vec::with_capacity(ROOM);
        let unread = Vec::with_capacity(ROOM);
        let host_key = PrivateKey::generate(KeyKind::Ed25519, &[5; 32]).expect("a key");
        let host_key = Arc::new(host_key);
        let live = heap().live;
        let mut conn = Connection::new(config, Seed::new([1; 32]), now);
        R::begin(&mut conn, now);
        Self {
            conn,
            cost: Cost::since(live),
            now,
            manners: Manners::default(),
            heard: [0; 256],
            segment: SEGMENT,
            reads: true,
            out,
            unread,
            sealing: None,
            opening: None,
            host_key,
            victim_version: Vec::new(),
            last: Default::default(),
            kexinit: Vec::new(),
            share: None,
            agreed: None,
            session_id: None,
            exchanges: 0,
        }
    }

    /// The same, as far as an authenticated user.
    pub fn open(config: impl Into<Arc<R::Config>>) -> Self {
        let mut peer = Self::new(config);
        peer.exchange_after_version();
        let mut ext_info = vec![7, 0, 0, 0, 1];
        let mut writer = Writer::new(&mut ext_info);
        writer.string(b"ping@openssh.com").string(b"0");
        peer.say(&ext_info);
        peer.ask_service();
        peer.log_in();
        peer
    }

    /// The same, as far as the first keys.
    pub fn keyed(config: impl Into<Arc<R::Config>>) -> Self {
        let mut peer = Self::new(config);
        peer.exchange_after_version();
        peer
    }

    /// Why the connection has ended.
    pub fn closed(&self) -> Option<&Error> {
        self.conn.closed()
    }

    /// The version line of the peer.
    pub fn say_version(&mut self) {
        self.raw(VERSION);
        self.raw(b"\r\n");
    }

    /// Bytes that are no packet.
    pub fn raw(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(ROOM / 2) {
            self.out.extend_from_slice(piece);
            self.carry();
        }
    }

    /// From now on so many bytes are handed over at once, by a reader with so large a buffer.
    pub fn reads_of(&mut self, len: usize) {
        self.segment = len;
        self.cost.set_reader(len);
    }

    /// From now on so many bytes are handed over at once, by the same reader.
    pub const fn in_pieces_of(&mut self, len: usize) {
        self.segment = len;
    }

    /// Says a payload, and lets the victim answer. `false`: the victim takes no more bytes now.
    pub fn say(&mut self, payload: &[u8]) -> bool {
        self.queue(payload);
        self.carry()
    }

    /// As [`say`](Self::say), of a message.
    pub fn says<'m>(&mut self, message: &impl Message<'m>) -> bool {
        let start = self.begin_packet();
        message.encode(&mut Writer::new(&mut self.out));
        self.end_packet(start);
        self.carry()
    }

    /// Seals a payload, to be handed over with what follows.
    pub fn queue(&mut self, payload: &[u8]) {
        let start = self.begin_packet();
        self.out.extend_from_slice(payload);
        self.end_packet(start);
    }

    /// A packet that never ends: all of it but the last byte.
    pub fn say_most_of(&mut self, payload: &[u8]) {
        self.queue(payload);
        self.out.pop();
        self.carry();
    }

    /// A packet's length and nothing that follows from it.
    pub fn say_length(&mut self, length: u32) {
        self.raw(&length.to_be_bytes());
        self.raw(&[0; 12]);
    }

    fn begin_packet(&mut self) -> usize {
        let start = self.out.len();
        self.out.extend_from_slice(&[0; 5]);
        start
    }

    fn end_packet(&mut self, start: usize) {
        let payload = self.out.len() - start - 5;
        let (block, apart) = if self.sealing.is_some() {
            (16, 1)
        } else {
            (8, 5)
        };
        let mut padding = block - (apart + payload) % block;
        if padding < 4 {
            padding += block;
        }
        let len = 1 + payload + padding;
        let packet = &mut self.out[start..];
        packet[..4].copy_from_slice(&(len as u32).to_be_bytes());
        packet[4] = padding as u8;
        self.out.resize(start + 4 + len, 0);
        if let Some(keys) = &mut self.sealing {
            let tag = keys.seal(&mut self.out[start..]);
            self.out.extend_from_slice(&tag);
        }
    }

    /// Hands over what was said, lets the application act, and reads the answers. `false`: not everything was taken.
    pub fn carry(&mut self) -> bool {
        loop {
            let len = self.out.len().min(self.segment);
            let taken = self.cost.hear(&mut self.conn, &self.out[..len], self.now);
            self.out.drain(..taken);
            let acted = self.application();
            let read = self.reads && self.read();
            if self.conn.closed().is_some() {
                self.out.clear();
                return false;
            }
            if taken == 0 && !acted && !read {
                return self.out.is_empty();
            }
        }
    }

    /// Something that the application does, and what comes of it.
    pub fn act<T>(&mut self, call: impl FnOnce(&mut Connection<R>, Instant) -> T) -> T {
        let now = self.now;
        let done = self.cost.act(&mut self.conn, |conn| call(conn, now));
        self.carry();
        done
    }

    /// So much time passes.
    pub fn wait(&mut self, time: Duration) {
        self.now += time;
        self.cost.wait(&mut self.conn, self.now);
        self.carry();
    }

    /// The application answers what it held back.
    pub fn answer_held(&mut self) {
        if let Some(question) = self.manners.held.take()
            && self.closed().is_none()
        {
            let manners = &self.manners;
            self.cost
                .act(&mut self.conn, |conn| R::answer(conn, question, manners));
            self.carry();
        }
    }

    /// Forgets what was said and not taken.
    pub fn give_up(&mut self) {
        self.out.clear();
    }

    fn application(&mut self) -> bool {
        let mut acted = false;
        while let Some(event) = self.cost.act(&mut self.conn, Connection::poll_event) {
            acted = true;
            let (manners, now) = (&mut self.manners, self.now);
            self.cost
                .act(&mut self.conn, |conn| R::event(conn, event, manners, now));
        }
        acted
    }

    /// Reads what the victim has said.
    pub fn read(&mut self) -> bool {
        let output = self.conn.output();
        let len = output.len();
        self.unread.extend_from_slice(output);
        self.cost
            .act(&mut self.conn, |conn| conn.consume_output(len));
        let mut at = 0;
        if self.victim_version.is_empty() {
            let Some(end) = self.unread.windows(2).position(|two| two == b"\r\n") else {
                return len > 0;
            };
            self.victim_version = self.unread[..end].to_vec();
            at = end + 2;
        }
        while let Some(packet) = self.open_packet(at) {
            at += packet;
        }
        self.unread.drain(..at);
        len > 0
    }

    fn open_packet(&mut self, at: usize) -> Option<usize> {
        let length = self.unread[at..].first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length) as usize;
        let tag = if self.opening.is_some() { 16 } else { 0 };
        let whole = self.unread.get_mut(at..at + 4 + length + tag)?;
        if let Some(keys) = &mut self.opening {
            keys.open(whole);
        }
        let padding = usize::from(whole[4]);
        let payload = &whole[5..4 + length - padding];
        let number = payload[0];
        self.heard[usize::from(number)] += 1;
        if let Some(kept) = KEPT.iter().position(|kept| *kept == number) {
            self.last[kept].clear();
            self.last[kept].extend_from_slice(payload);
        }
        match number {
            30 => {
                let payload = payload.to_vec();
                self.last[1] = payload;
            }
            31 if !R::IS_CLIENT => {
                let payload = payload.to_vec();
                self.replied(&payload);
            }
            21 => {
                let agreed = self.agreed.as_ref().expect("an exchange");
                self.opening = Some(agreed.keys(!R::IS_CLIENT));
            }
            _ => {}
        }
        Some(4 + length + tag)
    }

    /// The last CHANNEL_OPEN_CONFIRMATION of the victim.
    pub fn confirmation(&self) -> &[u8] {
        &self.last[2]
    }

    /// The last CHANNEL_OPEN of the victim.
    pub fn open_request(&self) -> &[u8] {
        &self.last[3]
    }

    // The key exchange.

    /// A KEXINIT; `more` stands behind what the peer really does in the first list.
    pub fn kexinit(&self, more: &str) -> Vec<u8> {
        let first = self.session_id.is_none();
        let mut kex = "curve25519-sha256".to_owned();
        if first && R::IS_CLIENT {
            kex.push_str(",kex-strict-s-v00@openssh.com");
        } else if first {
            kex.push_str(",ext-info-c,kex-strict-c-v00@openssh.com");
        }
        kex.push_str(more);
        let one = NameList::new;
        KexInit {
            cookie: [9; 16],
            kex_algorithms: one(&kex),
            server_host_key_algorithms: one("ssh-ed25519"),
            encryption_algorithms_client_to_server: one("aes128-gcm@openssh.com"),
            encryption_algorithms_server_to_client: one("aes128-gcm@openssh.com"),
            mac_algorithms_client_to_server: one("hmac-sha2-256"),
            mac_algorithms_server_to_client: one("hmac-sha2-256"),
            compression_algorithms_client_to_server: one("none"),
            compression_algorithms_server_to_client: one("none"),
            languages_client_to_server: NameList::default(),
            languages_server_to_client: NameList::default(),
            first_kex_packet_follows: false,
            reserved: 0,
        }
        .to_payload()
    }

    /// Says a KEXINIT, which counts for the exchange.
    pub fn say_kexinit(&mut self) {
        self.kexinit = self.kexinit("");
        let kexinit = self.kexinit.clone();
        self.say(&kexinit);
    }

    /// Says its value, or its value and what follows from the victim's.
    pub fn say_method(&mut self) {
        let method = self.method();
        self.say(&method);
    }

    /// The message of the method that this side sends.
    pub fn method(&mut self) -> Vec<u8> {
        self.exchanges = self.exchanges.wrapping_add(1);
        let share = Share::new([self.exchanges; 32]);
        if !R::IS_CLIENT {
            let init = KexEcdhInit {
                q_c: share.public(),
            }
            .to_payload();
            self.share = Some(share);
            return init;
        }
        let init = std::mem::take(&mut self.last[1]);
        let q_c = KexEcdhInit::decode(&init).expect("the client's value").q_c;
        let blob = self.host_key.public().blob().to_vec();
        let secret = share.agree(q_c);
        let hash = keys::hash(
            [
                &self.victim_version,
                VERSION,
                &self.last[0],
                &self.kexinit,
                &blob,
                q_c,
                share.public(),
            ],
            &secret,
        );
        let signature = self.host_key.sign(SignatureAlgorithm::Ed25519, &hash);
        self.agree(secret, hash);
        KexEcdhReply {
            k_s: &blob,
            q_s: share.public(),
            signature: &signature.expect("a signature"),
        }
        .to_payload()
    }

    fn replied(&mut self, payload: &[u8]) {
        let share = self.share.take().expect("a value of ours");
        let reply = KexEcdhReply::decode(payload).expect("a reply");
        let secret = share.agree(reply.q_s);
        let hash = keys::hash(
            [
                VERSION,
                &self.victim_version,
                &self.kexinit,
                &self.last[0],
                reply.k_s,
                share.public(),
                reply.q_s,
            ],
            &secret,
        );
        self.agree(secret, hash);
    }

    fn agree(&mut self, secret: Vec<u8>, hash: [u8; 32]) {
        let id = *self.session_id.get_or_insert(hash);
        self.agreed = Some(Agreed { secret, hash, id });
    }

    /// NEWKEYS: what follows is sealed with the new keys.
    pub fn say_newkeys(&mut self) {
        self.queue(&[21]);
        let agreed = self.agreed.as_ref().expect("an exchange");
        self.sealing = Some(agreed.keys(R::IS_CLIENT));
        self.carry();
    }

    /// The version line and the first key exchange.
    pub fn exchange_after_version(&mut self) {
        self.say_version();
        self.exchange();
    }

    /// A whole key exchange.
    pub fn exchange(&mut self) {
        self.say_kexinit();
        self.say_method();
        self.say_newkeys();
    }

    /// On to where a user may log in, or where the victim tries to.
    pub fn ask_service(&mut self) {
        let number = if R::IS_CLIENT { 6 } else { 5 };
        self.say(&[&[number, 0, 0, 0, 12], &b"ssh-userauth"[..]].concat());
        assert_eq!(self.closed(), None);
    }

    /// Lets the user in, or logs in.
    pub fn log_in(&mut self) {
        if R::IS_CLIENT {
            self.say(&[52]);
        } else {
            self.say(&request("alice", "password", &password("secret")));
        }
        assert_eq!(self.closed(), None);
        assert!(self.conn.is_authenticated());
    }
}

/// A USERAUTH_REQUEST.
pub fn request(user: &str, method: &str, fields: &[u8]) -> Vec<u8> {
    ssh_proto::msg::auth::UserauthRequest {
        user_name: user,
        service_name: "ssh-connection",
        method_name: method,
        method_fields: ssh_proto::msg::Rest(fields),
    }
    .to_payload()
}

/// The fields of the method `password`.
pub fn password(password: &str) -> Vec<u8> {
    let mut fields = Vec::new();
    Writer::new(&mut fields)
        .boolean(false)
        .string(password.as_bytes());
    fields
}
