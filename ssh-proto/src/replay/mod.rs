//! Sessions that are recorded, and recordings that are played: the same bytes again. Feature `replay`.

mod command;
pub(crate) mod config;
mod fields;
mod play;
pub(crate) mod record;
#[cfg(test)]
mod tests;
mod text;
mod trace;

pub(crate) use command::{Command, Start};
pub(crate) use fields::{Name, Serial, Written};
pub use play::{Difference, Divergence, Player, play};
pub(crate) use record::offered;
pub use trace::{Step, Trace, TraceError};
