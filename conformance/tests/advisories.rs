//! No crate that the workspace is built of has a fault that is known: what RustSec says, in August 2026, of the crates that
//! rows of `coverage.txt` name and of those that our own cryptography stands on. What is newer, `cargo audit` knows.

use std::path::Path;

/// A crate with a fault, the advisory, and the first version without it. `None`: there is no such version.
type Fault = (&'static str, &'static str, Option<[u64; 3]>);

/// Older lines that were mended as well are not told apart: nothing here needs them.
const FAULTS: [Fault; 31] = [
    // RSA whose time tells the plaintext.
    ("rsa", "RUSTSEC-2023-0071", None),
    // A public key that is not that of the secret one, and variable time.
    ("ed25519-dalek", "RUSTSEC-2022-0093", Some([2, 0, 0])),
    ("curve25519-dalek", "RUSTSEC-2024-0344", Some([4, 1, 3])),
    // The many of one library in 2026.
    ("libcrux-aesgcm", "RUSTSEC-2026-0209", None),
    ("libcrux-aesgcm", "RUSTSEC-2026-0211", None),
    (
        "libcrux-chacha20poly1305",
        "RUSTSEC-2026-0124",
        Some([0, 0, 8]),
    ),
    ("libcrux-ecdh", "RUSTSEC-2026-0023", Some([0, 0, 6])),
    ("libcrux-ed25519", "RUSTSEC-2026-0026", Some([0, 0, 6])),
    ("libcrux-ed25519", "RUSTSEC-2026-0075", Some([0, 0, 7])),
    ("libcrux-intrinsics", "RUSTSEC-2025-0133", Some([0, 0, 4])),
    ("libcrux-ml-dsa", "RUSTSEC-2026-0076", Some([0, 0, 8])),
    ("libcrux-ml-dsa", "RUSTSEC-2026-0077", Some([0, 0, 8])),
    ("libcrux-ml-dsa", "RUSTSEC-2026-0125", Some([0, 0, 9])),
    ("libcrux-ml-dsa", "RUSTSEC-2026-0126", Some([0, 0, 9])),
    ("libcrux-poly1305", "RUSTSEC-2026-0073", Some([0, 0, 5])),
    ("libcrux-psq", "RUSTSEC-2026-0024", Some([0, 0, 7])),
    ("libcrux-psq", "RUSTSEC-2026-0025", Some([0, 0, 7])),
    ("libcrux-secrets", "RUSTSEC-2026-0212", Some([0, 0, 6])),
    ("libcrux-sha3", "RUSTSEC-2026-0074", Some([0, 0, 8])),
    ("libcrux-sha3", "RUSTSEC-2026-0207", Some([0, 0, 10])),
    ("libcrux-sha3", "RUSTSEC-2026-0208", Some([0, 0, 10])),
    // What our cryptography stands on.
    ("aws-lc-sys", "RUSTSEC-2026-0044", Some([0, 39, 0])),
    ("aws-lc-sys", "RUSTSEC-2026-0045", Some([0, 38, 0])),
    ("aws-lc-sys", "RUSTSEC-2026-0046", Some([0, 38, 0])),
    ("aws-lc-sys", "RUSTSEC-2026-0047", Some([0, 38, 0])),
    ("aws-lc-sys", "RUSTSEC-2026-0048", Some([0, 39, 0])),
    // Lengths that are believed, loops without end, memory for gaps.
    ("russh", "RUSTSEC-2026-0154", Some([0, 60, 3])),
    ("russh-cryptovec", "RUSTSEC-2026-0153", Some([0, 60, 3])),
    ("rustls", "RUSTSEC-2024-0336", Some([0, 23, 5])),
    ("rustls", "RUSTSEC-2024-0399", Some([0, 23, 18])),
    ("quinn-proto", "RUSTSEC-2026-0185", Some([0, 11, 15])),
];

/// The packages of a `Cargo.lock`: name and version.
fn packages(lock: &str) -> impl Iterator<Item = (&str, &str)> {
    lock.split("[[package]]").skip(1).map(|package| {
        let field = |key: &str| {
            let value = package.lines().find_map(|line| line.strip_prefix(key));
            value
                .and_then(|value| value.strip_prefix(" = \"")?.strip_suffix('"'))
                .expect("a name and a version")
        };
        (field("name"), field("version"))
    })
}

/// Whether a version is the one that is wanted, or a later one. One that comes before a release is none yet.
fn is_at_least(version: &str, wanted: [u64; 3]) -> bool {
    let version = version.split('+').next().unwrap_or(version);
    let (numbers, before_release) = match version.split_once('-') {
        Some((numbers, _)) => (numbers, true),
        None => (version, false),
    };
    let numbers: Vec<u64> = numbers
        .split('.')
        .map(|number| number.parse().expect("a number"))
        .collect();
    let numbers: [u64; 3] = numbers.try_into().expect("three numbers");
    numbers > wanted || numbers == wanted && !before_release
}

/// A line for each fault of a package.
fn faults(lock: &str) -> Vec<String> {
    packages(lock)
        .flat_map(|(name, version)| {
            let of_it = FAULTS.iter().filter(move |fault| fault.0 == name);
            let open = of_it.filter(move |(_, _, fixed)| {
                !fixed.is_some_and(|fixed| is_at_least(version, fixed))
            });
            open.map(move |(_, advisory, _)| format!("{name} {version}: {advisory}"))
        })
        .collect()
}

#[test]
fn no_crate_of_the_workspace_has_a_known_fault() {
    // Some of those in it that have had faults.
    let workspace = ["ssh-proto", "aws-lc-sys", "libcrux-sha3", "libcrux-secrets"];
    // The programs for libFuzzer have a file of their own. Peers have the faults that they have.
    for (file, known) in [
        ("../Cargo.lock", &workspace[..]),
        ("../fuzz/libfuzzer/Cargo.lock", &["ssh-proto", "aws-lc-sys"]),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let lock = std::fs::read_to_string(path).expect("a Cargo.lock");
        for name in known {
            let is_there = packages(&lock).any(|(other, _)| other == *name);
            assert!(is_there, "{name} in {file}");
        }
        let faults = faults(&lock);
        assert!(faults.is_empty(), "{file}: {}", faults.join("\n"));
    }
}

#[test]
fn a_crate_with_a_known_fault_is_named() {
    let lock = "version = 4\n\n\
        [[package]]\nname = \"rsa\"\nversion = \"0.10.0\"\ndependencies = [\n \"subtle\",\n]\n\n\
        [[package]]\nname = \"curve25519-dalek\"\nversion = \"4.1.2\"\nsource = \"registry\"\n\n\
        [[package]]\nname = \"curve25519-dalek\"\nversion = \"4.1.3\"\n\n\
        [[package]]\nname = \"ed25519-dalek\"\nversion = \"2.0.0-rc.3\"\n\n\
        [[package]]\nname = \"ed25519-dalek-2\"\nversion = \"1.0.0\"\n\n\
        [[package]]\nname = \"libcrux-sha3\"\nversion = \"0.0.9\"\n\n\
        [[package]]\nname = \"quinn-proto\"\nversion = \"0.12.0+later\"\n";
    assert_eq!(
        faults(lock),
        [
            "rsa 0.10.0: RUSTSEC-2023-0071",
            "curve25519-dalek 4.1.2: RUSTSEC-2024-0344",
            "ed25519-dalek 2.0.0-rc.3: RUSTSEC-2022-0093",
            "libcrux-sha3 0.0.9: RUSTSEC-2026-0207",
            "libcrux-sha3 0.0.9: RUSTSEC-2026-0208",
        ]
    );
}

#[test]
fn versions_are_compared_by_their_numbers() {
    for version in ["4.1.3", "4.1.10", "4.2.0", "10.0.0", "4.1.4-pre"] {
        assert!(is_at_least(version, [4, 1, 3]), "{version}");
    }
    for version in ["4.1.2", "4.0.9", "3.9.9", "0.41.30", "4.1.3-pre"] {
        assert!(!is_at_least(version, [4, 1, 3]), "{version}");
    }
}
