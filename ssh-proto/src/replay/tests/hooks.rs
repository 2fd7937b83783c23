//! Whatever can be done to a connection is recorded: a method that changes it and has no hook is named here, with the
//! reason.

use std::fs;
use std::path::Path;

/// Methods that need none.
const EXEMPT: [(&str, &str); 17] = [
    ("take_input", "only lends memory"),
    ("reclaim_input", "only hands out memory"),
    ("recycle", "only takes memory back"),
    ("handle_bytes", "by way of handle_input"),
    ("poll_event", "noted where there is an event"),
    ("poll_log", "the log changes no byte"),
    ("poll_key_log", "the key log changes no byte"),
    ("channel", "only lends the channel"),
    ("accept_forward", "by way of answer_global"),
    ("take_recording", "is the recording"),
    ("finish_recording", "is the recording"),
    ("write", "noted with what became of it"),
    ("write_parts", "noted with what became of it"),
    ("send", "noted with what became of it"),
    ("consume", "noted with what was read"),
    ("read", "noted with what was read"),
    ("take", "noted with what was read"),
];

#[test]
#[expect(clippy::disallowed_methods, reason = "it reads the source")]
fn every_method_that_changes_a_connection_has_a_hook() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = fs::read_dir(source.join("connection"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .chain([source.join("channel/handle.rs")]);
    let mut seen = 0;
    for file in files {
        let file = fs::read_to_string(file).unwrap();
        // Each piece begins with a public method and ends before the next one.
        for piece in file.split("    pub fn ").skip(1) {
            let piece = piece.split("\n    }\n").next().unwrap();
            let (signature, _) = piece.split_once('{').unwrap();
            let name = piece.split(['(', '<']).next().unwrap();
            if !signature.contains("&mut self") || EXEMPT.iter().any(|(exempt, _)| *exempt == name)
            {
                continue;
            }
            assert!(piece.contains("note!("), "{name} is not recorded");
            seen += 1;
        }
    }
    assert!(seen >= 40, "{seen}");
}
