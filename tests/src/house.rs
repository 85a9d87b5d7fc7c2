//! A whole plant of processes in one folder.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::{Bins, Machine, Process, Tuning, agent_config, free_ports, get, machines, post};

/// Addresses of one house.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// Page and API.
    pub http: SocketAddr,
    /// Devices.
    pub mqtt: SocketAddr,
    /// Simulated sensors.
    pub sensor: SocketAddr,
    /// Control of the simulation.
    pub control: SocketAddr,
    /// Local page of the first agent; the others follow.
    pub agents: u16,
}

/// How to run it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Seed of the simulation.
    pub seed: u64,
    /// Simulated seconds per second.
    pub speed: f64,
    /// Plant file; the built-in one without.
    pub spec: Option<PathBuf>,
    /// How the agents are set up.
    pub tuning: Tuning,
    /// How long a canary runs a model before the others get it.
    pub probation_secs: u32,
    /// Arguments for the lab.
    pub lab_arguments: Vec<String>,
    /// External broker, host:port; empty for the embedded listener.
    pub broker: String,
}

/// The processes, and where everything lies.
pub struct House {
    /// Its folder.
    pub dir: PathBuf,
    /// Its addresses.
    pub ports: Ports,
    /// Its machines.
    pub machines: Vec<Machine>,
    bins: Bins,
    options: Options,
    aggregator: Option<Process>,
    plant: Option<Process>,
    agents: BTreeMap<String, Process>,
    interrupt: Option<Arc<AtomicBool>>,
    /// What starts an agent, before its program; nothing as a rule.
    prefix: Vec<String>,
    /// What bundles call the server, where it is not the door itself.
    door: Option<SocketAddr>,
    /// What was waited for, and how long.
    waits: Vec<(String, Duration)>,
}

/// Somebody asked to end before the story was told.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

impl Ports {
    /// Free ports, at this moment.
    pub fn free() -> anyhow::Result<Self> {
        let first = free_ports(4).context("find free ports")?;
        let address = |i: u16| SocketAddr::from(([127, 0, 0, 1], first + i));
        Ok(Self { http: address(0), mqtt: address(1), sensor: address(2), control: address(3), agents: 0 })
    }
}

impl House {
    /// Prepares a house in an empty folder; nothing runs yet.
    pub fn new(bins: Bins, dir: &Path, ports: Ports, options: Options) -> anyhow::Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let dir = dir.canonicalize().with_context(|| format!("find {}", dir.display()))?;
        let machines = machines(&bins, options.spec.as_deref())?;
        let (aggregator, plant, agents, interrupt) = (None, None, BTreeMap::new(), None);
        let (prefix, door, waits) = (Vec::new(), None, Vec::new());
        let house =
            Self { dir, ports, machines, bins, options, aggregator, plant, agents, interrupt, prefix, door, waits };
        fs::write(house.dir.join("aggregator.toml"), house.aggregator_config())
            .context("write the aggregator's config")?;
        // In a short story a new regime must not take minutes to be believed.
        fs::create_dir_all(house.data_dir()).context("create the data folder")?;
        // And commits come often, so that kills meet them.
        let lab = "[commit]\nmax_wait_ms = 2000\n[drift]\nsettle_secs = 10\ncooldown_secs = 20\n";
        fs::write(house.data_dir().join("lab.toml"), lab).context("write the lab's config")?;
        Ok(house)
    }

    /// Every wait ends with [`Interrupted`] once the flag is set; processes started from now on do not see a Ctrl-C of our
    /// terminal, so that they can be ended in order.
    pub fn interrupt_with(&mut self, flag: Arc<AtomicBool>) {
        self.interrupt = Some(flag);
    }

    /// From now on agents are started by this command, as in a network of their own, and bundles name this door.
    pub fn set_network(&mut self, prefix: Vec<String>, door: SocketAddr) {
        (self.prefix, self.door) = (prefix, Some(door));
    }

    /// Starts the aggregator (which starts its lab) without a look at how it fares.
    pub fn launch_aggregator(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new(self.bins.path("kilter-aggregator")?);
        command.arg("serve").arg("--config").arg(self.dir.join("aggregator.toml"));
        self.aggregator = Some(self.start("aggregator", &mut command, &self.dir.join("aggregator.log"))?);
        Ok(())
    }

    /// Starts the aggregator and waits until it answers.
    pub fn start_aggregator(&mut self) -> anyhow::Result<()> {
        self.launch_aggregator()?;
        self.wait_for("the aggregator's page", Duration::from_secs(30), |house| {
            get(house.ports.http, "/api/fleet").ok().map(drop)
        })
    }

    /// Sets a key of the aggregator's configuration, for its next start.
    pub fn set(&self, section: &str, key: &str, value: impl Into<toml::Value>) -> anyhow::Result<()> {
        let path = self.dir.join("aggregator.toml");
        let text = fs::read_to_string(&path).context("read the aggregator's config")?;
        let mut config: toml::Table = toml::from_str(&text).context("parse the aggregator's config")?;
        let section = config.entry(section).or_insert_with(|| toml::Table::new().into());
        section.as_table_mut().context("find the section")?.insert(key.to_owned(), value.into());
        fs::write(&path, toml::to_string(&config).context("print the config")?).context("write the aggregator's config")
    }

    /// Starts the simulated plant.
    pub fn start_plant(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new(self.bins.path("kilter-sim")?);
        command.arg("plant");
        if let Some(spec) = &self.options.spec {
            command.arg("--spec").arg(spec);
        }
        command
            .args(["--listen", &self.ports.sensor.to_string(), "--control", &self.ports.control.to_string()])
            .args(["--seed", &self.options.seed.to_string(), "--speed", &self.options.speed.to_string()])
            .args(["--when-behind", "hold", "--linger", "600"])
            .arg("--truth")
            .arg(self.dir.join("truth.jsonl"))
            .arg("--log")
            .arg(self.dir.join("expected.jsonl"));
        self.plant = Some(self.start("plant", &mut command, &self.dir.join("plant.log"))?);
        self.wait_for("the plant's control", Duration::from_secs(20), |house| {
            get(house.ports.control, "/status").ok().map(drop)
        })
    }

    /// Starts the replay of a data set in place of a plant; `arguments` as `kilter-sim replay` knows them.
    pub fn start_replay(&mut self, data: &Path, set: &str, arguments: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new(self.bins.path("kilter-sim")?);
        command
            .args(["replay", "--set", set, "--listen", &self.ports.sensor.to_string(), "--linger", "600"])
            .args(["--speed", "max"])
            .arg("--data")
            .arg(data)
            .arg("--log")
            .arg(self.dir.join("expected.jsonl"))
            .args(arguments);
        self.plant = Some(self.start("replay", &mut command, &self.dir.join("plant.log"))?);
        self.wait_for("the replay's sensors", Duration::from_secs(20), |house| {
            std::net::TcpStream::connect(house.ports.sensor).ok().map(drop)
        })
    }

    /// Enrols every agent of the plant and writes its configuration, as a technician would.
    pub fn install_agents(&self) -> anyhow::Result<Vec<String>> {
        let mut names: Vec<_> = self.machines.iter().map(|machine| machine.agent.clone()).collect();
        names.sort();
        names.dedup();
        for (i, name) in names.iter().enumerate() {
            let mine: Vec<_> = self.machines.iter().filter(|machine| machine.agent == *name).collect();
            let http = match self.ports.agents {
                0 => String::new(),
                first => format!("127.0.0.1:{}", usize::from(first) + i),
            };
            self.install_agent(name, &agent_config(&mine, self.ports.sensor, &http, &self.options.tuning))?;
        }
        Ok(names)
    }

    /// Enrols one agent and writes this configuration.
    pub fn install_agent(&self, name: &str, config: &str) -> anyhow::Result<()> {
        let dir = self.agent_dir(name);
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        fs::write(dir.join("agent.toml"), config).context("write an agent's config")?;
        self.enrol(name, &dir.join("bundle.toml"))
    }

    /// Enrols one device.
    pub fn enrol(&self, name: &str, out: &Path) -> anyhow::Result<()> {
        let server = match (self.door, self.options.broker.as_str()) {
            (Some(door), _) => door.to_string(),
            (None, "") => self.ports.mqtt.to_string(),
            (None, broker) => broker.to_owned(),
        };
        let output = Command::new(self.bins.path("kilter-aggregator")?)
            .args(["enroll", name, "--server", &server, "--config"])
            .arg(self.dir.join("aggregator.toml"))
            .arg("--out")
            .arg(out)
            .output()
            .context("enrol an agent")?;
        ensure!(output.status.success(), "enrol {name}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Starts one agent.
    pub fn start_agent(&mut self, name: &str) -> anyhow::Result<()> {
        let dir = self.agent_dir(name);
        let program = self.bins.path("kilter-agent")?;
        let mut command = match self.prefix.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.arg("run").arg("--config").arg(dir.join("agent.toml"));
        let process = self.start(name, &mut command, &self.dir.join(format!("{name}.log")))?;
        self.agents.insert(name.to_owned(), process);
        Ok(())
    }

    /// `kill -9` of one agent.
    pub fn kill_agent(&mut self, name: &str) -> anyhow::Result<()> {
        self.agents.remove(name).with_context(|| format!("kill {name}: it does not run"))?.kill();
        Ok(())
    }

    /// `kill -9` of the aggregator; its lab ends with it or is left behind, as it happens.
    pub fn kill_aggregator(&mut self) -> anyhow::Result<()> {
        self.aggregator.take().context("kill the aggregator: it does not run")?.kill();
        Ok(())
    }

    /// The lab that the running aggregator has started, by its process id.
    pub fn lab_pid(&self) -> Option<u32> {
        let aggregator = self.aggregator.as_ref()?.pid().to_string();
        let output = Command::new("pgrep").args(["-P", &aggregator, "kilter-lab"]).output().ok()?;
        String::from_utf8_lossy(&output.stdout).lines().next()?.trim().parse().ok()
    }

    /// Ends the aggregator as its service manager would.
    pub fn stop_aggregator(&mut self) -> anyhow::Result<()> {
        let aggregator = self.aggregator.take().context("stop the aggregator: it does not run")?;
        aggregator.stop(Duration::from_secs(20)).map(drop)
    }

    /// The aggregator's process.
    pub fn aggregator(&self) -> Option<&Process> {
        self.aggregator.as_ref()
    }

    /// One agent's process.
    pub fn agent(&self, name: &str) -> Option<&Process> {
        self.agents.get(name)
    }

    /// The names of the agents that run.
    pub fn agent_names(&self) -> Vec<String> {
        self.agents.keys().cloned().collect()
    }

    /// Where an agent's files lie.
    pub fn agent_dir(&self, name: &str) -> PathBuf {
        self.dir.join("agents").join(name)
    }

    /// Where the aggregator's files lie.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("aggregator")
    }

    /// The programs.
    pub fn bins(&self) -> &Bins {
        &self.bins
    }

    /// The fleet as the page shows it.
    pub fn fleet(&self) -> anyhow::Result<Value> {
        get(self.ports.http, "/api/fleet")
    }

    /// Models, rollouts and what each node shall run.
    pub fn models(&self) -> anyhow::Result<Value> {
        get(self.ports.http, "/api/models")
    }

    /// Every alarm.
    pub fn alarms(&self) -> anyhow::Result<Vec<Value>> {
        let answer = get(self.ports.http, "/api/alarms")?;
        Ok(answer["alarms"].as_array().cloned().unwrap_or_default())
    }

    /// SQL over lake and journal tail: the rows.
    pub fn query(&self, sql: &str) -> anyhow::Result<Vec<Value>> {
        let answer = post(self.ports.http, "/api/query", &serde_json::json!({ "sql": sql }))?;
        Ok(answer["rows"].as_array().cloned().unwrap_or_default())
    }

    /// Changes the simulated plant: `/fault`, `/load`, `/speed`, `/end`.
    pub fn control(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        post(self.ports.control, path, body)
    }

    /// Waits until `probe` gives something; an error with the tails of the logs when it takes too long or a process has ended.
    #[expect(clippy::disallowed_methods, reason = "a shell waits for processes")]
    pub fn wait_for<T>(
        &mut self,
        what: &str,
        patience: Duration,
        mut probe: impl FnMut(&Self) -> Option<T>,
    ) -> anyhow::Result<T> {
        let begin = Instant::now();
        loop {
            if let Some(found) = probe(self) {
                self.waits.push((what.to_owned(), begin.elapsed()));
                return Ok(found);
            }
            if self.interrupt.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed)) {
                bail!(Interrupted);
            }
            let ended: Vec<_> = self.processes().filter_map(|p| p.has_ended().then(|| p.log_tail())).collect();
            if let Some(log) = ended.first() {
                bail!("wait for {what}: a process has ended; its log says\n{log}");
            }
            if begin.elapsed() > patience {
                let logs: Vec<_> = self.processes().map(|process| process.log_tail()).collect();
                bail!("wait for {what}: not seen within {patience:?}\n{}", logs.join("\n---\n"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Ends everything cleanly: sensors first, so that what they sent still gets through. A journey is told where its time went.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let long = self.waits.iter().filter(|(_, wait)| self.interrupt.is_none() && *wait >= Duration::from_secs(1));
        long.for_each(|(what, wait)| println!("waited {:.1} s for {what}", wait.as_secs_f64()));
        let patience = Duration::from_secs(20);
        let plant = self.plant.take();
        let agents = std::mem::take(&mut self.agents);
        let aggregator = self.aggregator.take();
        for process in plant.into_iter().chain(agents.into_values()).chain(aggregator) {
            process.stop(patience)?;
        }
        Ok(())
    }

    fn start(&self, name: &str, command: &mut Command, log: &Path) -> anyhow::Result<Process> {
        if self.interrupt.is_some() {
            command.process_group(0);
        }
        Process::start(name, command, log)
    }

    fn processes(&mut self) -> impl Iterator<Item = &mut Process> {
        self.aggregator.iter_mut().chain(self.plant.iter_mut()).chain(self.agents.values_mut())
    }

    fn aggregator_config(&self) -> String {
        let Options { probation_secs, lab_arguments, broker, .. } = &self.options;
        format!(
            "data = {:?}\n\n[mqtt]\nlisten = \"{}\"\nbroker = \"{broker}\"\n\n[http]\nlisten = \"{}\"\n\n\
             [rollout]\nprobation_secs = {probation_secs}\n\n[lab]\narguments = {lab_arguments:?}\n",
            self.data_dir(),
            self.ports.mqtt,
            self.ports.http
        )
    }
}
