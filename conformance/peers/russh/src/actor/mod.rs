//! `russh-peer actor`: russh as a client and as a server, commanded by the interoperability tests; `../control.py` has the form.

mod accounts;
mod client;
mod options;
mod server;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::Failure;

/// How long anything may take.
const TIME: Duration = Duration::from_secs(60);

/// How many messages of a channel may wait. When they are that many, russh reads nothing any more, not even the peer's KEXINIT while
/// its own waits for it: with its 100 an echo that both sides are in the middle of may never go on. No test sends as many.
const BUFFER_SIZE: usize = 10_000;

/// The fields of a command, or of an answer.
pub(crate) struct Fields(BTreeMap<String, String>);

impl Fields {
    fn new<const N: usize>(fields: [(&str, String); N]) -> Self {
        Self(fields.map(|(name, value)| (name.to_owned(), value)).into())
    }

    /// A field's value; empty where there is none.
    fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// A field's value where it is not empty.
    fn some(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, Failure> {
        let text = self.text(name);
        text.parse()
            .map_err(|_| format!("{name} is {text:?}").into())
    }

    /// The members of a list: one to a line.
    fn members(&self, name: &str) -> Vec<String> {
        let members = self.some(name).map(|text| text.split('\n'));
        members.into_iter().flatten().map(str::to_owned).collect()
    }

    /// The members of a list of lists; a line may be empty, and then so is its list.
    fn rows(&self, name: &str) -> Vec<Vec<String>> {
        let row = |line: &str| {
            let cells = line.split('\t').map(str::to_owned);
            if line.is_empty() {
                Vec::new()
            } else {
                cells.collect()
            }
        };
        self.text(name).split('\n').map(row).collect()
    }

    fn parse(query: &str) -> Self {
        Self(
            query
                .split('&')
                .filter_map(|field| field.split_once('='))
                .map(|(name, value)| (name.to_owned(), decode(value)))
                .collect(),
        )
    }

    fn to_query(&self) -> String {
        let fields: Vec<_> = self
            .0
            .iter()
            .map(|(name, value)| format!("{name}={}", encode(value)))
            .collect();
        fields.join("&")
    }
}

fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

fn decode(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let value = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        rest = after;
        if let (b'%', Some(value)) = (byte, value) {
            bytes.push(value);
            rest = &after[2..];
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Joins a channel and a TCP connection until both directions have ended.
async fn pump<S>(channel: russh::Channel<S>, mut connection: TcpStream)
where
    S: From<(russh::ChannelId, russh::ChannelMsg)> + Send + Sync + 'static,
{
    // It fails when one side goes away in the middle; then so does the other.
    _ = copy_bidirectional(&mut channel.into_stream(), &mut connection).await;
}

pub(crate) async fn run() -> Result<ExitCode, Failure> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    // The version is that of the lock file.
    let lock = include_str!("../../Cargo.lock");
    let version = lock
        .split_once("name = \"russh\"\nversion = \"")
        .and_then(|(_, rest)| rest.split('"').next())
        .unwrap_or("unknown");
    println!("ready {} {version}", listener.local_addr()?.port());
    io::stdout().flush()?;
    std::thread::spawn(|| {
        // The tests have ended, however they did.
        _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            if let Err(error) = control(stream).await {
                eprintln!("russh-peer: {error}");
            }
        });
    }
}

/// One control connection: a client, or a server with its connections.
async fn control(stream: TcpStream) -> Result<(), Failure> {
    let mut stream = BufReader::new(stream);
    let (mut client, mut server) = (None, None);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        let (command, query) = line.trim_end().split_once('?').unwrap_or((&line, ""));
        let fields = Fields::parse(query);
        let done = async {
            match (command, &mut client) {
                ("serve", _) => {
                    let (started, fields) = server::start(&fields).await?;
                    server = Some(started);
                    Ok(fields)
                }
                ("connect", _) => {
                    let (connected, fields) = client::connect(&fields).await?;
                    client = Some(connected);
                    Ok(fields)
                }
                (command, Some(client)) => client.command(command, &fields).await,
                (command, None) => Err(format!("no client for {command}").into()),
            }
        };
        let answer = match tokio::time::timeout(TIME, done).await {
            Ok(Ok(fields)) => format!("ok?{}\n", fields.to_query()),
            Ok(Err(error)) => failure(&error),
            Err(elapsed) => failure(&elapsed.into()),
        };
        stream.write_all(answer.as_bytes()).await?;
        line.clear();
    }
    drop(server);
    Ok(())
}

fn failure(error: &Failure) -> String {
    let fields = Fields::new([("message", error.to_string())]);
    format!("error?{}\n", fields.to_query())
}
