//! A model's whole way: a real aggregator signs it, a real agent offers it, the node verifies, runs and confirms it, and the fleet shows it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use kilter_fold::Output;
use kilter_tests::model::{artifact, publish};
use kilter_tests::{Bins, House, Options, Ports, Tuning, get, journalled, post, story};
use kilter_types::{Digest, Epoch, Event, Payload, Record};
use serde_json::{Value, json};

use super::{Node, free_port, image};

const PATIENCE: Duration = Duration::from_secs(60);
const AGENT: &str = "edge-1";

#[test]
fn a_fleets_model_reaches_a_node_that_verifies_runs_and_confirms_it_and_a_stranger_is_refused_there() {
    let Some(image) = image() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let told = Plant::open(&image, dir.path()).and_then(tell);
    if let Err(error) = told {
        panic!("{error:#}\nlogs and data are kept in {}", dir.keep().display());
    }
}

/// Aggregator, agent and node.
struct Plant {
    house: House,
    node: Option<Node>,
    image: PathBuf,
    port: u16,
    page: SocketAddr,
}

impl Plant {
    fn open(image: &Path, dir: &Path) -> anyhow::Result<Self> {
        let tuning = Tuning {
            commissioning_windows: 12,
            window: 512,
            temperature_window: 10,
            period_secs: 1.0,
            report_secs: 1.0,
        };
        let options = Options {
            seed: 1,
            speed: 1.0,
            spec: None,
            tuning,
            probation_secs: 1,
            lab_arguments: Vec::new(),
            broker: String::new(),
        };
        let mut house = House::new(Bins::find(), &dir.join("house"), Ports::free()?, options)?;
        house.set("lab", "enabled", false)?;
        house.start_aggregator()?;
        let (port, page) = (free_port(), SocketAddr::from(([127, 0, 0, 1], free_port())));
        let config = format!(
            "data = \"data\"\nbundle = \"bundle.toml\"\nsite = \"north\"\nreport_secs = 1.0\n[http]\nlisten = \"{page}\"\n[alarm]\nremote_reset = true\n\
             [[machine]]\nasset = \"pump-1\"\nclass = \"pump\"\n\
             source = {{ kind = \"node\", address = \"tcp://127.0.0.1:{port}\", settings = {{ generation = 3, nominal_rpm = 1480.0 }} }}\n"
        );
        house.install_agent(AGENT, &config)?;
        std::fs::create_dir_all(dir.join("node")).context("the node's folder")?;
        let mut plant = Self { house, node: None, image: image.to_owned(), port, page };
        // The technician flashes the node with the key of the enrolment bundle.
        let bundle = std::fs::read_to_string(plant.house.agent_dir(AGENT).join("bundle.toml")).context("the bundle")?;
        let bundle: toml::Table = toml::from_str(&bundle).context("parse the bundle")?;
        let key = bundle["signing_key"].as_str().and_then(Digest::parse).context("the signing key")?;
        plant.start_node(key.0)?;
        plant.house.start_agent(AGENT)?;
        Ok(plant)
    }

    fn start_node(&mut self, key: [u8; 32]) -> anyhow::Result<()> {
        let dir = self.node_dir();
        self.node = None;
        self.node = Some(Node::start_at(self.port, &self.image, &dir, key));
        Ok(())
    }

    fn node_dir(&self) -> PathBuf {
        self.house.dir.with_file_name("node")
    }

    /// Every record that the aggregator holds of the node's machine, in order.
    fn records(&self) -> anyhow::Result<Vec<Record>> {
        let own = |output: Output| match output {
            Output::Row(row) => Some(row.record).filter(|record| record.point.asset.as_str() == "pump-1"),
            Output::Quarantine { .. } => None,
        };
        Ok(journalled(&self.house.data_dir())?.into_iter().filter_map(own).collect())
    }

    fn scores_of(&self, model: Digest) -> usize {
        let scored = |record: &Record| matches!(&record.payload, Payload::Score(score) if score.model == model);
        self.records().unwrap_or_default().iter().filter(|record| scored(record)).count()
    }

    /// Baselines that the node has learned.
    fn commissioned(&self) -> anyhow::Result<usize> {
        let learned = |record: &Record| matches!(record.payload, Payload::Event(Event::Commissioned { .. }));
        Ok(self.records()?.into_iter().filter(learned).count())
    }

    /// Who released the node.
    fn resets(&self) -> anyhow::Result<Vec<String>> {
        let by = |record: Record| match record.payload {
            Payload::Event(Event::Reset { by }) => Some(by.to_string()),
            _ => None,
        };
        Ok(self.records()?.into_iter().filter_map(by).collect())
    }

    /// Why models were refused.
    fn refusals(&self) -> anyhow::Result<Vec<String>> {
        let refused = self.refused()?.into_iter().filter(|(model, _)| *model != Digest::NONE);
        Ok(refused.map(|(_, reason)| reason).collect())
    }

    /// What was refused and why; no model in particular where the gateway says what its node has room for.
    fn refused(&self) -> anyhow::Result<Vec<(Digest, String)>> {
        let refused = |record: Record| match record.payload {
            Payload::Event(Event::ModelRefused { model, reason }) => Some((model, reason.to_string())),
            _ => None,
        };
        Ok(self.records()?.into_iter().filter_map(refused).collect())
    }

    /// Puts a finished model into the registry, as the lab would.
    fn publish(&self, bytes: &[u8]) -> anyhow::Result<Digest> {
        publish(&self.house.data_dir(), bytes, "leader")
    }

    /// Waits until the fleet shows that the node runs this model; returns the generation that the node itself names.
    fn runs(&mut self, model: Digest) -> anyhow::Result<u64> {
        let wanted = model.to_string();
        self.house.wait_for("the model on the node", PATIENCE, |house| {
            let fleet = house.fleet().ok()?;
            let row = fleet["machines"].as_array()?.iter().find(|row| row["asset"] == "pump-1")?;
            (story::running(row, "leader")? == wanted).then(|| row["models"][0]["generation"].as_u64())?
        })
    }

    /// Waits until the agent has written down that the node confirmed it.
    fn confirmed(&mut self, model: Digest) -> anyhow::Result<()> {
        let path = self.house.agent_dir(AGENT).join("data").join("models").join("pump-1").join("state.json");
        let wanted = model.to_string();
        self.house.wait_for("the node's confirmation", PATIENCE, |_| {
            let state: Value = serde_json::from_slice(&std::fs::read(&path).ok()?).ok()?;
            (state["roles"]["leader"]["confirmed"] == wanted).then_some(())
        })
    }

    fn offers(&self) -> usize {
        let log = self.house.agent(AGENT).map(|agent| agent.log()).unwrap_or_default();
        log.lines().filter(|line| line.contains("model offered to the node")).count()
    }
}

fn tell(mut plant: Plant) -> anyhow::Result<()> {
    wait(&mut plant, "windows of the node at the aggregator", |plant| {
        let rows = plant.records().ok()?;
        let features = rows.iter().filter(|record| matches!(record.payload, Payload::Features(_))).count();
        (features >= 4).then_some(())
    })?;

    let first = plant.publish(&artifact(2.0))?;
    let generation = plant.runs(first)?;
    plant.confirmed(first)?;
    wait(&mut plant, "scores of the first model", |plant| (plant.scores_of(first) > 0).then_some(()))?;
    println!("{first} runs at generation {generation}");

    let status = get(plant.page, "/status").context("the agent's page")?;
    let node = &status["machines"][0]["node"];
    ensure!(node["settings"] == 3 && node["faults"]["boots"] == 1 && node["on_trial"] == false, "the node says {node}");

    // A restart of the agent knows what the node runs: it is neither offered nor refused again.
    let offers = plant.offers();
    plant.house.kill_agent(AGENT)?;
    let scores = plant.scores_of(first);
    plant.house.start_agent(AGENT)?;
    let page = plant.page;
    wait(&mut plant, "the node's status at the restarted agent", |_| {
        let status = get(page, "/status").ok()?;
        (status["machines"][0]["models"][0]["digest"] == first.to_string()).then_some(())
    })?;
    wait(&mut plant, "scores after the restart", |plant| (plant.scores_of(first) >= scores + 10).then_some(()))?;
    ensure!(plant.offers() == offers, "it was offered again");

    let second = plant.publish(&artifact(3.0))?;
    let newer = plant.runs(second)?;
    ensure!(newer > generation, "generation {newer} after {generation}");
    plant.confirmed(second)?;
    wait(&mut plant, "scores of the second model", |plant| (plant.scores_of(second) > 0).then_some(()))?;
    ensure!(plant.refusals()?.is_empty(), "something was refused: {:?}", plant.refusals()?);
    println!("{second} replaced it at generation {newer}");

    // A shadow has no place there: the gateway said so beforehand, so it is planned for nobody, the plan says why, and the leader goes on.
    ensure!(plant.refused()?.contains(&(Digest::NONE, "leaders_only".to_owned())), "{:?}", plant.refused()?);
    wait(&mut plant, "the end of the leader's rollout", |plant| {
        let models = plant.house.models().ok()?;
        (models["rollouts"][0]["stage"] == "complete").then_some(())
    })?;
    let shadow = publish(&plant.house.data_dir(), &artifact(4.0), "shadow")?;
    wait(&mut plant, "the reason why a shadow waits", |plant| {
        let models = plant.house.models().ok()?;
        let rollouts = models["rollouts"].as_array()?;
        let waits = |rollout: &&Value| rollout["stage"] == "waiting" && rollout["pair"]["leader"].is_array();
        let why = rollouts.iter().find(waits)?["why"].as_str()?;
        why.contains("room for a leader only").then_some(())
    })?;
    let desired = plant.house.models()?["desired"][AGENT]["models"].clone();
    ensure!(desired.as_array().is_some_and(|models| models.len() == 1), "the gateway shall run {desired}");
    let scores = plant.scores_of(second);
    wait(&mut plant, "more scores of the leader", |plant| (plant.scores_of(second) > scores).then_some(()))?;
    ensure!(plant.scores_of(shadow) == 0, "the shadow has scored");
    ensure!(plant.refusals()?.is_empty(), "it was sent there: {:?}", plant.refusals()?);

    // An alarm on the node stands at the aggregator, and ends there.
    let fault = plant.node_dir().join("fault");
    std::fs::write(&fault, b"").context("the machine shakes")?;
    let open = |plant: &Plant, open: bool| {
        let alarms = plant.house.alarms().ok()?;
        alarms.iter().any(|alarm| alarm["asset"] == "pump-1" && alarm["open"] == open).then_some(())
    };
    wait(&mut plant, "the node's alarm", |plant| open(plant, true))?;
    std::fs::remove_file(&fault).context("the machine is quiet again")?;
    wait(&mut plant, "the end of the node's alarm", |plant| open(plant, false))?;

    // Maintenance is journalled by the agent, and the node learns its baseline anew.
    let commissioned = plant.commissioned()?;
    ensure!(commissioned > 0, "the node has not learned its baseline");
    let body = json!({ "point": "default/north/pump-1/drive-end", "what": "greased" });
    post(plant.house.ports.http, "/api/maintenance", &body).context("maintenance")?;
    wait(&mut plant, "another baseline", |plant| (plant.commissioned().ok()? > commissioned).then_some(()))?;
    let greased = |record: &Record| matches!(&record.payload, Payload::Event(Event::Maintenance { what }) if what.as_str() == "greased");
    wait(&mut plant, "maintenance in the journal", |plant| plant.records().ok()?.iter().any(greased).then_some(()))?;

    // A person may release the node from afar only where the agent's own file says so, and then the node names them.
    let body = json!({ "tenant": "default", "site": "north", "asset": "pump-1" });
    post(plant.house.ports.http, "/api/reset", &body).context("reset")?;
    wait(&mut plant, "the reset's record", |plant| (plant.resets().ok()? == ["local operator"]).then_some(()))?;

    // Another node takes its place, of another fleet: it believes neither what lies in its flash nor what the agent offers.
    let before: Vec<Epoch> = plant.records()?.iter().map(|record| record.epoch).collect();
    plant.start_node([7; 32])?;
    wait(&mut plant, "the refusal by the node itself", |plant| {
        plant.refused().ok()?.iter().any(|(_, reason)| reason == "signature").then_some(())
    })?;
    let scored = plant.records()?.into_iter().any(|record| {
        !before.contains(&record.epoch)
            && matches!(&record.payload, Payload::Score(score) if score.model != Digest::NONE)
    });
    ensure!(!scored, "a model that the node does not believe has scored");
    plant.house.stop()
}

fn wait(plant: &mut Plant, what: &str, probe: impl Fn(&Plant) -> Option<()>) -> anyhow::Result<()> {
    for _ in 0..PATIENCE.as_millis() / 100 {
        if probe(plant).is_some() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let log = plant.house.agent(AGENT).map(|agent| agent.log_tail()).unwrap_or_default();
    anyhow::bail!("wait for {what}: not seen within {PATIENCE:?}\n{log}")
}
