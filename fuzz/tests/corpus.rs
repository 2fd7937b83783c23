//! Every input that was kept goes through its target again.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

meter::count_heap!();

/// The heap is counted for the whole process.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn every_corpus_passes() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in fuzz::TARGETS {
        let folder = corpora.join(name);
        let mut inputs: Vec<_> = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.expect("a folder that can be read").path())
            .collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "{} is empty", folder.display());
        for input in inputs {
            let data = std::fs::read(&input).expect("a file that can be read");
            if let Err(text) = fuzz::harness::run(*target, &data) {
                panic!("{name} fails on {}: {text}", input.display());
            }
        }
    }
}

#[test]
fn every_folder_of_inputs_has_a_target() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in std::fs::read_dir(corpora).expect("the corpora") {
        let name = entry.expect("a folder that can be read").file_name();
        assert!(
            fuzz::TARGETS.iter().any(|(target, _)| name == *target),
            "{name:?}"
        );
    }
}
