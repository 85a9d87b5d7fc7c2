//! Models on disk: two slots per machine and role, what runs in which, and the last generation seen.
//!
//! ```text
//! models/plan                         the last plan as it came, signature and all
//! models/fetch/<digest>[.part]        artifacts on their way
//! models/<asset>/<role>.{a,b}         two slots: the one that runs and the one before
//! models/<asset>/state.json           which slot runs, what is in them, the last generation
//! ```
//! A slot that runs is never written. Whatever is read is believed only if its digest fits.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use kilter_signal::table;
use kilter_types::{DeviceId, Digest, Generation, Manifest, Micros, Name, Role};
use kilter_wire::frame::{self, Kind};
use kilter_wire::{Down, Plan, SignError, SignedManifest, VERSION};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::file;
use crate::machine::Install;

/// The folder.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    dir: PathBuf,
}

/// One machine's slots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Slots {
    roles: BTreeMap<Role, Pair>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pair {
    /// The slot that runs: 0 is a, 1 is b.
    active: Option<usize>,
    /// The last generation installed here; only ever rises (R5).
    generation: Generation,
    /// The model of that generation: it may come again when its slot was damaged or emptied.
    #[serde(default)]
    confirmed: Option<String>,
    slots: [Option<Kept>; 2],
}

/// What lies in a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    digest: String,
    generation: Generation,
    expires_us: i64,
    /// Made for this very machine, not for its class.
    #[serde(default)]
    own: bool,
}

/// A model that a machine shall run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) machine: usize,
    pub(crate) manifest: Manifest,
}

/// A machine as plans see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) asset: Name,
    pub(crate) class: Name,
}

/// Why a plan, or one of its models, is not followed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// For another node.
    #[error("the plan is for device {0}")]
    Device(DeviceId),
    /// Not signed by the fleet's key.
    #[error("{0}")]
    Signature(SignError),
    /// Not above the last one (R5).
    #[error("generation {found} is not above {last}, the last one seen")]
    Generation {
        /// The one refused.
        found: u64,
        /// The last one seen.
        last: u64,
    },
    /// Past its date, as surely as the clock can tell.
    #[error("the model expired; it is not installed")]
    Expired,
    /// It wants a newer agent.
    #[error("the model needs wire version {0}, this agent speaks {VERSION}")]
    Agent(u16),
    /// It asks for a feature that is not computed here (M1).
    #[error("the model asks for feature {0} by a definition that this agent does not have")]
    Feature(u16),
}

impl Refusal {
    /// A word for [`kilter_types::Event::ModelRefused`].
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Device(_) => "other_device",
            Self::Signature(_) => "signature",
            Self::Generation { .. } => "old_generation",
            Self::Expired => "expired",
            Self::Agent(_) => "agent_too_old",
            Self::Feature(_) => "missing_feature",
        }
    }
}

/// Checks a plan as a whole: device, signature, order. Returns its manifests, each with what is wrong with it by itself.
pub(crate) fn check_plan(
    plan: &Plan<'_>,
    device: &DeviceId,
    key: &[u8; 32],
    last: Generation,
) -> Result<Vec<Result<Manifest, Refusal>>, Refusal> {
    if plan.device != *device {
        return Err(Refusal::Device(plan.device.clone()));
    }
    plan.verify(key).map_err(Refusal::Signature)?;
    if plan.generation <= last {
        return Err(Refusal::Generation { found: plan.generation.0, last: last.0 });
    }
    Ok(plan.models.iter().map(|model| model.verify(key).map_err(Refusal::Signature)).collect())
}

/// Checks what a manifest demands of this agent and of the time: `now` may be off by `uncertainty`, and what is not surely expired is not.
pub(crate) fn check_manifest(manifest: &Manifest, now: Micros, uncertainty: Micros) -> Result<(), Refusal> {
    if now - uncertainty > manifest.expires {
        return Err(Refusal::Expired);
    }
    if manifest.minimum_agent > u16::from(VERSION) {
        return Err(Refusal::Agent(manifest.minimum_agent));
    }
    let strange = manifest
        .features
        .iter()
        .find(|feature| table::describe(feature.id).is_none_or(|known| known.feature.reference() != **feature));
    strange.map_or(Ok(()), |feature| Err(Refusal::Feature(feature.id.0)))
}

/// Which machine shall run which manifest: the one for the asset before the one for its class.
pub(crate) fn assign(machines: &[Candidate], manifests: &[Manifest]) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for (machine, candidate) in machines.iter().enumerate() {
        for role in [Role::Leader, Role::Shadow] {
            let fits = |manifest: &&Manifest| {
                let asset = manifest.key.asset.as_ref();
                manifest.role == role
                    && manifest.key.asset_class == candidate.class
                    && asset.is_none_or(|asset| *asset == candidate.asset)
            };
            let best = manifests.iter().filter(fits).max_by_key(|manifest| manifest.key.asset.is_some());
            wanted.extend(best.map(|manifest| Wanted { machine, manifest: manifest.clone() }));
        }
    }
    wanted
}

impl Store {
    pub(crate) fn new(data: &Path) -> Self {
        Self { dir: data.join("models") }
    }

    /// The last plan, as it came.
    pub(crate) fn plan(&self) -> io::Result<Option<Vec<u8>>> {
        file::read(&self.dir.join("plan"))
    }

    pub(crate) fn save_plan(&self, frame: &[u8]) -> io::Result<()> {
        file::replace(&self.dir.join("plan"), frame)
    }

    /// A machine's slots; unreadable ones are empty.
    pub(crate) fn slots(&self, asset: &Name) -> Slots {
        let bytes = file::read(&self.state_path(asset)).ok().flatten();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// What can run after a restart, per role the slot that ran first and the one before it second; damaged ones are left out.
    pub(crate) fn candidates(&self, asset: &Name) -> Vec<Install> {
        let mut found = Vec::new();
        for (role, pair) in self.slots(asset).roles {
            let Some(active) = pair.active else { continue };
            for slot in [active, 1 - active] {
                let Some(kept) = &pair.slots[slot] else { continue };
                let bytes = fs::read(self.slot_path(asset, role, slot)).unwrap_or_default();
                let digest = Digest::of(&bytes);
                if digest.to_string() == kept.digest {
                    let (generation, expires, own) = (kept.generation, Micros(kept.expires_us), kept.own);
                    found.push(Install { role, bytes, digest, generation, expires, own, signed: None });
                } else {
                    tracing::warn!(%asset, ?role, slot, "a model slot is damaged");
                }
            }
        }
        found
    }

    /// Checks that a manifest may follow what a machine has in its role (R5); `false` when the machine runs exactly it already.
    pub(crate) fn may_follow(&self, asset: &Name, manifest: &Manifest) -> Result<bool, Refusal> {
        let slots = self.slots(asset);
        let Some(pair) = slots.roles.get(&manifest.role) else { return Ok(true) };
        let active = pair.active.and_then(|active| pair.slots[active].as_ref());
        if active.is_some_and(|kept| kept.digest == manifest.digest.to_string()) {
            return Ok(false);
        }
        let again = manifest.generation == pair.generation && pair.confirmed == Some(manifest.digest.to_string());
        if manifest.generation <= pair.generation && !again {
            return Err(Refusal::Generation { found: manifest.generation.0, last: pair.generation.0 });
        }
        Ok(true)
    }

    /// Writes an artifact into the slot that does not run. It runs once [`confirm`](Self::confirm) says so.
    pub(crate) fn stage(&self, asset: &Name, manifest: &Manifest, bytes: &[u8]) -> io::Result<()> {
        let mut slots = self.slots(asset);
        let pair = slots.roles.entry(manifest.role).or_default();
        let slot = pair.active.map_or(0, |active| 1 - active);
        pair.slots[slot] = None;
        self.save(asset, &slots)?;
        file::replace(&self.slot_path(asset, manifest.role, slot), bytes)
    }

    /// The staged artifact runs: the other slot keeps the one before.
    pub(crate) fn confirm(&self, asset: &Name, manifest: &Manifest) -> io::Result<()> {
        let mut slots = self.slots(asset);
        let pair = slots.roles.entry(manifest.role).or_default();
        let slot = pair.active.map_or(0, |active| 1 - active);
        pair.slots[slot] = Some(Kept {
            digest: manifest.digest.to_string(),
            generation: manifest.generation,
            expires_us: manifest.expires.0,
            own: manifest.key.asset.is_some(),
        });
        pair.active = Some(slot);
        pair.generation = pair.generation.max(manifest.generation);
        pair.confirmed = Some(manifest.digest.to_string());
        self.save(asset, &slots)
    }

    /// The same model goes on under a newer manifest.
    pub(crate) fn renew(&self, asset: &Name, manifest: &Manifest) -> io::Result<()> {
        let mut slots = self.slots(asset);
        let Some(pair) = slots.roles.get_mut(&manifest.role) else { return Ok(()) };
        pair.generation = pair.generation.max(manifest.generation);
        if let Some(kept) = pair.active.and_then(|active| pair.slots[active].as_mut()) {
            kept.generation = kept.generation.max(manifest.generation);
            kept.expires_us = manifest.expires.0;
        }
        self.save(asset, &slots)
    }

    /// After a restart this one runs, because the one that ran before could not be installed.
    pub(crate) fn fell_back(&self, asset: &Name, install: &Install) -> io::Result<bool> {
        let mut slots = self.slots(asset);
        let Some(pair) = slots.roles.get_mut(&install.role) else { return Ok(false) };
        let digest = install.digest.to_string();
        let found = pair.slots.iter().position(|kept| kept.as_ref().is_some_and(|kept| kept.digest == digest));
        if found.is_none() || found == pair.active {
            return Ok(false);
        }
        pair.active = found;
        self.save(asset, &slots)?;
        Ok(true)
    }

    /// No model runs in this role any more.
    pub(crate) fn clear(&self, asset: &Name, role: Role) -> io::Result<()> {
        let mut slots = self.slots(asset);
        match slots.roles.get_mut(&role) {
            Some(pair) if pair.active.is_some() => {
                pair.active = None;
                self.save(asset, &slots)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The bytes of an artifact that some slot or a finished download holds.
    pub(crate) fn artifact(&self, digest: Digest) -> Option<Vec<u8>> {
        let good = |path: &Path| fs::read(path).ok().filter(|bytes| Digest::of(bytes) == digest);
        if let Some(bytes) = good(&self.fetch_path(digest)) {
            return Some(bytes);
        }
        let machines = fs::read_dir(&self.dir).ok()?;
        let slots = machines
            .flatten()
            .flat_map(|machine| ["leader.a", "leader.b", "shadow.a", "shadow.b"].map(|slot| machine.path().join(slot)));
        slots.filter(|path| path.is_file()).find_map(|path| good(&path))
    }

    /// A manifest of the plan that is followed, as it was signed.
    pub(crate) fn signed(&self, digest: Digest, key: &[u8; 32]) -> Option<(Vec<u8>, Vec<u8>)> {
        let frame = self.plan().ok().flatten()?;
        let Ok(Down::Plan(plan)) = frame::decode::<Down<'_>>(Kind::Down, &frame) else { return None };
        let named = |model: &&SignedManifest<'_>| model.verify(key).is_ok_and(|manifest| manifest.digest == digest);
        plan.models.iter().find(named).map(|model| (model.manifest.to_vec(), model.signature.to_vec()))
    }

    /// How much of an artifact has come.
    pub(crate) fn part_bytes(&self, digest: Digest) -> u32 {
        let len = fs::metadata(self.part_path(digest)).map_or(0, |found| found.len());
        u32::try_from(len).unwrap_or(0)
    }

    /// Appends to an artifact on its way.
    pub(crate) fn append(&self, digest: Digest, bytes: &[u8]) -> io::Result<()> {
        let path = self.part_path(digest);
        fs::create_dir_all(self.dir.join("fetch"))?;
        fs::OpenOptions::new().append(true).create(true).open(path)?.write_all(bytes)
    }

    /// The last part is here: keeps the artifact if its digest fits, forgets it otherwise.
    pub(crate) fn finish(&self, digest: Digest) -> io::Result<bool> {
        let path = self.part_path(digest);
        let bytes = fs::read(&path)?;
        let good = Digest::of(&bytes) == digest;
        if good {
            file::replace(&self.fetch_path(digest), &bytes)?;
        }
        fs::remove_file(&path)?;
        Ok(good)
    }

    /// Removes what was fetched and is wanted no more.
    pub(crate) fn tidy(&self, wanted: &[Digest]) {
        for found in fs::read_dir(self.dir.join("fetch")).into_iter().flatten().flatten() {
            let name = found.file_name().to_string_lossy().into_owned();
            let digest = Digest::parse(name.trim_end_matches(".part"));
            if digest.is_none_or(|digest| !wanted.contains(&digest)) {
                let _ = fs::remove_file(found.path());
            }
        }
    }

    fn save(&self, asset: &Name, slots: &Slots) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(slots).map_err(io::Error::other)?;
        file::replace(&self.state_path(asset), &text)
    }

    fn state_path(&self, asset: &Name) -> PathBuf {
        self.dir.join(asset.as_str()).join("state.json")
    }

    fn slot_path(&self, asset: &Name, role: Role, slot: usize) -> PathBuf {
        let role = match role {
            Role::Leader => "leader",
            Role::Shadow => "shadow",
        };
        self.dir.join(asset.as_str()).join(format!("{role}.{}", ["a", "b"][slot]))
    }

    fn fetch_path(&self, digest: Digest) -> PathBuf {
        self.dir.join("fetch").join(digest.to_string())
    }

    fn part_path(&self, digest: Digest) -> PathBuf {
        self.dir.join("fetch").join(format!("{digest}.part"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_types::{FeatureId, FeatureRef, ModelKey};
    use kilter_wire::sign;

    fn name(text: &str) -> Name {
        Name::new(text).expect("a good name")
    }

    fn manifest(bytes: &[u8], generation: u64, role: Role, asset: Option<&str>) -> Manifest {
        Manifest {
            digest: Digest::of(bytes),
            size_bytes: bytes.len() as u32,
            name: name("anomaly"),
            version: 1,
            key: ModelKey { task: name("anomaly"), asset_class: name("pump"), asset: asset.map(name) },
            role,
            features: heapless::Vec::new(),
            minimum_agent: 1,
            expires: Micros(1000),
            generation: Generation(generation),
        }
    }

    fn running(store: &Store, asset: &Name) -> Vec<(Role, Vec<u8>)> {
        store.candidates(asset).into_iter().map(|install| (install.role, install.bytes)).collect()
    }

    #[test]
    fn a_model_is_switched_in_the_other_slot_and_a_damaged_one_falls_back_to_the_one_before() {
        let dir = tempfile::tempdir().expect("a folder");
        let (store, asset) = (Store::new(dir.path()), name("pump-1"));
        for (generation, bytes) in [(1, b"one"), (2, b"two"), (3, b"six")] {
            let manifest = manifest(bytes, generation, Role::Leader, None);
            assert_eq!(store.may_follow(&asset, &manifest), Ok(true));
            let before = running(&store, &asset);
            store.stage(&asset, &manifest, bytes).expect("the disk works");
            // Until it is confirmed, a restart runs what ran before.
            assert_eq!(running(&store, &asset).first(), before.first());
            store.confirm(&asset, &manifest).expect("the disk works");
            assert_eq!(running(&store, &asset)[0].1, bytes);
            assert_eq!(store.may_follow(&asset, &manifest), Ok(false), "it runs already");
        }
        assert_eq!(running(&store, &asset)[1].1, b"two", "the one before is kept");
        let active = fs::read_dir(dir.path().join("models/pump-1")).expect("a folder").flatten();
        let six = active.map(|file| file.path()).find(|path| fs::read(path).is_ok_and(|bytes| bytes == b"six"));
        fs::write(six.expect("it is there"), b"tampered").expect("the disk works");
        assert_eq!(running(&store, &asset), [(Role::Leader, b"two".to_vec())]);
        let two = store.candidates(&asset).remove(0);
        assert!(store.fell_back(&asset, &two).expect("the disk works"));
        assert!(!store.fell_back(&asset, &two).expect("the disk works"));
        let six = manifest(b"six", 3, Role::Leader, None);
        assert_eq!(store.may_follow(&asset, &six), Ok(true), "what was damaged may be fetched again");
    }

    #[test]
    fn r5_an_older_manifest_is_refused_even_after_a_fall_back_and_a_newer_one_may_name_an_older_artifact() {
        let dir = tempfile::tempdir().expect("a folder");
        let (store, asset) = (Store::new(dir.path()), name("pump-1"));
        for (generation, bytes) in [(4, b"one"), (5, b"two")] {
            let manifest = manifest(bytes, generation, Role::Leader, None);
            store.stage(&asset, &manifest, bytes).expect("the disk works");
            store.confirm(&asset, &manifest).expect("the disk works");
        }
        let replayed = manifest(b"one", 4, Role::Leader, None);
        assert_eq!(store.may_follow(&asset, &replayed), Err(Refusal::Generation { found: 4, last: 5 }));
        assert_eq!(store.may_follow(&asset, &manifest(b"one", 6, Role::Leader, None)), Ok(true), "a rollback");
        assert_eq!(store.may_follow(&asset, &manifest(b"one", 1, Role::Shadow, None)), Ok(true), "another role");
    }

    #[test]
    fn r5_only_a_newer_plan_for_this_device_with_the_fleets_signature_is_followed() {
        let secret = [7; 32];
        let key = sign::public_key(&secret);
        let device = DeviceId::new("edge-1").expect("a good id");
        let mut room = [0; 2048];
        let (bytes, signature) =
            sign::sign_manifest(&manifest(b"one", 1, Role::Leader, None), &secret, &mut room).expect("it fits");
        let mut tampered = bytes.to_vec();
        tampered[0] ^= 1;
        let plan = |device: &DeviceId, generation: u64, bytes| {
            let model = SignedManifest { manifest: bytes, signature: &signature };
            let models = heapless::Vec::from_slice(&[model]).expect("it fits");
            let signed = sign::sign_plan(device, Generation(generation), [&signature[..]].into_iter(), &secret);
            (device.clone(), Generation(generation), models, signed)
        };
        let check = |parts: (DeviceId, Generation, _, [u8; 64]), key: &[u8; 32]| {
            let (to, generation, models, signed) = parts;
            let plan = Plan { device: to, generation, models, signature: &signed };
            check_plan(&plan, &device, key, Generation(5))
        };
        let good = check(plan(&device, 6, bytes), &key).expect("a good plan");
        assert_eq!(good, [Ok(manifest(b"one", 1, Role::Leader, None))]);
        let bad = check(plan(&device, 6, &tampered), &key).expect("the plan itself is good");
        assert_eq!(bad, [Err(Refusal::Signature(SignError::Signature))]);
        let other = DeviceId::new("edge-2").expect("a good id");
        assert_eq!(check(plan(&other, 6, bytes), &key), Err(Refusal::Device(other.clone())));
        assert_eq!(check(plan(&device, 5, bytes), &key), Err(Refusal::Generation { found: 5, last: 5 }));
        let stranger = sign::public_key(&[8; 32]);
        assert_eq!(check(plan(&device, 6, bytes), &stranger), Err(Refusal::Signature(SignError::Signature)));
    }

    #[test]
    fn a_manifest_is_refused_only_when_it_has_surely_expired_or_asks_for_what_is_not_here() {
        let mut manifest = manifest(b"one", 1, Role::Leader, None);
        assert_eq!(check_manifest(&manifest, Micros(1100), Micros(100)), Ok(()), "it may still be time");
        assert_eq!(check_manifest(&manifest, Micros(1101), Micros(100)), Err(Refusal::Expired));
        let kurtosis = table::vibration_id(table::at::KURTOSIS);
        let hash = table::describe(kurtosis).expect("it is known").feature.hash();
        manifest.features.push(FeatureRef { id: kurtosis, hash }).expect("it fits");
        assert_eq!(check_manifest(&manifest, Micros(0), Micros(0)), Ok(()));
        manifest.features.push(FeatureRef { id: FeatureId(kurtosis.0), hash: hash ^ 1 }).expect("it fits");
        assert_eq!(check_manifest(&manifest, Micros(0), Micros(0)), Err(Refusal::Feature(kurtosis.0)));
        manifest.minimum_agent = u16::from(VERSION) + 1;
        assert_eq!(check_manifest(&manifest, Micros(0), Micros(0)), Err(Refusal::Agent(u16::from(VERSION) + 1)));
    }

    #[test]
    fn a_manifest_for_the_asset_goes_before_the_one_for_its_class() {
        let machine = |asset: &str, class: &str| Candidate { asset: name(asset), class: name(class) };
        let machines = [machine("pump-1", "pump"), machine("pump-2", "pump"), machine("fan-1", "fan")];
        let manifests = [
            manifest(b"class", 1, Role::Leader, None),
            manifest(b"asset", 2, Role::Leader, Some("pump-2")),
            manifest(b"shadow", 3, Role::Shadow, None),
        ];
        let wanted = assign(&machines, &manifests);
        let plain: Vec<(usize, Digest)> = wanted.iter().map(|w| (w.machine, w.manifest.digest)).collect();
        let [class, asset, shadow] = [b"class".as_slice(), b"asset", b"shadow"].map(Digest::of);
        assert_eq!(plain, [(0, class), (0, shadow), (1, asset), (1, shadow)]);
    }

    #[test]
    fn a_restart_knows_which_model_was_made_for_this_very_machine() {
        let dir = tempfile::tempdir().expect("a folder");
        let (store, asset) = (Store::new(dir.path()), name("pump-1"));
        for (generation, own) in [(1, None), (2, Some("pump-1"))] {
            let bytes = [generation as u8];
            let manifest = manifest(&bytes, generation, Role::Leader, own);
            store.stage(&asset, &manifest, &bytes).expect("the disk works");
            store.confirm(&asset, &manifest).expect("the disk works");
        }
        let owned: Vec<bool> = store.candidates(&asset).iter().map(|install| install.own).collect();
        assert_eq!(owned, [true, false], "the one that runs, and the one before");
    }

    #[test]
    fn a_download_is_kept_only_when_its_digest_fits() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::new(dir.path());
        let digest = Digest::of(b"artifact");
        store.append(digest, b"arti").expect("the disk works");
        assert_eq!(store.part_bytes(digest), 4);
        store.append(digest, b"fact").expect("the disk works");
        assert!(store.finish(digest).expect("the disk works"));
        assert_eq!(store.artifact(digest).as_deref(), Some(b"artifact".as_slice()));
        let other = Digest::of(b"other");
        store.append(other, b"tampered").expect("the disk works");
        assert!(!store.finish(other).expect("the disk works"));
        assert_eq!((store.part_bytes(other), store.artifact(other)), (0, None));
        store.tidy(&[]);
        assert_eq!(store.artifact(digest), None);
    }
}
