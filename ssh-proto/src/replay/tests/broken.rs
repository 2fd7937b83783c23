//! Recordings that were cut, damaged or made up: an error, a difference, or another session; never a panic, and never more
//! memory than the text has.

use std::sync::OnceLock;

use super::scripted::{plain, session};
use super::world::Draw;
use super::{played, start};
use crate::key::KeyKind;
use crate::names::Kex;
use crate::replay::{Player, Trace};
use proptest::prelude::*;

fn texts() -> &'static [String; 4] {
    static TEXTS: OnceLock<[String; 4]> = OnceLock::new();
    TEXTS.get_or_init(|| {
        let [a, b] = plain();
        let [c, d] = session(
            Kex::MlKem768X25519Sha256,
            KeyKind::EcdsaNistp256,
            usize::MAX,
            |_, _, _| {},
        );
        [a, b, c, d]
    })
}

/// Reads and plays whatever it is.
fn try_it(text: &str) {
    if let Ok(trace) = Trace::parse(text) {
        assert!(Trace::parse(&trace.to_string()).is_ok());
        if let Err(divergence) = played(&trace) {
            assert!(divergence.step <= trace.steps().len());
            assert!(text.lines().nth(divergence.line - 1).is_some());
            assert!(!divergence.to_string().is_empty());
        }
    }
}

#[test]
fn a_recording_that_is_cut_behind_any_line_plays_as_far_as_it_goes() {
    for text in texts() {
        let first = text.find("\nnew\n").unwrap();
        for (at, _) in text.match_indices('\n') {
            match Trace::parse(&text[..at]) {
                Ok(trace) => {
                    assert!(at > first);
                    assert_eq!(trace.is_whole(), at + 1 == text.len());
                    let divergence = played(&trace).err();
                    // What is missing is the end of the last step, if anything.
                    let missing = divergence.is_some_and(|d| d.step != trace.steps().len());
                    assert!(!missing);
                }
                Err(error) => {
                    assert!(at <= first, "{error}");
                    assert_eq!(error.problem(), "it ends before the first step");
                }
            }
        }
    }
}

#[test]
fn a_recording_that_is_cut_anywhere_is_read_or_refused() {
    for text in texts() {
        for at in 0..text.len() {
            _ = Trace::parse(&text[..at]);
        }
    }
}

#[test]
fn a_damaged_byte_of_output_is_always_noticed() {
    let [text, ..] = texts();
    let mut draw = Draw(1);
    let mut at = 0;
    for line in text.lines() {
        if line.starts_with("  > ") {
            let digit = at + 4 + draw.below(line.len() - 6);
            let other = if text.as_bytes()[digit] == b'A' {
                "B"
            } else {
                "A"
            };
            let mut damaged = text.clone();
            damaged.replace_range(digit..=digit, other);
            if let Ok(trace) = Trace::parse(&damaged) {
                assert!(played(&trace).is_err());
            }
        }
        at += line.len() + 1;
    }
}

/// Damage of the kinds that happen: to bytes, to numbers, to lines.
fn damaged(text: &str, draw: &mut Draw) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for _ in 0..=draw.below(3) {
        let at = draw.below(lines.len());
        match draw.below(8) {
            0 => _ = lines.remove(at),
            1 => lines.insert(at, lines[draw.below(lines.len())].clone()),
            2 => {
                let other = draw.below(lines.len());
                lines.swap(at, other);
            }
            3 => {
                let len = lines[at].len();
                lines[at].truncate(draw.below(len + 1));
            }
            4 => {
                let number = [0, 1, 2_147_483_648, u64::MAX][draw.below(4)];
                let word = draw.below(8);
                lines[at] = lines[at]
                    .split(' ')
                    .enumerate()
                    .map(|(i, old)| {
                        if i == word {
                            number.to_string()
                        } else {
                            old.to_owned()
                        }
                    })
                    .collect::<Vec<_>>()
                    .join(" ");
            }
            _ => {
                let mut bytes = std::mem::take(&mut lines[at]).into_bytes();
                if !bytes.is_empty() {
                    let at = draw.below(bytes.len());
                    bytes[at] = 0x20 + draw.below(95) as u8;
                }
                lines[at] = String::from_utf8(bytes).unwrap_or_default();
            }
        }
        if lines.is_empty() {
            lines.push(String::new());
        }
    }
    lines.join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_damaged_recording_is_refused_or_differs_or_plays(seed: u64, which in 0_usize..4) {
        let mut draw = Draw(seed);
        try_it(&damaged(&texts()[which], &mut draw));
    }

    #[test]
    fn any_text_behind_a_good_beginning_is_refused_or_plays(tail in "([a-z-]{1,12}( [0-9./\"a-f=-]{1,9}){0,4}\n){0,8}") {
        let [text, ..] = texts();
        let (good, _) = text.split_at(text.find("output-consumed").unwrap());
        try_it(&format!("{good}{tail}"));
    }
}

#[test]
fn numbers_in_a_trace_allocate_nothing() {
    let [text, ..] = texts();
    let (good, _) = text.split_at(text.find("output-consumed").unwrap());
    for line in [
        "write 0/00000000 0 18446744073709551615 blocked",
        "read 0/00000000 0 18446744073709551615",
        "ignore 18446744073709551615",
        "output-consumed 18446744073709551615",
        "answer 0 18446744073709551615",
        "timeout 18446744073709551615.999999999",
    ] {
        let text = format!("{good}{line}\n");
        if let Ok(trace) = Trace::parse(&text) {
            let mut player = Player::new(&trace, start());
            while let Ok(Some(_)) = player.step() {}
        }
    }
}
