//! Terminal modes as a server applies them.

use rustix::termios::{ControlModes, SpecialCodes, Termios};
use ssh_blocking::ssh_proto::msg::modes::{Mode, TerminalModes};

use crate::modes::{CODES, CONTROL, DISABLED, INPUT, LOCAL, OUTPUT};

/// Sets a terminal; what is not named stays as it is.
pub(crate) fn apply(modes: &TerminalModes, termios: &mut Termios) {
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
