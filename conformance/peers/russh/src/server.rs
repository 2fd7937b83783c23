//! A server with four commands in the process (`echo TEXT`, `cat`, `source BYTES`, `sink`); any other is run by a shell.

use std::collections::HashMap;
use std::io::{self, Write};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use russh::keys::{PublicKey, load_secret_key};
use russh::server::{
    self, Auth, ChannelOpenHandle, Msg, PublicKeyOffer, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId, ChannelMsg, ChannelWriteHalf};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::Failure;
use crate::common::{Options, more_descriptors};
use crate::pump;

/// The pipes of a command hold so much, as with our servers.
const PIPE_LEN: usize = 256 * 1024;
/// What `source` sends at a time.
const SOURCE_LEN: usize = 32 * 1024;
/// RFC 4254 section 5.2: SSH_EXTENDED_DATA_STDERR.
const STDERR: u32 = 1;

pub(crate) async fn run(options: Options) -> Result<ExitCode, Failure> {
    more_descriptors()?;
    let mut keys = Vec::new();
    for path in &options.host_keys {
        keys.push(load_secret_key(path, None)?);
    }
    if keys.is_empty() {
        return Err("--host-key is missing".into());
    }
    let path = options.authorized_keys.as_ref();
    let text = std::fs::read_to_string(path.ok_or("--authorized-keys is missing")?)?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let authorized = lines
        .map(PublicKey::from_openssh)
        .collect::<Result<_, _>>()?;
    let authorized: Arc<Vec<PublicKey>> = Arc::new(authorized);
    let config = Arc::new(server::Config {
        keys,
        preferred: options.preferred(),
        inactivity_timeout: None,
        nodelay: true,
        ..server::Config::default()
    });
    let listener = TcpListener::bind(("127.0.0.1", options.port)).await?;
    println!("listening on {}", listener.local_addr()?);
    io::stdout().flush()?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let config = Arc::clone(&config);
        let user = User {
            authorized: Arc::clone(&authorized),
            channels: HashMap::new(),
        };
        tokio::spawn(async move {
            let ended = match server::run_stream(config, stream, user).await {
                Ok(session) => session.await,
                Err(error) => Err(error),
            };
            match ended {
                // Clients end as they like.
                Ok(()) | Err(russh::Error::IO(_) | russh::Error::Disconnect) => {}
                Err(error) => eprintln!("russh-peer: a connection ended: {error}"),
            }
        });
    }
}

/// One connection.
struct User {
    authorized: Arc<Vec<PublicKey>>,
    /// Those without a command.
    channels: HashMap<ChannelId, Channel<Msg>>,
}

impl User {
    fn verdict(&self, key: &PublicKey) -> Auth {
        let known = |other: &PublicKey| other.key_data() == key.key_data();
        if self.authorized.iter().any(known) {
            Auth::Accept
        } else {
            Auth::reject()
        }
    }
}

impl server::Handler for User {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        _: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, russh::Error> {
        Ok(self.verdict(offer.public_key))
    }

    async fn auth_publickey(
        &mut self,
        _: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, russh::Error> {
        Ok(self.verdict(key.public_key))
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        self.channels.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        id: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let Some(channel) = self.channels.remove(&id) else {
            return session.channel_failure(id);
        };
        session.channel_success(id)?;
        let command = String::from_utf8_lossy(command).into_owned();
        tokio::spawn(async move {
            let (input, output) = channel.split();
            let status = match execute(&command, input, &output).await {
                Ok(status) => status,
                Err(error) => {
                    eprintln!("russh-peer: {command}: {error}");
                    255
                }
            };
            // An error means that the channel is gone already.
            _ = output.exit_status(status).await;
            _ = output.eof().await;
            _ = output.close().await;
        });
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Session) -> Result<(), russh::Error> {
        self.channels.remove(&id);
        Ok(())
    }
}

type Input = russh::ChannelReadHalf;
type Output = ChannelWriteHalf<Msg>;

/// Runs a command. What it returns is the exit status.
async fn execute(command: &str, mut input: Input, output: &Output) -> Result<u32, Failure> {
    let (name, rest) = command.split_once(' ').unwrap_or((command, ""));
    match name {
        "echo" => output.data_bytes(format!("{rest}\n").into_bytes()).await?,
        "cat" => {
            while let Some(message) = input.wait().await {
                match message {
                    ChannelMsg::Data { data } => output.data_bytes(data).await?,
                    ChannelMsg::Eof => break,
                    _ => {}
                }
            }
        }
        "source" => {
            let mut left: u64 = rest.parse()?;
            let zeros = Bytes::from(vec![0; SOURCE_LEN]);
            while left > 0 {
                let len = usize::try_from(left).unwrap_or(usize::MAX).min(SOURCE_LEN);
                output.data_bytes(zeros.slice(..len)).await?;
                left -= len as u64;
            }
        }
        "sink" => {
            while let Some(message) = input.wait().await {
                if matches!(message, ChannelMsg::Eof) {
                    break;
                }
            }
        }
        _ => return shell(command, input, output).await,
    }
    Ok(0)
}

async fn shell(command: &str, mut input: Input, output: &Output) -> Result<u32, Failure> {
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (Some(mut stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err("no pipes".into());
    };
    rustix::pipe::fcntl_setpipe_size(&stdin, PIPE_LEN)?;
    rustix::pipe::fcntl_setpipe_size(&stdout, PIPE_LEN)?;
    let feed = tokio::spawn(async move {
        while let Some(message) = input.wait().await {
            match message {
                // The command may end without having read everything.
                ChannelMsg::Data { data } if stdin.write_all(&data).await.is_err() => break,
                ChannelMsg::Eof => break,
                _ => {}
            }
        }
    });
    let (sent, told) = tokio::join!(
        pump::send(stdout, output, None),
        pump::send(stderr, output, Some(STDERR))
    );
    let status = child.wait().await?;
    feed.abort();
    sent?;
    told?;
    Ok(status.code().map_or(255, i32::cast_unsigned))
}
