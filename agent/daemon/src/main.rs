//! kilter-agent
mod checkpoint;
mod clock;
mod config;
mod file;
mod number;
mod said;
mod spooler;
mod suppress;
fn main() {}
