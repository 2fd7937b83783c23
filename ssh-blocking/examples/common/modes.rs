//! Terminal modes of RFC 4254 section 8 to and from the terminals of this system.

use rustix::termios::{
    ControlModes, InputModes, LocalModes, OutputModes, SpecialCodeIndex, SpecialCodes, Termios,
};
use ssh_proto::msg::modes::{Mode, TerminalModes};

const CODES: &[(Mode, SpecialCodeIndex)] = &[
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

const INPUT: &[(Mode, InputModes)] = &[
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

const LOCAL: &[(Mode, LocalModes)] = &[
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

const OUTPUT: &[(Mode, OutputModes)] = &[
    (Mode::OPOST, OutputModes::OPOST),
    (Mode::ONLCR, OutputModes::ONLCR),
    (Mode::OCRNL, OutputModes::OCRNL),
    (Mode::ONOCR, OutputModes::ONOCR),
    (Mode::ONLRET, OutputModes::ONLRET),
];

const CONTROL: &[(Mode, ControlModes)] = &[
    (Mode::PARENB, ControlModes::PARENB),
    (Mode::PARODD, ControlModes::PARODD),
];

/// A special character that does nothing: 255 on the wire, 0 here.
const DISABLED: u32 = 255;

/// What a terminal is set to.
#[allow(dead_code, reason = "each example uses its own direction")]
pub fn read(termios: &Termios) -> TerminalModes {
    let mut modes = TerminalModes::new();
    for &(mode, index) in CODES {
        let code = u32::from(termios.special_codes[index]);
        modes.push(mode, if code == 0 { DISABLED } else { code });
    }
    let mut flag = |mode, set| modes.push(mode, u32::from(set));
    for &(mode, bit) in INPUT {
        flag(mode, termios.input_modes.contains(bit));
    }
    for &(mode, bit) in LOCAL {
        flag(mode, termios.local_modes.contains(bit));
    }
    for &(mode, bit) in OUTPUT {
        flag(mode, termios.output_modes.contains(bit));
    }
    for &(mode, bit) in CONTROL {
        flag(mode, termios.control_modes.contains(bit));
    }
    flag(Mode::CS7, termios.control_modes.contains(ControlModes::CS7));
    flag(Mode::CS8, termios.control_modes.contains(ControlModes::CS8));
    modes.push(Mode::TTY_OP_ISPEED, termios.input_speed());
    modes.push(Mode::TTY_OP_OSPEED, termios.output_speed());
    modes
}

/// Sets a terminal; what is not named stays as it is.
#[allow(dead_code, reason = "each example uses its own direction")]
pub fn apply(modes: &TerminalModes, termios: &mut Termios) {
    let codes: &mut SpecialCodes = &mut termios.special_codes;
    for &(mode, index) in CODES {
        if let Some(code) = modes.get(mode) {
            codes[index] = match code {
                DISABLED => 0,
                code => u8::try_from(code).unwrap_or(0),
            };
        }
    }
    for &(mode, bit) in INPUT {
        if let Some(value) = modes.get(mode) {
            termios.input_modes.set(bit, value != 0);
        }
    }
    for &(mode, bit) in LOCAL {
        if let Some(value) = modes.get(mode) {
            termios.local_modes.set(bit, value != 0);
        }
    }
    for &(mode, bit) in OUTPUT {
        if let Some(value) = modes.get(mode) {
            termios.output_modes.set(bit, value != 0);
        }
    }
    for &(mode, bit) in CONTROL {
        if let Some(value) = modes.get(mode) {
            termios.control_modes.set(bit, value != 0);
        }
    }
    for (mode, size) in [
        (Mode::CS7, ControlModes::CS7),
        (Mode::CS8, ControlModes::CS8),
    ] {
        if modes.get(mode).is_some_and(|value| value != 0) {
            termios.control_modes.remove(ControlModes::CSIZE);
            termios.control_modes.insert(size);
        }
    }
}
