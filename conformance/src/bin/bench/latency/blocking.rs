//! Both ends with `ssh-blocking`: a byte passes a thread of the connection and one that waits for it.

use std::io::{self, Read, Write};
use std::sync::Arc;

use ssh_blocking::ssh_proto::config::ServerConfig;
use ssh_blocking::ssh_proto::key::PublicKey;
use ssh_blocking::ssh_proto::{LoginAttempt, OpenKind};
use ssh_blocking::{
    Client, ClientOptions, ExitStatus, Handler, HostKeyPolicy, OpenVerdict, Server, ServerChannel,
    ServerOptions, Session, Task, Verdict,
};

use super::{Login, Pings};

pub(super) fn client(login: Login, mut pings: Pings) -> io::Result<()> {
    let client = Client::connect(login.address, ClientOptions::new(HostKeyPolicy::AcceptAny))?;
    if !client.auth_public_key(&login.user, login.key)?.success() {
        return Err(io::Error::other("permission denied"));
    }
    let child = client.exec("cat").spawn()?;
    let (Some(mut to), Some(mut from)) = (child.stdin, child.stdout) else {
        return Err(io::Error::other("no streams"));
    };
    let mut byte = [7; 1];
    loop {
        pings.send();
        to.write_all(&byte)?;
        from.read_exact(&mut byte)?;
        if pings.receive() {
            pings.report();
            return Ok(());
        }
    }
}

struct Granter {
    user_key: Arc<PublicKey>,
}

impl Handler for Granter {
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
        (command == b"cat").then(|| -> Task { Box::new(cat) })
    }
}

fn cat(mut channel: ServerChannel) -> ExitStatus {
    let mut bytes = [0; 4096];
    while let Ok(len) = channel.read(&mut bytes)
        && len > 0
    {
        if channel.write_all(&bytes[..len]).is_err() {
            return ExitStatus::Code(1);
        }
    }
    ExitStatus::Code(0)
}

pub(super) fn server(config: ServerConfig, user_key: PublicKey) -> io::Result<()> {
    let user_key = Arc::new(user_key);
    let options = ServerOptions::new(config, move |_| Granter {
        user_key: Arc::clone(&user_key),
    });
    let server = Server::new(options).bind("127.0.0.1:0")?;
    println!("listening on {}", server.address());
    server.wait();
    Ok(())
}
