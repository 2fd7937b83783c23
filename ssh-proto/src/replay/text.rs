//! The words of a trace: a line is split into fields, and each field is read as what the command wants there.
//!
//! In: one line. Out: numbers, times, names, bytes; or what is wrong with it. Nothing here is larger than the line that
//! it was read from.

use std::fmt::Write as _;
use std::time::Duration;

use base64ct::{Base64, Encoding};

use crate::secret::Secret;

/// What is wrong with a line.
pub(super) type Problem = &'static str;

/// Something that stands in a line.
pub(super) trait Field: Sized {
    fn write(&self, line: &mut String);
    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem>;
}

/// The fields of a line, from left to right. They are separated by spaces; a text in quotation marks may contain some.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(&'a str);

impl<'a> Fields<'a> {
    pub(super) const fn new(line: &'a str) -> Self {
        Self(line)
    }

    /// The next field as it stands there.
    pub(super) fn word(&mut self) -> Result<&'a str, Problem> {
        let line = self.0.trim_start_matches(' ');
        let end = if line.starts_with('"') {
            let mut escaped = false;
            let closing = line.bytes().skip(1).position(|byte| {
                let closes = byte == b'"' && !escaped;
                escaped = byte == b'\\' && !escaped;
                closes
            });
            closing.ok_or("a text without its end")?.saturating_add(2)
        } else {
            line.find(' ').unwrap_or(line.len())
        };
        match line.split_at_checked(end) {
            Some((word, rest)) if !word.is_empty() => {
                if !rest.is_empty() && !rest.starts_with(' ') {
                    return Err("a text with something behind it");
                }
                self.0 = rest;
                Ok(word)
            }
            _ => Err("it lacks a field"),
        }
    }

    pub(super) fn take<T: Field>(&mut self) -> Result<T, Problem> {
        T::read(self)
    }

    pub(super) fn finish(&self) -> Result<(), Problem> {
        if self.0.trim_start_matches(' ').is_empty() {
            Ok(())
        } else {
            Err("it has too many fields")
        }
    }
}

/// Appends a field.
pub(super) fn put(line: &mut String, field: &impl Field) {
    line.push(' ');
    field.write(line);
}

/// A word that is not a text: a name of this format.
pub(super) fn put_word(line: &mut String, word: &str) {
    line.push(' ');
    line.push_str(word);
}

macro_rules! number {
    ($($type:ty),*) => {$(
        impl Field for $type {
            fn write(&self, line: &mut String) {
                _ = write!(line, "{self}");
            }
            fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
                let word = fields.word()?;
                // `+1` is no number here: a trace has one form.
                if !word.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err("not a number");
                }
                word.parse().map_err(|_| "a number that is too large")
            }
        }
    )*};
}
number!(u16, u32, u64, usize);

impl Field for bool {
    fn write(&self, line: &mut String) {
        line.push_str(if *self { "yes" } else { "no" });
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        match fields.word()? {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err("neither yes nor no"),
        }
    }
}

/// Seconds, with nine digits behind the point.
impl Field for Duration {
    fn write(&self, line: &mut String) {
        _ = write!(line, "{}.{:09}", self.as_secs(), self.subsec_nanos());
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        let problem = "not a time in seconds with nine digits behind the point";
        let (seconds, fraction) = fields.word()?.split_once('.').ok_or(problem)?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(seconds) || !digits(fraction) || fraction.len() != 9 {
            return Err(problem);
        }
        let seconds = seconds.parse().map_err(|_| problem)?;
        let nanoseconds = fraction.parse().map_err(|_| problem)?;
        Ok(Self::new(seconds, nanoseconds))
    }
}

/// Nothing is a minus sign.
impl<T: Field> Field for Option<T> {
    fn write(&self, line: &mut String) {
        match self {
            Some(field) => field.write(line),
            None => line.push('-'),
        }
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        let mut ahead = *fields;
        if ahead.word()? == "-" {
            *fields = ahead;
            return Ok(None);
        }
        fields.take().map(Some)
    }
}

/// How many, and then each.
impl<T: Field> Field for Vec<T> {
    fn write(&self, line: &mut String) {
        self.len().write(line);
        for field in self {
            put(line, field);
        }
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        let count: usize = fields.take()?;
        let mut list = Self::new();
        // Whatever the number says, there are no more than the line has.
        for _ in 0..count {
            list.push(fields.take()?);
        }
        Ok(list)
    }
}

/// Bytes in quotation marks; those that are no printable US-ASCII as `\xNN`.
impl Field for String {
    fn write(&self, line: &mut String) {
        quote(line, self.as_bytes());
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        Self::from_utf8(unquote(fields.word()?)?).map_err(|_| "a text that is not UTF-8")
    }
}

/// A [`String`] that need not be UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text(pub(super) Vec<u8>);

impl From<&[u8]> for Text {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl Field for Text {
    fn write(&self, line: &mut String) {
        quote(line, &self.0);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        unquote(fields.word()?).map(Self)
    }
}

impl Field for Secret {
    fn write(&self, line: &mut String) {
        quote(line, self.expose());
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        unquote(fields.word()?).map(Self::new)
    }
}

/// Bytes in base64; none at all are `=`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Bytes(pub(super) Vec<u8>);

impl Field for Bytes {
    fn write(&self, line: &mut String) {
        put_base64(line, &self.0);
    }

    fn read(fields: &mut Fields<'_>) -> Result<Self, Problem> {
        base64(fields.word()?).map(Self)
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

pub(super) fn put_base64(line: &mut String, bytes: &[u8]) {
    if bytes.is_empty() {
        line.push('=');
    }
    line.push_str(&Base64::encode_string(bytes));
}

pub(super) fn base64(word: &str) -> Result<Vec<u8>, Problem> {
    if word == "=" {
        return Ok(Vec::new());
    }
    Base64::decode_vec(word).map_err(|_| "not base64")
}

fn quote(line: &mut String, bytes: &[u8]) {
    _ = write!(line, "\"{}\"", bytes.escape_ascii());
}

fn unquote(word: &str) -> Result<Vec<u8>, Problem> {
    let problem = "not a text in quotation marks";
    let inside = word
        .strip_prefix('"')
        .and_then(|word| word.strip_suffix('"'));
    let mut left = inside.ok_or(problem)?.bytes();
    let mut bytes = Vec::new();
    while let Some(byte) = left.next() {
        bytes.push(match byte {
            b'\\' => match left.next().ok_or(problem)? {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'x' => {
                    let mut digit = || {
                        let digit = char::from(left.next()?).to_digit(16)?;
                        u8::try_from(digit).ok()
                    };
                    digit().ok_or(problem)? << 4 | digit().ok_or(problem)?
                }
                plain @ (b'\\' | b'"' | b'\'') => plain,
                _ => return Err(problem),
            },
            0x20..=0x7e => byte,
            _ => return Err(problem),
        });
    }
    Ok(bytes)
}
