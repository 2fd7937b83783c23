//! A peer that says what it is told to, whatever the rules are. It makes the first key exchange by hand, so it holds the
//! session keys, and it is our own codec with its checks off. Across from it is a real connection with an application
//! that agrees to everything, but for a password of eve.

use super::*;
use crate::Secret;
use crate::channel::{ChannelEvent, ChannelId, OpenChannel};
use crate::connection::event::HostKeyOffer;
use crate::connection::role::Side;
use crate::crypto::agree::{Ephemeral, respond};
use crate::crypto::drbg::Drbg;
use crate::crypto::hash::Digest;
use crate::kex::exchange::{KeySource, Transcript};
use crate::kex::{DirectionAlgorithms, Negotiated};
use crate::msg::Rest;
use crate::msg::connection::ChannelOpenConfirmation;
use crate::msg::kex::{KexEcdhInit, KexEcdhReply};
use crate::msg::transport::{Disconnect, KexInit};
use crate::names::Compression;
use crate::packet::opener::{Opened, Opener};
use crate::packet::output::Output;
use crate::packet::sealer::Sealer;
use crate::wire::NameList;

pub(super) const HOSTILE_VERSION: &[u8] = b"SSH-2.0-hostile";

/// The connection under test.
#[derive(Debug)]
pub(super) enum Victim {
    Client(Box<Client>),
    Server(Box<Server>),
}

/// Runs the same expression on either role.
macro_rules! either {
    ($victim:expr, $conn:ident => $body:expr) => {
        match $victim {
            Victim::Client($conn) => $body,
            Victim::Server($conn) => $body,
        }
    };
}
pub(super) use either;

/// What the hostile peer puts into its first KEXINIT.
#[derive(Clone, Copy)]
pub(super) struct Offer {
    pub(super) strict: bool,
    pub(super) ext_info: bool,
    /// In front of what it really does, so that a guess is wrong.
    pub(super) first_kex: &'static str,
    /// What protects packets. Ciphers that authenticate by themselves have no MAC.
    pub(super) protection: Protection,
}

pub(super) type Protection = (Cipher, Mac);

/// One of each way to protect a packet: a nonce that counts by itself, the sequence number as the nonce, and under a MAC,
/// of the plaintext and of the ciphertext.
pub(super) const PROTECTIONS: [Protection; 4] = [
    (Cipher::Aes128Gcm, Mac::HmacSha256),
    (Cipher::ChaCha20Poly1305, Mac::HmacSha256),
    (Cipher::Aes128Ctr, Mac::HmacSha256),
    (Cipher::Aes128Ctr, Mac::HmacSha256Etm),
];

impl Offer {
    pub(super) const STRICT: Self = Self {
        strict: true,
        ext_info: false,
        first_kex: "",
        protection: PROTECTIONS[0],
    };
    pub(super) const LOOSE: Self = Self {
        strict: false,
        ..Self::STRICT
    };

    pub(super) const fn protected(self, protection: Protection) -> Self {
        Self { protection, ..self }
    }

    /// The algorithms that the hostile peer does.
    fn negotiated(&self) -> Negotiated {
        let (cipher, mac) = self.protection;
        let direction = DirectionAlgorithms {
            cipher,
            mac: (!cipher.is_aead()).then_some(mac),
            compression: Compression::None,
        };
        Negotiated {
            kex: Kex::Curve25519Sha256,
            host_key: SignatureAlgorithm::Ed25519,
            client_to_server: direction,
            server_to_client: direction,
            strict: self.strict,
        }
    }
}

/// Both of them.
pub(super) struct World {
    pub(super) victim: Victim,
    pub(super) now: Instant,
    /// What the application heard, by name.
    pub(super) events: Vec<String>,
    /// The payloads that the victim sent and nobody looked at.
    pub(super) heard: Vec<Vec<u8>>,
    /// A client changes its password when it is asked to.
    pub(super) changes_passwords: bool,
    /// The application of a client does not judge host keys, but leaves that to the test.
    pub(super) keeps_host_keys: bool,
    pub(super) host_key_offer: Option<HostKeyOffer>,
    /// Channels of the victim's own.
    pub(super) channels: Vec<ChannelId>,
    /// Packets that the hostile peer seals.
    pub(super) out: Output,
    opener: Opener,
    unread: Vec<u8>,
    side: Side,
    offer: Offer,
    rng: Drbg,
    host_key: Arc<PrivateKey>,
    victim_version: Vec<u8>,
    victim_kexinit: Vec<u8>,
    /// The last KEX_ECDH_INIT of a victim that is a client.
    victim_init: Option<Vec<u8>>,
    kexinit: Vec<u8>,
    ephemeral: Option<(Ephemeral, Vec<u8>)>,
    /// The hash of the last exchange, its secret's keys, and the session's id.
    keys: Option<(KeySource, Digest)>,
    session_id: Option<Digest>,
    next_opener: Option<Opener>,
}

impl World {
    /// A connection of this side, and its peer. The version lines are exchanged.
    pub(super) fn new(victim: Side, offer: Offer) -> Self {
        Self::with(victim, offer, |_| {})
    }

    /// The same with a configuration that was changed.
    pub(super) fn with(
        victim: Side,
        offer: Offer,
        change: impl FnOnce(&mut crate::config::TransportConfig),
    ) -> Self {
        match victim {
            Side::Client => {
                let mut config = ClientConfig::new();
                change(&mut config.transport);
                Self::of_client(config, offer)
            }
            Side::Server => {
                let mut config = ServerConfig::new(vec![host_key(KeyKind::Ed25519)]);
                config.failure_delay = Duration::ZERO;
                change(&mut config.transport);
                let now = start();
                let server = Server::new(Arc::new(config), Seed::new([1; 32]), now);
                Self::facing(Victim::Server(Box::new(server)), offer, now)
            }
        }
    }

    /// A client with a password to send, and its peer.
    pub(super) fn of_client(config: ClientConfig, offer: Offer) -> Self {
        let now = start();
        let mut client = Client::new(Arc::new(config), Seed::new([1; 32]), now);
        client
            .authenticate("alice", Credential::password("secret"), now)
            .unwrap();
        Self::facing(Victim::Client(Box::new(client)), offer, now)
    }

    fn facing(victim: Victim, offer: Offer, now: Instant) -> Self {
        let side = match victim {
            Victim::Client(_) => Side::Server,
            Victim::Server(_) => Side::Client,
        };
        let mut world = Self {
            victim,
            now,
            events: Vec::new(),
            heard: Vec::new(),
            changes_passwords: false,
            keeps_host_keys: false,
            host_key_offer: None,
            channels: Vec::new(),
            out: Output::new(Drbg::new(Seed::new([2; 32])), Sealer::plain(), 1 << 20),
            opener: Opener::plain(),
            unread: Vec::new(),
            side,
            offer,
            rng: Drbg::new(Seed::new([3; 32])),
            host_key: Arc::new(PrivateKey::generate(KeyKind::Ed25519, &[5; 32]).unwrap()),
            victim_version: Vec::new(),
            victim_kexinit: Vec::new(),
            victim_init: None,
            kexinit: Vec::new(),
            ephemeral: None,
            keys: None,
            session_id: None,
            next_opener: None,
        };
        world.out.raw(HOSTILE_VERSION);
        world.out.raw(b"\r\n");
        world.carry();
        world
    }

    /// The side of the victim.
    pub(super) const fn victim_side(&self) -> Side {
        other(self.side)
    }

    pub(super) fn closed(&self) -> Option<Error> {
        either!(&self.victim, conn => conn.closed().cloned())
    }

    /// What was heard since the last look, by number.
    pub(super) fn numbers(&mut self) -> Vec<u8> {
        self.heard.drain(..).map(|payload| payload[0]).collect()
    }

    /// Everything about what came before is forgotten.
    pub(super) fn forget(&mut self) {
        self.heard.clear();
        self.events.clear();
    }

    /// Says a payload, and lets the victim answer.
    pub(super) fn say(&mut self, payload: &[u8]) {
        self.out.transport(&Raw(payload));
        self.carry();
    }

    pub(super) fn says<'m>(&mut self, message: &impl Message<'m>) {
        self.say(&message.to_payload());
    }

    /// Carries everything both ways until nothing moves.
    pub(super) fn carry(&mut self) {
        loop {
            let bytes = self.out.pending().to_vec();
            let now = self.now;
            let taken = either!(&mut self.victim, conn => conn.handle_bytes(&bytes, now));
            self.out.consume(taken);
            self.application();
            let back = either!(&mut self.victim, conn => {
                let back = conn.output().to_vec();
                conn.consume_output(back.len());
                back
            });
            self.unread.extend(&back);
            self.hear();
            if taken == 0 && back.is_empty() {
                return;
            }
        }
    }

    fn application(&mut self) {
        loop {
            let name = match &mut self.victim {
                Victim::Client(client) => {
                    let Some(event) = client.poll_event() else {
                        return;
                    };
                    let name = format!("{event:?}");
                    match event {
                        ClientEvent::HostKeyOffered(offer) if self.keeps_host_keys => {
                            self.host_key_offer = Some(offer);
                        }
                        ClientEvent::HostKeyOffered(offer) => {
                            client.accept_host_key(offer).unwrap();
                        }
                        ClientEvent::PasswordChangeRequested(change) if self.changes_passwords => {
                            let (old, new) = (Secret::from("secret"), Secret::from("new"));
                            client.change_password(change, old, new).unwrap();
                        }
                        _ => {}
                    }
                    name
                }
                Victim::Server(server) => {
                    let Some(event) = server.poll_event() else {
                        return;
                    };
                    let name = format!("{event:?}");
                    match event {
                        ServerEvent::LoginAttempted(attempt) => {
                            if matches!(attempt.proof(), Proof::KeyboardInteractive { .. }) {
                                let round = crate::auth::PromptRound::new("", "")
                                    .with_prompt("Code: ", false);
                                server.prompt(attempt, &round).unwrap();
                            } else if attempt.user() == "eve" {
                                server.refuse(attempt).unwrap();
                            } else {
                                server.grant(attempt).unwrap();
                            }
                        }
                        ServerEvent::KeyOffered(offer) => server.accept_key(offer).unwrap(),
                        ServerEvent::OpenRequested(request) => {
                            let id = server.accept_open(request, b"").unwrap();
                            self.channels.push(id);
                        }
                        _ => {}
                    }
                    name
                }
            };
            self.events
                .push(name.split(['(', ' ']).next().unwrap().to_owned());
        }
    }

    /// The events of a channel of the victim.
    pub(super) fn channel_events(&mut self, id: ChannelId) -> Vec<ChannelEvent> {
        either!(&mut self.victim, conn => {
            let mut channel = conn.channel(id).unwrap();
            std::iter::from_fn(|| channel.poll_event()).collect()
        })
    }

    fn hear(&mut self) {
        if self.victim_version.is_empty() {
            let Some(end) = self.unread.windows(2).position(|two| two == b"\r\n") else {
                return;
            };
            self.victim_version = self.unread[..end].to_vec();
            self.unread.drain(..end + 2);
        }
        let mut at = 0;
        while let Opened::Packet { payload, len } =
            self.opener.open(&mut self.unread[at..], 1 << 20).unwrap()
        {
            let payload = self.unread[at..][payload].to_vec();
            at += len;
            match payload[0] {
                20 => self.victim_kexinit.clone_from(&payload),
                21 => {
                    // Not before it is counted.
                    let next = self.next_opener.take().expect("keys for NEWKEYS");
                    self.opener = next.follow(&self.opener, self.offer.strict);
                }
                30 => self.victim_init = Some(payload.clone()),
                31 => self.replied(&payload),
                _ => {}
            }
            self.heard.push(payload);
        }
        self.unread.drain(..at);
    }

    /// The first KEXINIT of the hostile peer, or a later one.
    pub(super) fn say_kexinit(&mut self, guess: bool) {
        let first = self.session_id.is_none();
        let mut kex: Vec<&str> = vec!["curve25519-sha256"];
        if !self.offer.first_kex.is_empty() {
            kex.insert(0, self.offer.first_kex);
        }
        if first && self.offer.strict {
            kex.push(match self.side {
                Side::Client => "kex-strict-c-v00@openssh.com",
                Side::Server => "kex-strict-s-v00@openssh.com",
            });
        }
        if first && self.offer.ext_info {
            kex.push(match self.side {
                Side::Client => "ext-info-c",
                Side::Server => "ext-info-s",
            });
        }
        let kex = kex.join(",");
        let one = NameList::new;
        let (cipher, mac) = self.offer.protection;
        let kexinit = KexInit {
            cookie: [9; 16],
            kex_algorithms: one(&kex),
            server_host_key_algorithms: one("ssh-ed25519"),
            encryption_algorithms_client_to_server: one(cipher.name()),
            encryption_algorithms_server_to_client: one(cipher.name()),
            mac_algorithms_client_to_server: one(mac.name()),
            mac_algorithms_server_to_client: one(mac.name()),
            compression_algorithms_client_to_server: one("none"),
            compression_algorithms_server_to_client: one("none"),
            languages_client_to_server: NameList::default(),
            languages_server_to_client: NameList::default(),
            first_kex_packet_follows: guess,
            reserved: 0,
        }
        .to_payload();
        self.kexinit.clone_from(&kexinit);
        self.say(&kexinit);
    }

    /// Another host key from now on.
    pub(super) fn change_host_key(&mut self) {
        self.host_key = Arc::new(PrivateKey::generate(KeyKind::Ed25519, &[6; 32]).unwrap());
    }

    /// The last KEXINIT of the hostile peer.
    pub(super) fn last_kexinit(&self) -> &[u8] {
        &self.kexinit
    }

    /// Whether [`method`](Self::method) can be called: a server needs the client's value for it.
    pub(super) const fn has_method(&self) -> bool {
        matches!(self.side, Side::Client) || self.victim_init.is_some()
    }

    /// The message of the method that this side sends.
    pub(super) fn method(&mut self) -> Vec<u8> {
        match self.side {
            Side::Client => {
                let (ephemeral, share) =
                    Ephemeral::generate(Kex::Curve25519Sha256, &mut self.rng).unwrap();
                let init = KexEcdhInit { q_c: &share }.to_payload();
                self.ephemeral = Some((ephemeral, share));
                init
            }
            Side::Server => {
                let init = self.victim_init.clone().expect("the client's value");
                let q_c = KexEcdhInit::decode(&init).unwrap().q_c;
                let (share, secret) = respond(Kex::Curve25519Sha256, q_c, &mut self.rng).unwrap();
                let blob = self.host_key.public().blob().to_vec();
                let hash = Transcript {
                    client_version: &self.victim_version,
                    server_version: HOSTILE_VERSION,
                    client_kexinit: &self.victim_kexinit,
                    server_kexinit: &self.kexinit,
                    host_key: &blob,
                    client_share: q_c,
                    server_share: &share,
                }
                .hash(Kex::Curve25519Sha256, &secret);
                let signature = self
                    .host_key
                    .sign(SignatureAlgorithm::Ed25519, &hash)
                    .unwrap();
                self.finish(hash, &secret);
                KexEcdhReply {
                    k_s: &blob,
                    q_s: &share,
                    signature: &signature,
                }
                .to_payload()
            }
        }
    }

    /// The server's half of the method: its value.
    fn replied(&mut self, payload: &[u8]) {
        let (ephemeral, share) = self.ephemeral.take().expect("a value of ours");
        let reply = KexEcdhReply::decode(payload).unwrap();
        let secret = ephemeral.agree(reply.q_s).unwrap();
        let hash = Transcript {
            client_version: HOSTILE_VERSION,
            server_version: &self.victim_version,
            client_kexinit: &self.kexinit,
            server_kexinit: &self.victim_kexinit,
            host_key: reply.k_s,
            client_share: &share,
            server_share: reply.q_s,
        }
        .hash(Kex::Curve25519Sha256, &secret);
        self.finish(hash, &secret);
    }

    fn finish(&mut self, hash: Digest, secret: &crate::crypto::agree::SharedSecret) {
        let id = *self.session_id.get_or_insert(hash);
        let source = KeySource::new(Kex::Curve25519Sha256, secret, hash, id);
        let negotiated = self.offer.negotiated();
        let keys = match self.side {
            Side::Client => source.server_to_client(&negotiated),
            Side::Server => source.client_to_server(&negotiated),
        };
        self.next_opener = Some(Opener::new(&keys).unwrap());
        self.keys = Some((source, hash));
    }

    /// NEWKEYS of the hostile peer: what it says from now on is sealed with the new keys.
    pub(super) fn say_newkeys(&mut self) {
        self.out.transport(&Raw(&[21]));
        self.switch();
        self.carry();
    }

    /// Whether there are keys to switch to.
    pub(super) const fn has_keys(&self) -> bool {
        self.keys.is_some()
    }

    pub(super) fn session_id(&self) -> &[u8] {
        self.session_id.as_deref().unwrap_or_default()
    }

    /// The keys alone.
    pub(super) fn switch(&mut self) {
        let (source, _) = self.keys.as_ref().expect("an exchange");
        let negotiated = self.offer.negotiated();
        let keys = match self.side {
            Side::Client => source.client_to_server(&negotiated),
            Side::Server => source.server_to_client(&negotiated),
        };
        let sequence = if self.offer.strict {
            0
        } else {
            self.out.sealer().sequence()
        };
        self.out.shut_gate();
        self.out.open_gate(Sealer::new(&keys, sequence).unwrap());
    }

    /// A whole key exchange.
    pub(super) fn exchange(&mut self) {
        self.say_kexinit(false);
        let method = self.method();
        self.say(&method);
        self.say_newkeys();
        assert_eq!(self.closed(), None);
    }

    /// On to where the user may log in, or where the victim tries to.
    pub(super) fn ask_service(&mut self) {
        match self.side {
            Side::Client => self.say(b"\x05\0\0\0\x0cssh-userauth"),
            Side::Server => self.say(b"\x06\0\0\0\x0cssh-userauth"),
        }
        assert_eq!(self.closed(), None);
    }

    pub(super) fn log_in(&mut self) {
        match self.side {
            Side::Client => self.say(&password("alice", "secret")),
            Side::Server => self.say(&[52]),
        }
        assert!(either!(&self.victim, conn => conn.is_authenticated()));
    }

    /// Everything up to an open connection.
    pub(super) fn open(victim: Side, offer: Offer) -> Self {
        let mut world = Self::new(victim, offer);
        world.exchange();
        world.ask_service();
        world.log_in();
        world.forget();
        world
    }

    /// The victim opens a channel of its own kind; the hostile peer has not answered.
    pub(super) fn victim_opens(&mut self) -> ChannelId {
        let kind = OpenChannel::Custom {
            kind: "x@example.com",
            data: b"",
        };
        let now = self.now;
        let id = either!(&mut self.victim, conn => conn.open(kind, now).unwrap());
        self.channels.push(id);
        self.carry();
        id
    }

    /// The hostile peer confirms a channel of the victim.
    pub(super) fn confirm_open(&mut self, recipient_channel: u32) {
        self.says(&ChannelOpenConfirmation {
            recipient_channel,
            sender_channel: 7,
            initial_window_size: 1_000,
            maximum_packet_size: 1_000,
            data: Rest(b""),
        });
    }

    /// Time passes, and is over.
    pub(super) fn wait(&mut self, time: Duration) {
        self.now += time;
        let now = self.now;
        either!(&mut self.victim, conn => conn.handle_timeout(now));
        self.carry();
    }

    /// What the victim hears goes on at this packet, on both sides.
    pub(super) fn skip_in(&mut self, sequence: u32) {
        either!(&mut self.victim, conn => {
            skip(&mut conn.transport.opener, sequence);
        });
        self.out.skip_to(sequence);
    }

    /// What the victim says goes on at this packet, on both sides.
    pub(super) fn skip_out(&mut self, sequence: u32) {
        either!(&mut self.victim, conn => conn.out.skip_to(sequence));
        skip(&mut self.opener, sequence);
    }

    /// The numbers of the next packet that the victim takes, and of the next that it sends.
    pub(super) const fn sequences(&self) -> (u32, u32) {
        either!(&self.victim, conn => (
            conn.transport.opener.sequence(),
            conn.out.sealer().sequence(),
        ))
    }

    /// The number of the packet that the hostile peer said last.
    pub(super) fn last_sequence(&self) -> u32 {
        self.out.sealer().sequence().wrapping_sub(1)
    }

    /// The reason of the DISCONNECT that the victim sent; it must be the last thing that it said.
    #[track_caller]
    pub(super) fn disconnect_reason(&mut self) -> u32 {
        let last = self.heard.pop().expect("something was said");
        Disconnect::decode(&last).expect("a DISCONNECT").reason_code
    }
}

fn skip(opener: &mut Opener, sequence: u32) {
    *opener = std::mem::replace(opener, Opener::plain()).at(sequence);
}

pub(super) fn password(user: &str, password: &str) -> Vec<u8> {
    let mut payload = vec![50];
    let mut writer = Writer::new(&mut payload);
    writer.string(user.as_bytes()).string(b"ssh-connection");
    writer.string(b"password").boolean(false);
    writer.string(password.as_bytes());
    payload
}
