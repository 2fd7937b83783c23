//! The programs for libFuzzer, held against the targets. They are compiled apart from this: see `conformance/test`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What a key of the manifest is set to.
fn value<'a>(table: &'a str, key: &str) -> &'a str {
    table
        .lines()
        .find_map(|line| {
            line.strip_prefix(key)?
                .strip_prefix(" = \"")?
                .strip_suffix('"')
        })
        .unwrap_or_else(|| panic!("no {key}"))
}

#[test]
fn every_target_has_its_libfuzzer_program_and_none_is_left_over() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("libfuzzer");
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).expect("the manifest");
    let programs: Vec<_> = manifest.split("[[bin]]").skip(1).collect();
    let targets: BTreeSet<String> = fuzz::TARGETS
        .iter()
        .map(|(name, _)| (*name).into())
        .collect();
    assert_eq!(programs.len(), targets.len());
    let mut named = BTreeSet::new();
    for program in programs {
        let name = value(program, "name");
        let path = format!("fuzz_targets/{name}.rs");
        assert_eq!(value(program, "path"), path);
        let source = fs::read_to_string(folder.join(&path)).expect("the program");
        let call = format!("::{name}(data));");
        assert!(
            source.contains("fuzz_target!(|data: &[u8]| fuzz::"),
            "{path}"
        );
        assert!(
            source.trim_end().ends_with(&call),
            "{path} does not end in {call}"
        );
        named.insert(name.to_owned());
    }
    assert_eq!(named, targets);
    let files: BTreeSet<String> = fs::read_dir(folder.join("fuzz_targets"))
        .expect("the programs")
        .map(|entry| entry.expect("a folder that can be read").path())
        .map(|path| {
            path.file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    assert_eq!(files, targets);
}
