//! The simulator's own books: what was produced, sent and skipped, and the truth beside it, as JSON lines.
//!
//! Whoever checks the other end counts against these and against nothing else. `produced` lines of one channel join without holes
//! unless the recording itself has one; what an agent was told to be missing stands in `skipped` lines.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use kilter_machine::Truth;
use kilter_types::{Micros, Name};
use kilter_wire::sensor::ChannelOffer;
use serde::Serialize;

/// The two files, each optional.
#[derive(Debug)]
pub(crate) struct Ledger {
    log: Option<Mutex<BufWriter<File>>>,
    truth: Option<Mutex<BufWriter<File>>>,
}

/// One line of the log.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Line<'a> {
    /// An asset and its channels; `start_us` is the event time of the beginning.
    Opened { asset: &'a Name, start_us: i64, channels: &'a [ChannelOffer] },
    /// Positions that exist from now on.
    Produced { asset: &'a Name, channel: &'a Name, from: u64, to: u64 },
    /// Nothing more will be produced; totals by channel, in the order of the offer.
    Ended { asset: &'a Name, produced: &'a [u64] },
    /// An agent asked, by channel in the order of the offer.
    Connected { asset: &'a Name, connection: u64, asked: &'a [u64] },
    /// An agent was told that these positions will never come.
    Skipped { asset: &'a Name, connection: u64, channel: &'a Name, from: u64, to: u64 },
    /// An agent is gone; by channel, the position behind the last sample handed to its connection.
    Disconnected { asset: &'a Name, connection: u64, sent_to: &'a [u64] },
    /// Somebody changed a machine; `t_us` is the event time at which that begins.
    Commanded { asset: &'a Name, t_us: i64, command: &'a serde_json::Value },
}

impl Ledger {
    pub(crate) fn create(log: Option<&Path>, truth: Option<&Path>) -> anyhow::Result<Self> {
        Ok(Self { log: log.map(create).transpose()?, truth: truth.map(create).transpose()? })
    }

    /// Writes a line of the log.
    pub(crate) fn log(&self, line: &Line<'_>) {
        write(self.log.as_ref(), line);
    }

    /// Writes a machine's truth.
    pub(crate) fn truth(&self, asset: &Name, start: Micros, truth: &Truth) {
        #[derive(Serialize)]
        struct Row<'a> {
            asset: &'a Name,
            t_us: i64,
            truth: &'a Truth,
        }
        let t_us = start.0.saturating_add((truth.t_s * 1e6).round() as i64);
        write(self.truth.as_ref(), &Row { asset, t_us, truth });
    }
}

fn create(path: &Path) -> anyhow::Result<Mutex<BufWriter<File>>> {
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    Ok(Mutex::new(BufWriter::new(file)))
}

/// Each line is flushed, so that a reader of the file sees whole lines at any time.
fn write(file: Option<&Mutex<BufWriter<File>>>, row: &impl Serialize) {
    let Some(file) = file else { return };
    let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
    let written = serde_json::to_writer(&mut *file, row).map_err(std::io::Error::from);
    if let Err(error) = written.and_then(|()| file.write_all(b"\n")).and_then(|()| file.flush()) {
        tracing::error!(%error, "log line lost");
    }
}
