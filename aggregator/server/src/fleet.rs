//! The fleet's shell: takes finished models in, lets the planner decide, signs, saves, and tells the devices.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context;
use kilter_fleet::{Assignment, Observed, Planner, Policy, Registry, StageChange, guard};
use kilter_ingest::{DeviceLink, Presence, Principal};
use kilter_types::{DeviceId, Digest, Generation, Manifest, Micros, Name};
use kilter_wire::{Plan, SignedManifest, sign};
use serde::Serialize;
use tracing::{error, info, warn};

use crate::catalogue::Catalogue;
use crate::clock;
use crate::store::Store;

/// Registry, planner and the signing key behind one lock.
#[derive(Clone)]
pub(crate) struct FleetHandle {
    inner: Arc<RwLock<Fleet>>,
    catalogue: Catalogue,
    policy: Policy,
    secret: [u8; 32],
    expires: Micros,
    models: PathBuf,
    outbox: PathBuf,
    /// The generation that each node says it follows.
    heard: Arc<RwLock<BTreeMap<DeviceId, Generation>>>,
}

#[derive(Clone, Default, PartialEq)]
struct Fleet {
    registry: Registry,
    planner: Planner,
}

/// What `fleet` and the page show of models and rollouts.
#[derive(Serialize)]
pub(crate) struct ModelsView {
    pub(crate) models: Vec<kilter_fleet::Model>,
    pub(crate) rollouts: Vec<kilter_fleet::Rollout>,
    pub(crate) desired: BTreeMap<DeviceId, kilter_fleet::Desired>,
    pub(crate) champions: BTreeMap<Name, kilter_fleet::Pair>,
}

impl FleetHandle {
    pub(crate) async fn open(
        catalogue: Catalogue,
        config: &crate::config::Rollout,
        secret: [u8; 32],
        data: &Path,
    ) -> anyhow::Result<Self> {
        let (registry, planner) = catalogue.load_fleet().await?;
        let models = data.join("models");
        std::fs::create_dir_all(&models).with_context(|| format!("failed to create {}", models.display()))?;
        Ok(Self {
            inner: Arc::new(RwLock::new(Fleet { registry, planner })),
            catalogue,
            policy: Policy {
                canaries: config.canaries,
                probation: Micros::from_secs(i64::from(config.probation_secs)),
            },
            secret,
            expires: Micros::from_secs(i64::from(config.expires_days) * 86_400),
            models,
            outbox: data.join("lab").join("outbox"),
            heard: Arc::default(),
        })
    }

    /// Where artifacts are kept.
    pub(crate) fn models_dir(&self) -> &Path {
        &self.models
    }

    /// A node's report says which generation it follows.
    pub(crate) fn heard(&self, device: &DeviceId, generation: Generation) {
        self.heard.write().unwrap_or_else(PoisonError::into_inner).insert(device.clone(), generation);
    }

    /// Everything that is known of models and rollouts.
    pub(crate) fn view(&self) -> ModelsView {
        let fleet = self.read();
        ModelsView {
            models: fleet.registry.newest_first().into_iter().cloned().collect(),
            rollouts: fleet.planner.rollouts().iter().rev().cloned().collect(),
            desired: fleet.planner.all_desired().clone(),
            champions: fleet.planner.champions().clone(),
        }
    }

    /// Builds a device's signed plan and lends it to `send`; nothing happens while nothing was decided for it.
    pub(crate) fn with_plan(&self, device: &DeviceId, send: impl FnOnce(Plan<'_>)) {
        let signed = {
            let fleet = self.read();
            let Some(desired) = fleet.planner.desired(device).cloned() else {
                return;
            };
            let models: Vec<_> = desired.models.iter().filter_map(|model| self.sign(&fleet, model)).collect();
            (desired.generation, models)
        };
        let (generation, models) = signed;
        let signatures = models.iter().map(|(_, signature)| signature.as_slice());
        let signature = sign::sign_plan(device, generation, signatures, &self.secret);
        let models = models
            .iter()
            .map(|(manifest, signature)| SignedManifest { manifest, signature: signature.as_slice() })
            .collect();
        send(Plan { device: device.clone(), generation, models, signature: &signature });
    }

    /// One step: models in, planner on, saved, and the devices whose plan changed.
    pub(crate) async fn step(
        &self,
        store: &Store,
        link: &dyn DeviceLink,
        principals: &BTreeMap<DeviceId, Principal>,
    ) -> Vec<DeviceId> {
        let now = clock::now();
        let mut observed = observe(store, link, principals);
        for (device, generation) in self.heard.read().unwrap_or_else(PoisonError::into_inner).iter() {
            if let Some(node) = observed.get_mut(device) {
                node.generation = *generation;
            }
        }
        let before = self.read().clone();
        let mut after = before.clone();
        let cards = self.import(&mut after, now);
        let changes = after.planner.step(&self.policy, &observed, now);
        if after == before {
            return Vec::new();
        }
        if let Err(violation) = guard::check(&before.planner, &after.planner, &self.policy, &after.registry, &observed)
        {
            error!(%violation, "rollout step refused");
            return Vec::new();
        }
        let moved = after
            .planner
            .all_desired()
            .iter()
            .filter(|(device, desired)| before.planner.desired(device) != Some(desired))
            .map(|(device, _)| device.clone())
            .collect();
        if let Err(error) = self.save(after).await {
            warn!(error = %format!("{error:#}"), "rollout not saved");
            return Vec::new();
        }
        for StageChange { generation, stage } in changes {
            info!(generation = generation.0, ?stage, "rollout moved");
        }
        for card in cards {
            let _ = std::fs::remove_file(artifact_beside(&card));
            let _ = std::fs::remove_file(card);
        }
        moved
    }

    /// Goes back to the model before.
    pub(crate) async fn roll_back(&self, class: &Name, who: &str, why: &str) -> anyhow::Result<Generation> {
        let now = clock::now();
        let mut fleet = self.read().clone();
        let generation = fleet.planner.roll_back(class, why, now)?;
        self.save(fleet).await?;
        self.catalogue.audit(who, "rollback", &format!("{class}: {why}"), now).await?;
        Ok(generation)
    }

    /// Takes finished models from the lab's outbox and starts the rollout of those that lead, or of the better one where neither of a pair
    /// does; returns the cards taken.
    ///
    /// What can't be taken is set aside with its artifact, so that it neither holds up the others nor is tried for ever.
    fn import(&self, fleet: &mut Fleet, now: Micros) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(&self.outbox) else {
            return Vec::new();
        };
        let mut cards: Vec<_> = entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| path.to_string_lossy().ends_with(CARD))
            .collect();
        cards.sort();
        let (mut taken, mut came) = (Vec::new(), BTreeMap::new());
        for path in cards {
            match self.import_one(fleet, &path, now) {
                Ok(Imported::Model { digest, reason }) => {
                    came.insert(digest, reason);
                    taken.push(path);
                }
                Ok(Imported::Later) => {}
                Err(error) => {
                    warn!(card = %path.display(), error = %format!("{error:#}"), "model not imported: set aside");
                    set_aside(&path);
                }
            }
        }
        let digests: Vec<_> = came.keys().copied().collect();
        for digest in fleet.registry.beginners(&digests) {
            let told = fleet.registry.get(digest).and_then(|model| model.card["reason"].as_str());
            let reason = came.get(&digest).cloned().unwrap_or_else(|| told.unwrap_or(TRAINED).to_owned());
            match fleet.planner.start(digest, &reason, &fleet.registry, now) {
                Ok(generation) => info!(model = %digest, generation = generation.0, "rollout started"),
                Err(error) => warn!(model = %digest, %error, "rollout not started"),
            }
        }
        taken
    }

    /// Registers one model; an error means that it can never be taken.
    fn import_one(&self, fleet: &mut Fleet, card: &Path, now: Micros) -> anyhow::Result<Imported> {
        let text = std::fs::read(card).context("failed to read the card")?;
        let described: serde_json::Value = serde_json::from_slice(&text).context("failed to read the card")?;
        let artifact = std::fs::read(artifact_beside(card)).context("failed to read the artifact beside the card")?;
        let mut registry = fleet.registry.clone();
        let model = registry.import(&artifact, &described, now)?;
        if let Err(error) = crate::disk::replace(&self.models.join(format!("{}.kltm", model.digest)), &artifact) {
            warn!(model = %model.digest, error = %format!("{error:#}"), "model not kept: tried again");
            return Ok(Imported::Later);
        }
        info!(model = %model.digest, name = %model.name, version = model.version, role = ?model.role, "model registered");
        let reason = described.get("reason").and_then(serde_json::Value::as_str).unwrap_or(TRAINED).to_owned();
        let digest = model.digest;
        fleet.registry = registry;
        Ok(Imported::Model { digest, reason })
    }

    fn sign(&self, fleet: &Fleet, assignment: &Assignment) -> Option<(Vec<u8>, [u8; 64])> {
        let model = fleet.registry.get(assignment.digest)?;
        let carries = |pair: &kilter_fleet::Pair| [pair.leader, pair.shadow].contains(&Some(assignment.digest));
        let rollout = fleet.planner.rollouts().iter().rev().find(|rollout| carries(&rollout.pair));
        let signed_at = rollout.map_or(model.imported, |rollout| rollout.started);
        let manifest = Manifest {
            digest: model.digest,
            size_bytes: model.size_bytes,
            name: model.name.clone(),
            version: model.version,
            key: model.key.clone(),
            role: assignment.role,
            features: model.features.iter().copied().collect(),
            minimum_agent: MINIMUM_AGENT,
            expires: signed_at + self.expires,
            generation: assignment.generation,
        };
        let mut room = vec![0; 4096];
        match sign::sign_manifest(&manifest, &self.secret, &mut room) {
            Ok((bytes, signature)) => Some((bytes.to_vec(), signature)),
            Err(error) => {
                error!(model = %model.digest, %error, "manifest not signed");
                None
            }
        }
    }

    async fn save(&self, fleet: Fleet) -> anyhow::Result<()> {
        self.catalogue.save_fleet(&fleet.registry, &fleet.planner).await?;
        *self.inner.write().unwrap_or_else(PoisonError::into_inner) = fleet;
        Ok(())
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Fleet> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of a finished model in the outbox.
enum Imported {
    /// It is in the registry.
    Model {
        digest: Digest,
        /// Why it was trained.
        reason: String,
    },
    /// Our disk did not take it.
    Later,
}

/// Renames card and artifact, the card first: without it the artifact is nothing.
fn set_aside(card: &Path) {
    for path in [card.to_owned(), artifact_beside(card)] {
        let mut aside = path.clone().into_os_string();
        aside.push(".refused");
        if let Err(error) = std::fs::rename(&path, aside) {
            warn!(path = %path.display(), %error, "not set aside");
        }
    }
}

fn artifact_beside(card: &Path) -> PathBuf {
    PathBuf::from(card.to_string_lossy().replace(CARD, ".kltm"))
}

/// What the nodes say of themselves, drawn from live.
fn observe(
    store: &Store,
    link: &dyn DeviceLink,
    principals: &BTreeMap<DeviceId, Principal>,
) -> BTreeMap<DeviceId, Observed> {
    let state = store.state();
    let mut fleet: BTreeMap<DeviceId, Observed> = BTreeMap::new();
    let mut running: BTreeMap<DeviceId, Vec<Vec<Digest>>> = BTreeMap::new();
    // Has any of its machines of this kind room for a shadow?
    let mut room: BTreeMap<(DeviceId, Name), bool> = BTreeMap::new();
    for (_, machine) in state.live.machines() {
        let node = fleet.entry(machine.device.clone()).or_default();
        node.classes.extend(machine.asset_class.clone());
        node.refused.extend(machine.refused.iter().map(|(digest, _)| *digest));
        if let Some(class) = &machine.asset_class {
            let leaders_only = machine.refused.iter().any(|(_, reason)| reason.as_str() == LEADERS_ONLY);
            *room.entry((machine.device.clone(), class.clone())).or_default() |= !leaders_only;
        }
        running
            .entry(machine.device.clone())
            .or_default()
            .push(machine.models.iter().map(|model| model.digest).collect());
    }
    for ((device, class), _) in room.into_iter().filter(|(_, has_room)| !has_room) {
        fleet.entry(device).or_default().leaders_only.insert(class);
    }
    for (device, node) in &mut fleet {
        node.running = running.remove(device).into_iter().flatten().flatten().collect();
        node.online = principals.get(device).is_some_and(|p| link.presence(p) != Presence::Offline);
    }
    fleet
}

/// How a node says that it has no room for a shadow.
const LEADERS_ONLY: &str = "leaders_only";

/// How the lab names a card; written last, so that a card stands for a whole artifact.
const CARD: &str = ".card.json";

/// The reason of a card that names none.
const TRAINED: &str = "trained";

/// The oldest wire version whose agents can run what is trained here.
const MINIMUM_AGENT: u16 = 1;
