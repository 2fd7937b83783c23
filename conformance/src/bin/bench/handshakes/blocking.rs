//! Both ends with `ssh-blocking`: threads for each connection.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread;

use ssh_blocking::ssh_proto::config::ServerConfig;
use ssh_blocking::ssh_proto::key::PublicKey;
use ssh_blocking::ssh_proto::{LoginAttempt, OpenKind};
use ssh_blocking::{
    Client, ClientOptions, ExitStatus, Handler, HostKeyPolicy, OpenVerdict, Server, ServerOptions,
    Session, Task, Verdict,
};

use super::{ANSWER, AT_ONCE, COMMAND, Login, share};

struct Answerer {
    user_key: Arc<PublicKey>,
}

impl Handler for Answerer {
    fn check_key_offer(&mut self, _: &str, key: &PublicKey) -> bool {
        *key == *self.user_key
    }

    fn check_auth_public_key(&mut self, _: &LoginAttempt, key: &PublicKey) -> Verdict {
        if *key == *self.user_key {
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

    fn check_exec(&mut self, _: &Session, command: &[u8]) -> Option<Task> {
        (command == COMMAND.as_bytes()).then(|| -> Task {
            Box::new(|mut channel| match channel.write_all(ANSWER) {
                Ok(()) => ExitStatus::Code(0),
                Err(_) => ExitStatus::Code(1),
            })
        })
    }
}

pub(super) fn server(config: ServerConfig, user_key: PublicKey) -> io::Result<()> {
    let user_key = Arc::new(user_key);
    let options = ServerOptions::new(config, move |_| Answerer {
        user_key: Arc::clone(&user_key),
    });
    let server = Server::new(options).bind("127.0.0.1:0")?;
    println!("listening on {}", server.address());
    server.wait();
    Ok(())
}

pub(super) fn client(login: &Login, count: usize) -> io::Result<()> {
    let config = Arc::new(login.config.clone());
    thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE)
            .map(|index| {
                let config = &config;
                scope.spawn(move || {
                    (0..share(count, index)).try_for_each(|_| {
                        let options = ClientOptions::new(HostKeyPolicy::AcceptAny);
                        one(login, options.config(Arc::clone(config)))
                    })
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a panic")))
        })
    })
}

fn one(login: &Login, options: ClientOptions) -> io::Result<()> {
    let client = Client::connect(login.address, options)?;
    let key = Arc::clone(&login.key);
    if !client.auth_public_key(&login.user, key)?.success() {
        return Err(io::Error::other("permission denied"));
    }
    let output = client.exec(COMMAND).output()?;
    if output.stdout != ANSWER {
        return Err(io::Error::other("another answer"));
    }
    Ok(())
}
