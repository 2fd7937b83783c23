//! `coverage.txt` is true: every row has a test or waits for a layer that is not there, every test is in the tree, every
//! bound of the library is reached by a row, and `COVERAGE.md` says the same.
//!
//! `COVERAGE=write cargo test -p conformance --test coverage` writes the page anew.

use std::path::{Path, PathBuf};

use conformance::coverage::{Table, bounds_of, tests_of};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn table() -> Table {
    Table::parse(&read("conformance/coverage.txt")).unwrap_or_else(|line| panic!("{line}"))
}

#[test]
fn every_row_has_a_test_that_is_there_or_waits_for_a_layer_that_is_not() {
    let problems = table().problems(&root());
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn no_row_is_lost() {
    let counts: Vec<(String, usize)> = table()
        .sections
        .into_iter()
        .map(|section| (section.name, section.rows.len()))
        .collect();
    // A row that is new is counted here as well.
    let expected = [
        ("1a", 28),
        ("1b", 23),
        ("1c", 15),
        ("1e", 8),
        ("2", 55),
        ("3", 45),
    ];
    assert_eq!(counts, expected.map(|(name, rows)| (name.to_owned(), rows)));
}

#[test]
fn every_bound_of_the_library_is_reached_by_a_row() {
    let bounds = bounds_of(&read("ssh-proto/src/limits.rs"));
    assert!(bounds.contains("user_len") && bounds.contains("PING_LEN"));
    let table = table();
    for bound in &bounds {
        assert!(
            table.rows().any(|row| row.bounds.contains(bound)),
            "no row has {bound}"
        );
    }
    for row in table.rows() {
        for bound in &row.bounds {
            assert!(bounds.contains(bound), "{}: there is no {bound}", row.id);
        }
    }
}

#[test]
fn the_page_is_what_the_table_says() {
    let page = table().markdown();
    let file = "conformance/COVERAGE.md";
    if std::env::var_os("COVERAGE").is_some_and(|value| value == "write") {
        std::fs::write(root().join(file), &page).expect("a page that can be written");
    }
    assert!(
        page == read(file),
        "{file} is out of date: COVERAGE=write cargo test -p conformance --test coverage"
    );
}

#[test]
fn what_is_not_true_is_found() {
    let text = "layer agents: ssh-proto/src/agent\nlayer keys: ssh-proto/src/key\n= 9 Things\n\
                9-1 without anything\n\
                9-3 out of turn\n  missing: agents\n\
                9-3 without its test\n  conformance/tests/coverage.rs::there_is_no_such_test\n\
                9-4 in no file\n  no/such/file.rs::no_row_is_lost\n\
                9-5 of a layer that is there\n  missing: keys\n\
                9-6 of a layer that nobody knows\n  missing: wishes\n\
                9-7 as it should be\n  conformance/tests/coverage.rs::no_row_is_lost\n";
    let problems = Table::parse(text).expect("a table").problems(&root());
    let about: Vec<&str> = problems
        .iter()
        .map(|problem| problem.split(':').next().expect("an id"))
        .collect();
    assert_eq!(about, ["9-3", "9-1", "9-3", "9-4", "9-5", "9-6"]);
    assert!(Table::parse("9-1 in no section\n").is_err());
    assert!(Table::parse("= 9 Things\n  no::row\n").is_err());
}

#[test]
fn tests_are_functions_that_are_marked_so() {
    let source = "// #[test]\nfn not_this() {}\n#[test]\n#[ignore]\nfn nor_that() {}\n#[test]\n#[expect(unused)]\nfn this() {}\nfn nor_this() {}\n\
                  #[tokio::test(flavor = \"multi_thread\")]\nasync fn and_this() {}\n    #[test]\n    // why\n    fn inside(x in 0..3) {}\n";
    let names: Vec<String> = tests_of(source).into_iter().collect();
    assert_eq!(names, ["and_this", "inside", "this"]);
}
