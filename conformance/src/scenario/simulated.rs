//! Both sides as bare cores on a network in memory (or a loopback socket), in one thread, with a clock of their own.

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use ssh_proto::key::KeyKind;
use ssh_proto::{Client, ClientConfig, Input, Seed, Server, ServerConfig};

use super::hub::Hub;
use super::script::{Scenario, Who};
use super::side::Side;
use super::world::World;
use crate::pair::{carry, host_key};
use crate::wire::{Direction, Network, loopback};

/// The networks that a scenario is simulated on; `None` is a real loopback socket.
pub const NETWORKS: [Option<Network>; 6] = [
    Some(Network::Whole),
    Some(Network::Pieces(1)),
    Some(Network::Pieces(1_000)),
    Some(Network::Random(5)),
    Some(Network::Delayed(Duration::from_millis(50))),
    None,
];

/// The configurations of a scenario.
pub(super) fn configurations(scenario: &Scenario) -> (ClientConfig, ServerConfig) {
    let mut client = ClientConfig::new();
    let mut server = ServerConfig::new(vec![host_key(KeyKind::Ed25519)]);
    // Nobody guesses here.
    server.failure_delay = Duration::from_millis(1);
    (scenario.configure)(&mut client, &mut server);
    (client, server)
}

/// Plays a scenario; what both sides saw. Panics when it hangs.
pub fn simulate(scenario: &Scenario, network: Option<Network>) -> Vec<String> {
    let scenario = Arc::new(scenario.clone());
    let (client, server) = configurations(&scenario);
    let world = Arc::new(World::default());
    let side = |who| Side::new(who, Arc::clone(&scenario), Arc::clone(&world));
    let sides = [side(Who::Client), side(Who::Server)];
    let now = Instant::now();
    let [to_server, to_client] = network.map_or_else(loopback, Network::pair);
    let mut simulation = Simulation {
        client: Client::new(Arc::new(client), Seed::new([1; 32]), now),
        server: Server::new(Arc::new(server), Seed::new([2; 32]), now),
        // The loop turns anyway.
        client_hub: Hub::new(Arc::clone(&sides[0]), Waker::noop().clone()),
        server_hub: Hub::new(Arc::clone(&sides[1]), Waker::noop().clone()),
        to_server,
        to_client,
        spare: [Input::new(), Input::new()],
        world,
        now,
        ended: [false; 2],
    };
    simulation.run();
    sides.iter().flat_map(|side| side.log().lines()).collect()
}

struct Simulation {
    client: Client,
    server: Server,
    client_hub: Hub<ssh_proto::ClientRole>,
    server_hub: Hub<ssh_proto::ServerRole>,
    to_server: Box<dyn Direction>,
    to_client: Box<dyn Direction>,
    spare: [Input; 2],
    world: Arc<World>,
    now: Instant,
    /// The client, and the server, were told that nothing more comes.
    ended: [bool; 2],
}

impl Simulation {
    fn run(&mut self) {
        let end = self.now + Duration::from_secs(600);
        while !(self.client_hub.is_done() && self.server_hub.is_done()) {
            if self.turn() {
                continue;
            }
            if self.to_server.may_hold_more() || self.to_client.may_hold_more() {
                std::thread::yield_now();
                continue;
            }
            let Some(next) = self.next_time().filter(|next| *next <= end) else {
                panic!("nothing moves any more:\n{}", self.world.report());
            };
            self.now = self.now.max(next);
            self.client.handle_timeout(self.now);
            self.server.handle_timeout(self.now);
        }
    }

    fn turn(&mut self) -> bool {
        let mut any = self.client_hub.turn(&mut self.client, self.now);
        any |= self.server_hub.turn(&mut self.server, self.now);
        let (client, server) = (&mut self.client, &mut self.server);
        if !self.world.is_cut() {
            let [to_server, to_client] = &mut self.spare;
            any |= carry(client, server, &mut *self.to_server, to_server, self.now);
            any |= carry(server, client, &mut *self.to_client, to_client, self.now);
        }
        // What is said to who has hung up is heard by nobody.
        let mut lost = [0; 4_096];
        while client.closed().is_some() && self.to_client.receive(&mut lost, self.now) > 0 {}
        while server.closed().is_some() && self.to_server.receive(&mut lost, self.now) > 0 {}
        let through = |wire: &dyn Direction| wire.next_arrival().is_none() && !wire.may_hold_more();
        let server_hears_no_more = self.world.is_cut()
            || client.closed().is_some() && client.output().is_empty() && through(&*self.to_server);
        let client_hears_no_more = self.world.is_cut()
            || server.closed().is_some() && server.output().is_empty() && through(&*self.to_client);
        if client_hears_no_more && !std::mem::replace(&mut self.ended[0], true) {
            client.handle_eof(self.now);
            any = true;
        }
        if server_hears_no_more && !std::mem::replace(&mut self.ended[1], true) {
            server.handle_eof(self.now);
            any = true;
        }
        any
    }

    fn next_time(&self) -> Option<Instant> {
        [
            self.to_server.next_arrival(),
            self.to_client.next_arrival(),
            self.client.poll_timeout(),
            self.server.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
