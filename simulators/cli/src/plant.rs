//! A plant file: which machines there are, which agent looks after each, and what is measured on it.

use anyhow::Context as _;
use kilter_machine::{Axis, Defect, Machine, MachineSpec};
use kilter_types::{Micros, Name};
use serde::{Deserialize, Serialize};

use crate::args::{PlantArgs, SpecArgs};
use crate::clock::wall_now;
use crate::feed::{Feed, MachineFeed, ReadingKind};
use crate::ledger::Ledger;
use crate::stage::Stage;

/// The file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plant {
    /// The machines.
    #[serde(rename = "machine")]
    pub(crate) machines: Vec<PlantMachine>,
}

/// One machine of the plant.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlantMachine {
    /// The agent that is meant to look after it; agents of one name are one gateway.
    pub(crate) agent: Name,
    /// What kind of machine it is.
    pub(crate) class: Name,
    /// Directions in which vibration is measured.
    #[serde(default = "default_axes")]
    pub(crate) axes: Vec<Axis>,
    /// What else is measured.
    #[serde(default = "default_readings")]
    pub(crate) readings: Vec<ReadingKind>,
    /// How often the readings come.
    #[serde(default = "default_every_s")]
    pub(crate) every_s: f64,
    /// The physics.
    pub(crate) spec: MachineSpec,
}

/// Serves a plant.
pub(crate) async fn run(args: PlantArgs) -> anyhow::Result<()> {
    let plant = Plant::read(&args.spec)?;
    let ledger = Ledger::create(args.serve.log.as_deref(), args.truth.as_deref())?;
    let start = args.start.map_or_else(wall_now, |start| start.0);
    let feed = |entry: &PlantMachine| -> anyhow::Result<(Name, Feed)> {
        let name = entry.asset()?;
        let machine = Machine::new(entry.spec.clone(), args.seed ^ fold(name.as_str())).context("build a machine")?;
        let feed = MachineFeed::new(machine, &entry.axes, &entry.readings, entry.every_s, start).ending(args.duration);
        Ok((name, Feed::Machine(Box::new(feed))))
    };
    let feeds = plant.machines.iter().map(feed).collect::<anyhow::Result<Vec<_>>>()?;
    Stage::new(feeds, ledger, &args.serve)?.serve(&args.serve, args.control).await
}

/// Prints what a commissioning engineer would know of each machine.
pub(crate) fn describe(args: &SpecArgs) -> anyhow::Result<()> {
    let plant = Plant::read(args)?;
    let rows = plant.machines.iter().map(Row::read).collect::<anyhow::Result<Vec<_>>>()?;
    println!("{}", serde_json::to_string_pretty(&rows)?);
    Ok(())
}

/// One machine as it is known before anything is measured.
#[derive(Serialize)]
struct Row<'a> {
    asset: Name,
    agent: &'a Name,
    class: &'a Name,
    channels: heapless::Vec<kilter_wire::sensor::ChannelOffer, 16>,
    nominal_rpm: f64,
    bearing: serde_json::Value,
}

impl<'a> Row<'a> {
    fn read(entry: &'a PlantMachine) -> anyhow::Result<Self> {
        let PlantMachine { agent, class, axes, readings, every_s, spec } = entry;
        let asset = entry.asset()?;
        let machine = Machine::new(spec.clone(), 0).context("build a machine")?;
        let feed = Feed::Machine(Box::new(MachineFeed::new(machine, axes, readings, *every_s, Micros(0))));
        let bearing = &spec.bearing;
        let bearing = serde_json::json!({
            "designation": bearing.designation, "balls": bearing.balls, "ball_mm": bearing.ball_mm,
            "pitch_mm": bearing.pitch_mm, "contact_deg": bearing.contact_deg,
            "bpfo": bearing.order(Defect::OuterRace), "bpfi": bearing.order(Defect::InnerRace),
            "bsf": bearing.order(Defect::RollingElement) / 2.0, "ftf": bearing.order(Defect::Cage),
        });
        let channels = feed.offer(&asset).channels;
        Ok(Row { asset, agent, class, channels, nominal_rpm: spec.nominal_rpm, bearing })
    }
}

impl Plant {
    /// The file that was named, or the built-in one.
    pub(crate) fn read(args: &SpecArgs) -> anyhow::Result<Self> {
        let (text, place) = match &args.spec {
            Some(path) => {
                let text =
                    std::fs::read_to_string(path).with_context(|| format!("read the plant file {}", path.display()))?;
                (text, path.display().to_string())
            }
            None => (DEMO.to_owned(), "the built-in plant".to_owned()),
        };
        let plant: Self = toml::from_str(&text).with_context(|| format!("understand {place}"))?;
        anyhow::ensure!(!plant.machines.is_empty(), "use {place}: it declares no [[machine]]");
        for machine in &plant.machines {
            let channels = machine.axes.len() + machine.readings.len();
            anyhow::ensure!(
                (1..=16).contains(&channels),
                "use {place}: {} has {channels} channels, 1 to 16 are possible",
                machine.spec.name
            );
            let every = (1e-3..=86_400.0).contains(&machine.every_s);
            anyhow::ensure!(
                every,
                "use {place}: {} has every_s = {}; 0.001 to 86400 are possible",
                machine.spec.name,
                machine.every_s
            );
        }
        Ok(plant)
    }
}

impl PlantMachine {
    fn asset(&self) -> anyhow::Result<Name> {
        Name::new(&self.spec.name).with_context(|| format!("name a machine {:?}", self.spec.name))
    }
}

/// A number that belongs to a name (FNV-1a), so that machines of one plant differ under one seed.
fn fold(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn default_axes() -> Vec<Axis> {
    vec![Axis::Vertical]
}

fn default_readings() -> Vec<ReadingKind> {
    vec![ReadingKind::Temperature, ReadingKind::Ambient, ReadingKind::Speed, ReadingKind::Load]
}

fn default_every_s() -> f64 {
    1.0
}

const DEMO: &str = include_str!("../plants/demo.toml");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_plant_has_eight_machines_and_one_gateway_with_two_rates() {
        let plant = Plant::read(&SpecArgs { spec: None }).expect("a valid plant");
        assert_eq!(plant.machines.len(), 8);
        let mut gateways = std::collections::BTreeMap::<&str, Vec<f64>>::new();
        for machine in &plant.machines {
            Machine::new(machine.spec.clone(), 1).expect("valid physics");
            machine.asset().expect("a valid name");
            gateways.entry(machine.agent.as_str()).or_default().push(machine.spec.rate_hz);
        }
        let rates: Vec<&Vec<f64>> = gateways.values().filter(|rates| rates.len() > 1).collect();
        assert!(rates.len() == 1 && rates[0].len() == 2 && rates[0][0] != rates[0][1], "{gateways:?}");
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error =
            toml::from_str::<Plant>("[[machine]]\nagent = \"a\"\nclass = \"pump\"\naxis = 1\nspec = { name = \"p\" }");
        assert!(error.expect_err("unknown key").to_string().contains("axis"));
    }
}
