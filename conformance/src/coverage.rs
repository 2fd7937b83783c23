//! What can go wrong, and which test shows that it does not: reads `coverage.txt`, looks the tests up in the tree, and writes
//! `COVERAGE.md`. The file says how it reads; `tests/coverage.rs` holds it to that.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

/// The whole table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// Layers that are not there yet, and where they would be.
    pub layers: BTreeMap<String, String>,
    /// In the order of the file.
    pub sections: Vec<Section>,
}

/// Rows of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// As it stands before the numbers of its rows.
    pub name: String,
    /// What its rows have in common.
    pub title: String,
    /// In the order of their numbers.
    pub rows: Vec<Row>,
}

/// One thing that can go wrong, one limit, or one invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// `SECTION-NUMBER`.
    pub id: String,
    /// What it is.
    pub title: String,
    /// Fields and constants of `limits.rs` that the tests reach.
    pub bounds: Vec<String>,
    /// What shows that it does not, or that it holds.
    pub tests: Vec<Test>,
    /// Layers without which the row cannot be tested, or not all of it.
    pub missing: Vec<String>,
}

/// A test by the file that it stands in, from the root of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    /// The file.
    pub file: String,
    /// The function.
    pub name: String,
}

impl Table {
    /// Reads `coverage.txt`.
    ///
    /// # Errors
    ///
    /// The line that is none of those that it may have.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut table = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            let wrong = || format!("line {number}: {line:?}");
            table.line(line).ok_or_else(wrong)?;
        }
        Ok(table)
    }

    fn line(&mut self, line: &str) -> Option<()> {
        if line.is_empty() || line.starts_with('#') {
            return Some(());
        }
        if let Some(rest) = line.strip_prefix("layer ") {
            let (name, place) = rest.split_once(": ")?;
            self.layers.insert(name.to_owned(), place.to_owned());
            return Some(());
        }
        if let Some(rest) = line.strip_prefix("= ") {
            let (name, title) = rest.split_once(' ')?;
            self.sections.push(Section {
                name: name.to_owned(),
                title: title.to_owned(),
                rows: Vec::new(),
            });
            return Some(());
        }
        let section = self.sections.last_mut()?;
        let Some(part) = line.strip_prefix("  ") else {
            let (id, title) = line.split_once(' ')?;
            section.rows.push(Row {
                id: id.to_owned(),
                title: title.to_owned(),
                bounds: Vec::new(),
                tests: Vec::new(),
                missing: Vec::new(),
            });
            return Some(());
        };
        let row = section.rows.last_mut()?;
        let names = |list: &str| list.split(", ").map(str::to_owned).collect::<Vec<_>>();
        if let Some(bounds) = part.strip_prefix("bounds: ") {
            row.bounds.extend(names(bounds));
        } else if let Some(missing) = part.strip_prefix("missing: ") {
            row.missing.extend(names(missing));
        } else {
            let (file, name) = part.split_once("::")?;
            row.tests.push(Test {
                file: file.to_owned(),
                name: name.to_owned(),
            });
        }
        Some(())
    }

    /// The rows of all sections.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.sections.iter().flat_map(|section| &section.rows)
    }

    /// Everything about the table that is not true of the tree at `root`.
    pub fn problems(&self, root: &Path) -> Vec<String> {
        let mut problems = Vec::new();
        for section in &self.sections {
            for (number, row) in (1..).zip(&section.rows) {
                let expected = format!("{}-{number}", section.name);
                if row.id != expected {
                    problems.push(format!("{}: {expected} is next", row.id));
                }
            }
        }
        let mut files: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for row in self.rows() {
            if row.tests.is_empty() && row.missing.is_empty() {
                problems.push(format!("{}: no test, and no layer that is missing", row.id));
            }
            for Test { file, name } in &row.tests {
                let found = files.entry(file).or_insert_with(|| {
                    std::fs::read_to_string(root.join(file))
                        .map(|source| tests_of(&source))
                        .unwrap_or_default()
                });
                if !found.contains(name) {
                    problems.push(format!("{}: {file} has no test {name}", row.id));
                }
            }
            for layer in &row.missing {
                match self.layers.get(layer) {
                    None => problems.push(format!("{}: no layer is called {layer}", row.id)),
                    Some(place) if root.join(place).exists() => problems.push(format!(
                        "{}: {layer} is there ({place}), and has no test here",
                        row.id
                    )),
                    Some(_) => {}
                }
            }
        }
        problems
    }

    /// `COVERAGE.md`.
    pub fn markdown(&self) -> String {
        let mut text = "# What can go wrong, and the tests that show that it does not\n\n\
            Made of `coverage.txt` by `COVERAGE=write cargo test -p conformance --test coverage`; the same test fails when a \
            row has no test, when a test is not there, or when this page is not what the table says. A row that waits for a \
            layer which is not there yet says so.\n"
            .to_owned();
        let all = self.rows().count();
        let waiting = self.rows().filter(|row| !row.missing.is_empty()).count();
        let untested = self.rows().filter(|row| row.tests.is_empty()).count();
        _ = write!(
            text,
            "\n{all} rows: {} have tests, {untested} wait for a layer, {} have tests and wait for a layer as well.\n",
            all - untested,
            waiting - untested
        );
        for section in &self.sections {
            _ = write!(
                text,
                "\n## {} ({})\n\n| | what | tests |\n|---|---|---|\n",
                section.title, section.name
            );
            for row in &section.rows {
                let mut cells: Vec<String> = row
                    .tests
                    .iter()
                    .map(|Test { file, name }| format!("`{file}::{name}`"))
                    .collect();
                if !row.missing.is_empty() {
                    cells.push(format!("not there yet: {}", row.missing.join(", ")));
                }
                let mut title = row.title.clone();
                if !row.bounds.is_empty() {
                    _ = write!(title, " (`{}`)", row.bounds.join("`, `"));
                }
                _ = writeln!(text, "| {} | {title} | {} |", row.id, cells.join("<br>"));
            }
        }
        text
    }
}

/// The names of the functions in a source that are tests, and run without being asked for.
pub fn tests_of(source: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut marked = false;
    for line in source.lines().map(str::trim_start) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            marked = true;
        } else if line.starts_with("#[ignore") {
            marked = false;
        } else if marked && !line.starts_with("//") {
            let rest = line.strip_prefix("async ").unwrap_or(line);
            if let Some(rest) = rest.strip_prefix("fn ") {
                names.extend(rest.split('(').next().map(str::to_owned));
                marked = false;
            } else if !line.starts_with("#[") && line.contains(';') {
                marked = false;
            }
        }
    }
    names
}

/// The bounds that `limits.rs` has: public fields, and constants.
pub fn bounds_of(source: &str) -> BTreeSet<String> {
    source
        .lines()
        .map(str::trim_start)
        .filter_map(|line| {
            let line = line
                .strip_prefix("pub(crate) ")
                .or_else(|| line.strip_prefix("pub "))?;
            let (name, _) = line.split_once(':')?;
            let name = name.strip_prefix("const ").unwrap_or(name);
            let is_name = name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            is_name.then(|| name.to_owned())
        })
        .collect()
}
