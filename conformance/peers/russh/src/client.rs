//! One command: standard input to the channel, the channel to standard output.

use std::io::{self, Write};
use std::process::ExitCode;

use russh::ChannelMsg;

use crate::Failure;
use crate::common::Options;
use crate::pump::{self, Output};

pub(crate) async fn run(options: Options) -> Result<ExitCode, Failure> {
    let login = options.client()?;
    let command = options.values.get(1).ok_or("COMMAND is missing")?;
    let client = login.connect().await?;
    let channel = client.channel_open_session().await?;
    channel.exec(true, command.as_encoded_bytes()).await?;
    let (mut input, output) = channel.split();
    let stdin = pump::stdin()?;
    tokio::spawn(async move {
        if pump::send(stdin, &output, None).await.is_ok() {
            _ = output.eof().await;
        }
    });
    let mut stdout = Output::new(io::stdout())?;
    let mut code = None;
    while let Some(message) = input.wait().await {
        match message {
            ChannelMsg::Data { data } => stdout.write_all(&data).await?,
            ChannelMsg::ExtendedData { data, .. } => io::stderr().write_all(&data)?,
            ChannelMsg::ExitStatus { exit_status } => code = Some(exit_status),
            ChannelMsg::Failure => return Err("the command was refused".into()),
            _ => {}
        }
    }
    // Standard input may still be open.
    std::process::exit(code.map_or(255, |code| i32::try_from(code).unwrap_or(255)));
}
