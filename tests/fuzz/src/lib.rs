//! Everything that reads bytes from a link, a disk or a person, as functions that must survive all bytes.
//!
//! `cargo xt fuzz` runs each under libFuzzer, guided by coverage, from the stored corpus in `corpus/`; the ordinary tests run the
//! stored corpus and seeded mutations of it, so that what was once found stays found. A target panics when a promise is broken;
//! refusing bytes is no failure.

mod config;
mod journal;
mod measured;
mod message;

/// Takes bytes; panics when a promise is broken.
pub type Target = fn(&[u8]);

/// Every target by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("message", message::message),
    ("record", message::record),
    ("batch", message::batch),
    ("topic", message::topic),
    ("payload", message::payload),
    ("entry", message::entry),
    ("sensor", message::sensor),
    ("journal", journal::recovery),
    ("artifact", measured::artifact),
    ("npy", measured::npy),
    ("wav", measured::wav),
    ("csv", measured::csv),
    ("config", config::config),
    ("config_aggregator", config::aggregator),
    ("config_lab", config::lab),
];

/// The target of this name.
pub fn find(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, run)| *run)
}
