//! Terminal modes of RFC 4254 section 8 and what they are called on this system.

use rustix::termios::{ControlModes, InputModes, LocalModes, OutputModes, SpecialCodeIndex};
use ssh_blocking::ssh_proto::msg::modes::Mode;

pub(crate) const CODES: &[(Mode, SpecialCodeIndex)] = &[
    (Mode::VINTR, SpecialCodeIndex::VINTR),
    (Mode::VQUIT, SpecialCodeIndex::VQUIT),
    (Mode::VERASE, SpecialCodeIndex::VERASE),
    (Mode::VKILL, SpecialCodeIndex::VKILL),
    (Mode::VEOF, SpecialCodeIndex::VEOF),
    (Mode::VEOL, SpecialCodeIndex::VEOL),
    (Mode::VEOL2, SpecialCodeIndex::VEOL2),
    (Mode::VSTART, SpecialCodeIndex::VSTART),
    (Mode::VSTOP, SpecialCodeIndex::VSTOP),
    (Mode::VSUSP, SpecialCodeIndex::VSUSP),
    (Mode::VREPRINT, SpecialCodeIndex::VREPRINT),
    (Mode::VWERASE, SpecialCodeIndex::VWERASE),
    (Mode::VLNEXT, SpecialCodeIndex::VLNEXT),
    (Mode::VDISCARD, SpecialCodeIndex::VDISCARD),
];

pub(crate) const INPUT: &[(Mode, InputModes)] = &[
    (Mode::IGNPAR, InputModes::IGNPAR),
    (Mode::PARMRK, InputModes::PARMRK),
    (Mode::INPCK, InputModes::INPCK),
    (Mode::ISTRIP, InputModes::ISTRIP),
    (Mode::INLCR, InputModes::INLCR),
    (Mode::IGNCR, InputModes::IGNCR),
    (Mode::ICRNL, InputModes::ICRNL),
    (Mode::IXON, InputModes::IXON),
    (Mode::IXANY, InputModes::IXANY),
    (Mode::IXOFF, InputModes::IXOFF),
    (Mode::IMAXBEL, InputModes::IMAXBEL),
    #[cfg(target_os = "linux")]
    (Mode::IUTF8, InputModes::IUTF8),
];

pub(crate) const LOCAL: &[(Mode, LocalModes)] = &[
    (Mode::ISIG, LocalModes::ISIG),
    (Mode::ICANON, LocalModes::ICANON),
    (Mode::ECHO, LocalModes::ECHO),
    (Mode::ECHOE, LocalModes::ECHOE),
    (Mode::ECHOK, LocalModes::ECHOK),
    (Mode::ECHONL, LocalModes::ECHONL),
    (Mode::NOFLSH, LocalModes::NOFLSH),
    (Mode::TOSTOP, LocalModes::TOSTOP),
    (Mode::IEXTEN, LocalModes::IEXTEN),
    (Mode::ECHOCTL, LocalModes::ECHOCTL),
    (Mode::ECHOKE, LocalModes::ECHOKE),
];

pub(crate) const OUTPUT: &[(Mode, OutputModes)] = &[
    (Mode::OPOST, OutputModes::OPOST),
    (Mode::ONLCR, OutputModes::ONLCR),
    (Mode::OCRNL, OutputModes::OCRNL),
    (Mode::ONOCR, OutputModes::ONOCR),
    (Mode::ONLRET, OutputModes::ONLRET),
];

pub(crate) const CONTROL: &[(Mode, ControlModes)] = &[
    (Mode::PARENB, ControlModes::PARENB),
    (Mode::PARODD, ControlModes::PARODD),
];

/// A special character that does nothing: 255 on the wire, 0 here.
pub(crate) const DISABLED: u32 = 255;
