//! The story of a plant, from the first baseline to the retrained model on every agent. Demo and journey walk the same one.
//!
//! It changes simulated machines and presses what a user can press; nothing else. Which windows are healthy is decided by
//! commissioning and alarms, as in a real plant.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::{Value, json};

use crate::{House, post};

/// The two faults of the story: machine, kind for the simulator, cause that the alarm must name.
pub const FAULTS: [(&str, &str, &str); 2] =
    [("pump-1", "outer_race", "outer_race"), ("motor-2", "inner_race", "inner_race")];

/// How patient each step is.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// For each wait.
    pub patience: Duration,
    /// Simulated seconds in which the faults grow to their full size.
    pub growth_s: f64,
}

/// Waits until every machine is commissioned: its baseline stands.
pub fn baselines(house: &mut House, pace: &Pace) -> anyhow::Result<()> {
    let count = house.machines.len();
    house.wait_for("the baseline of every machine", pace.patience, |house| {
        let fleet = house.fleet().ok()?;
        let rows = fleet["machines"].as_array()?;
        (rows.len() == count && rows.iter().all(|row| row["commissioned_us"].is_i64())).then_some(())
    })
}

/// Presses "train" until the lake holds enough, and waits until a model leads on every machine; returns the leaders per class.
pub fn first_models(house: &mut House, pace: &Pace, seed: u64) -> anyhow::Result<BTreeMap<String, String>> {
    house.wait_for("the lab", pace.patience * 4, |house| crate::get(house.ports.http, "/api/lab").ok())?;
    let classes: BTreeSet<_> = house.machines.iter().map(|machine| machine.class.clone()).collect();
    for class in classes {
        house.wait_for(&format!("enough windows to train on {class}"), pace.patience * 2, |house| {
            let wanted = json!({ "seed": seed, "asset_class": class });
            post(house.ports.http, "/api/train", &wanted).ok()
        })?;
    }
    new_models(house, pace, seed, &BTreeMap::new())
}

/// Waits until every class has another champion than before and every machine runs it. A model that does not beat the simple rule leads
/// nothing; where no new one leads, "train" is pressed again now and then, for the lake holds more by then. That a training began
/// by itself is waited for first, where there were champions before.
#[expect(clippy::disallowed_methods, reason = "a shell waits for processes")]
pub fn new_models(
    house: &mut House,
    pace: &Pace,
    seed: u64,
    before: &BTreeMap<String, String>,
) -> anyhow::Result<BTreeMap<String, String>> {
    let classes: BTreeSet<_> = house.machines.iter().map(|machine| machine.class.clone()).collect();
    let known = registered(&house.models()?);
    let mut pressed = Instant::now();
    house.wait_for("the new model on every machine", pace.patience * 3, |house| {
        let models = house.models().ok()?;
        let leaders = leaders(&models);
        let is_fresh = |class: &&String| leaders.get(*class).is_some_and(|l| before.get(*class) != Some(l));
        let by_itself = before.is_empty() || registered(&models) > known;
        if let Some(class) = classes.iter().find(|class| !is_fresh(class)) {
            if by_itself && pressed.elapsed() > AGAIN {
                let _ = post(house.ports.http, "/api/train", &json!({ "seed": seed, "asset_class": class }));
                pressed = Instant::now();
            }
            return None;
        }
        let fleet = house.fleet().ok()?;
        let everywhere = fleet["machines"].as_array()?.iter().all(|row| {
            let wanted = row["asset_class"].as_str().and_then(|class| leaders.get(class));
            wanted.is_some_and(|wanted| running(row, "leader").as_deref() == Some(wanted))
        });
        everywhere.then_some(leaders)
    })
}

/// How long a class is without a new leader before somebody trains again.
const AGAIN: Duration = Duration::from_secs(15);

/// How many models the aggregator knows.
fn registered(models: &Value) -> usize {
    models["models"].as_array().map_or(0, Vec::len)
}

/// Lets the two faults grow; the simulator's log says when each began.
pub fn faults(house: &House, pace: &Pace) -> anyhow::Result<()> {
    for (asset, kind, _) in FAULTS {
        let fault = json!({ "asset": asset, "kind": kind, "severity": 0.9, "growth_s": pace.growth_s });
        house.control("/fault", &fault)?;
    }
    Ok(())
}

/// Waits for an open alarm that names the right cause on each faulty machine.
pub fn alarms(house: &mut House, pace: &Pace) -> anyhow::Result<Vec<Value>> {
    let mut found = Vec::new();
    for (asset, _, cause) in FAULTS {
        let alarm = house.wait_for(&format!("the {cause} alarm of {asset}"), pace.patience * 2, |house| {
            let alarms = house.alarms().ok()?;
            alarms.into_iter().find(|alarm| alarm["asset"] == asset && alarm["open"] == true && alarm["cause"] == cause)
        })?;
        found.push(alarm);
    }
    Ok(found)
}

/// The plant goes to a higher production rate: a healthy change that no model has seen.
pub fn load_change(house: &House) -> anyhow::Result<()> {
    let faulty = FAULTS.map(|(asset, ..)| asset);
    for machine in house.machines.iter().filter(|machine| !faulty.contains(&machine.asset.as_str())) {
        let load = json!({ "asset": machine.asset, "rpm": machine.nominal_rpm * 1.15, "load": 0.95, "ramp_s": 4 });
        house.control("/load", &load)?;
    }
    Ok(())
}

/// Waits until a model reports drift.
pub fn drift(house: &mut House, pace: &Pace) -> anyhow::Result<()> {
    house.wait_for("drift", pace.patience * 2, |house| {
        let fleet = house.fleet().ok()?;
        fleet["machines"].as_array()?.iter().any(|row| row["drift"].is_f64()).then_some(())
    })
}

/// After all that: the faulty machines still alarm, the others are quiet.
pub fn verdict(house: &House) -> anyhow::Result<()> {
    let faulty = FAULTS.map(|(asset, ..)| asset);
    let alarms = house.alarms()?;
    for asset in faulty {
        let open = alarms.iter().any(|alarm| alarm["asset"] == asset && alarm["open"] == true);
        ensure!(open, "{asset} is faulty and no alarm is open");
    }
    let wrong: Vec<_> = alarms
        .iter()
        .filter(|alarm| !faulty.iter().any(|asset| alarm["asset"] == *asset))
        .map(|alarm| format!("{} {} {}", alarm["asset"], alarm["source"], alarm["cause"]))
        .collect();
    ensure!(wrong.is_empty(), "healthy machines alarmed: {wrong:?}");
    Ok(())
}

/// The leading artifact per class; none where the models only watch.
pub fn leaders(models: &Value) -> BTreeMap<String, String> {
    let champions = models["champions"].as_object();
    let digest = |pair: &Value| -> Option<String> {
        let bytes = pair["leader"].as_array()?;
        Some(bytes.iter().filter_map(Value::as_u64).map(|byte| format!("{byte:02x}")).collect())
    };
    champions.into_iter().flatten().filter_map(|(class, pair)| Some((class.clone(), digest(pair)?))).collect()
}

/// What a machine runs in this role.
pub fn running(row: &Value, role: &str) -> Option<String> {
    let models = row["models"].as_array()?;
    models.iter().find(|model| model["role"] == role)?["digest"].as_str().map(str::to_owned)
}
