//! Both ends with `ssh-blocking`, over a loopback socket: a thread for each channel of the server, a thread for each message
//! under way of the client.

use std::io::{self, Read, Write};
use std::thread;
use std::time::Duration;

use ssh_blocking::ssh_proto::key::PublicKey;
use ssh_blocking::ssh_proto::{LoginAttempt, OpenKind};
use ssh_blocking::{
    Child, Client, ClientOptions, ExitStatus, Handler, HostKeyPolicy, OpenVerdict, Server,
    ServerOptions, Session, Task, Verdict,
};

use super::{MESSAGE, UNDER_WAY, host_key, server_config, used, user_key};

struct Echo {
    user_key: PublicKey,
}

impl Handler for Echo {
    fn check_key_offer(&mut self, _: &str, key: &PublicKey) -> bool {
        *key == self.user_key
    }

    fn check_auth_public_key(&mut self, _: &LoginAttempt, key: &PublicKey) -> Verdict {
        if *key == self.user_key {
            Verdict::Accept
        } else {
            Verdict::Refuse
        }
    }

    fn check_channel_open(&mut self, kind: &OpenKind) -> OpenVerdict {
        match kind {
            OpenKind::Session => OpenVerdict::Accept,
            _ => OpenVerdict::refuse(),
        }
    }

    fn check_exec(&mut self, _: &Session, _: &[u8]) -> Option<Task> {
        Some(Box::new(|mut channel| {
            let mut buffer = [0; MESSAGE];
            loop {
                let len = match channel.read(&mut buffer) {
                    Ok(0) => return ExitStatus::Code(0),
                    Ok(len) => len,
                    Err(_) => return ExitStatus::Code(1),
                };
                if channel.write_all(&buffer[..len]).is_err() {
                    return ExitStatus::Code(1);
                }
            }
        }))
    }
}

pub(super) fn run(count: usize, messages: usize) -> io::Result<Duration> {
    let key = user_key()?.public().clone();
    let options = ServerOptions::new(server_config()?, move |_| Echo {
        user_key: key.clone(),
    });
    let server = Server::new(options).bind("127.0.0.1:0")?;
    let policy = HostKeyPolicy::key(host_key()?.public().clone());
    let client = Client::connect(server.address(), ClientOptions::new(policy))?;
    if !client.auth_public_key("user", user_key()?)?.success() {
        return Err(io::Error::other("permission denied"));
    }
    let mut shares: Vec<Vec<Child>> = (0..UNDER_WAY).map(|_| Vec::new()).collect();
    for index in 0..count {
        let mut child = client.exec("echo").spawn()?;
        turn(&mut child)?;
        shares[index % UNDER_WAY].push(child);
    }
    let began = used();
    thread::scope(|scope| {
        let threads: Vec<_> = shares
            .iter_mut()
            .map(|share| {
                scope.spawn(|| {
                    for index in 0..messages / UNDER_WAY {
                        let next = index % share.len();
                        turn(&mut share[next])?;
                    }
                    Ok(())
                })
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("a panic"))))
    })?;
    Ok(used() - began)
}

/// One message there and back.
fn turn(child: &mut Child) -> io::Result<()> {
    let mut buffer = [7; MESSAGE];
    let stdin = child.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
    stdin.write_all(&buffer)?;
    let stdout = child.stdout.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
    stdout.read_exact(&mut buffer)
}
