//! How many rows a second an aggregator makes durable: many agents with a backlog each, by production uplinks, until all is accepted.
//!
//! ```sh
//! for i in $(seq 50); do kilter-aggregator enroll load-$i --out bundles/$i.toml; done
//! cargo run --profile house -p kilter-tests --example load -- bundles 10000
//! ```
//! The folder of bundles, and rows of 32 features for each agent. An ack follows the journal's sync, so accepted is durable. Rows differ in
//! every value. The agents' journals are memory: what is measured is uplink, network, admission, journal and fold.
//!
//! With 0 rows and two more numbers, rows a second of all agents together and seconds, rows come ten times a second (once a second where that is less than a
//! row of each agent) instead of lying there, and the time from each such moment until all of its rows were accepted is told. A third number says
//! how many of the agents come only at half time, all at once, as after an outage: times before and from then on are told apart.
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
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
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
    let numbers = arguments.map(|text| text.parse()).collect::<Result<Vec<u64>, _>>()?;
    if let [rate, seconds, late @ ..] = numbers.as_slice() {
        ensure!(rows == 0, "rows that come by the second do not lie there before: say 0 rows");
        return paced(agents, *rate, *seconds, late.first().copied().unwrap_or(0)).await;
    }
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

/// Rows ten times a second, or once, for so long.
async fn paced(mut agents: Vec<Agent>, rate: u64, seconds: u64, late: u64) -> anyhow::Result<()> {
    let count = agents.len() as u64;
    ensure!(late < count, "{late} of {count} agents can't be late");
    let often = if rate >= 10 * count { 10 } else { 1 };
    let (pulses, a_pulse, every) = (seconds * often, rate / often / count, Duration::from_secs(1) / often as u32);
    ensure!(a_pulse > 0, "{rate} rows a second are less than one for each of {count} agents");
    for agent in &mut agents {
        (agent.rows, agent.spool.records) = (0, None);
    }
    let latecomers = agents.split_off(usize::try_from(count - late)?);
    let connecting = Instant::now();
    let mut running: Vec<_> = agents.into_iter().map(Agent::start).collect();
    connected(&mut running).await?;
    println!("{} agents connected in {:.2} s", running.len(), connecting.elapsed().as_secs_f64());
    let (begun, before) = (Instant::now(), processor_secs()?);
    let half = begun + Duration::from_secs(seconds) / 2;
    let times: Vec<_> =
        running.iter().map(|agent| tokio::spawn(agent.pulse(begun, (pulses, every), a_pulse))).collect();
    let joined = if latecomers.is_empty() {
        None
    } else {
        tokio::time::sleep_until(half.into()).await;
        let mut more: Vec<_> = latecomers.into_iter().map(Agent::start).collect();
        connected(&mut more).await?;
        let took = half.elapsed();
        running.append(&mut more);
        Some(took)
    };
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for agent in times {
        for (pulse, took) in agent.await?? {
            if begun + every * pulse < half { first.push(took) } else { second.push(took) }
        }
    }
    let (ended, all) = (begun.elapsed().as_secs_f64(), pulses * a_pulse * (count - late));
    let sent: u64 = running.iter().map(|agent| agent.status.borrow().records).sum();
    println!(
        "{all} rows accepted in {ended:.2} s: {:.0} rows/s, {} repeats, generator {:.2} of a core",
        all as f64 / ended,
        sent.saturating_sub(all),
        (processor_secs()? - before) / ended
    );
    for (when, times) in [("first half", &mut first), ("second half", &mut second)] {
        times.sort();
        let at =
            |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default().as_secs_f64();
        println!("{when}: accepted after p50 {:.3} s, p99 {:.3} s, most {:.3} s", at(0.5), at(0.99), at(0.999_999));
    }
    if let Some(took) = joined {
        println!("{late} more agents, all at once: the last one connected after {:.2} s", took.as_secs_f64());
    }
    Ok(())
}

async fn connected(agents: &mut [Running]) -> anyhow::Result<()> {
    for agent in agents {
        let there = agent.status.wait_for(|status| status.connected);
        tokio::time::timeout(Duration::from_secs(120), there).await.context("wait for an agent's connection")??;
    }
    Ok(())
}

impl Running {
    /// Adds rows at each moment; each moment's number and how long it took until all rows up to it were accepted.
    fn pulse(
        &self,
        begun: Instant,
        (pulses, every): (u64, Duration),
        rows: u64,
    ) -> impl Future<Output = anyhow::Result<Vec<(u32, Duration)>>> + Send + use<> {
        let (durable, mut status) = (self.durable.clone(), self.status.clone());
        async move {
            let (mut open, mut done, mut next) = (Vec::new(), Vec::new(), 0);
            loop {
                let due = begun + every * next;
                tokio::select! {
                    () = tokio::time::sleep_until(due.into()), if u64::from(next) < pulses => {
                        durable.send_modify(|end| *end += rows);
                        open.push((next, due));
                        next += 1;
                    }
                    changed = status.changed() => {
                        changed?;
                        let Status { drained, durable_end, .. } = *status.borrow_and_update();
                        // A status that does not know of the newest rows yet says nothing of them.
                        if drained && durable_end == u64::from(next) * rows {
                            done.extend(open.drain(..).map(|(pulse, due)| (pulse, due.elapsed())));
                        }
                    }
                }
                if u64::from(next) == pulses && open.is_empty() {
                    return Ok(done);
                }
            }
        }
    }
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
    durable: watch::Sender<u64>,
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
        Ok(Self { server, session, spool: Memory { epoch, point, seed, records: Some(Arc::new(records)) }, rows, seed })
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
        Running { status: status_seen, durable, _ends: Box::new((notes, outgoing, lost_seen, stop)) }
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
    point: Point,
    seed: u64,
    /// Without them each record is made when it is asked for.
    records: Option<Arc<Vec<Vec<u8>>>>,
}

impl Spool for Memory {
    fn read(&mut self, from: u64, bytes: &mut Vec<u8>) -> Result<Option<Place>, SpoolError> {
        bytes.clear();
        match &self.records {
            Some(records) => match records.get(from as usize) {
                Some(record) => bytes.extend_from_slice(record),
                None => return Ok(None),
            },
            None => bytes.extend(record(&self.point, self.epoch, from, self.seed)),
        }
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
