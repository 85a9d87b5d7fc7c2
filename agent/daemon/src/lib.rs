//! What others may use of the agent without running one: reading its configuration, for the fuzz target.
//!
//! The agent is the program; these are its own files once more, so that what is fuzzed is what it runs.
#![expect(dead_code, reason = "the program uses the rest of these files")]

mod clip;
mod config;
mod exception;
mod file;
mod said;
mod spent;

/// Reads and checks the text of a configuration; `Err` says what is wrong with it.
pub fn check_config(text: &str) -> Result<(), String> {
    config::Config::parse(text).map(drop).map_err(|error| error.to_string())
}
