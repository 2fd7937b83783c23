//! Both ends on one thread with `ssh-tokio`.

use std::io;
use std::sync::Arc;

use ssh_tokio::ssh_proto::config::ServerConfig;
use ssh_tokio::ssh_proto::key::PublicKey;
use ssh_tokio::ssh_proto::{LoginAttempt, OpenKind};
use ssh_tokio::{
    Client, ClientOptions, ExitStatus, Handler, HostKeyPolicy, OpenVerdict, Server, ServerOptions,
    Session, Task, Verdict,
};
use tokio::io::AsyncWriteExt;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use super::{ANSWER, AT_ONCE, COMMAND, Login, share};

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

struct Answerer {
    user_key: Arc<PublicKey>,
}

impl Handler for Answerer {
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
        (command == COMMAND.as_bytes()).then(|| {
            Task::new(async |mut channel| match channel.write_all(ANSWER).await {
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
    runtime()?.block_on(async {
        let server = Server::new(options).bind("127.0.0.1:0").await?;
        println!("listening on {}", server.address());
        server.wait().await;
        Ok(())
    })
}

pub(super) fn client(login: &Arc<Login>, count: usize) -> io::Result<()> {
    let config = Arc::new(login.config.clone());
    runtime()?.block_on(async {
        let mut tasks = JoinSet::new();
        for index in 0..AT_ONCE {
            let (login, config) = (Arc::clone(login), Arc::clone(&config));
            tasks.spawn(async move {
                for _ in 0..share(count, index) {
                    let options = ClientOptions::new(HostKeyPolicy::AcceptAny);
                    one(&login, options.config(Arc::clone(&config))).await?;
                }
                Ok::<_, io::Error>(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok(())
    })
}

async fn one(login: &Login, options: ClientOptions) -> io::Result<()> {
    let (client, driver) = Client::connect(login.address, options).await?;
    let driver = driver.spawn();
    let key = Arc::clone(&login.key);
    if !client.auth_public_key(&login.user, key).await?.success() {
        return Err(io::Error::other("permission denied"));
    }
    let output = client.exec(COMMAND).output().await?;
    if output.stdout != ANSWER {
        return Err(io::Error::other("another answer"));
    }
    drop(client);
    Ok(driver.await??)
}
