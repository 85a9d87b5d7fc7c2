//! Models on their way to real agents: those that must be refused, while the one before goes on, and those that are taken.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use kilter_infer::{Artifact, Body, Dense, Draft, Forecaster, Lstm, Mode, Range, Regime, ResetRule, Scratch, State};
use kilter_signal::table::Schema;
use kilter_tests::{House, get, story};
use kilter_types::{Contribution, Digest, FeatureRef, GroupKind, KernelId, Payload, Role, RowRef};
use serde_json::{Value, json};

use crate::kept::Kept;
use crate::stage::{self, PATIENCE, nothing_is_lost};

#[test]
fn a_tampered_a_strange_and_an_expired_model_are_refused_and_the_one_before_goes_on() {
    stage::journey(4.0, |house| {
        stage::open(house)?;
        let good = Finished::new(1e6, false);
        good.offer(house, good.digest)?;
        running(house, good.digest)?;
        println!("{} runs", good.digest);

        let mislabelled = Finished::new(2e6, false);
        mislabelled.offer(house, good.digest)?;
        house.wait_for("the mislabelled model set aside", PATIENCE, |house| {
            mislabelled.outbox(house, "card.json.refused").exists().then_some(())
        })?;

        let tampered = Finished::new(3e6, false);
        pause(house, "STOP");
        tampered.offer(house, tampered.digest)?;
        let kept = house.data_dir().join("models").join(format!("{}.kltm", tampered.digest));
        house.wait_for("the registered model", PATIENCE, |_| kept.exists().then_some(()))?;
        let mut bytes = std::fs::read(&kept).context("read an artifact")?;
        bytes[60] ^= 1;
        std::fs::write(&kept, bytes).context("write an artifact")?;
        pause(house, "CONT");
        is_refused(house, &tampered, "another digest than was signed")?;
        still_scored_by(house, good.digest)?;

        let strange = Finished::new(4e6, true);
        strange.offer(house, strange.digest)?;
        is_refused(house, &strange, "by a definition that this agent does not have")?;
        still_scored_by(house, good.digest)?;

        house.stop_aggregator()?;
        house.set("rollout", "expires_days", 0)?;
        house.start_aggregator()?;
        time_is_known(house)?;
        let expired = Finished::new(5e6, false);
        pause(house, "STOP");
        expired.offer(house, expired.digest)?;
        house.wait_for("an expiry surely in the past", PATIENCE, |house| {
            let rollout = rollout_of(house, expired.digest)?;
            (house.fleet().ok()?["now_us"].as_i64()? > rollout["started"].as_i64()? + 2_000_000).then_some(())
        })?;
        pause(house, "CONT");
        is_refused(house, &expired, "the model expired")?;
        still_scored_by(house, good.digest)?;

        let kept = Kept::read(house)?;
        for refused in [&mislabelled, &tampered, &strange, &expired] {
            ensure!(kept.scores_of(refused.digest) == 0, "{} has scored", refused.digest);
        }
        nothing_is_lost(house)
    });
}

#[test]
fn an_older_plan_replayed_is_refused_and_the_newer_model_goes_on() {
    stage::journey(4.0, |house| {
        stage::open(house)?;
        let first = Finished::new(1e6, false);
        first.offer(house, first.digest)?;
        running(house, first.digest)?;
        house.stop_aggregator()?;
        let old = house.dir.join("old");
        copy_catalogue(&house.data_dir(), &old)?;
        house.start_aggregator()?;
        let second = Finished::new(2e6, false);
        second.offer(house, second.digest)?;
        running(house, second.digest)?;
        house.stop_aggregator()?;
        copy_catalogue(&old, &house.data_dir())?;
        house.start_aggregator()?;
        for agent in house.agent_names() {
            house.wait_for("the refusal of the older plan", PATIENCE, |house| {
                let log = house.agent(&agent)?.log();
                (log.contains("plan refused") && log.contains("the last one seen")).then_some(())
            })?;
        }
        for at in 0..2 {
            let page = std::net::SocketAddr::from(([127, 0, 0, 1], house.ports.agents + at));
            let status = get(page, "/status")?;
            ensure!(status["plans_refused"].as_u64() > Some(0), "no plan was refused: {status}");
        }
        still_scored_by(house, second.digest)?;
        running(house, second.digest)?;
        nothing_is_lost(house)
    });
}

#[test]
fn what_loses_to_the_simple_rule_watches_beside_the_baseline_and_later_beside_the_leader() {
    stage::journey(4.0, |house| {
        stage::open(house)?;
        let [worse, better] = [1e6, 2e6].map(|threshold| Finished::new(threshold, false));
        worse.offer_as(house, "shadow", Some(better.digest), 0.4)?;
        better.offer_as(house, "shadow", Some(worse.digest), 0.5)?;
        runs(house, [None, Some(better.digest)])?;
        house.wait_for("the shadow's and the baseline's scores", PATIENCE, |house| {
            let kept = Kept::read(house).ok()?;
            let count = |model, role| kept.scores_as(model, role);
            (count(better.digest, Role::Shadow) >= 20 && count(Digest::NONE, Role::Leader) >= 20).then_some(())
        })?;
        let leader = Finished::new(3e6, false);
        leader.offer(house, leader.digest)?;
        runs(house, [Some(leader.digest), None])?;
        let later = Finished::new(4e6, false);
        later.offer_as(house, "shadow", None, 0.5)?;
        runs(house, [Some(leader.digest), Some(later.digest)])?;
        still_scored_by(house, leader.digest)?;
        let kept = Kept::read(house)?;
        let led = [&worse, &better, &later].map(|model| kept.scores_as(model.digest, Role::Leader));
        ensure!(led == [0; 3] && kept.scores_of(worse.digest) == 0, "a shadow led: {led:?}");
        nothing_is_lost(house)
    });
}

#[test]
fn an_int8_model_arrives_and_each_of_its_scores_has_the_bits_of_the_kernel_over_the_rows_that_arrived() {
    stage::journey(4.0, |house| {
        stage::open(house)?;
        let model = Finished::int8(1e6);
        model.offer(house, model.digest)?;
        running(house, model.digest)?;
        house.wait_for("scores of the int8 model", PATIENCE, |house| {
            (Kept::read(house).ok()?.scores_of(model.digest) >= 40).then_some(())
        })?;
        nothing_is_lost(house)?;
        let count = has_the_kernels_bits(&Kept::read(house)?, &model)?;
        ensure!(count >= 40, "{count} scores");
        println!("{count} scores in int8 by two agents, each with the same bits here");
        Ok(())
    });
}

/// A model as the lab would leave it.
struct Finished {
    bytes: Vec<u8>,
    digest: Digest,
    features: Vec<FeatureRef>,
}

impl Finished {
    /// A statistic over the first features of a vibration row; a strange one asks for a feature that nobody computes.
    fn new(threshold: f32, strange: bool) -> Self {
        let mut features = Schema::of(GroupKind::Vibration, 1).features()[..8].to_vec();
        if strange {
            features[3].hash ^= 1;
        }
        let bytes = written(&features, threshold, Body::Statistic { ewma: 0.25 });
        Self { digest: Digest::of(&bytes), bytes, features }
    }

    /// A forecaster with made-up weights over the same features, in int8.
    fn int8(threshold: f32) -> Self {
        let features = Schema::of(GroupKind::Vibration, 1).features()[..8].to_vec();
        let (n, hidden) = (features.len(), 8);
        let made_up = |count: usize, scale: f32| -> Vec<f32> {
            (0..count).map(|i| scale * ((i * 7_919 % 101) as f32 / 50.0 - 1.0)).collect()
        };
        let [input, recurrent, bias] = [(n, 0.4), (hidden, 0.3), (1, 0.2)].map(|(k, s)| made_up(4 * hidden * k, s));
        let [weight, last] = [(hidden, 0.5), (1, 0.1)].map(|(k, s)| made_up(n * k, s));
        let exact = written(
            &features,
            threshold,
            Body::LstmForecaster(Forecaster {
                hidden,
                mode: Mode::Sequence,
                ewma: 0.5,
                lstm: Lstm { input: &input, recurrent: &recurrent, bias: &bias },
                output: Dense { weight: &weight, bias: &last },
            }),
        );
        let exact = Artifact::parse(&exact).expect("the draft is well formed");
        let mut bytes = vec![0; exact.int8_bytes()];
        let (mut state, mut scratch) = (State::<4096>::new(), Scratch::new());
        exact.to_int8(&made_up(50 * n, 4.0), &mut bytes, &mut state, &mut scratch).expect("a network has an int8 form");
        Self { digest: Digest::of(&bytes), bytes, features }
    }

    /// Puts it into the outbox as one that leads; the card may name another digest.
    fn offer(&self, house: &House, labelled: Digest) -> anyhow::Result<()> {
        self.put(house, labelled, &json!({ "role": "leader", "pair": null }))
    }

    /// The same in this role, with the other model of its run.
    fn offer_as(&self, house: &House, role: &str, pair: Option<Digest>, worth: f64) -> anyhow::Result<()> {
        let pair = pair.map(|pair| pair.to_string());
        self.put(house, self.digest, &json!({ "role": role, "pair": pair, "metrics": { "worth": worth } }))
    }

    /// The card comes last and whole.
    fn put(&self, house: &House, labelled: Digest, how: &Value) -> anyhow::Result<()> {
        let features: Vec<_> = self.features.iter().map(|f| json!({ "id": f.id.0, "hash": f.hash })).collect();
        let mut card = json!({
            "digest": labelled.to_string(), "name": "statistic", "family": "statistic",
            "key": { "task": "anomaly", "asset_class": "pump", "asset": null }, "features": features, "reason": "command",
        });
        for (key, value) in how.as_object().into_iter().flatten() {
            card[key] = value.clone();
        }
        let path = self.outbox(house, "card.json");
        std::fs::create_dir_all(path.parent().context("the outbox")?).context("create the outbox")?;
        std::fs::write(self.outbox(house, "kltm"), &self.bytes).context("write an artifact")?;
        std::fs::write(self.outbox(house, "new"), card.to_string()).context("write a card")?;
        std::fs::rename(self.outbox(house, "new"), path).context("finish a card")
    }

    fn outbox(&self, house: &House, end: &str) -> std::path::PathBuf {
        house.data_dir().join("lab").join("outbox").join(format!("{}.{end}", self.digest))
    }
}

/// An artifact over these features that scores three windows at a time.
fn written(features: &[FeatureRef], threshold: f32, body: Body<'_>) -> Vec<u8> {
    let n = features.len();
    let draft = Draft {
        group: GroupKind::Vibration,
        features,
        mean: &vec![0.0; n],
        inverse_scale: &vec![1.0; n],
        range: &vec![Range::ANY; n],
        weight: &vec![1.0 / n as f32; n],
        regimes: &[Regime { rpm: Range::ANY, load: Range::ANY }],
        threshold,
        input_clip: 8.0,
        residual_clip: 1_000.0,
        sequence_len: 3,
        reset: ResetRule::ALWAYS,
        body,
        golden: &vec![0.5; 3 * n],
    };
    let mut bytes = vec![0; draft.size_bytes()];
    draft.write(&mut bytes, &mut State::<4096>::new(), &mut Scratch::new()).expect("the draft is well formed");
    bytes
}

/// Every score of this model against the kernel over the rows that arrived; how many there are. What came before the last sequence has
/// no part in a score: this family and mode begins each sequence anew, and a break in between would have left no score.
fn has_the_kernels_bits(kept: &Kept, model: &Finished) -> anyhow::Result<usize> {
    let artifact = Artifact::parse(&model.bytes)?;
    let (n, length) = (artifact.inputs(), artifact.sequence_len() as u64);
    let rows: BTreeMap<_, _> = kept.features().map(|(asset, _, row)| ((asset, row.group, row.index), row)).collect();
    let mut count = 0;
    for row in &kept.rows {
        let Payload::Score(score) = &row.record.payload else { continue };
        if score.model != model.digest {
            continue;
        }
        let RowRef { group, index, .. } = score.input;
        let (mut state, mut scratch, mut again) = (State::<1024>::new(), Scratch::new(), None);
        for index in (index + 1).saturating_sub(length)..=index {
            let row = rows.get(&(row.record.point.asset.as_str(), group, index));
            let row = row.with_context(|| format!("window {index} is scored and not there"))?;
            let scored = artifact.push(&row.vector.values[..n], &mut state, &mut scratch)?;
            again = scored.map(|scored| (scored.anomaly, artifact.rank(&scored)));
        }
        let (anomaly, ranking) = again.with_context(|| format!("window {index} ends no sequence"))?;
        let bits = |anomaly: f32, rest: f32, parts: &[Contribution]| {
            let parts: Vec<_> = parts.iter().map(|part| (part.feature, part.amount.to_bits())).collect();
            (anomaly.to_bits(), rest.to_bits(), parts)
        };
        let (ours, theirs) = (
            bits(score.anomaly, score.rest, &score.contributions),
            bits(anomaly, ranking.rest, &ranking.contributions),
        );
        ensure!(ours == theirs, "window {index}: the agent says {ours:x?}, the kernel {theirs:x?}");
        ensure!(score.kernel == KernelId::PORTABLE_I8, "window {index} was scored by {:?}", score.kernel);
        count += 1;
    }
    Ok(count)
}

/// Waits until every machine reports that this model leads.
fn running(house: &mut House, model: Digest) -> anyhow::Result<()> {
    wait_for_models(house, |row| story::running(row, "leader") == Some(model.to_string()))
}

/// Waits until every machine reports this leader and this shadow, and no other.
fn runs(house: &mut House, pair: [Option<Digest>; 2]) -> anyhow::Result<()> {
    let pair = pair.map(|model| model.map(|digest| digest.to_string()));
    wait_for_models(house, |row| ["leader", "shadow"].map(|role| story::running(row, role)) == pair)
}

fn wait_for_models(house: &mut House, fits: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
    house.wait_for("the models on every machine", PATIENCE, |house| {
        let fleet = house.fleet().ok()?;
        let rows = fleet["machines"].as_array()?;
        (rows.len() == 2 && rows.iter().all(&fits)).then_some(())
    })
}

/// Waits until a canary has said why it refuses, and the rollout is taken back.
fn is_refused(house: &mut House, model: &Finished, why: &str) -> anyhow::Result<()> {
    house.wait_for("the end of the rollout", PATIENCE, |house| {
        let rollout = rollout_of(house, model.digest)?;
        rollout["stage"].to_string().to_lowercase().replace('_', "").contains("rolledback").then_some(())
    })?;
    let logs: Vec<_> = house.agent_names().iter().filter_map(|agent| Some(house.agent(agent)?.log())).collect();
    let digest = model.digest.to_string();
    let said = logs.iter().flat_map(|log| log.lines()).any(|line| line.contains(&digest) && line.contains(why));
    ensure!(said, "no agent says {why:?} of {digest}:\n{}", logs.join("\n---\n"));
    println!("{digest}: {why}");
    Ok(())
}

/// Waits for new scores of every kind: this model goes on, on both machines.
fn still_scored_by(house: &mut House, model: Digest) -> anyhow::Result<()> {
    let before = Kept::read(house)?.scores_of(model);
    ensure!(before > 0, "{model} has never scored");
    house.wait_for("more scores of the model before", PATIENCE, |house| {
        (Kept::read(house).ok()?.scores_of(model) >= before + 20).then_some(())
    })?;
    running(house, model)
}

/// Waits until both agents know the server's time well.
fn time_is_known(house: &mut House) -> anyhow::Result<()> {
    let first = house.ports.agents;
    house.wait_for("the agents' clocks", PATIENCE, |_| {
        let known = |port: u16| -> Option<bool> {
            let status = get(std::net::SocketAddr::from(([127, 0, 0, 1], port)), "/status").ok()?;
            let online = status["uplink"]["connected"] == true;
            Some(online && status["clock_uncertainty_us"].as_i64()? < 500_000)
        };
        (known(first)? && known(first + 1)?).then_some(())
    })
}

fn rollout_of(house: &House, leader: Digest) -> Option<Value> {
    let models = house.models().ok()?;
    let wanted: Vec<_> = leader.0.iter().map(|byte| Value::from(*byte)).collect();
    let rollouts = models["rollouts"].as_array()?;
    rollouts.iter().find(|rollout| rollout["pair"]["leader"].as_array() == Some(&wanted)).cloned()
}

fn pause(house: &House, signal: &str) {
    for agent in house.agent_names() {
        if let Some(process) = house.agent(&agent) {
            process.signal(signal);
        }
    }
}

/// The database with what belongs to it; what lies in the other folder gives way.
fn copy_catalogue(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to).context("create a folder")?;
    for end in ["", "-wal", "-shm"] {
        let name = format!("catalogue.sqlite{end}");
        let _ = std::fs::remove_file(to.join(&name));
        if from.join(&name).exists() {
            std::fs::copy(from.join(&name), to.join(&name)).with_context(|| format!("copy {name}"))?;
        }
    }
    Ok(())
}
