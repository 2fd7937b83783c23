//! Both ends on one thread with `ssh-tokio`.

use std::io;
use std::sync::Arc;

use ssh_tokio::ssh_proto::config::ServerConfig;
use ssh_tokio::ssh_proto::key::PublicKey;
use ssh_tokio::ssh_proto::{LoginAttempt, OpenKind};
use ssh_tokio::{
    Client, ClientOptions, ExitStatus, Handler, HostKeyPolicy, OpenVerdict, Server, ServerChannel,
    ServerOptions, Session, Task, Verdict,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

use super::{Login, Pings};

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

pub(super) fn client(login: Login, mut pings: Pings) -> io::Result<()> {
    runtime()?.block_on(async {
        let options = ClientOptions::new(HostKeyPolicy::AcceptAny);
        let client = Client::connect_spawn(login.address, options).await?;
        if !client
            .auth_public_key(&login.user, login.key)
            .await?
            .success()
        {
            return Err(io::Error::other("permission denied"));
        }
        let child = client.exec("cat").spawn().await?;
        let (Some(mut to), Some(mut from)) = (child.stdin, child.stdout) else {
            return Err(io::Error::other("no streams"));
        };
        let mut byte = [7; 1];
        loop {
            pings.send();
            to.write_all(&byte).await?;
            from.read_exact(&mut byte).await?;
            if pings.receive() {
                pings.report();
                return Ok(());
            }
        }
    })
}

struct Granter {
    user_key: Arc<PublicKey>,
}

impl Handler for Granter {
    async fn check_key_offer(&mut self, _: &str, key: &PublicKey) -> bool {
        *key == *self.user_key
    }

    async fn check_auth_public_key(&mut self, _: &LoginAttempt, key: &PublicKey) -> Verdict {
        if *key == *self.user_key {
            Verdict::Accept
        } else {
            Verdict::Refuse
        }
    }

    async fn check_channel_open(&mut self, kind: &OpenKind) -> OpenVerdict {
        match kind {
            OpenKind::Session => OpenVerdict::Accept,
            _ => OpenVerdict::refuse(),
        }
    }

    async fn check_exec(&mut self, _: &Session, command: &[u8]) -> Option<Task> {
        (command == b"cat").then(|| Task::new(cat))
    }
}

async fn cat(mut channel: ServerChannel) -> ExitStatus {
    let mut bytes = [0; 4096];
    while let Ok(len) = channel.read(&mut bytes).await
        && len > 0
    {
        if channel.write_all(&bytes[..len]).await.is_err() {
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
    runtime()?.block_on(async {
        let server = Server::new(options).bind("127.0.0.1:0").await?;
        println!("listening on {}", server.address());
        server.wait().await;
        Ok(())
    })
}
