//! An agent's uplink as in production, over records that lie in memory.

use std::path::Path;
use std::time::Instant;

use kilter_types::{Clock, Micros, Monotonic, Name};
use kilter_uplink::{Identity, Place, Ports, Server, Session, SessionConfig, Spool, SpoolError, Status, run};
use kilter_wire::bundle::Bundle;
use kilter_wire::topic::{Direction, Topic};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

use crate::backlog::Records;

/// A running uplink.
pub(crate) struct Edge {
    count: u64,
    durable: watch::Sender<u64>,
    released: watch::Receiver<u64>,
    status: watch::Receiver<Status>,
    // Kept open: an uplink whose other ends are gone hears of it.
    _ends: Box<dyn std::any::Any>,
}

impl Edge {
    /// Starts it with nothing durable yet.
    pub(crate) fn start(runtime: &Runtime, bundle: &Path, records: Records, seed: u64) -> anyhow::Result<Self> {
        let bundle: Bundle<String> = toml::from_str(&std::fs::read_to_string(bundle)?)?;
        let up = Topic { tenant: bundle.tenant.clone(), device: bundle.device.clone(), direction: Direction::Up };
        let server = Server::new(&bundle.server, &bundle.server_ca, &bundle.credential, up)?;
        let identity = Identity { device: bundle.device.clone(), software: Name::new("0.1.0")? };
        let config = SessionConfig { ack_timeout_us: 1_000_000, stall_us: 5_000_000, ..SessionConfig::default() };
        let (count, epoch) = (records.len() as u64, records[0].0.epoch);
        let session = Session::new(config, identity, epoch, vec![epoch], 0, 0);
        let (durable, durable_seen) = watch::channel(0);
        let (notes, notes_seen) = mpsc::channel(1);
        let (outgoing, outgoing_seen) = mpsc::channel(1);
        let (downs, mut downs_seen) = mpsc::channel(64);
        let (released_to, released) = watch::channel(0);
        let (status_to, status) = watch::channel(Status::default());
        let (time, _) = watch::channel(None);
        let (lost, lost_seen) = mpsc::channel(1);
        let (links, _) = watch::channel(0);
        let (stop, stop_seen) = watch::channel(false);
        runtime.spawn(async move { while downs_seen.recv().await.is_some() {} });
        let ports = Ports {
            durable: durable_seen,
            notes: notes_seen,
            outgoing: outgoing_seen,
            downs,
            released: released_to,
            status: status_to,
            time,
            lost,
            links,
            stop: stop_seen,
        };
        runtime.spawn(run(server, session, Memory(records), Started(Instant::now()), seed, ports));
        Ok(Self { count, durable, released, status, _ends: Box::new((notes, outgoing, lost_seen, stop)) })
    }

    /// Another part of the records is durable at the agent.
    pub(crate) fn produce(&self, part: u64, of: u64) {
        self.durable.send_replace(self.count * part / of);
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.status.borrow().connected
    }

    /// Everything is committed.
    pub(crate) fn is_released(&self) -> bool {
        *self.released.borrow() == self.count
    }

    /// Records that went out, repeats included.
    pub(crate) fn sent(&self) -> u64 {
        self.status.borrow().records
    }
}

/// The agent's journal: offsets are places.
struct Memory(Records);

impl Spool for Memory {
    fn read(&mut self, from: u64, bytes: &mut Vec<u8>) -> Result<Option<Place>, SpoolError> {
        let Some((key, record)) = self.0.get(from as usize) else { return Ok(None) };
        bytes.clear();
        bytes.extend_from_slice(record);
        Ok(Some(Place { key: *key, offset: from, next: from + 1 }))
    }
}

struct Started(Instant);

impl Clock for Started {
    fn monotonic(&self) -> Monotonic {
        Monotonic(self.0.elapsed().as_micros() as u64)
    }

    fn wall(&self) -> Option<Micros> {
        None
    }

    fn uncertainty(&self) -> Micros {
        Micros(0)
    }
}
