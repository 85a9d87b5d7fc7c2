//! A small model as a test needs one: an artifact, its manifest, and both signed by the test's own key.

use std::path::Path;

use anyhow::Context;
use kilter_infer::{Body, Draft, Range, ResetRule, Scratch, State};
use kilter_signal::table::{self, at};
use kilter_types::{Digest, Generation, GroupKind, Manifest, Micros, ModelKey, Name, Role};
use kilter_wire::{SignedManifest, sign};
use serde_json::json;

/// The key of a test's fleet.
pub const SECRET: [u8; 32] = [9; 32];

/// A statistic over RMS and kurtosis; the threshold tells one from another.
pub fn artifact(threshold: f32) -> Vec<u8> {
    statistic(threshold, 0.5)
}

/// The same with another memory: 1 has none.
pub fn statistic(threshold: f32, ewma: f32) -> Vec<u8> {
    let features = [at::RMS, at::KURTOSIS].map(|place| table::VIBRATION[place].reference());
    let draft = Draft {
        group: GroupKind::Vibration,
        features: &features,
        mean: &[1.0, 3.0],
        inverse_scale: &[2.0, 1.0],
        range: &[Range { low: 0.0, high: 2.0 }, Range { low: 1.0, high: 5.0 }],
        weight: &[0.5, 0.5],
        regimes: &[],
        threshold,
        input_clip: 10.0,
        residual_clip: 10.0,
        sequence_len: 1,
        reset: ResetRule::ALWAYS,
        body: Body::Statistic { ewma },
        golden: &[1.0, 3.0, 2.0, 4.0],
    };
    let mut bytes = vec![0; draft.size_bytes()];
    let (mut state, mut scratch) = (State::<1024>::new(), Scratch::new());
    draft.write(&mut bytes, &mut state, &mut scratch).expect("a good draft");
    bytes
}

/// Leaves an artifact in the data folder of an aggregator as its lab would: for every pump, in this role, the card last and whole.
pub fn publish(data: &Path, bytes: &[u8], role: &str) -> anyhow::Result<Digest> {
    let digest = Digest::of(bytes);
    let features = [at::RMS, at::KURTOSIS].map(|place| {
        let feature = table::VIBRATION[place].reference();
        json!({ "id": feature.id.0, "hash": feature.hash })
    });
    let card = json!({
        "digest": digest.to_string(), "name": "statistic", "family": "statistic", "role": role, "pair": null,
        "key": { "task": "anomaly", "asset_class": "pump", "asset": null }, "features": features, "reason": "command",
    });
    let outbox = data.join("lab").join("outbox");
    std::fs::create_dir_all(&outbox).context("create the outbox")?;
    std::fs::write(outbox.join(format!("{digest}.kltm")), bytes).context("write an artifact")?;
    std::fs::write(outbox.join("new"), card.to_string()).context("write a card")?;
    std::fs::rename(outbox.join("new"), outbox.join(format!("{digest}.card.json"))).context("finish a card")?;
    Ok(digest)
}

/// Says that these bytes detect anomalies of every pump, for ever.
pub fn manifest(bytes: &[u8], generation: u64) -> Manifest {
    let name = |text| Name::new(text).expect("a good name");
    Manifest {
        digest: Digest::of(bytes),
        size_bytes: bytes.len() as u32,
        name: name("anomaly"),
        version: 1,
        key: ModelKey { task: name("anomaly"), asset_class: name("pump"), asset: None },
        role: Role::Leader,
        features: heapless::Vec::new(),
        minimum_agent: 1,
        expires: Micros(i64::MAX),
        generation: Generation(generation),
    }
}

/// A manifest as it travels.
#[derive(Clone, Debug)]
pub struct Signed {
    bytes: Vec<u8>,
    signature: [u8; 64],
}

impl Signed {
    /// Signs it with this secret key.
    pub fn new(manifest: &Manifest, secret: &[u8; 32]) -> Self {
        let mut room = [0; 1024];
        let (bytes, signature) = sign::sign_manifest(manifest, secret, &mut room).expect("it fits");
        Self { bytes: bytes.to_vec(), signature }
    }

    /// For a message.
    pub fn travel(&self) -> SignedManifest<'_> {
        SignedManifest { manifest: &self.bytes, signature: &self.signature }
    }
}
