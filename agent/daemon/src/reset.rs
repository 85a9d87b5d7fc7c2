//! `kilter-agent reset`: a person at the machine releases a latched trip, with a server or without.
//!
//! The command leaves a note in the agent's data folder, and the agent takes it from there. Whoever may write that folder could replace
//! the agent's whole state, so the note needs no key of its own; the local page shows to whoever asks, and takes nothing but
//! inputs that come with a token. No reset comes later than the person expects: the command withdraws a note that nobody took, and a
//! starting agent drops what it finds.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use kilter_source::Stop;
use kilter_types::{MAX_WHO, Micros, Name, Who};
use kilter_wire::{Command, CommandKind};
use tracing::error;

use crate::clock;
use crate::config::Config;
use crate::file;
use crate::machine::Order;

/// Reset latched alarms and the trip of one machine of the running agent.
#[derive(Debug, Args)]
pub(crate) struct Reset {
    /// The machine.
    asset: String,
    /// The configuration that the agent runs with.
    #[arg(long)]
    config: PathBuf,
    /// Where the agent keeps its data, if it was started with --data.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Who resets it: told in the log, in the alarm log and in the journal.
    #[arg(long)]
    by: String,
}

/// Asks the agent, and waits until it has taken the note.
pub(crate) fn run(ask: &Reset) -> anyhow::Result<()> {
    let config = Config::load(&ask.config)?;
    let Some(machine) = config.machine.iter().find(|machine| machine.asset.as_str() == ask.asset) else {
        let known: Vec<&str> = config.machine.iter().map(|machine| machine.asset.as_str()).collect();
        bail!("find machine {:?} in {}: there are {}", ask.asset, ask.config.display(), known.join(", "));
    };
    let by = Who::new(&ask.by)
        .with_context(|| format!("take {:?} as the one who resets: 1 to {MAX_WHO} bytes on one line", ask.by))?;
    let note = path(ask.data.as_ref().unwrap_or(&config.data), &machine.asset);
    file::replace(&note, by.as_str().as_bytes()).with_context(|| format!("write {}", note.display()))?;
    if wait(&note, ATTEMPTS).with_context(|| format!("withdraw {}", note.display()))? {
        println!("the agent resets {}", machine.asset);
        return Ok(());
    }
    bail!(
        "reset {}: no agent took the note {} (is it running with these data?); it is withdrawn",
        ask.asset,
        note.display()
    )
}

/// Was the note taken? It is gone in any case.
fn wait(note: &Path, attempts: u32) -> io::Result<bool> {
    let patience = Stop::default();
    for _ in 0..attempts {
        if !note.try_exists()? {
            return Ok(true);
        }
        patience.wait(POLL);
    }
    match fs::remove_file(note) {
        Ok(()) => Ok(false),
        // At the last moment.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Where the running agent finds the notes.
pub(crate) struct Desk {
    notes: Vec<(Name, PathBuf, SyncSender<Order>)>,
    said_error: String,
}

impl Desk {
    /// Makes the folder, so that it is the agent's own, and drops the notes from before the start.
    pub(crate) fn open(data: &Path, machines: impl IntoIterator<Item = (Name, SyncSender<Order>)>) -> io::Result<Self> {
        fs::create_dir_all(folder(data))?;
        let mut notes = Vec::new();
        for (asset, orders) in machines {
            let note = path(data, &asset);
            if file::read(&note)?.is_some() {
                fs::remove_file(&note)?;
            }
            notes.push((asset, note, orders));
        }
        Ok(Self { notes, said_error: String::new() })
    }

    /// Takes notes as they come.
    pub(crate) async fn run(mut self) {
        loop {
            self.poll();
            clock::pause(POLL).await;
        }
    }

    fn poll(&mut self) {
        for (asset, note, orders) in &self.notes {
            if let Err(error) = take(asset, note, orders) {
                let text = format!("{asset}: {error}");
                if text != self.said_error {
                    error!(%asset, note = %note.display(), %error, "reset not done");
                    self.said_error = text;
                }
            }
        }
    }
}

fn take(asset: &Name, note: &Path, orders: &SyncSender<Order>) -> io::Result<()> {
    let Some(by) = file::read(note)? else { return Ok(()) };
    let id = getrandom::u64().map_err(io::Error::other)?;
    // Before it is done: a note that could not be removed would reset for ever.
    fs::remove_file(note)?;
    let by = Who::new(&String::from_utf8_lossy(&by)).ok_or_else(|| io::Error::other("the note names nobody"))?;
    let kind = CommandKind::ResetBy { asset: asset.clone(), by };
    let order = Order::Command(Command { id, expires: Micros(i64::MAX), kind });
    orders.try_send(order).map_err(|_| io::Error::other("the machine takes no orders"))
}

fn path(data: &Path, asset: &Name) -> PathBuf {
    folder(data).join(asset.as_str())
}

fn folder(data: &Path) -> PathBuf {
    data.join("reset")
}

const POLL: Duration = Duration::from_millis(100);
const ATTEMPTS: u32 = 50;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    #[test]
    fn a_note_is_taken_once_and_neither_before_the_start_nor_after_it_was_withdrawn() {
        let dir = tempfile::tempdir().expect("a folder");
        let asset = Name::new("pump-1").expect("a good name");
        let note = path(dir.path(), &asset);
        file::replace(&note, b"too early").expect("it is written");
        let (orders, taken) = sync_channel(4);
        let mut desk = Desk::open(dir.path(), [(asset.clone(), orders)]).expect("it opens");
        desk.poll();
        assert!(taken.try_recv().is_err(), "a note from before the start");
        file::replace(&note, b"a person").expect("it is written");
        desk.poll();
        let order = taken.try_recv().expect("an order");
        assert!(
            matches!(order, Order::Command(Command { kind: CommandKind::ResetBy { asset: which, by }, .. }) if which == asset && by.as_str() == "a person")
        );
        desk.poll();
        assert!(taken.try_recv().is_err(), "a note is taken once");
        assert!(wait(&note, 0).expect("a readable folder"), "it was taken");
        file::replace(&note, b"nobody is there").expect("it is written");
        assert!(!wait(&note, 0).expect("a readable folder"), "nobody took it");
        desk.poll();
        assert!(taken.try_recv().is_err(), "a withdrawn note");
    }
}
