//! The hooks of the recorder (`replay`). Without the feature they are nothing at all: not even their arguments are looked
//! at.

/// Says what is about to be done to the connection. `$out` is its output, `$command` makes the command of the time that
/// the recording started at, `$data` are bytes that belong to it.
macro_rules! note {
    ($out:expr, $command:expr) => {
        note!($out, $command, &[])
    };
    ($out:expr, $command:expr, $data:expr) => {
        #[cfg(any(test, feature = "replay"))]
        $out.note($command, $data);
    };
}
pub(crate) use note;

/// Says what was done, behind a [`settle!`]: for commands whose result belongs into the recording.
macro_rules! note_late {
    ($out:expr, $command:expr, $data:expr) => {
        #[cfg(any(test, feature = "replay"))]
        $out.note_late($command, $data);
    };
}
pub(crate) use note_late;

/// Says that what comes from here on is no longer of the last command.
macro_rules! settle {
    ($out:expr) => {
        #[cfg(any(test, feature = "replay"))]
        $out.settle();
    };
}
pub(crate) use settle;
