//! Appending SSH's data types to a buffer (RFC 4251 section 5).

/// Appends fields to a buffer that the caller lends.
///
/// ```
/// use ssh_proto::wire::Writer;
///
/// let mut buf = Vec::new();
/// Writer::new(&mut buf).string(b"exec").boolean(true);
/// assert_eq!(buf, b"\0\0\0\x04exec\x01");
/// ```
#[derive(Debug)]
pub struct Writer<'a> {
    buf: &'a mut Vec<u8>,
}

impl<'a> Writer<'a> {
    /// A writer that appends to `buf`.
    pub const fn new(buf: &'a mut Vec<u8>) -> Self {
        Self { buf }
    }

    /// Bytes as they are, without a length field.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.buf.extend_from_slice(bytes);
        self
    }

    /// `byte`.
    pub fn byte(&mut self, byte: u8) -> &mut Self {
        self.buf.push(byte);
        self
    }

    /// `boolean`: RFC 4251 section 5, "applications MUST NOT store values other than 0 and 1".
    pub fn boolean(&mut self, value: bool) -> &mut Self {
        self.byte(u8::from(value))
    }

    /// `uint32`.
    pub fn uint32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// `uint64`.
    pub fn uint64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// `string`. What lies beyond 4 GiB, which no packet can hold, is cut off.
    pub fn string(&mut self, string: &[u8]) -> &mut Self {
        let len = u32::try_from(string.len()).unwrap_or(u32::MAX);
        self.uint32(len);
        self.bytes(
            string
                .get(..usize::try_from(len).unwrap_or(usize::MAX))
                .unwrap_or(string),
        )
    }

    /// A `string` put together by `fill`; its length is written when `fill` is done.
    pub fn nested(&mut self, fill: impl FnOnce(&mut Writer<'_>)) -> &mut Self {
        let at = self.buf.len();
        self.uint32(0);
        let start = self.buf.len();
        fill(&mut Writer::new(self.buf));
        let len = u32::try_from(self.buf.len().saturating_sub(start)).unwrap_or(u32::MAX);
        if let Some(field) = self.buf.get_mut(at..start) {
            field.copy_from_slice(&len.to_be_bytes());
        }
        self
    }

    /// A non-negative `mpint` from its big-endian magnitude. Leading zero bytes are dropped, and one
    /// is put in front when the top bit is set: RFC 4251 section 5, "If the most significant bit
    /// would be set for a positive number, the number MUST be preceded by a zero byte."
    pub fn mpint(&mut self, magnitude: &[u8]) -> &mut Self {
        let zeros = magnitude.iter().take_while(|&&byte| byte == 0).count();
        let digits = magnitude.get(zeros..).unwrap_or_default();
        let sign = digits.first().is_some_and(|&first| first & 0x80 != 0);
        let len = digits.len().saturating_add(usize::from(sign));
        self.uint32(u32::try_from(len).unwrap_or(u32::MAX));
        if sign {
            self.byte(0);
        }
        self.bytes(digits)
    }

    /// `name-list` from names in order.
    pub fn name_list<'n>(&mut self, names: impl IntoIterator<Item = &'n str>) -> &mut Self {
        self.nested(|list| {
            for (i, name) in names.into_iter().enumerate() {
                if i > 0 {
                    list.byte(b',');
                }
                list.bytes(name.as_bytes());
            }
        })
    }
}
