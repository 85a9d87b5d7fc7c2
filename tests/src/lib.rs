//! The [`House`]: every process of a small plant, started as a user would start it, for demo and journeys.
//!
//! It starts and kills processes, presses what a user can press, and reads what a user can read. What it expects of a run comes
//! from the simulator's own books ([`expected`]), never from the counters of what is tested.

mod browser;
mod chance;
pub mod expected;
mod house;
mod http;
#[cfg(feature = "journal")]
mod journal;
pub mod lake;
#[cfg(feature = "model")]
pub mod model;
mod mosquitto;
mod place;
mod plant;
mod port;
mod process;
mod recording;
pub mod story;

pub use browser::Browser;
pub use chance::{Chance, misspell};
pub use house::{House, Interrupted, Options, Ports};
pub use http::{get, post, request, send};
#[cfg(feature = "journal")]
pub use journal::journalled;
pub use mosquitto::{Mosquitto, installed};
pub use place::{target, workspace};
pub use plant::{Machine, Tuning, agent_config, machines};
pub use port::{free_port, free_ports};
pub use process::{Bins, Process};
pub use recording::npy;
