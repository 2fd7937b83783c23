//! The key log: what opens a recorded conversation to whoever has both (feature `keylog`).
//!
//! In: the secret of each key exchange, when a configuration asks for it. Out: lines that Wireshark reads. There is no
//! such thing in the RFCs; the format is Wireshark's, whose preference `ssh.keylog_file` names a file of such lines.

use std::collections::VecDeque;
use std::fmt;

use crate::crypto::agree::SharedSecret;
use crate::limits::KEY_LOG_LINES;
use crate::secret::Secret;

/// The cookie of a KEXINIT lies behind its number (RFC 4253 section 7.1).
const COOKIE: std::ops::Range<usize> = 1..17;

/// One line of a key log: the secret of one key exchange.
///
/// **Whoever has it reads everything** that was sent under the keys of that exchange, in both directions, passwords
/// included, from a recording of the bytes on the wire, also years later. It is overwritten when dropped, and
/// [`Debug`](fmt::Debug) shows nothing of it.
pub struct KeyLogLine(Secret);

impl KeyLogLine {
    /// The line with its line feed: the client's cookie in hex, `SHARED_SECRET`, K in hex.
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }
}

impl fmt::Debug for KeyLogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyLogLine(..)")
    }
}

/// Lines that wait to be taken.
#[derive(Debug)]
pub(crate) struct KeyLog {
    lines: VecDeque<KeyLogLine>,
    wanted: bool,
}

impl KeyLog {
    pub(crate) const fn new(wanted: bool) -> Self {
        Self {
            lines: VecDeque::new(),
            wanted,
        }
    }

    /// A key exchange has a secret.
    pub(crate) fn add(&mut self, client_kexinit: &[u8], secret: &SharedSecret) {
        if !self.wanted {
            return;
        }
        if self.lines.len() >= KEY_LOG_LINES {
            self.lines.pop_front();
        }
        let cookie = client_kexinit.get(COOKIE).unwrap_or_default();
        self.lines.push_back(line(cookie, secret.bare()));
    }

    pub(crate) fn poll(&mut self) -> Option<KeyLogLine> {
        let line = self.lines.pop_front();
        if self.lines.is_empty() {
            self.lines = VecDeque::new();
        }
        line
    }
}

fn line(cookie: &[u8], secret: &[u8]) -> KeyLogLine {
    const NAME: &[u8] = b" SHARED_SECRET ";
    let hex_len = cookie.len().saturating_add(secret.len()).saturating_mul(2);
    // It never grows, which would leave a copy behind.
    let mut line = Vec::with_capacity(hex_len.saturating_add(NAME.len()).saturating_add(1));
    hex(&mut line, cookie);
    line.extend_from_slice(NAME);
    hex(&mut line, secret);
    line.push(b'\n');
    KeyLogLine(Secret::new(line))
}

fn hex(line: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            let base = if digit < 10 { b'0' } else { b'a' - 10 };
            line.push(base.wrapping_add(digit));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_of(count: usize) -> KeyLog {
        let mut log = KeyLog::new(true);
        for number in 0..count {
            let mut kexinit = vec![20; 17];
            kexinit[16] = number as u8;
            log.add(&kexinit, &SharedSecret::for_tests(&[0, 0, 0xab, 0x09]));
        }
        log
    }

    #[test]
    fn a_line_has_the_clients_cookie_and_the_number_without_leading_zeros() {
        let line = log_of(1).poll().unwrap();
        let cookie = format!("{}00", "14".repeat(15));
        assert_eq!(
            line.expose(),
            format!("{cookie} SHARED_SECRET ab09\n").as_bytes()
        );
        assert_eq!(format!("{line:?}"), "KeyLogLine(..)");
    }

    #[test]
    fn of_lines_that_nobody_takes_the_oldest_go() {
        let mut log = log_of(KEY_LOG_LINES + 2);
        let first = log.poll().unwrap();
        assert!(
            first
                .expose()
                .starts_with(format!("{}02 ", "14".repeat(15)).as_bytes())
        );
        assert_eq!(std::iter::from_fn(|| log.poll()).count(), KEY_LOG_LINES - 1);
    }

    #[test]
    fn nothing_is_kept_unless_it_was_asked_for() {
        let mut log = KeyLog::new(false);
        log.add(&[20; 17], &SharedSecret::for_tests(&[1]));
        assert!(log.poll().is_none());
    }
}
