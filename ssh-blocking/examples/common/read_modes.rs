//! Terminal modes as a client sends them.

use rustix::termios::{ControlModes, Termios};
use ssh_blocking::ssh_proto::msg::modes::{Mode, TerminalModes};

use crate::modes::{CODES, CONTROL, DISABLED, INPUT, LOCAL, OUTPUT};

/// What a terminal is set to.
pub(crate) fn read(termios: &Termios) -> TerminalModes {
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
