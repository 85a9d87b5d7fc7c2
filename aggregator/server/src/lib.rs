//! What others may use of the aggregator without running one: reading its configuration, for the fuzz target.
//!
//! The aggregator is the program; this is its own file once more, so that what is fuzzed is what it runs.
#![expect(dead_code, reason = "the program uses the rest of this file")]

mod config;

/// Reads the text of a configuration; `Err` says what is wrong with it.
pub fn check_config(text: &str) -> Result<(), String> {
    config::Config::parse(text).map(drop).map_err(|error| error.to_string())
}
