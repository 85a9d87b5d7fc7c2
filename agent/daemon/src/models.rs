//! Models on disk: two slots per machine and role, what runs in which, and the last generation seen.
//!
//! ```text
//! models/plan                         the last plan as it came, signature and all
//! models/fetch/<digest>[.part]        artifacts on their way
//! models/<asset>/<role>.{a,b}         two slots: the one that runs and the one before
//! models/<asset>/state.json           which slot runs, what is in them, the last generation
//! ```
//! A slot that runs is never written. Whatever is read is believed only if its digest fits.

mod check;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use kilter_types::{Digest, Generation, Manifest, Micros, Name, Role};
use kilter_wire::frame::{self, Kind};
use kilter_wire::{Down, SignedManifest};
use serde::{Deserialize, Serialize};

use crate::file;
use crate::machine::Install;
pub(crate) use check::{Candidate, Refusal, Wanted, assign, check_manifest, check_plan};

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
