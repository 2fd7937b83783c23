//! Inputs that nobody chose: a fixed number of them for each target, the same every time.

meter::count_heap!();

/// SplitMix64.
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn input(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let len = draw(&mut state) % 600;
    (0..len)
        .map(|_| {
            let byte = (draw(&mut state) >> 32) as u8;
            // Small numbers are more often meant than others.
            if draw(&mut state).is_multiple_of(2) {
                byte % 16
            } else {
                byte
            }
        })
        .collect()
}

#[test]
fn no_target_fails_on_random_inputs() {
    let count = std::env::var("FUZZ_INPUTS").map_or(300, |count| count.parse().expect("a number"));
    for (name, target) in fuzz::TARGETS {
        for seed in 0..count {
            let data = input(seed);
            if let Err(text) = fuzz::harness::run(*target, &data) {
                panic!("{name} fails on the input of seed {seed}: {text}: {data:02x?}");
            }
        }
    }
}
