//! Both ends on one thread with `ssh-tokio`, over a loopback socket: a task for each channel of the server, a task for each
//! message under way of the client.

use std::io;
use std::time::Duration;

use ssh_tokio::ssh_proto::key::PublicKey;
use ssh_tokio::ssh_proto::{LoginAttempt, OpenKind};
use ssh_tokio::{
    Child, Client, ClientOptions, ExitStatus, Handler, HostKeyPolicy, OpenVerdict, Server,
    ServerOptions, Session, Task, Verdict,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::{MESSAGE, UNDER_WAY, host_key, server_config, used, user_key};

struct Echo {
    user_key: PublicKey,
}

impl Handler for Echo {
    async fn check_key_offer(&mut self, _: &str, key: &PublicKey) -> bool {
        *key == self.user_key
    }

    async fn check_auth_public_key(&mut self, _: &LoginAttempt, key: &PublicKey) -> Verdict {
        if *key == self.user_key {
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

    async fn check_exec(&mut self, _: &Session, _: &[u8]) -> Option<Task> {
        Some(Task::new(async |mut channel| {
            let mut buffer = [0; MESSAGE];
            loop {
                let len = match channel.read(&mut buffer).await {
                    Ok(0) => return ExitStatus::Code(0),
                    Ok(len) => len,
                    Err(_) => return ExitStatus::Code(1),
                };
                if channel.write_all(&buffer[..len]).await.is_err() {
                    return ExitStatus::Code(1);
                }
            }
        }))
    }
}

pub(super) fn run(count: usize, messages: usize) -> io::Result<Duration> {
    let runtime = tokio::runtime::Builder::new_current_thread();
    runtime_of(runtime)?.block_on(talk(count, messages))
}

fn runtime_of(mut builder: tokio::runtime::Builder) -> io::Result<tokio::runtime::Runtime> {
    builder.enable_all().build()
}

async fn talk(count: usize, messages: usize) -> io::Result<Duration> {
    let key = user_key()?.public().clone();
    let options = ServerOptions::new(server_config()?, move |_| Echo {
        user_key: key.clone(),
    });
    let server = Server::new(options).bind("127.0.0.1:0").await?;
    let policy = HostKeyPolicy::key(host_key()?.public().clone());
    let client = Client::connect_spawn(server.address(), ClientOptions::new(policy)).await?;
    if !client.auth_public_key("user", user_key()?).await?.success() {
        return Err(io::Error::other("permission denied"));
    }
    let mut shares: Vec<Vec<Child>> = (0..UNDER_WAY).map(|_| Vec::new()).collect();
    for index in 0..count {
        let mut child = client.exec("echo").spawn().await?;
        turn(&mut child).await?;
        shares[index % UNDER_WAY].push(child);
    }
    let began = used();
    let mut tasks = JoinSet::new();
    for mut share in shares {
        tasks.spawn(async move {
            let mut next = 0;
            for _ in 0..messages / UNDER_WAY {
                turn(&mut share[next]).await?;
                next = (next + 1) % share.len();
            }
            Ok::<_, io::Error>(share)
        });
    }
    let mut shares = Vec::new();
    while let Some(share) = tasks.join_next().await {
        shares.push(share??);
    }
    Ok(used() - began)
}

/// One message there and back.
async fn turn(child: &mut Child) -> io::Result<()> {
    let mut buffer = [7; MESSAGE];
    let stdin = child.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
    stdin.write_all(&buffer).await?;
    let stdout = child.stdout.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
    stdout.read_exact(&mut buffer).await?;
    Ok(())
}
