//! Random sessions, replayed.

use super::world::World;
use super::{replay, start};
use crate::replay::{Player, Trace};
use proptest::prelude::*;
use std::collections::BTreeSet;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_random_session_replays_byte_for_byte_on_both_sides(seed: u64, steps in 1_usize..3_000) {
        let mut world = World::new(seed);
        world.run(steps);
        for (text, sent) in world.end() {
            prop_assert_eq!(replay(&text), sent.len() as u64);
            let output: Vec<u8> = Trace::parse(&text)
                .unwrap()
                .steps()
                .iter()
                .flat_map(|step| step.output().to_vec())
                .collect();
            prop_assert_eq!(output, sent);
        }
    }
}

#[test]
fn random_sessions_have_every_command() {
    let mut seen = BTreeSet::new();
    for seed in 0..24 {
        let mut world = World::new(seed);
        world.run(4_000);
        for (text, _) in world.end() {
            let trace = Trace::parse(&text).unwrap();
            for step in trace.steps() {
                let command = step.command();
                seen.insert(command.split(' ').next().unwrap().to_owned());
            }
        }
    }
    let all: BTreeSet<String> = crate::replay::Command::WORDS
        .iter()
        .map(|word| (*word).to_owned())
        .collect();
    assert_eq!(seen, all);
}

#[test]
fn log_records_of_a_replay_show_every_packet_and_change_no_byte() {
    let mut world = World::new(11);
    world.run(2_000);
    for (text, sent) in world.end() {
        let trace = Trace::parse(&text).unwrap();
        let level = crate::log::LogLevel::Packet;
        let mut player = Player::with_log(&trace, start(), level, true);
        let mut packets = 0;
        while player.step().unwrap().is_some() {
            packets += std::iter::from_fn(|| player.poll_log())
                .filter(|record| record.text.starts_with("sent message"))
                .count();
        }
        assert!(packets > 10, "{packets}");
        assert_eq!(player.output_len(), sent.len() as u64);
    }
}
