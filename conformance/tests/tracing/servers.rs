//! The same of servers: on Tokio, and on mio. The client is that of ssh-blocking, on a thread of its own.

use std::net::{Ipv4Addr, TcpListener};

use conformance::pair::host_key;
use ssh_mio::mio::net::TcpStream;
use ssh_mio::{ServerSession, seed};
use ssh_proto::{
    AuthMethod, Channel, ChannelId, ChannelRequest, Connection, LoginAttempt, OpenKind, Proof,
    ServerConfig, ServerEvent, ServerRole,
};

use super::*;

fn server_config() -> ServerConfig {
    record();
    let mut config = ServerConfig::new(vec![host_key(KeyKind::Ed25519)]);
    config.auth_methods = vec![AuthMethod::Password];
    config.transport.hexdump = true;
    config
}

/// Logs in with a wrong password and with the right one, runs the command, and leaves. Gives where it came from.
fn visit(address: SocketAddr, user: &'static str) -> thread::JoinHandle<SocketAddr> {
    use ssh_blocking::{Client, ClientOptions, HostKeyPolicy};

    thread::spawn(move || {
        let stream = std::net::TcpStream::connect(address).unwrap();
        let own = stream.local_addr().unwrap();
        let options = ClientOptions::new(HostKeyPolicy::AcceptAny).config(client_config());
        let client = Client::connect_stream(stream, options).unwrap();
        assert!(!client.auth_password(user, WRONG).unwrap().success());
        assert!(client.auth_password(user, PASSWORD).unwrap().success());
        assert_eq!(client.exec(COMMAND).output().unwrap().stdout, OUTPUT);
        client.disconnect();
        own
    })
}

const WRONG: &str = "correct horse 17";

/// What a server has told of such a visit.
#[track_caller]
fn assert_visit_told(user: &str, peer: SocketAddr) {
    let seen = ended("server", user);
    assert_told(&seen, Some(peer));
    assert_untold(&seen, &[PASSWORD.as_bytes(), WRONG.as_bytes()]);
}

mod on_tokio {
    use ssh_tokio::{
        ExitStatus, Handler, OpenVerdict, Server, ServerOptions, Session, Task, Verdict,
    };
    use tokio::io::AsyncWriteExt;

    use super::*;

    struct Account;

    impl Handler for Account {
        async fn check_auth_password(&mut self, _: &LoginAttempt, password: &Secret) -> Verdict {
            if *password == Secret::from(PASSWORD) {
                Verdict::Accept
            } else {
                Verdict::Refuse
            }
        }

        async fn check_channel_open(&mut self, kind: &OpenKind) -> OpenVerdict {
            assert!(matches!(kind, OpenKind::Session));
            OpenVerdict::Accept
        }

        async fn check_exec(&mut self, _: &Session, command: &[u8]) -> Option<Task> {
            assert_eq!(command, COMMAND.as_bytes());
            Some(Task::new(async |mut channel| {
                channel.write_all(OUTPUT).await.unwrap();
                ExitStatus::Code(0)
            }))
        }
    }

    #[tokio::test]
    async fn what_a_server_on_tokio_tells() {
        let options = ServerOptions::new(server_config(), |_| Account);
        let server = Server::new(options);
        let handle = server.bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let visit = visit(handle.address(), "theodora");
        let peer = tokio::task::spawn_blocking(|| visit.join().unwrap());
        let peer = peer.await.unwrap();
        assert_eq!(handle.stop(TIME).await, 0);
        assert_visit_told("theodora", peer);
    }
}

#[test]
fn what_a_server_on_mio_tells() {
    let config = Arc::new(server_config());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let visit = visit(listener.local_addr().unwrap(), "michael");
    let (stream, _) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    let stream = TcpStream::from_std(stream);
    let session = ServerSession::new(stream, config, seed().unwrap(), Instant::now());
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(16);
    let mut sessions = Sessions::<ServerRole>::new(Token(0));
    sessions.insert(poll.registry(), session, ()).unwrap();
    while !sessions.is_empty() {
        poll.poll(&mut events, sessions.wait_time(Instant::now()))
            .unwrap();
        for event in &events {
            sessions.note(event);
        }
        sessions.run(poll.registry(), Instant::now(), |_, session, ()| {
            while let Some(event) = session.poll_event() {
                serve(session.connection(), event);
            }
        });
    }
    assert_visit_told("michael", visit.join().unwrap());
}

/// The same account as above, event by event.
fn serve(ssh: &mut Connection<ServerRole>, event: ServerEvent) {
    match event {
        ServerEvent::LoginAttempted(attempt) => {
            let right =
                matches!(attempt.proof(), Proof::Password(it) if *it == Secret::from(PASSWORD));
            let answered = if right {
                ssh.grant(attempt)
            } else {
                ssh.refuse(attempt)
            };
            answered.unwrap();
        }
        ServerEvent::OpenRequested(request) => {
            assert!(matches!(request.kind(), OpenKind::Session));
            ssh.accept_open(request, b"").unwrap();
        }
        ServerEvent::Channel(id) => serve_channel(ssh, id),
        _ => {}
    }
}

fn serve_channel(ssh: &mut Connection<ServerRole>, id: ChannelId) {
    while let Some(mut channel) = ssh.channel(id) {
        match channel.poll_event() {
            Some(ChannelEvent::Requested { request, token }) => {
                assert_eq!(request, ChannelRequest::Exec(COMMAND.into()));
                channel.reply(token.unwrap(), true).unwrap();
                say_output(&mut channel);
            }
            Some(ChannelEvent::Closed) => channel.release(),
            Some(_) => {}
            None => return,
        }
    }
}

fn say_output(channel: &mut Channel<'_, ServerRole>) {
    assert_eq!(channel.write(Stream::DATA, OUTPUT), Ok(OUTPUT.len()));
    channel.send_exit_status(0).unwrap();
    channel.close();
}
