//! The same session as a client of each adapter: log in, have `cat` say something, leave.

use std::sync::Arc;
use std::time::Instant;

use conformance::ours::{private_key, public_key, read_public_key};
use conformance::peers::Sshd;
use ssh_blocking::ssh_proto::key::PrivateKey;
use ssh_blocking::ssh_proto::{
    ChannelEvent, ClientEvent, ClientRole, Credential, DisconnectReason, OpenChannel, Program,
    Prompts, Secret, SignatureRequest, Stream,
};

use super::rows::{Auth, Row};
use super::{TIME, User, sink};

/// What is said and comes back.
const WORDS: &[u8] = b"say it again\n";

/// The account that needs no password.
const OPEN_USER: &str = "open";

fn user_name(row: &Row) -> &'static str {
    if row.auth == Auth::None {
        OPEN_USER
    } else {
        Sshd::USER
    }
}

fn key(user: &User) -> Arc<PrivateKey> {
    private_key(user.key.as_ref().unwrap())
}

fn sign(key: &PrivateKey, request: &SignatureRequest) -> Option<Vec<u8>> {
    key.sign(request.algorithm(), request.data()).ok()
}

fn answers(prompts: &Prompts) -> Vec<Secret> {
    vec![Secret::from(Sshd::PASSWORD); prompts.prompts().len()]
}

pub(crate) fn blocking(row: &Row, user: &User, sshd: &Sshd) -> String {
    use ssh_blocking::{Client, ClientOptions, HostKeyPolicy, Method};
    let (pieces, whole) = sink();
    let policy = HostKeyPolicy::key(public_key(&sshd.host_keys()[0]));
    let options = ClientOptions::new(policy)
        .config(row.client_config())
        .connect_timeout(TIME)
        .on_recording(move |text| pieces.add(text));
    let client = Client::connect(sshd.address(), options).unwrap();
    let name = user_name(row);
    let outcome = match row.auth {
        Auth::None => client.auth_none(name),
        Auth::Password | Auth::PasswordChange => client.auth_password(name, Sshd::PASSWORD),
        Auth::Interactive => client.auth_keyboard_interactive(name, |p| Some(answers(p))),
        Auth::Key(_) => client.auth_public_key(name, key(user)),
        Auth::Query(_) => client.authenticate(name, &mut [Method::PublicKey(key(user))]),
        Auth::External(_) => {
            let public = read_public_key(&user.key.as_ref().unwrap().public);
            client.auth_external(name, public, |request| sign(&key(user), request))
        }
        Auth::TwoFactors(_) => {
            let first = client.auth_public_key(name, key(user)).unwrap();
            assert!(!first.success());
            client.auth_password(name, Sshd::PASSWORD)
        }
    };
    assert!(outcome.unwrap().success(), "{}", sshd.log());
    let cat = client.exec("cat").input(WORDS).timeout(TIME);
    assert_eq!(cat.output().unwrap().stdout, WORDS);
    client.disconnect();
    whole.text()
}

pub(crate) fn tokio(row: &Row, user: &User, sshd: &Sshd) -> String {
    use ssh_tokio::{Client, ClientOptions, HostKeyPolicy, Method};
    let (pieces, whole) = sink();
    let policy = HostKeyPolicy::key(public_key(&sshd.host_keys()[0]));
    let options = ClientOptions::new(policy)
        .config(row.client_config())
        .connect_timeout(TIME)
        .on_recording(move |text| pieces.add(text));
    let name = user_name(row);
    super::servers::runtime().block_on(async {
        let (client, driver) = Client::connect(sshd.address(), options).await.unwrap();
        let driver = driver.spawn();
        let outcome = match row.auth {
            Auth::None => client.auth_none(name).await,
            Auth::Password | Auth::PasswordChange => {
                client.auth_password(name, Sshd::PASSWORD).await
            }
            Auth::Interactive => {
                client
                    .auth_keyboard_interactive(name, |p| std::future::ready(Some(answers(p))))
                    .await
            }
            Auth::Key(_) => client.auth_public_key(name, key(user)).await,
            Auth::Query(_) => {
                client
                    .authenticate(name, &mut [Method::PublicKey(key(user))])
                    .await
            }
            Auth::External(_) => {
                let public = read_public_key(&user.key.as_ref().unwrap().public);
                client
                    .auth_external(name, public, |request| {
                        std::future::ready(sign(&key(user), request))
                    })
                    .await
            }
            Auth::TwoFactors(_) => {
                let first = client.auth_public_key(name, key(user)).await.unwrap();
                assert!(!first.success());
                client.auth_password(name, Sshd::PASSWORD).await
            }
        };
        assert!(outcome.unwrap().success(), "{}", sshd.log());
        let cat = client.exec("cat").input(WORDS).timeout(TIME);
        assert_eq!(cat.output().await.unwrap().stdout, WORDS);
        client.disconnect();
        driver.await.unwrap().unwrap();
    });
    whole.text()
}

/// The credential of the first attempt, and of the second.
fn credential(row: &Row, user: &User, second: bool) -> Credential {
    match row.auth {
        Auth::None => Credential::None,
        Auth::TwoFactors(_) if second => Credential::password(Sshd::PASSWORD),
        Auth::Password | Auth::PasswordChange => Credential::password(Sshd::PASSWORD),
        Auth::Interactive => Credential::keyboard_interactive(),
        Auth::Key(_) | Auth::TwoFactors(_) => Credential::public_key(key(user)),
        Auth::Query(_) => Credential::PublicKey {
            key: key(user),
            query: true,
        },
        Auth::External(_) => {
            Credential::external(read_public_key(&user.key.as_ref().unwrap().public))
        }
    }
}

pub(crate) fn mio(row: &Row, user: &User, sshd: &Sshd) -> String {
    use ssh_mio::mio::{Events, Poll, Token};
    use ssh_mio::{ClientSession, Sessions};
    let mut config = row.client_config();
    config.transport.record = true;
    let deadline = Instant::now() + TIME;
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(8);
    let mut sessions = Sessions::<ClientRole>::new(Token(0));
    let mut session =
        ClientSession::connect(sshd.address(), Arc::new(config), Instant::now()).unwrap();
    let name = user_name(row);
    let first = credential(row, user, false);
    let connection = session.connection();
    connection
        .authenticate(name, first, Instant::now())
        .unwrap();
    sessions.insert(poll.registry(), session, ()).unwrap();
    let (mut text, mut said) = (String::new(), Vec::new());
    while !text.ends_with("\nend\n") {
        let now = Instant::now();
        assert!(now < deadline, "{text}");
        let wait = sessions.wait_time(now).map_or(TIME, |wait| wait.min(TIME));
        poll.poll(&mut events, Some(wait)).unwrap();
        let now = Instant::now();
        for event in &events {
            sessions.note(event);
        }
        sessions.run(poll.registry(), now, |_, session, ()| {
            while let Some(event) = session.poll_event() {
                let connection = session.connection();
                match event {
                    ClientEvent::HostKeyOffered(offer) => {
                        assert_eq!(*offer.key(), public_key(&sshd.host_keys()[0]));
                        connection.accept_host_key(offer).unwrap();
                    }
                    ClientEvent::AuthenticationRefused {
                        partial_success, ..
                    } => {
                        assert!(partial_success, "{}", sshd.log());
                        let second = credential(row, user, true);
                        connection.authenticate(name, second, now).unwrap();
                    }
                    ClientEvent::PromptsReceived(prompts) => {
                        let answers = answers(&prompts);
                        connection.answer(prompts, &answers).unwrap();
                    }
                    ClientEvent::SignatureNeeded(request) => {
                        let signature = sign(&key(user), &request);
                        connection
                            .supply_signature(request, signature.as_deref())
                            .unwrap();
                    }
                    ClientEvent::Authenticated => {
                        let id = connection.open(OpenChannel::Session, now).unwrap();
                        let mut channel = connection.channel(id).unwrap();
                        channel.start(Program::Exec(b"cat")).unwrap();
                    }
                    ClientEvent::Channel(id) => {
                        let mut channel = connection.channel(id).unwrap();
                        let mut over = false;
                        while let Some(event) = channel.poll_event() {
                            match event {
                                ChannelEvent::Replied { accepted, .. } => {
                                    assert!(accepted);
                                    channel.write(Stream::DATA, WORDS).unwrap();
                                    channel.eof();
                                }
                                ChannelEvent::Data(stream) => {
                                    let mut buf = [0; 100];
                                    let len = channel.read(stream, &mut buf);
                                    said.extend_from_slice(&buf[..len]);
                                }
                                ChannelEvent::Closed => over = true,
                                _ => {}
                            }
                        }
                        if over {
                            session.disconnect(DisconnectReason::BY_APPLICATION, "", now);
                        }
                    }
                    ClientEvent::Disconnected(_) => {
                        session.flush(now, &mut ssh_mio::ReadBuffer::new());
                        let rest = session.connection().finish_recording();
                        text.push_str(&rest.unwrap_or_default());
                    }
                    _ => {}
                }
            }
            let piece = session.connection().take_recording();
            text.push_str(&piece.unwrap_or_default());
        });
    }
    assert_eq!(said, WORDS);
    text
}
