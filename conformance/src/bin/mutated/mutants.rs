//! Recordings in which something that the peer sent is changed, played to their end whatever comes of it.
//!
//! A mutant has a name, `RECORDING:OFFSET:KIND`: at which of the peer's bytes, and what happens there.

use std::fmt;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

use meter::{heap, is_counting, steps};
use ssh_proto::Error;
use ssh_proto::replay::{Difference, Player, Trace};

/// What a mutant may have in use at once, in bytes. Recordings have a channel or two, and send little.
const MOST: i64 = 1024 * 1024;
/// What a mutant may leave behind: what the cryptographic library makes once.
const LEFT: i64 = 8 * 1024;
/// Steps of work for each byte and each step of a recording, and in all.
const STEPS_PER_BYTE: u64 = 1;
const STEPS_PER_STEP: u64 = 64;
const STEPS: u64 = 16 * 1024;

/// What happens at an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing comes from here on.
    Cut,
    /// One bit is another.
    Flip(u8),
    /// A byte is missing.
    Lost,
    /// A byte comes twice.
    Twice,
}

impl Kind {
    const COUNT: u64 = 11;

    const fn of(number: u64) -> Self {
        match number % Self::COUNT {
            0 => Self::Cut,
            1 => Self::Lost,
            2 => Self::Twice,
            bit => Self::Flip((bit - 3) as u8),
        }
    }

    const fn number(self) -> u64 {
        match self {
            Self::Cut => 0,
            Self::Lost => 1,
            Self::Twice => 2,
            Self::Flip(bit) => bit as u64 + 3,
        }
    }
}

/// A recording, and where the peer's bytes are in it.
struct Recording {
    name: String,
    trace: Trace,
    /// Step and length, of the steps that are input.
    inputs: Vec<(usize, usize)>,
    len: u64,
}

/// All recordings.
pub(crate) struct Recordings(Vec<Recording>);

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mutant {
    recording: usize,
    name: String,
    offset: u64,
    kind: Kind,
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.name, self.offset, self.kind.number())
    }
}

impl Recordings {
    /// Those that are kept, in the order of their names.
    pub(crate) fn read() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings");
        let mut paths: Vec<_> = fs::read_dir(folder)
            .expect("the recordings")
            .map(|file| file.expect("a file").path())
            .filter(|path| path.extension().is_some_and(|name| name == "trace"))
            .collect();
        paths.sort();
        let recordings = paths.iter().map(|path| {
            let text = fs::read_to_string(path).expect("a recording");
            let trace = Trace::parse(&text).expect("a recording");
            let inputs: Vec<_> = trace
                .steps()
                .iter()
                .enumerate()
                .filter(|(_, step)| step.command().starts_with("input "))
                .map(|(i, step)| (i, step.data().len()))
                .collect();
            Recording {
                name: path
                    .file_stem()
                    .map(|name| name.to_string_lossy().into_owned())
                    .unwrap_or_default(),
                trace,
                len: inputs.iter().map(|(_, len)| *len as u64).sum(),
                inputs,
            }
        });
        Self(recordings.collect())
    }

    /// How many mutants there are.
    pub(crate) fn count(&self) -> u64 {
        self.0.iter().map(|one| one.len * Kind::COUNT).sum()
    }

    /// The mutant of a number below [`count`](Self::count).
    pub(crate) fn mutant(&self, mut number: u64) -> Option<Mutant> {
        for (recording, one) in self.0.iter().enumerate() {
            let count = one.len * Kind::COUNT;
            if number < count {
                return Some(Mutant {
                    recording,
                    name: one.name.clone(),
                    offset: number / Kind::COUNT,
                    kind: Kind::of(number),
                });
            }
            number -= count;
        }
        None
    }

    /// The mutant of a name.
    pub(crate) fn find(&self, name: &str) -> Option<Mutant> {
        let mut parts = name.split(':');
        let name = parts.next()?;
        let recording = self.0.iter().position(|one| one.name == name)?;
        let offset = parts.next()?.parse().ok()?;
        let kind = Kind::of(parts.next()?.parse().ok()?);
        (offset < self.0[recording].len).then(|| Mutant {
            recording,
            name: name.to_owned(),
            offset,
            kind,
        })
    }

    fn changed(&self, mutant: &Mutant) -> Trace {
        let Recording { trace, inputs, .. } = &self.0[mutant.recording];
        let mut trace = trace.clone();
        let mut at = mutant.offset as usize;
        let mut cut = false;
        for (step, len) in inputs {
            let data = trace.data_mut(*step).expect("a step with data");
            if cut {
                data.clear();
            } else if at < *len {
                match mutant.kind {
                    Kind::Cut => data.truncate(at),
                    Kind::Flip(bit) => data[at] ^= 1 << bit,
                    Kind::Lost => _ = data.remove(at),
                    Kind::Twice => data.insert(at, data[at]),
                }
                if mutant.kind != Kind::Cut {
                    break;
                }
                cut = true;
            } else {
                at -= len;
            }
        }
        trace
    }

    /// Plays a mutant. Gives whether it ended in an error of its own.
    ///
    /// # Errors
    /// What went wrong, and how to see it again.
    pub(crate) fn play(&self, mutant: &Mutant) -> Result<bool, String> {
        let trace = self.changed(mutant);
        let before = heap().live;
        let played = catch_unwind(AssertUnwindSafe(|| run(&trace)));
        let left = heap().live - before;
        let result = match played {
            Ok(result) => result,
            Err(panic) => Err(panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_default()),
        };
        let result = result.and_then(|ended| {
            if is_counting() && left > LEFT {
                return Err(format!("it leaves {left} bytes behind"));
            }
            Ok(ended)
        });
        result.map_err(|text| format!("{mutant}: {text}\nagain: conformance/mutated {mutant}"))
    }
}

fn run(trace: &Trace) -> Result<bool, String> {
    let (start, work) = (heap().live, steps());
    let mut player = Player::new(trace, Instant::now());
    let (mut count, mut bytes) = (0, 0);
    for step in trace.steps() {
        // What differs from the recording is what was asked for: it is played on. But draws that it does not hold are not
        // made, and the connection takes that for a fault of its library.
        if let Err(divergence) = player.step()
            && divergence.difference == Difference::DrawMissing
        {
            break;
        }
        count += 1;
        bytes += (step.data().len() + step.output().len()) as u64;
        let live = heap().live - start;
        if live > MOST {
            return Err(format!("{live} bytes in use at step {count}"));
        }
        let work = steps() - work;
        if work > STEPS + STEPS_PER_BYTE * bytes + STEPS_PER_STEP * count {
            return Err(format!("{work} steps of work by step {count}"));
        }
        if let Some(Error::Bug(bug)) = player.closed() {
            return Err(format!("a bug, {bug}"));
        }
    }
    Ok(player.closed().is_some())
}
