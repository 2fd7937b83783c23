//! Connections that do nothing: each has logged in and has one open channel.
//!
//! Prints `ready`, waits for a line on standard input, makes the connections, at most 64 at a time, and prints
//! `connected`. Ends when its standard input ends, or when a connection does.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use tokio::task::JoinSet;

use crate::Failure;
use crate::common::{Options, more_descriptors};

const AT_ONCE: usize = 64;

pub(crate) async fn run(options: Options) -> Result<ExitCode, Failure> {
    more_descriptors()?;
    let login = options.client()?;
    let count = options.values.get(1).ok_or("COUNT is missing")?;
    let count: usize = count.to_string_lossy().parse()?;
    println!("ready");
    io::stdin().read_exact(&mut [0])?;
    std::thread::spawn(|| {
        let mut sink = [0; 64];
        while matches!(io::stdin().read(&mut sink), Ok(len) if len > 0) {}
        std::process::exit(0);
    });
    let mut connecting = JoinSet::new();
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        if connecting.len() == AT_ONCE
            && let Some(connection) = connecting.join_next().await
        {
            connections.push(connection??);
        }
        let login = login.clone();
        connecting.spawn(async move {
            let client = login.connect().await?;
            let channel = client.channel_open_session().await?;
            Ok::<_, Failure>((client, channel))
        });
    }
    while let Some(connection) = connecting.join_next().await {
        connections.push(connection??);
    }
    println!("connected");
    io::stdout().flush()?;
    // A handle is a future that is ready when its connection has ended.
    for (client, _channel) in connections {
        client.await?;
    }
    Err("the connections have ended".into())
}
