//! Scenarios: what a client and a server do with each other, described once, played on every backend and in both roles.
//!
//! A [`Scenario`] is data: attempts to log in, channels, and what each side does on them. A [`Side`](side::Side)
//! interprets one side of it over whatever a backend lends it as [`Link`](link::Link) and [`Chan`](link::Chan), and keeps
//! a log for each channel. The logs of all backends must be the same, and are compared with what the scenario's author
//! wrote down.
//!
//! | file | what it holds |
//! |---|---|
//! | `script` | what a scenario says, and the words to say it with |
//! | `side` | the interpreter: scripts, and answers to what the peer asks |
//! | `policy` | those answers |
//! | `log` | what a side saw, normalised |
//! | `link` | what the interpreter needs of a backend |
//! | `world` | latches, and the scissors for the wire |
//! | `hub` | the core alone as a backend, for whoever turns it |
//! | `simulated` | two hubs on a network in memory, with a clock of their own |
//! | `play` | two backends joined by a socket, each in any role |
//! | `blocking`, `tokio`, `mio` | the adapters as backends |
//! | `socket` | the core alone on a socket |
//! | `disturbed` | a socket whose calls do less than they should |

mod blocking;
mod disturbed;
pub mod hub;
pub mod link;
pub mod log;
mod mio;
mod play;
pub mod policy;
pub mod script;
pub mod side;
mod simulated;
mod socket;
mod tokio;
pub mod world;

pub use disturbed::{Disturbance, Fault};
pub use play::{BACKENDS, Backend, play, play_disturbed, play_narrow};
pub use script::*;
pub use simulated::{NETWORKS, simulate};
