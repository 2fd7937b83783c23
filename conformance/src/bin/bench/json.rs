//! Just enough JSON to write results.

use std::fmt::{self, Display, Formatter};

/// A JSON value. Numbers that are not finite are written as null.
pub(crate) enum Json {
    Bool(bool),
    Number(f64),
    Text(String),
    List(Vec<Self>),
    Object(Vec<(&'static str, Self)>),
}

impl Json {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// One line per element down to `depth`, which keeps results readable and comparable.
    fn write(&self, out: &mut Formatter<'_>, indent: usize) -> fmt::Result {
        match self {
            Self::Number(number) if number.is_finite() => write!(out, "{number}"),
            Self::Number(_) => out.write_str("null"),
            Self::Bool(value) => write!(out, "{value}"),
            Self::Text(text) => write_text(out, text),
            Self::List(items) => {
                let items = items.iter().map(|item| (None, item));
                write_items(out, ['[', ']'], items, indent)
            }
            Self::Object(members) => {
                let members = members.iter().map(|(name, value)| (Some(*name), value));
                write_items(out, ['{', '}'], members, indent)
            }
        }
    }
}

impl Display for Json {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        self.write(out, 0)
    }
}

fn write_items<'a>(
    out: &mut Formatter<'_>,
    [open, close]: [char; 2],
    items: impl Iterator<Item = (Option<&'a str>, &'a Json)>,
    indent: usize,
) -> fmt::Result {
    let mut separator = "";
    write!(out, "{open}")?;
    for (name, value) in items {
        write!(out, "{separator}\n{:1$}", "", indent + 2)?;
        if let Some(name) = name {
            write_text(out, name)?;
            out.write_str(": ")?;
        }
        value.write(out, indent + 2)?;
        separator = ",";
    }
    if !separator.is_empty() {
        write!(out, "\n{:indent$}", "")?;
    }
    write!(out, "{close}")
}

fn write_text(out: &mut Formatter<'_>, text: &str) -> fmt::Result {
    out.write_str("\"")?;
    for character in text.chars() {
        match character {
            '"' | '\\' => write!(out, "\\{character}")?,
            character if character.is_control() => write!(out, "\\u{:04x}", u32::from(character))?,
            character => write!(out, "{character}")?,
        }
    }
    out.write_str("\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_json() {
        let json = Json::Object(vec![
            (
                "a",
                Json::List(vec![
                    Json::Number(1.5),
                    Json::Number(f64::NAN),
                    Json::Bool(true),
                ]),
            ),
            ("b", Json::text("say \"\\\"\n")),
            ("c", Json::List(Vec::new())),
        ]);
        let expected = "{\n  \"a\": [\n    1.5,\n    null,\n    true\n  ],\n  \"b\": \"say \\\"\\\\\\\"\\u000a\",\n  \"c\": []\n}";
        assert_eq!(json.to_string(), expected);
    }
}
