//! Texts of a server for the user, in the adapters whose clients show them.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ssh_blocking::ssh_proto::key::{KeyKind, PrivateKey};
use ssh_blocking::ssh_proto::{HostKey, Seed, Server, ServerConfig, ServerEvent};

const BETWEEN: &str = "once more, with care";

fn host_key() -> PrivateKey {
    PrivateKey::generate(KeyKind::Ed25519, &[7; 32]).unwrap()
}

fn fingerprint() -> String {
    host_key().public().fingerprint_sha256()
}

/// Refuses the first attempt, says something behind the refusal, and grants the second.
fn serve(mut stream: UnixStream) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut config = ServerConfig::new(vec![HostKey::Private(Arc::new(host_key()))]);
        config.failure_delay = Duration::ZERO;
        let mut server = Server::new(Arc::new(config), Seed::new([1; 32]), Instant::now());
        let mut attempts = 0;
        let mut buf = [0; 4096];
        while server.closed().is_none() {
            while let Some(event) = server.poll_event() {
                if let ServerEvent::LoginAttempted(attempt) = event {
                    attempts += 1;
                    if attempts == 1 {
                        server.refuse(attempt).unwrap();
                        server.banner(BETWEEN).unwrap();
                    } else {
                        server.grant(attempt).unwrap();
                    }
                }
            }
            // It fails when the client has gone.
            _ = stream.write_all(server.output());
            server.consume_output(server.output().len());
            match stream.read(&mut buf) {
                Ok(len @ 1..) => assert_eq!(server.handle_bytes(&buf[..len], Instant::now()), len),
                _ => server.handle_eof(Instant::now()),
            }
        }
    })
}

/// What was shown.
type Shown = Arc<Mutex<Vec<String>>>;

fn show(shown: &Shown) -> impl FnMut(&str) + Send + 'static {
    let shown = Arc::clone(shown);
    move |text| shown.lock().unwrap().push(text.to_owned())
}

#[test]
fn a_banner_between_two_attempts_is_shown_by_ssh_blocking() {
    use ssh_blocking::{Client, ClientOptions, HostKeyPolicy};
    let (ours, theirs) = UnixStream::pair().unwrap();
    let server = serve(theirs);
    let shown = Shown::default();
    let policy = HostKeyPolicy::fingerprint(fingerprint());
    let options = ClientOptions::new(policy).on_banner(show(&shown));
    let client = Client::connect_stream(ours, options).unwrap();
    assert!(!client.auth_password("user", "guess").unwrap().success());
    assert!(client.auth_password("user", "secret").unwrap().success());
    assert_eq!(*shown.lock().unwrap(), [BETWEEN]);
    drop(client);
    server.join().unwrap();
}

#[tokio::test]
async fn a_banner_between_two_attempts_is_shown_by_ssh_tokio() {
    use ssh_tokio::{Client, ClientOptions, HostKeyPolicy};
    let (ours, theirs) = UnixStream::pair().unwrap();
    let server = serve(theirs);
    let shown = Shown::default();
    let policy = HostKeyPolicy::fingerprint(fingerprint());
    let options = ClientOptions::new(policy).on_banner(show(&shown));
    ours.set_nonblocking(true).unwrap();
    let ours = tokio::net::UnixStream::from_std(ours).unwrap();
    let (client, driver) = Client::connect_stream(ours, options).await.unwrap();
    let driver = tokio::spawn(driver);
    let guess = client.auth_password("user", "guess").await.unwrap();
    assert!(!guess.success());
    let secret = client.auth_password("user", "secret").await.unwrap();
    assert!(secret.success());
    assert_eq!(*shown.lock().unwrap(), [BETWEEN]);
    drop(client);
    driver.await.unwrap().unwrap();
    server.join().unwrap();
}
