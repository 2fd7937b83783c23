//! The state machine alone: what one end has to say is handed to the other.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ssh_mio::ssh_proto::config::ClientConfig;
use ssh_mio::ssh_proto::{Client, Connection, Credential, Input, Role, Server};

use super::talk::{Echo, Talker};
use super::{server_config, user_key};

pub(super) fn run(count: usize, messages: usize) -> io::Result<Duration> {
    let now = Instant::now();
    let mut client = Client::new(Arc::new(ClientConfig::new()), ssh_mio::seed()?, now);
    let mut server = Server::new(Arc::new(server_config()?), ssh_mio::seed()?, now);
    let credential = Credential::public_key(user_key()?);
    client
        .authenticate("user", credential, now)
        .map_err(io::Error::other)?;
    let mut talker = Talker::new(count, messages)?;
    let echo = Echo::new()?;
    let mut spares = [Input::new(), Input::new()];
    loop {
        if let Some(cost) = talker.cost {
            return Ok(cost);
        }
        carry(&mut client, &mut server, &mut spares[0]);
        while let Some(event) = server.poll_event() {
            echo.event(&mut server, event)?;
        }
        carry(&mut server, &mut client, &mut spares[1]);
        let now = Instant::now();
        while let Some(event) = client.poll_event() {
            talker.event(&mut client, event, now)?;
        }
    }
}

/// What one read and one write would move.
fn carry(from: &mut Connection<impl Role>, to: &mut Connection<impl Role>, spare: &mut Input) {
    if let Some(back) = to.reclaim_input() {
        *spare = back;
    }
    match to.take_input(std::mem::take(spare)) {
        Ok(mut input) => {
            let (output, room) = (from.output(), input.unfilled());
            let len = output.len().min(room.len());
            room[..len].copy_from_slice(&output[..len]);
            input.advance(len);
            from.consume_output(len);
            *spare = to.handle_input(input, Instant::now()).unwrap_or_default();
        }
        Err(back) => *spare = back,
    }
}
