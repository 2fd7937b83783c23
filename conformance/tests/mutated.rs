//! A sample of mutated recordings. `conformance/mutated N` plays more.

#[path = "../src/bin/mutated/mutants.rs"]
mod mutants;

use mutants::Recordings;

meter::count_heap!();

/// One test: the heap is counted for the whole process.
#[test]
fn no_change_of_what_a_peer_sent_costs_more_than_it_may() {
    let recordings = Recordings::read();
    let (all, count) = (recordings.count(), 2_000);
    let first = recordings.mutant(0).expect("a mutant");
    _ = recordings.play(&first);
    let mut ended = 0;
    for i in 0..count {
        let mutant = recordings.mutant(i * all / count).expect("a mutant");
        assert_eq!(recordings.find(&mutant.to_string()), Some(mutant.clone()));
        match recordings.play(&mutant) {
            Ok(over) => ended += u64::from(over),
            Err(text) => panic!("{text}"),
        }
    }
    // Cut recordings go on to wait; nearly all others end.
    assert!(ended > count / 2, "{ended} of {count}");
}
