//! Encoded terminal modes (RFC 4254 section 8).

use crate::wire::{Malformed, Reader, Writer};

/// Terminal modes in the order in which they were given.
///
/// ```
/// use ssh_proto::msg::modes::{Mode, TerminalModes};
///
/// let modes: TerminalModes = [(Mode::ECHO, 0), (Mode::TTY_OP_ISPEED, 38_400)].into_iter().collect();
/// assert_eq!(TerminalModes::decode(&modes.encode()), Ok(modes));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TerminalModes(Vec<(Mode, u32)>);

impl TerminalModes {
    /// No modes.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a mode.
    pub fn push(&mut self, mode: Mode, argument: u32) {
        self.0.push((mode, argument));
    }

    /// The argument of `mode`; where it was given twice, the last one.
    pub fn get(&self, mode: Mode) -> Option<u32> {
        self.0
            .iter()
            .rev()
            .find(|(other, _)| *other == mode)
            .map(|&(_, argument)| argument)
    }

    /// The modes in order.
    pub fn iter(&self) -> impl Iterator<Item = (Mode, u32)> + '_ {
        self.0.iter().copied()
    }

    /// Reads the encoded form. RFC 4254 section 8: "Opcodes 160 to 255 are not yet defined, and cause
    /// parsing to stop". A missing `TTY_OP_END` at the end is tolerated.
    pub fn decode(encoded: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(encoded);
        let mut modes = Self::new();
        while !reader.is_empty() {
            match reader.byte()? {
                0 | 160..=255 => break,
                opcode => modes.push(Mode(opcode), reader.uint32()?),
            }
        }
        Ok(modes)
    }

    /// The encoded form, `TTY_OP_END` included.
    pub fn encode(&self) -> Vec<u8> {
        let mut encoded = Vec::new();
        let mut writer = Writer::new(&mut encoded);
        for (mode, argument) in self.iter().filter(|(mode, _)| matches!(mode.0, 1..=159)) {
            writer.byte(mode.0).uint32(argument);
        }
        writer.byte(0);
        encoded
    }
}

impl FromIterator<(Mode, u32)> for TerminalModes {
    fn from_iter<I: IntoIterator<Item = (Mode, u32)>>(modes: I) -> Self {
        Self(modes.into_iter().collect())
    }
}

/// The opcode of a terminal mode (RFC 4254 section 8, RFC 8160). Unknown values survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mode(pub u8);

#[expect(missing_docs, reason = "the names of RFC 4254 section 8 say it")]
impl Mode {
    pub const VINTR: Self = Self(1);
    pub const VQUIT: Self = Self(2);
    pub const VERASE: Self = Self(3);
    pub const VKILL: Self = Self(4);
    pub const VEOF: Self = Self(5);
    pub const VEOL: Self = Self(6);
    pub const VEOL2: Self = Self(7);
    pub const VSTART: Self = Self(8);
    pub const VSTOP: Self = Self(9);
    pub const VSUSP: Self = Self(10);
    pub const VDSUSP: Self = Self(11);
    pub const VREPRINT: Self = Self(12);
    pub const VWERASE: Self = Self(13);
    pub const VLNEXT: Self = Self(14);
    pub const VFLUSH: Self = Self(15);
    pub const VSWTCH: Self = Self(16);
    pub const VSTATUS: Self = Self(17);
    pub const VDISCARD: Self = Self(18);
    pub const IGNPAR: Self = Self(30);
    pub const PARMRK: Self = Self(31);
    pub const INPCK: Self = Self(32);
    pub const ISTRIP: Self = Self(33);
    pub const INLCR: Self = Self(34);
    pub const IGNCR: Self = Self(35);
    pub const ICRNL: Self = Self(36);
    pub const IUCLC: Self = Self(37);
    pub const IXON: Self = Self(38);
    pub const IXANY: Self = Self(39);
    pub const IXOFF: Self = Self(40);
    pub const IMAXBEL: Self = Self(41);
    pub const IUTF8: Self = Self(42);
    pub const ISIG: Self = Self(50);
    pub const ICANON: Self = Self(51);
    pub const XCASE: Self = Self(52);
    pub const ECHO: Self = Self(53);
    pub const ECHOE: Self = Self(54);
    pub const ECHOK: Self = Self(55);
    pub const ECHONL: Self = Self(56);
    pub const NOFLSH: Self = Self(57);
    pub const TOSTOP: Self = Self(58);
    pub const IEXTEN: Self = Self(59);
    pub const ECHOCTL: Self = Self(60);
    pub const ECHOKE: Self = Self(61);
    pub const PENDIN: Self = Self(62);
    pub const OPOST: Self = Self(70);
    pub const OLCUC: Self = Self(71);
    pub const ONLCR: Self = Self(72);
    pub const OCRNL: Self = Self(73);
    pub const ONOCR: Self = Self(74);
    pub const ONLRET: Self = Self(75);
    pub const CS7: Self = Self(90);
    pub const CS8: Self = Self(91);
    pub const PARENB: Self = Self(92);
    pub const PARODD: Self = Self(93);
    pub const TTY_OP_ISPEED: Self = Self(128);
    pub const TTY_OP_OSPEED: Self = Self(129);
}
