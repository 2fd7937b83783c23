//! The state machine alone, on a network in memory that cuts at will.

use std::sync::Arc;
use std::time::Instant;

use conformance::pair::user_key;
use conformance::wire::{Direction, Network};
use ssh_proto::{Client, Connection, Credential, Input, Role, Seed, Server};

use super::talk::{Echo, Talker};
use super::{Alone, client_config, server_config};

#[test]
fn nobody_waits_for_a_deaf_channel_of_the_state_machine() {
    for network in [Network::Whole, Network::Random(7)] {
        let alone = Alone::new();
        let now = Instant::now();
        let mut client = Client::new(Arc::new(client_config()), Seed::new([1; 32]), now);
        let mut server = Server::new(Arc::new(server_config()), Seed::new([2; 32]), now);
        client
            .authenticate("user", Credential::public_key(user_key()), now)
            .unwrap();
        let (mut talker, mut echo) = (Talker::default(), Echo::default());
        let [mut up, mut down] = network.pair();
        let mut spares = [Input::new(), Input::new()];
        let (mut heard, mut peak) = (false, 0);
        while !talker.is_through() {
            let mut any = carry(&mut client, &mut server, &mut *up, &mut spares[0], now);
            while let Some(event) = server.poll_event() {
                any = true;
                echo.event(&mut server, event, now);
            }
            any |= carry(&mut server, &mut client, &mut *down, &mut spares[1], now);
            while let Some(event) = client.poll_event() {
                any = true;
                talker.event(&mut client, event, now);
            }
            alone.check(&mut peak);
            if talker.free_are_through() && !heard {
                assert_eq!(talker.deaf_done, 0);
                heard = true;
                talker.hear(&mut client);
                echo.hear(&mut server);
            } else {
                assert!(any, "{} are through, and nothing moves", talker.free_done);
            }
        }
        println!(
            "{network:?}: {peak} bytes in use at the most, {} rekeys",
            talker.rekeyed
        );
        assert!(talker.rekeyed >= 8, "{}", talker.rekeyed);
    }
}

fn carry(
    from: &mut Connection<impl Role>,
    to: &mut Connection<impl Role>,
    wire: &mut dyn Direction,
    spare: &mut Input,
    now: Instant,
) -> bool {
    let sent = wire.send(from.output(), now);
    from.consume_output(sent);
    let mut received = 0;
    match to.take_input(std::mem::take(spare)) {
        Ok(mut input) => {
            received = wire.receive(input.unfilled(), now);
            input.advance(received);
            *spare = to.handle_input(input, now).unwrap_or_default();
        }
        Err(kept) => *spare = kept,
    }
    sent > 0 || received > 0
}
