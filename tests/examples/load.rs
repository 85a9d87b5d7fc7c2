//! How many rows a second an aggregator makes durable: many agents with a backlog each, by production uplinks, until all is accepted.
//!
//! ```sh
//! for i in $(seq 50); do kilter-aggregator enroll load-$i --out bundles/$i.toml; done
//! cargo run --profile house -p kilter-tests --example load -- bundles 10000
//! ```
//! The folder of bundles, and rows of 32 features for each agent. An ack follows the journal's sync, so accepted is durable. Rows differ in
//! every value. The agents' journals are memory: what is measured is uplink, network, admission, journal and fold.
#![expect(clippy::disallowed_methods, reason = "a measurement looks at the clock and waits")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use kilter_types::{
    Class, Clock, Epoch, FeatureRow, FeatureVector, GroupKind, Micros, Monotonic, Name, OperatingState, Payload, Point,
    Quality, Record, Rpm, SchemaHash, Timeline,
};
use kilter_uplink::{Identity, Key, Place, Ports, Server, Session, SessionConfig, Spool, SpoolError, Status, run};
use kilter_wire::bundle::Bundle;
use kilter_wire::encode_record;
use kilter_wire::topic::{Direction, Topic};
use tokio::sync::{mpsc, watch};

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(measure())
}

async fn measure() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().context("name the folder of bundles")?;
    let rows: u64 = arguments.next().context("say how many rows each agent has")?.parse()?;
    let mut agents = Vec::new();
    for entry in std::fs::read_dir(&folder)? {
        let bundle: Bundle<String> = toml::from_str(&std::fs::read_to_string(entry?.path())?)?;
        agents.push(Agent::prepare(bundle, rows, agents.len() as u64)?);
    }
    ensure!(!agents.is_empty(), "no bundles in {folder}");
    let (begun, before) = (Instant::now(), processor_secs()?);
    let running: Vec<_> = agents.into_iter().map(Agent::start).collect();
    for agent in &running {
        let mut status = agent.status.clone();
        let drained = |status: &Status| status.connected && status.drained;
        tokio::time::timeout(Duration::from_secs(300), status.wait_for(drained))
            .await
            .context("wait for an agent")??;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let all = rows * running.len() as u64;
    let (mut bytes, mut sent) = (0, 0);
    for agent in &running {
        let status = *agent.status.borrow();
        bytes += status.bytes;
        sent += status.records;
    }
    println!(
        "{} agents, {all} rows accepted in {seconds:.2} s: {:.0} rows/s, {:.1} bytes a row, {} repeats, generator {:.2} of a core",
        running.len(),
        all as f64 / seconds,
        bytes as f64 / sent as f64,
        sent - all,
        (processor_secs()? - before) / seconds,
    );
    Ok(())
}

struct Agent {
    server: Server,
    session: Session,
    spool: Memory,
    rows: u64,
    seed: u64,
}

struct Running {
    status: watch::Receiver<Status>,
    // Kept open: an uplink whose other ends are gone hears of it.
    _ends: Box<dyn std::any::Any>,
}

impl Agent {
    fn prepare(bundle: Bundle<String>, rows: u64, seed: u64) -> anyhow::Result<Self> {
        let epoch = Epoch(u64::from(std::process::id()) << 20 | seed);
        let up = Topic { tenant: bundle.tenant.clone(), device: bundle.device.clone(), direction: Direction::Up };
        let server = Server::new(&bundle.server, &bundle.server_ca, &bundle.credential, up)?;
        let identity = Identity { device: bundle.device.clone(), software: Name::new("0.1.0")? };
        let session = Session::new(SessionConfig::default(), identity, epoch, vec![epoch], 0, rows);
        let point = Point::parse(&format!("{}/load/{}/de", bundle.tenant, bundle.device))?;
        let records = (0..rows).map(|seq| record(&point, epoch, seq, seed)).collect();
        Ok(Self { server, session, spool: Memory { epoch, records: Arc::new(records) }, rows, seed })
    }

    fn start(self) -> Running {
        let (durable, durable_seen) = watch::channel(self.rows);
        let (notes, notes_seen) = mpsc::channel(1);
        let (outgoing, outgoing_seen) = mpsc::channel(1);
        let (downs, mut downs_seen) = mpsc::channel(64);
        let (released, _) = watch::channel(0);
        let (status, status_seen) = watch::channel(Status::default());
        let (time, _) = watch::channel(None);
        let (lost, lost_seen) = mpsc::channel(1);
        let (links, _) = watch::channel(0);
        let (stop, stop_seen) = watch::channel(false);
        tokio::spawn(async move { while downs_seen.recv().await.is_some() {} });
        let ports = Ports {
            durable: durable_seen,
            notes: notes_seen,
            outgoing: outgoing_seen,
            downs,
            released,
            status,
            time,
            lost,
            links,
            stop: stop_seen,
        };
        tokio::spawn(run(self.server, self.session, self.spool, Started(Instant::now()), self.seed, ports));
        Running { status: status_seen, _ends: Box::new((durable, notes, outgoing, lost_seen, stop)) }
    }
}

fn record(point: &Point, epoch: Epoch, seq: u64, seed: u64) -> Vec<u8> {
    let mut random = (seed << 32 | seq).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut noise = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 40) as f32 / (1 << 24) as f32
    };
    let start = Micros(1_700_000_000_000_000 + seq as i64 * 200_000);
    let record = Record {
        point: point.clone(),
        epoch,
        seq,
        monotonic: Monotonic(5_000_000 + seq * 200_000 + (noise() * 500.0) as u64),
        timeline: Timeline::Source,
        wall: Some(start),
        uncertainty: Micros(0),
        payload: Payload::Features(FeatureRow {
            group: 0,
            kind: GroupKind::Vibration,
            index: seq,
            start,
            end: start + Micros::from_millis(200),
            state: OperatingState::Steady(0),
            rpm: Rpm(1480.0),
            quality: Quality::GOOD,
            vector: FeatureVector {
                schema: SchemaHash(7),
                values: (1..=32).map(|place| place as f32 * (1.0 + 0.1 * noise())).collect(),
                valid: (1 << 32) - 1,
            },
        }),
    };
    let mut room = [0; 4097];
    encode_record(&record, &mut room).expect("it fits").to_vec()
}

#[derive(Clone)]
struct Memory {
    epoch: Epoch,
    records: Arc<Vec<Vec<u8>>>,
}

impl Spool for Memory {
    fn read(&mut self, from: u64, bytes: &mut Vec<u8>) -> Result<Option<Place>, SpoolError> {
        let Some(record) = self.records.get(from as usize) else { return Ok(None) };
        bytes.clear();
        bytes.extend_from_slice(record);
        let key = Key { epoch: self.epoch, class: Class::Feature, seq: from };
        Ok(Some(Place { key, offset: from, next: from + 1 }))
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

/// User and system time of this process; the kernel counts in hundredths of a second.
fn processor_secs() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    Ok((ticks(11) + ticks(12)) / 100.0)
}
