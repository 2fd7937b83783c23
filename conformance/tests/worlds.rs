//! Worlds of the first seeds. `conformance/worlds N` runs more.

use std::sync::{Mutex, PoisonError};

use conformance::world;

meter::count_heap!();

/// The heap is counted for the whole process.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn every_world_comes_to_rest_with_nothing_lost() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // What is made once.
    _ = world::run(0);
    let mut alive = 0;
    for seed in 0..150 {
        match world::run(seed) {
            Ok(outcome) => alive += u32::from(outcome.ended.is_none() && outcome.read > 0),
            Err(text) => panic!("{text}"),
        }
    }
    assert!(alive > 100, "most worlds live on and move data: {alive}");
}

#[test]
fn the_same_seed_makes_the_same_world() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // The hash of all that was sent among it.
    for seed in 200..230 {
        assert_eq!(world::run(seed), world::run(seed));
    }
}
