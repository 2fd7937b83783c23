//! The events and spans of each adapter, for a subscriber that wants everything, hexdumps included; and that no secret is
//! in them.

mod recorder;
mod servers;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use conformance::logins::{Answers, rounds};
use conformance::ours::{Accounts, OurServer};
use ssh_blocking::ssh_proto::key::{KeyKind, PrivateKey};
use ssh_blocking::ssh_proto::{
    AuthMethod, ChannelEvent, ClientConfig, ClientEvent, Credential, OpenChannel, Program, Secret,
    Stream,
};
use ssh_mio::mio::{Events, Poll, Token};
use ssh_mio::{ClientSession, Sessions};
use ssh_proto::ClientRole;
use tracing::Level;

use recorder::{Connection, connection, dumped, record};

const PASSWORD: &str = "Tr0ub4dor&3 horse";
const NEW_PASSWORD: &str = "battery staple 99";
const COMMAND: &str = "echo marker-of-output";
const OUTPUT: &[u8] = b"marker-of-output\n";
const TIME: Duration = Duration::from_secs(30);

/// A key log in memory: it says what the secrets are that must not be seen.
#[derive(Clone, Default)]
struct File(Arc<Mutex<Vec<u8>>>);

impl File {
    /// The secrets of all key exchanges, as digits.
    fn secrets(&self) -> Vec<String> {
        String::from_utf8_lossy(&self.0.lock().unwrap())
            .lines()
            .filter_map(|line| Some(line.rsplit_once(' ')?.1.to_owned()))
            .collect()
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn server(accounts: Accounts) -> OurServer {
    record();
    OurServer::start(accounts, |config| config.transport.hexdump = true)
}

fn accounts() -> Accounts {
    Accounts {
        password: Some(PASSWORD.into()),
        ..Accounts::default()
    }
}

fn client_config() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.transport.hexdump = true;
    config
}

/// Waits until the spans of a connection are closed: its last events may come from another thread.
#[track_caller]
fn ended(role: &str, user: &str) -> Connection {
    let deadline = Instant::now() + TIME;
    loop {
        let connection = connection(role, user);
        if connection.is_closed() {
            return connection;
        }
        assert!(Instant::now() < deadline, "{connection:#?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// What a session with one command looks like.
#[track_caller]
fn assert_told(seen: &Connection, peer: Option<SocketAddr>) {
    assert_eq!(seen.span.target, "ssh");
    if let Some(peer) = peer {
        assert_eq!(seen.span.fields["peer"], peer.to_string());
    }
    let told = |level, target, text: &str| {
        let all = seen.events.iter().chain(&seen.channel_events);
        let found = all
            .filter(|event| event.level == level && event.target == target)
            .any(|event| event.message.contains(text));
        assert!(found, "no {level} {target} {text:?} in {seen:#?}");
    };
    told(Level::INFO, "ssh::transport", "peer version");
    told(Level::INFO, "ssh::transport", "negotiated");
    told(Level::INFO, "ssh::auth", &seen.span.fields["user"]);
    told(Level::TRACE, "ssh::transport", "received message 20");
    told(Level::TRACE, "ssh::transport", "sent message 20");
    let [channel] = &seen.channels[..] else {
        panic!("{:#?}", seen.channels);
    };
    assert_eq!(channel.name, "channel");
    assert_eq!(channel.fields["kind"], "session");
    assert!(channel.fields["number"].parse::<u32>().is_ok());
    assert!(seen.channel_events.len() >= 3, "{:#?}", seen.channel_events);
    for event in &seen.channel_events {
        assert_eq!(
            (event.level, event.target),
            (Level::DEBUG, "ssh::connection")
        );
    }
    let dumps = seen.events.iter().map(|event| dumped(&event.message));
    assert!(dumps.clone().any(|bytes| holds(&bytes, COMMAND.as_bytes())));
    assert!(dumps.clone().any(|bytes| holds(&bytes, OUTPUT)));
    let last = seen.events.last().unwrap();
    assert_eq!(last.level, Level::ERROR, "{last:?}");
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// None of these is anywhere, as it is, as digits, or as bytes of a hexdump.
#[track_caller]
fn assert_untold(seen: &Connection, secrets: &[&[u8]]) {
    let output = seen.output();
    for secret in secrets {
        let digits = |between: &str| {
            let digits: Vec<String> = secret.iter().map(|byte| format!("{byte:02x}")).collect();
            digits.join(between).into_bytes()
        };
        for form in [secret.to_vec(), digits(""), digits(" ")] {
            assert!(!holds(&output, &form), "{}", secret.escape_ascii());
        }
    }
}

fn bytes(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn what_ssh_blocking_tells() {
    use ssh_blocking::{Client, ClientOptions, HostKeyPolicy};

    let server = server(Accounts {
        new_password: Some(NEW_PASSWORD.into()),
        ..accounts()
    });
    let keys = File::default();
    let options = ClientOptions::new(HostKeyPolicy::AcceptAny)
        .config(client_config())
        .key_log(keys.clone());
    let client = Client::connect(server.address(), options).unwrap();
    let outcome =
        client.auth_password_with_change("bertha", PASSWORD, |_| Some(Secret::from(NEW_PASSWORD)));
    assert!(outcome.unwrap().success());
    assert_eq!(client.exec(COMMAND).output().unwrap().stdout, OUTPUT);
    client.disconnect();
    drop(client);
    let secrets = keys.secrets();
    let [secret] = &secrets[..] else {
        panic!("{} key exchanges", secrets.len());
    };
    let of_exchange = bytes(secret);
    let untold = [PASSWORD.as_bytes(), NEW_PASSWORD.as_bytes(), &of_exchange];
    for (role, peer) in [("client", Some(server.address())), ("server", None)] {
        let seen = ended(role, "bertha");
        assert_told(&seen, peer);
        assert_untold(&seen, &untold);
    }
}

#[test]
fn answers_to_prompts_and_private_keys_are_not_told() {
    use ssh_blocking::{Client, ClientOptions, HostKeyPolicy};

    let seed = *b"thirty-two bytes of a secret key";
    let key = Arc::new(PrivateKey::generate(KeyKind::Ed25519, &seed).unwrap());
    let mut rounds = rounds();
    rounds[0].1 = vec!["answer-number-one".into(), "answer-number-two".into()];
    let server = server(Accounts {
        keys: vec![key.public().clone()],
        rounds: rounds.clone(),
        factors: vec![AuthMethod::PublicKey, AuthMethod::KeyboardInteractive],
        ..Accounts::default()
    });
    let options = ClientOptions::new(HostKeyPolicy::AcceptAny).config(client_config());
    let client = Client::connect(server.address(), options).unwrap();
    assert!(
        !client
            .auth_public_key("prompta", Arc::clone(&key))
            .unwrap()
            .success()
    );
    let mut answers = Answers::new(rounds);
    let outcome = client.auth_keyboard_interactive("prompta", |prompts| answers.next(prompts));
    assert!(outcome.unwrap().success());
    assert_eq!(client.exec(COMMAND).output().unwrap().stdout, OUTPUT);
    client.disconnect();
    drop(client);
    let untold: [&[u8]; 3] = [&seed, b"answer-number-one", b"answer-number-two"];
    for role in ["client", "server"] {
        let seen = ended(role, "prompta");
        assert_told(&seen, None);
        assert_untold(&seen, &untold);
    }
}

#[tokio::test]
async fn what_ssh_tokio_tells() {
    use ssh_tokio::{Client, ClientOptions, HostKeyPolicy};

    let server = server(accounts());
    let options = ClientOptions::new(HostKeyPolicy::AcceptAny).config(client_config());
    let (client, driver) = Client::connect(server.address(), options).await.unwrap();
    let driver = driver.spawn();
    assert!(
        client
            .auth_password("tobias", PASSWORD)
            .await
            .unwrap()
            .success()
    );
    let output = client.exec(COMMAND).output().await.unwrap();
    assert_eq!(output.stdout, OUTPUT);
    client.disconnect();
    drop(client);
    driver.await.unwrap().unwrap();
    let seen = ended("client", "tobias");
    assert_told(&seen, Some(server.address()));
    assert_untold(&seen, &[PASSWORD.as_bytes()]);
}

#[test]
fn what_ssh_mio_tells() {
    let server = server(accounts());
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(16);
    let mut sessions = Sessions::<ClientRole>::new(Token(0));
    let now = Instant::now();
    let config = Arc::new(client_config());
    let mut session = ClientSession::connect(server.address(), config, now).unwrap();
    let password = Credential::password(PASSWORD);
    session
        .connection()
        .authenticate("miriam", password, now)
        .unwrap();
    let token = sessions.insert(poll.registry(), session, ()).unwrap();
    let (mut stdout, mut over) = (Vec::new(), false);
    while !over {
        poll.poll(&mut events, sessions.wait_time(Instant::now()))
            .unwrap();
        let now = Instant::now();
        for event in &events {
            sessions.note(event);
        }
        sessions.run(poll.registry(), now, |_, session, ()| {
            while let Some(event) = session.poll_event() {
                let ssh = session.connection();
                match event {
                    ClientEvent::HostKeyOffered(offer) => ssh.accept_host_key(offer).unwrap(),
                    ClientEvent::Authenticated => {
                        let id = ssh.open(OpenChannel::Session, now).unwrap();
                        let mut channel = ssh.channel(id).unwrap();
                        channel.start(Program::Exec(COMMAND.as_bytes())).unwrap();
                    }
                    ClientEvent::Channel(id) => {
                        let Some(mut channel) = ssh.channel(id) else {
                            continue;
                        };
                        let mut closed = false;
                        while let Some(event) = channel.poll_event() {
                            if let ChannelEvent::Data(stream) = event {
                                let chunk = channel.chunk(stream).to_vec();
                                channel.consume(stream, chunk.len());
                                if stream == Stream::DATA {
                                    stdout.extend(chunk);
                                }
                            }
                            closed |= event == ChannelEvent::Closed;
                        }
                        if closed {
                            let reason = ssh_proto::DisconnectReason::BY_APPLICATION;
                            session.disconnect(reason, "", now);
                        }
                    }
                    ClientEvent::Disconnected(_) => over = true,
                    _ => {}
                }
            }
        });
    }
    assert_eq!(stdout, OUTPUT);
    drop(sessions.remove(poll.registry(), token));
    let seen = ended("client", "miriam");
    assert_told(&seen, Some(server.address()));
    assert_untold(&seen, &[PASSWORD.as_bytes()]);
}
