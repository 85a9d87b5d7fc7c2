//! Bad input, with real processes: each gets a clear error, and nothing that is good is lost.

mod agent_start;
mod aggregator_start;
mod away;
mod defined;
mod full_disk;
mod insider;
mod kept;
mod lake;
mod models;
mod mqtt;
mod pressure;
mod redrawn;
mod samples;
mod stage;
