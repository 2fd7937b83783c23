//! Taking SSH's data types off a byte slice (RFC 4251 section 5).

use std::fmt;

/// What is wrong with a field that could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// The bytes end before the field does.
    Truncated,
    /// Bytes are left over after the last field.
    Trailing,
    /// A number, a string or a list is longer than this side takes.
    TooLong,
    /// An `mpint` is negative where only positive numbers make sense.
    Negative,
    /// A string that must be UTF-8 or US-ASCII is not.
    Encoding,
    /// The value is not one that the field can have.
    Value,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "truncated",
            Self::Trailing => "followed by bytes that do not belong",
            Self::TooLong => "too long",
            Self::Negative => "a negative number",
            Self::Encoding => "not in the required character encoding",
            Self::Value => "of an impossible value",
        })
    }
}

impl std::error::Error for Malformed {}

/// Reads fields one after the other from a borrowed slice.
///
/// A length is compared with the bytes that are there before anything else is done with it, so a
/// number on the wire never costs more than the bytes behind it.
///
/// ```
/// use ssh_proto::wire::Reader;
///
/// let mut reader = Reader::new(b"\0\0\0\x04exec\x01");
/// assert_eq!(reader.string(), Ok(&b"exec"[..]));
/// assert_eq!(reader.boolean(), Ok(true));
/// assert!(reader.finish().is_ok());
/// ```
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader over `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The bytes that have not been read yet.
    pub const fn remaining(&self) -> &'a [u8] {
        self.rest
    }

    /// `true` when every byte has been read.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `len` bytes, without a length field.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes, without a length field.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(Malformed::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    /// `byte`.
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// `boolean`: RFC 4251 section 5, "All non-zero values MUST be interpreted as TRUE".
    pub fn boolean(&mut self) -> Result<bool, Malformed> {
        self.byte().map(|byte| byte != 0)
    }

    /// `uint32`.
    pub fn uint32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// `uint64`.
    pub fn uint64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// `string`: arbitrary bytes behind a `uint32` length.
    pub fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.uint32()?;
        self.bytes(usize::try_from(len).map_err(|_| Malformed::Truncated)?)
    }

    /// A `string` of at most `max` bytes.
    pub fn string_max(&mut self, max: usize) -> Result<&'a [u8], Malformed> {
        let string = self.string()?;
        if string.len() > max {
            Err(Malformed::TooLong)
        } else {
            Ok(string)
        }
    }

    /// A `string` in UTF-8 (RFC 3629), which US-ASCII is a part of.
    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.string()?).map_err(|_| Malformed::Encoding)
    }

    /// The magnitude of a non-negative `mpint`, big-endian, without leading zero bytes; empty for zero.
    ///
    /// RFC 4251 section 5 forbids unnecessary leading zeros, yet some peers send them: they are
    /// dropped, never an error. A negative number is one.
    pub fn mpint(&mut self) -> Result<&'a [u8], Malformed> {
        let bytes = self.string()?;
        if bytes.first().is_some_and(|&first| first & 0x80 != 0) {
            return Err(Malformed::Negative);
        }
        let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
        Ok(bytes.get(zeros..).unwrap_or_default())
    }

    /// `name-list`.
    pub fn name_list(&mut self) -> Result<NameList<'a>, Malformed> {
        NameList::parse(self.string()?)
    }

    /// All bytes that are left.
    pub const fn rest(&mut self) -> &'a [u8] {
        let rest = self.rest;
        self.rest = &[];
        rest
    }

    /// Confirms that nothing is left.
    pub const fn finish(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed::Trailing)
        }
    }
}

/// A comma-separated list of names, as it stands on the wire (RFC 4251 section 5).
///
/// A stray comma makes an empty name, which is passed over: lists of real peers have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NameList<'a>(&'a str);

impl<'a> NameList<'a> {
    /// Reads the inside of a `name-list` string. Names are US-ASCII without control characters.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        // It does not stop at the first bad byte: so the compiler looks at many bytes at a time.
        let good = bytes
            .iter()
            .fold(true, |good, byte| good & matches!(byte, 0x21..=0x7e));
        if !good {
            return Err(Malformed::Encoding);
        }
        std::str::from_utf8(bytes)
            .map(Self)
            .map_err(|_| Malformed::Encoding)
    }

    /// A list from text that is one already: names joined with commas.
    pub const fn new(text: &'a str) -> Self {
        Self(text)
    }

    /// The names in order.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.0.split(',').filter(|name| !name.is_empty())
    }

    /// `true` when `name` is in the list, compared exactly.
    pub fn contains(&self, name: &str) -> bool {
        self.iter().any(|other| other == name)
    }

    /// The first name.
    pub fn first(&self) -> Option<&'a str> {
        self.iter().next()
    }

    /// The list as it stands on the wire.
    pub const fn as_str(&self) -> &'a str {
        self.0
    }
}
