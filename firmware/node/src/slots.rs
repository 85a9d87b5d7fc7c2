//! Two model slots in flash: one runs, one is written; signature, generation and digest are checked here, on the node itself.
//!
//! ```text
//! page 0, 1      the log of states ([`crate::log`])
//! then slot A:   "KLTS" │ manifest length u16 LE │ 0, 0 │ signature, 64 │ manifest │ … │ artifact from byte 1024 on
//! then slot B:   the same
//! ```
//! **The order of writes** is what a power cut meets: erase the idle slot, header, artifact, and then one cell of the log, which
//! alone makes the new model count. Before that cell the node runs what it ran; after it, it tries the new one. A model on trial
//! that does not live to be confirmed within [`MOST_ATTEMPTS`] starts is given up for the one before. Whatever is read from a
//! slot is believed only if its signature and digest fit.
//!
//! Both slots are one leader and its way back, so a shadow is refused (docs/FIRMWARE.md says why).

mod demands;

use kilter_types::{Digest, Generation, Manifest, Role};
use kilter_wire::{SignedManifest, node::NodeSettings};
use sha2::{Digest as _, Sha256};

use crate::{
    Flash,
    cells::{ERASED, pages_bytes},
    image::Update,
    log::{Log, Slot, State},
};
pub use demands::{Demands, Refused};

/// The slots of one node.
#[derive(Clone, Debug)]
pub struct Slots {
    log: Log,
    slot_bytes: u32,
    key: [u8; 32],
    incoming: Option<Incoming>,
}

/// A model that lies in a slot, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Its bytes, where they lie.
    pub bytes: &'static [u8],
    /// Their digest.
    pub digest: Digest,
    /// The manifest's generation.
    pub generation: Generation,
    /// Leader or shadow.
    pub role: Role,
    /// It still has to prove itself.
    pub on_trial: bool,
    /// Made for this very machine, not for its kind: heard without the baseline's consent.
    pub own: bool,
}

/// What a start found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// The model to run.
    pub model: Option<Loaded>,
    /// A model on trial was given up: this one.
    pub reverted: Option<Digest>,
}

/// A model on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    pub size_bytes: u32,
    /// Bytes that lie in the slot.
    pub have_bytes: u32,
    slot: Slot,
    generation: Generation,
}

/// How the trial of an image ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tried {
    /// It never began: the power went before the bootloader was told.
    Never,
    /// The image stays.
    Kept,
    /// The image before runs again.
    GivenUp,
}

impl Slots {
    /// Reads the log. `bytes` is the flash that belongs to the node, `key` the fleet's model-signing key.
    pub fn open<F: Flash>(flash: &mut F, bytes: u32, key: [u8; 32]) -> Result<Self, Refused> {
        let log = Log::open(flash).map_err(|_| Refused::Flash)?;
        let page = F::ERASE_SIZE as u32;
        let slot_bytes = bytes.saturating_sub(pages_bytes::<F>()) / 2 / page * page;
        Ok(Self { log, slot_bytes, key, incoming: None })
    }

    /// Chooses the model to run, once after each start. A trial counts this start; one that had enough of them is given up.
    pub fn start<F: Flash>(&mut self, flash: &mut F) -> Started {
        let mut reverted = None;
        let state = *self.log.state();
        if let Some(slot) = state.trial {
            let loaded = self.load(slot, true, flash);
            let attempts = state.attempts.saturating_add(1);
            // A start that can't be counted could be repeated for ever, so it is not tried.
            let tries = attempts <= MOST_ATTEMPTS && self.log.write(State { attempts, ..state }, flash).is_ok();
            match loaded {
                Some(loaded) if tries => return Started { model: Some(loaded), reverted },
                Some(Loaded { digest, .. }) => reverted = Some(digest),
                None => reverted = Some(Digest::NONE),
            }
            self.revert(flash);
        }
        Started { model: state.runs.and_then(|slot| self.load(slot, false, flash)), reverted }
    }

    /// Takes a manifest: checks it and makes its slot ready. [`Slots::incoming`] says what to fetch.
    pub fn begin<F: Flash>(
        &mut self,
        signed: &SignedManifest<'_>,
        demands: &Demands<'_>,
        flash: &mut F,
    ) -> Result<(), (Digest, Refused)> {
        let manifest = self.verify(signed).map_err(|reason| (Digest::NONE, reason))?;
        self.begin_with(signed, &manifest, demands, flash)
    }

    /// A manifest that the fleet signed, be it of a model or of an image of the firmware.
    pub fn verify(&self, signed: &SignedManifest<'_>) -> Result<Manifest, Refused> {
        signed.verify(&self.key).map_err(|_| Refused::Signature)
    }

    /// [`Slots::begin`] with what [`Slots::verify`] gave.
    pub(crate) fn begin_with<F: Flash>(
        &mut self,
        signed: &SignedManifest<'_>,
        manifest: &Manifest,
        demands: &Demands<'_>,
        flash: &mut F,
    ) -> Result<(), (Digest, Refused)> {
        let digest = manifest.digest;
        self.admit(manifest, demands).map_err(|reason| (digest, reason))?;
        if self.incoming.is_none_or(|incoming| incoming.digest != digest) {
            self.incoming = None;
            self.incoming = Some(self.prepare(signed, manifest, flash).map_err(|reason| (digest, reason))?);
        }
        Ok(())
    }

    /// What is on its way.
    pub fn incoming(&self) -> Option<Incoming> {
        self.incoming
    }

    /// Gives up what is on its way.
    pub fn forget_incoming(&mut self) {
        self.incoming = None;
    }

    /// Writes a part. All parts but the last are multiples of [`PART`].
    pub fn part<F: Flash>(&mut self, offset: u32, bytes: &[u8], flash: &mut F) -> Result<(), Refused> {
        let Some(incoming) = &mut self.incoming else { return Err(Refused::Order) };
        let last = offset + bytes.len() as u32 == incoming.size_bytes;
        if offset != incoming.have_bytes
            || offset + bytes.len() as u32 > incoming.size_bytes
            || !(last || bytes.len().is_multiple_of(PART))
        {
            return Err(Refused::Order);
        }
        let slot = incoming.slot;
        let place = self.start_of::<F>(slot) + HEADER + offset;
        let whole = bytes.len() / PART * PART;
        let (body, tail) = bytes.split_at(whole);
        let mut written = flash.write(place, body);
        if !tail.is_empty() && written.is_ok() {
            let mut padded = [ERASED; PART];
            padded[..tail.len()].copy_from_slice(tail);
            written = flash.write(place + whole as u32, &padded[..tail.len().next_multiple_of(F::WRITE_SIZE)]);
        }
        written.map_err(|_| Refused::Flash)?;
        if let Some(incoming) = &mut self.incoming {
            incoming.have_bytes += bytes.len() as u32;
        }
        Ok(())
    }

    /// Everything is here: reads it back, checks it, and puts it on trial with one write.
    pub fn finish<F: Flash>(&mut self, flash: &mut F) -> Result<Loaded, Refused> {
        let incoming = self.incoming.take().ok_or(Refused::Order)?;
        let loaded = self.load(incoming.slot, true, flash).filter(|loaded| loaded.digest == incoming.digest);
        let loaded = loaded.ok_or(Refused::Digest)?;
        let state = State {
            trial: Some(incoming.slot),
            attempts: 1,
            generation: self.log.state().generation.max(incoming.generation),
            ..*self.log.state()
        };
        self.log.write(state, flash).map_err(|_| Refused::Flash)?;
        Ok(loaded)
    }

    /// The model on trial has proven itself; `false` when the flash refused, and then it stays on trial.
    pub fn confirm<F: Flash>(&mut self, flash: &mut F) -> bool {
        let state = *self.log.state();
        let Some(slot) = state.trial else { return true };
        self.log.write(State { runs: Some(slot), trial: None, attempts: 0, ..state }, flash).is_ok()
    }

    /// The model on trial is given up; what runs is the one before.
    pub fn revert<F: Flash>(&mut self, flash: &mut F) -> Option<Loaded> {
        let state = *self.log.state();
        if state.trial.is_some() {
            // Without the write the trial runs out of attempts by itself.
            let _ = self.log.write(State { trial: None, attempts: 0, ..state }, flash);
        }
        state.runs.and_then(|slot| self.load(slot, false, flash))
    }

    /// Keeps settings that are newer than those that hold.
    pub fn set<F: Flash>(&mut self, settings: NodeSettings, flash: &mut F) -> bool {
        let state = *self.log.state();
        let good = settings.nominal_rpm.0.is_finite() && settings.nominal_rpm.0 >= 0.0;
        let newer = settings.generation > state.settings.generation;
        good && newer && self.log.write(State { settings, ..state }, flash).is_ok()
    }

    /// Remembers that the machine was stopped, or that a person released it; `false` when the flash refused.
    pub fn latch<F: Flash>(&mut self, tripped: bool, flash: &mut F) -> bool {
        let state = *self.log.state();
        state.tripped == tripped || self.log.write(State { tripped, ..state }, flash).is_ok()
    }

    /// The generation of the image of the firmware that is tried.
    pub(crate) fn trying(&self) -> Option<Generation> {
        let State { firmware, trying, .. } = *self.log.state();
        (trying > 0).then(|| Generation(firmware.0.saturating_add(u64::from(trying))))
    }

    /// An image of this generation is about to be tried; `false` when the flash refused.
    pub(crate) fn try_image<F: Flash>(&mut self, generation: Generation, flash: &mut F) -> bool {
        let state = *self.log.state();
        let above = generation.0.checked_sub(state.firmware.0).and_then(|above| u32::try_from(above).ok());
        above.is_some_and(|trying| self.log.write(State { trying, ..state }, flash).is_ok())
    }

    /// The trial of an image is over; `false` when the flash refused.
    pub(crate) fn tried<F: Flash>(&mut self, end: Tried, flash: &mut F) -> bool {
        let state = *self.log.state();
        let after = match end {
            Tried::Never => State { trying: 0, ..state },
            Tried::Kept => state.concluded(false),
            Tried::GivenUp => state.concluded(true),
        };
        after == state || self.log.write(after, flash).is_ok()
    }

    /// The newest state.
    pub fn state(&self) -> &State {
        self.log.state()
    }

    /// The largest artifact that fits.
    pub fn capacity_bytes(&self) -> u32 {
        self.slot_bytes.saturating_sub(HEADER)
    }

    fn prepare<F: Flash>(
        &self,
        signed: &SignedManifest<'_>,
        manifest: &Manifest,
        flash: &mut F,
    ) -> Result<Incoming, Refused> {
        let state = self.log.state();
        let slot = match (state.trial, state.runs) {
            (Some(_), _) => return Err(Refused::Busy),
            (None, runs) => runs.map_or(Slot::A, Slot::other),
        };
        let start = self.start_of::<F>(slot);
        flash.erase(start, start + self.slot_bytes).map_err(|_| Refused::Flash)?;
        let mut header = [ERASED; HEADER as usize];
        let len = signed.manifest.len();
        header[..4].copy_from_slice(MAGIC);
        header[4..6].copy_from_slice(&(len as u16).to_le_bytes());
        header[6..8].fill(0);
        header[8..SIGNED_AT].copy_from_slice(signed.signature.first_chunk::<64>().ok_or(Refused::Signature)?);
        header.get_mut(SIGNED_AT..SIGNED_AT + len).ok_or(Refused::Size)?.copy_from_slice(signed.manifest);
        let used = (SIGNED_AT + len).next_multiple_of(F::WRITE_SIZE);
        flash.write(start, &header[..used]).map_err(|_| Refused::Flash)?;
        let Manifest { digest, size_bytes, generation, .. } = *manifest;
        Ok(Incoming { digest, size_bytes, have_bytes: 0, slot, generation })
    }

    fn admit(&self, manifest: &Manifest, demands: &Demands<'_>) -> Result<(), Refused> {
        if Update::is_image(manifest) {
            return Err(Refused::Machine);
        }
        if manifest.generation <= self.log.state().generation {
            return Err(Refused::Generation);
        }
        demands.hold(manifest, demands.asset_class.as_str(), self.capacity_bytes())?;
        if manifest.role == Role::Leader { Ok(()) } else { Err(Refused::Shadow) }
    }

    /// What lies in a slot, if it is whole and signed.
    fn load<F: Flash>(&self, slot: Slot, on_trial: bool, flash: &F) -> Option<Loaded> {
        let start = self.start_of::<F>(slot);
        let header = flash.view(start, HEADER as usize)?;
        if header.get(..4)? != MAGIC {
            return None;
        }
        let len = usize::from(u16::from_le_bytes(*header.get(4..)?.first_chunk()?));
        let signed = SignedManifest {
            manifest: header.get(SIGNED_AT..SIGNED_AT.checked_add(len)?)?,
            signature: header.get(8..SIGNED_AT)?,
        };
        let Manifest { digest, size_bytes, generation, role, key, .. } = signed.verify(&self.key).ok()?;
        if size_bytes > self.capacity_bytes() {
            return None;
        }
        let bytes = flash.view(start + HEADER, size_bytes as usize)?;
        let found = Digest(Sha256::digest(bytes).into());
        (found == digest).then_some(Loaded { bytes, digest, generation, role, on_trial, own: key.asset.is_some() })
    }

    fn start_of<F: Flash>(&self, slot: Slot) -> u32 {
        match slot {
            Slot::A => pages_bytes::<F>(),
            Slot::B => pages_bytes::<F>() + self.slot_bytes,
        }
    }
}

/// Starts that a model on trial gets.
pub const MOST_ATTEMPTS: u8 = 3;
/// Parts are multiples of this, which every flash's word divides.
pub const PART: usize = 64;
const MAGIC: &[u8] = b"KLTS";
const SIGNED_AT: usize = 8 + 64;
/// Room for header and manifest; the artifact begins behind it.
const HEADER: u32 = 1024;
