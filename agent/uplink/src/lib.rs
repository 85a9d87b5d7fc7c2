//! Delivery: from the agent's journal to the aggregator and back, at least once on the wire, exactly once in effect.
//!
//! The [`Session`] is the whole logic and does no IO: a shell tells it what happened, asks it what to send and when to look
//! again. It reads records through [`Spool`], so the same session runs over the journal on disk and over a model in virtual
//! time. [`run`] moves its frames over QUIC where UDP gets through and over MQTT v5 where it does not.
//!
//! Promises kept here: **D1** at least once, an ack is a mark plus ranges and idempotent; **D3** what is in flight is bounded
//! by count, by bytes and by the aggregator's credit; **D4** the journal is released only up to what is committed.

mod backoff;
mod budget;
mod certificate;
mod fetch;
mod held;
mod link;
mod marks;
mod pack;
mod path;
mod server;
mod session;
mod shell;
mod spool;
mod time;

pub use backoff::Backoff;
pub use budget::Spent;
pub use fetch::{Fetcher, Progress};
pub use path::{Carrier, Path};
pub use server::{Server, ServerError};
pub use session::{Identity, Session, SessionConfig, Status, Urgency};
pub use shell::{Lost, Note, Ports, run};
pub use spool::{JournalSpool, Key, Place, Spool, SpoolError};
pub use time::{TimeExchange, TimeSample};
