//! What happens to the plant: one trouble after the other, each at a moment that the seed draws.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use kilter_tests::{Chance, House, Mosquitto};

use crate::net::Net;
use crate::{PATIENCE, counted};

/// A plant in trouble.
pub(crate) struct Trial {
    pub(crate) house: House,
    /// Machines whose windows were rightly recorded twice, under two epochs: after an older disk, or by a second copy.
    pub(crate) doubled: BTreeSet<String>,
    net: Net,
    broker: Option<Mosquitto>,
    chance: Chance,
    agents: u64,
    /// Seconds since the beginning, and kilobytes of aggregator, lab and the largest agent.
    memory: Vec<(f64, [u64; 3])>,
    begun: Instant,
    hard: Hard,
}

/// What no log of ours can undo, counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hard {
    /// Journals of the aggregator that were deleted between accepted and committed.
    journals_lost: u64,
    /// Rows that were accepted and not committed then.
    rows_at_risk: u64,
    /// Second copies of an agent that ran beside it.
    copies: u64,
    /// Older images of an agent's disk that were put back, and bytes of its journal that went with the newer one.
    images: u64,
    bytes_gone: u64,
}

type Trouble = (&'static str, fn(&mut Trial) -> anyhow::Result<()>);

const TROUBLES: [Trouble; 13] = [
    ("an image of a disk is taken", Trial::take_image),
    ("kill -9 of an agent", Trial::kill_agent),
    ("UDP is blocked", Trial::block_udp),
    ("the aggregator's journal is lost between accepted and committed", Trial::lose_journal),
    ("a second copy of an agent is started", Trial::second_copy),
    ("SIGSTOP of an agent", Trial::stop_agent),
    ("every address changes", Trial::rebind),
    ("SIGSTOP of the aggregator", Trial::stop_aggregator),
    ("the cable is pulled", Trial::unplug),
    ("kill -9 of the aggregator", Trial::kill_aggregator),
    ("TCP connections are cut", Trial::cut),
    ("kill -9 of the broker, if there is one", Trial::kill_broker),
    ("an older image of a disk is put back", Trial::put_image_back),
];

impl Trial {
    pub(crate) fn new(house: House, net: Net, broker: Option<Mosquitto>, seed: u64) -> Self {
        let agents = house.machines.len() as u64;
        Self {
            house,
            doubled: BTreeSet::new(),
            net,
            broker,
            chance: Chance::new(seed),
            agents,
            memory: Vec::new(),
            begun: Instant::now(),
            hard: Hard::default(),
        }
    }

    /// Every trouble once at least, and on until the time is over.
    pub(crate) fn run(&mut self, long: Duration) -> anyhow::Result<()> {
        loop {
            for (what, happen) in TROUBLES {
                println!("{:5.1} s: {what}", self.begun.elapsed().as_secs_f64());
                happen(self).with_context(|| what.to_owned())?;
                self.measure();
                let pause_ms = 200 + self.chance.below(800);
                std::thread::sleep(Duration::from_millis(pause_ms));
            }
            if self.begun.elapsed() >= long {
                return Ok(());
            }
            // Between two rounds, so that a long run is not nothing but trouble.
            std::thread::sleep(Duration::from_secs(self.chance.below(10)));
        }
    }

    /// What the processes take, at the end.
    pub(crate) fn memory(&self) -> String {
        let (_, [aggregator, lab, agent]) = self.memory.last().copied().unwrap_or_default();
        format!("aggregator {} MB, lab {} MB, largest agent {} MB", aggregator / 1024, lab / 1024, agent / 1024)
    }

    /// Each of the hard cases has happened; says how often.
    pub(crate) fn hard_cases(&self) -> anyhow::Result<Hard> {
        let Hard { journals_lost, rows_at_risk, copies, images, .. } = self.hard;
        let all = journals_lost > 0 && rows_at_risk > 0 && copies > 0 && images > 0;
        ensure!(all, "a hard case did not happen: {:?}", self.hard);
        Ok(self.hard)
    }

    /// The second half of a long run takes no more than the first.
    pub(crate) fn memory_is_flat(&self) -> anyhow::Result<()> {
        let half = self.memory.len() / 2;
        for (at, name) in ["aggregator", "lab", "largest agent"].into_iter().enumerate() {
            let most = |part: &[(f64, [u64; 3])]| part.iter().map(|(_, kb)| kb[at]).max().unwrap_or_default();
            // The first quarter fills buffers and caches.
            let (first, second) = (most(&self.memory[half / 2..half]), most(&self.memory[half..]));
            println!("{name}: at most {} MB, then {} MB", first / 1024, second / 1024);
            ensure!(second <= first + first / 4 + 8 * 1024, "{name} grows: {first} kB, then {second} kB");
        }
        Ok(())
    }

    fn kill_agent(&mut self) -> anyhow::Result<()> {
        let name = self.some_agent();
        self.house.kill_agent(&name)?;
        self.house.start_agent(&name)
    }

    fn stop_agent(&mut self) -> anyhow::Result<()> {
        let name = self.some_agent();
        let pid = self.house.agent(&name).context("find an agent")?.pid();
        self.stop_for(pid, 2_500)
    }

    fn stop_aggregator(&mut self) -> anyhow::Result<()> {
        let pid = self.house.aggregator().context("find the aggregator")?.pid();
        self.stop_for(pid, 2_000)
    }

    fn kill_aggregator(&mut self) -> anyhow::Result<()> {
        self.house.kill_aggregator()?;
        self.house.start_aggregator()
    }

    fn block_udp(&mut self) -> anyhow::Result<()> {
        self.net.udp.block(true);
        self.wait_ms(1_500);
        self.net.udp.block(false);
        Ok(())
    }

    fn rebind(&mut self) -> anyhow::Result<()> {
        ensure!(self.broker.is_some() || self.net.udp.passed() > 0, "no datagram has come through");
        self.net.rebind();
        Ok(())
    }

    fn cut(&mut self) -> anyhow::Result<()> {
        self.net.tcp.cut();
        Ok(())
    }

    fn kill_broker(&mut self) -> anyhow::Result<()> {
        let Some(broker) = &mut self.broker else { return Ok(()) };
        broker.kill();
        ensure!(broker.start_again()?, "the broker does not start again");
        Ok(())
    }

    fn unplug(&mut self) -> anyhow::Result<()> {
        if !self.net.plug(false) {
            return Ok(());
        }
        self.wait_ms(2_500);
        ensure!(self.net.plug(true), "the cable does not go in again");
        Ok(())
    }

    /// The lab stands still while more is accepted, so that it can't be committed; then everything but the lake is gone.
    fn lose_journal(&mut self) -> anyhow::Result<()> {
        // One that answers: a new one ends again for as long as the lab of a killed aggregator still holds the lock.
        let lab = self.house.wait_for("a lab that answers", PATIENCE, |house| {
            house.query("SELECT COUNT(seq) AS n FROM gaps").ok()?;
            house.lab_pid().filter(|lab| signal(*lab, "STOP").is_ok())
        })?;
        let before = counted(&self.house).unwrap_or_default();
        let more = self.agents / 2;
        let after = self.house.wait_for("rows that are accepted and not committed", PATIENCE, |house| {
            counted(house).filter(|count| *count >= before + more)
        })?;
        self.house.kill_aggregator()?;
        signal(lab, "KILL")?;
        let journal = self.house.data_dir().join("journal");
        std::fs::remove_dir_all(&journal).with_context(|| format!("remove {}", journal.display()))?;
        println!("         {} rows were accepted and not committed", after - before);
        self.hard.journals_lost += 1;
        self.hard.rows_at_risk += after - before;
        self.house.start_aggregator()
    }

    /// A second agent with the same identity, for a while.
    fn second_copy(&mut self) -> anyhow::Result<()> {
        let (name, copy) = ("edge-2", "edge-2-copy");
        let (from, to) = (self.house.agent_dir(name), self.house.agent_dir(copy));
        self.freeze(name, |_| copy_dir(&from, &to))?;
        self.doubled.insert("pump-2".to_owned());
        self.house.start_agent(copy)?;
        self.wait_ms(3_000);
        let pid = self.house.agent(copy).context("find the copy")?.pid();
        ensure!(resident_kb(pid).is_some(), "the copy has ended");
        self.hard.copies += 1;
        self.house.kill_agent(copy)?;
        // It is thrown away with all that it holds.
        std::fs::remove_dir_all(&to).context("remove the copy")
    }

    fn take_image(&mut self) -> anyhow::Result<()> {
        let (data, image) = self.image();
        let _ = std::fs::remove_dir_all(&image);
        self.freeze("edge-1", |_| copy_dir(&data, &image))
    }

    fn put_image_back(&mut self) -> anyhow::Result<()> {
        let (data, image) = self.image();
        self.house.kill_agent("edge-1")?;
        self.doubled.insert("pump-1".to_owned());
        let newer = newest(&data)?;
        std::fs::remove_dir_all(&data).context("remove the newer disk")?;
        copy_dir(&image, &data)?;
        let older = newest(&data)?;
        ensure!(older < newer, "the image ends at {older}, the disk at {newer}: it is not older");
        self.hard.images += 1;
        self.hard.bytes_gone += newer - older;
        self.house.start_agent("edge-1")
    }

    fn image(&self) -> (std::path::PathBuf, std::path::PathBuf) {
        (self.house.agent_dir("edge-1").join("data"), self.house.dir.join("image"))
    }

    /// Does it while the agent stands still: its disk is as a power cut would leave it.
    fn freeze(&mut self, name: &str, done: impl FnOnce(&House) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let pid = self.house.agent(name).with_context(|| format!("find {name}"))?.pid();
        signal(pid, "STOP")?;
        let done = done(&self.house);
        signal(pid, "CONT")?;
        done
    }

    fn stop_for(&mut self, pid: u32, long_ms: u64) -> anyhow::Result<()> {
        signal(pid, "STOP")?;
        self.wait_ms(long_ms);
        signal(pid, "CONT")
    }

    fn wait_ms(&mut self, about: u64) {
        let wait_ms = about / 2 + self.chance.below(about);
        std::thread::sleep(Duration::from_millis(wait_ms));
    }

    /// Any but the two that others things happen to.
    fn some_agent(&mut self) -> String {
        format!("edge-{}", 3 + self.chance.below(self.agents.saturating_sub(2)))
    }

    fn measure(&mut self) {
        let kb = |pid: Option<u32>| pid.and_then(resident_kb).unwrap_or_default();
        let aggregator = kb(self.house.aggregator().map(|process| process.pid()));
        let lab = kb(self.house.lab_pid());
        let agents = self.house.agent_names().into_iter();
        let agent = agents.map(|name| kb(self.house.agent(&name).map(|process| process.pid()))).max();
        self.memory.push((self.begun.elapsed().as_secs_f64(), [aggregator, lab, agent.unwrap_or_default()]));
    }
}

fn signal(pid: u32, name: &str) -> anyhow::Result<()> {
    let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status()?;
    ensure!(status.success(), "kill -{name} {pid}: {status}");
    Ok(())
}

fn resident_kb(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()
}

/// Where an agent's journal ends, as `kilter-agent journal verify` would say it.
fn newest(data: &Path) -> anyhow::Result<u64> {
    let dir = data.join("journal");
    let report = kilter_journal::verify(kilter_journal::RealFilesystem, &dir).context("look at a journal")?;
    Ok(report.segments.iter().map(|segment| segment.end.0).max().unwrap_or_default())
}

fn copy_dir(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), &to).with_context(|| format!("copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}
