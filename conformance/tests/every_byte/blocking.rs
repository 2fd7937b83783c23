//! Both sides on threads.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use ssh_blocking::{
    Client, ClientOptions, Error, ExitStatus, Handler, HostKeyPolicy, OpenVerdict, Server,
    ServerChannel, ServerOptions, Task, Transport, Verdict,
};
use ssh_proto::key::PublicKey;
use ssh_proto::{LoginAttempt, OpenKind};

use crate::line::{Cut, Heard, Line};
use crate::side::{
    CONNECTED, ENDED, LET_IN, PROVEN, STARTED, Session, Side, WORDS, Who, client_config, keys,
    server_config,
};

/// Over two halves each, the one that is read being cut.
pub(crate) fn on_halves(cut: Option<(Who, Cut)>) -> Session {
    let (near, far) = UnixStream::pair().unwrap();
    play(|who, side| {
        let stream = match who {
            Who::Client => near.try_clone().unwrap(),
            Who::Server => far.try_clone().unwrap(),
        };
        let (writer, closing) = (stream.try_clone().unwrap(), stream.try_clone().unwrap());
        let cut = cut.filter(|cut| cut.0 == who).map(|cut| cut.1);
        Transport::pair(Line::new(stream, cut, side.heard.clone()), writer)
            .on_close(move || _ = closing.shutdown(Shutdown::Both))
    })
}

/// Over a socket each, with somebody between them who carries what is said only so far.
pub(crate) fn on_sockets(cut: Option<(Who, Cut)>) -> Session {
    let (client, near) = UnixStream::pair().unwrap();
    let (server, far) = UnixStream::pair().unwrap();
    play(|who, side| {
        let (stream, to, from) = match who {
            Who::Client => (&client, &near, &far),
            Who::Server => (&server, &far, &near),
        };
        let most = cut
            .filter(|cut| cut.0 == who)
            .map_or(usize::MAX, |cut| cut.1.after);
        let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
        let heard = side.heard.clone();
        thread::spawn(move || carry(&from, &to, most, &heard));
        Transport::try_from(stream.try_clone().unwrap()).unwrap()
    })
}

/// Carries at most `most` bytes, then only listens.
fn carry(mut from: &UnixStream, mut to: &UnixStream, most: usize, heard: &Heard) {
    let mut left = most;
    let mut buffer = [0; 4_096];
    while left > 0 {
        let room = buffer.len().min(left);
        let len = from.read(&mut buffer[..room]).unwrap_or(0);
        if len == 0 {
            break;
        }
        // Counted first: who hears it may look at once.
        heard.add(&buffer[..len]);
        if to.write_all(&buffer[..len]).is_err() {
            break;
        }
        left -= len;
    }
    // The other end may have gone before.
    _ = to.shutdown(Shutdown::Write);
    _ = io::copy(&mut from, &mut io::sink());
}

fn play(stream: impl Fn(Who, &Side) -> Transport) -> Session {
    let (client, server) = (Side::default(), Side::default());
    let (near, far) = (stream(Who::Client, &client), stream(Who::Server, &server));
    drop(stream);
    let host = Host(server.clone());
    let serving = thread::spawn(move || {
        let options = ServerOptions::new(server_config(), move |_| host.clone());
        Server::new(options).serve_stream(far, None)
    });
    let client_end = visit(near, &client);
    let server_end = serving.join().unwrap();
    server.wait_for_program();
    Session {
        server_end,
        client,
        server,
        client_end,
    }
}

/// The client's side.
fn visit(stream: Transport, side: &Side) -> Result<(), Error> {
    let policy = HostKeyPolicy::key(keys().0.public().clone());
    let options = ClientOptions::new(policy).config(client_config());
    let client = Client::connect_stream(stream, options)?;
    side.did(CONNECTED);
    let key = Arc::clone(&keys().1);
    assert!(client.auth_public_key("user", key)?.success());
    side.did(LET_IN);
    let mut child = client.exec("echo").spawn()?;
    side.did(STARTED);
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    for word in WORDS {
        stdin.write_all(word.as_bytes())?;
        let mut said = [0; 3];
        stdout.read_exact(&mut said)?;
        assert_eq!(said, word.as_bytes());
        side.did(word);
    }
    drop(stdin);
    assert_eq!(stdout.read(&mut [0; 3])?, 0);
    assert!(child.wait()?.success());
    side.did(ENDED);
    client.disconnect();
    Ok(())
}

/// The server's side.
#[derive(Clone)]
struct Host(Side);

impl Handler for Host {
    fn check_key_offer(&mut self, _: &str, _: &PublicKey) -> bool {
        true
    }

    fn check_auth_public_key(&mut self, _: &LoginAttempt, _: &PublicKey) -> Verdict {
        self.0.did(PROVEN);
        Verdict::Accept
    }

    fn authenticated(&mut self, _: &str) {
        self.0.did(LET_IN);
    }

    fn check_channel_open(&mut self, _: &OpenKind) -> OpenVerdict {
        OpenVerdict::Accept
    }

    fn check_exec(&mut self, _: &ssh_blocking::Session, _: &[u8]) -> Option<Task> {
        self.0.did(STARTED);
        let side = self.0.clone();
        Some(Box::new(move |channel| {
            let end = echo(channel, &side);
            side.program_ended(end.map_err(Error::from));
            ExitStatus::Code(0)
        }))
    }
}

fn echo(mut channel: ServerChannel, side: &Side) -> io::Result<()> {
    for word in WORDS {
        let mut said = [0; 3];
        channel.read_exact(&mut said)?;
        assert_eq!(said, word.as_bytes());
        side.did(word);
        channel.write_all(&said)?;
    }
    assert_eq!(channel.read(&mut [0; 3])?, 0);
    side.did(ENDED);
    Ok(())
}
