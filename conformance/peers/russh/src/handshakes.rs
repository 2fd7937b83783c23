//! Connections that run one command each, 32 at a time.

use std::io::Read;
use std::process::ExitCode;

use russh::{ChannelMsg, Disconnect};
use tokio::task::JoinSet;

use crate::Failure;
use crate::common::{Login, Options};

const AT_ONCE: usize = 32;

/// Before those that count.
const WARM_UP: usize = 4 * AT_ONCE;

/// Warms up, waits for a line, makes the connections, waits for the end of its input.
pub(crate) async fn run(options: Options) -> Result<ExitCode, Failure> {
    let login = options.client()?;
    let count = options.values.get(1).and_then(|value| value.to_str());
    let count: usize = count.ok_or("COUNT is missing")?.parse()?;
    let command = options.values.get(2).ok_or("COMMAND is missing")?;
    let command = command.as_encoded_bytes().to_vec();
    make(&login, &command, WARM_UP).await?;
    println!("ready");
    std::io::stdin().read_exact(&mut [0])?;
    make(&login, &command, count).await?;
    println!("done");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(ExitCode::SUCCESS)
}

async fn make(login: &Login, command: &[u8], count: usize) -> Result<(), Failure> {
    let mut tasks = JoinSet::new();
    for index in 0..AT_ONCE {
        let (login, command) = (login.clone(), command.to_vec());
        let share = count / AT_ONCE + usize::from(index < count % AT_ONCE);
        tasks.spawn(async move {
            for _ in 0..share {
                one(&login, &command).await?;
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

async fn one(login: &Login, command: &[u8]) -> Result<(), Failure> {
    let client = login.connect().await?;
    let mut channel = client.channel_open_session().await?;
    channel.exec(true, command).await?;
    let mut received = 0;
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => received += data.len(),
            ChannelMsg::Failure => return Err("the command was refused".into()),
            _ => {}
        }
    }
    if received == 0 {
        return Err("no answer".into());
    }
    client.disconnect(Disconnect::ByApplication, "", "").await?;
    // The session's task ends when the connection is closed, by either end.
    match client.await {
        Ok(()) | Err(russh::Error::Disconnect) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
