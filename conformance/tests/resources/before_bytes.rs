//! No number on the wire makes a connection allocate before so many bytes have come: every four bytes of every message, in
//! both roles and each in the state that it is meant for, are made as large as they can be.

use super::messages::{Case, Shown, states_of_clients, states_of_servers, to_clients, to_servers};
use super::*;
use ssh_proto::Error;
use ssh_proto::error::PeerError;
use ssh_proto::wire::Malformed;
use std::path::Path;

/// What one look at a message of these may allocate: events, error texts, tables of a first channel, a key exchange.
const MOST: u64 = 16 * 1024;
const NUMBERS: [u32; 6] = [
    u32::MAX,
    1 << 31,
    (1 << 31) - 1,
    1 << 24,
    256 * 1024,
    35_000,
];

/// The message as it is does what it is for: without that, what follows would be about messages that nobody reads.
fn assert_taken<R: Usual>(case: &Case<R>) {
    let (name, shown) = (case.name, case.shown);
    let (mut peer, message) = case.begin();
    let (events, heard) = (peer.manners.events, peer.heard);
    peer.say(&message);
    let look = peer.cost.take_largest_look();
    assert!(look <= MOST, "{name}: {look} bytes");
    match shown {
        Shown::Ended => {
            assert!(
                matches!(peer.closed(), Some(Error::Disconnected(_))),
                "{name}: {:?}",
                peer.closed()
            );
            return;
        }
        Shown::Answered(number) => {
            let number = usize::from(number);
            assert_eq!(peer.heard[number], heard[number] + 1, "{name}");
        }
        Shown::Told => assert!(peer.manners.events > events, "{name}"),
        Shown::PassedOver => {
            assert_eq!(peer.manners.events, events, "{name}");
            assert_eq!(peer.heard, heard, "{name}");
        }
        Shown::Whole => {
            let (mut other, mut longer) = case.begin();
            longer.push(0);
            other.say(&longer);
            assert!(
                matches!(
                    other.closed(),
                    Some(Error::Peer(PeerError::Malformed {
                        message: number,
                        problem: Malformed::Trailing,
                        ..
                    })) if *number == message[0]
                ),
                "{name}: {:?}",
                other.closed()
            );
        }
    }
    assert_eq!(peer.closed(), None, "{name}");
}

/// Says each message with each number at each place, each to a connection that waits for it.
fn exaggerate<R: Usual>(cases: &[Case<R>]) {
    // What is made once, such as tables of the cryptographic library.
    drop(open::<R>());
    let (mut largest, mut count) = (0, 0_u32);
    for case in cases {
        let name = case.name;
        assert_taken(case);
        for at in 1..case.begin().1.len().saturating_sub(3) {
            for number in NUMBERS {
                let (mut peer, mut message) = case.begin();
                message[at..at + 4].copy_from_slice(&number.to_be_bytes());
                // What it says now need not make sense.
                peer.reads = false;
                let before = meter::heap().allocated;
                peer.say(&message);
                let all = meter::heap().allocated - before;
                let look = peer.cost.take_largest_look();
                assert!(look <= MOST, "{name}: {look} bytes for {message:02x?}");
                largest = largest.max(look);
                // Answers of the application are among these.
                assert!(all <= 4 * MOST, "{name}: {all} bytes for {message:02x?}");
                assert!(!matches!(peer.closed(), Some(Error::Bug(_))), "{name}");
                count += 1;
            }
        }
    }
    assert!(count > 10_000, "{count}");
    println!("at most {largest} bytes for one of {count} messages");
}

#[test]
fn no_number_makes_a_client_allocate_before_the_bytes_have_come() {
    let _alone = alone();
    exaggerate(&to_clients());
}

#[test]
fn no_number_makes_a_server_allocate_before_the_bytes_have_come() {
    let _alone = alone();
    exaggerate(&to_servers());
}

/// Every number that a connection does anything about has a message above.
fn every_number<R: Usual>(cases: &[Case<R>], states: &[fn() -> Hostile<R>]) {
    let said: Vec<u8> = cases.iter().map(|case| case.begin().1[0]).collect();
    let mut taken = 0;
    for (state, make) in states.iter().enumerate() {
        for number in 0..=u8::MAX {
            let mut peer = make();
            let unknown = peer.heard[3];
            // What is sent in answer to a bare NEWKEYS or value is of no interest.
            peer.reads = number != 21;
            peer.say(&[number]);
            let is_refused = matches!(
                peer.closed(),
                Some(Error::Peer(PeerError::UnexpectedMessage { .. }))
            );
            if !is_refused && peer.heard[3] == unknown {
                assert!(said.contains(&number), "message {number} in state {state}");
                taken += 1;
            }
        }
    }
    assert!(taken > 10 * states.len(), "{taken}");
}

#[test]
fn every_number_that_a_client_takes_is_among_them() {
    let _alone = alone();
    every_number(&to_clients(), &states_of_clients());
}

#[test]
fn every_number_that_a_server_takes_is_among_them() {
    let _alone = alone();
    every_number(&to_servers(), &states_of_servers());
}

/// The names that decide how a message is read, from the files that compare them: constants, and patterns of a `match`.
fn names() -> Vec<String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ssh-proto/src");
    let files = [
        "channel/forward.rs",
        "channel/global.rs",
        "channel/open.rs",
        "channel/request.rs",
        "transport/ext_info.rs",
        "config.rs",
    ];
    let mut names = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(source.join(file)).expect("a source file");
        let code = text.split("#[cfg(test)]\nmod tests").next();
        for line in code.unwrap_or_default().lines().map(str::trim) {
            let is_constant = line.contains(": &str = \"");
            let is_pattern = line.starts_with('"') && line.contains("\" =>");
            let is_compared = line.contains("== b\"");
            let is_method = line.starts_with("Self::") && line.contains("=> \"");
            if (is_constant || is_pattern || is_compared || is_method)
                && let Some(name) = line.split('"').nth(1)
                && !name.contains(' ')
            {
                names.push(name.to_owned());
            }
        }
    }
    names
}

#[test]
fn every_name_that_the_library_knows_is_among_them() {
    fn messages<R: Victim>(cases: &[Case<R>]) -> Vec<Vec<u8>> {
        cases.iter().map(|case| case.begin().1).collect()
    }
    let _alone = alone();
    let said = [messages(&to_servers()), messages(&to_clients())].concat();
    let names = names();
    for known in ["env", "break", "tcpip-forward", "session", "password"] {
        assert!(names.iter().any(|name| name == known), "{known}");
    }
    for name in &names {
        let mut string = (name.len() as u32).to_be_bytes().to_vec();
        string.extend_from_slice(name.as_bytes());
        let is_said = |message: &Vec<u8>| message.windows(string.len()).any(|part| part == string);
        assert!(said.iter().any(is_said), "{name} is in no message");
    }
}

#[test]
fn the_length_of_a_packet_allocates_nothing() {
    let _alone = alone();
    fn lengths<R: Usual>() {
        for make in [
            || {
                let mut peer = fresh::<R>();
                peer.say_version();
                peer
            },
            keyed::<R>,
            open::<R>,
        ] {
            for length in NUMBERS.into_iter().chain([34_988, 262_128]) {
                let mut peer = make();
                let live = peer.cost.live();
                peer.cost.take_largest_look();
                peer.say_length(length);
                let (now, look) = (peer.cost.live(), peer.cost.take_largest_look());
                // The shortest of them is longer; and threads of the tests themselves allocate meanwhile.
                assert!(now < live + 16 * 1024, "{length}: {} bytes", now - live);
                assert!(look < 16 * 1024, "{length}: {look} bytes");
            }
        }
    }
    lengths::<ClientRole>();
    lengths::<ServerRole>();
}
