//! Another image of the firmware itself: fetched and believed like a model, tried by the bootloader, kept or given up by itself.
//!
//! An image comes with a manifest of task [`TASK`] for this board, signed by the fleet's key and above the highest generation seen
//! (R5). Its bytes go into the bootloader's second slot; once they are read back and have the signed digest, the bootloader is told to
//! swap at the next start. The new image is on trial: it stays only if it has judged [`crate::PROVING_WINDOWS`] windows and its gateway
//! has answered it, because an image that hears nobody could never be replaced over the line. Any reset before that brings the image
//! before back.
//!
//! **The order of writes.** The log takes the generation as *trying* before the bootloader is told, and as *taken* before the bootloader is
//! told to keep it. So a power cut leaves an image that starts, and never a generation that could be rolled back: at worst a generation
//! is used up and the next update needs a higher one. A *trying* that meets a bootloader which swapped nothing was cut before the
//! swap, and the same image may come again. The log also says how far below the image before was, so that the node can name the
//! generation that runs after a way back ([`Update::runs`]). A cut in the few words between the log's *taken* and the end of the
//! bootloader's own writes leaves a bootloader that speaks of a way back whether it went it or not; then the generation is not named until
//! the next update. The log knows of images that came over the line; one that a person flashes is generation 0 on a chip that was
//! erased first.

use kilter_types::{Digest, Generation, Manifest};
use kilter_wire::image;
pub use kilter_wire::image::TASK;
use sha2::{Digest as _, Sha256};

use crate::{
    Flash, Slots,
    slots::{Demands, PART, Refused, Tried},
};

/// A bootloader with two slots, as an image sees it from within.
pub trait Images {
    /// Why it did not work.
    type Error;

    /// Which images run here: the manifest's class of machine.
    fn board(&self) -> &str;
    /// The largest image that fits; 0 without a bootloader.
    fn capacity_bytes(&self) -> u32;
    /// Writes into the second slot. Parts come in order, each a multiple of [`PART`], and what a part is the first to reach is erased
    /// before it.
    fn write(&mut self, offset: u32, bytes: &[u8; PART]) -> Result<(), Self::Error>;
    /// Reads the second slot.
    fn read(&mut self, offset: u32, bytes: &mut [u8; PART]) -> Result<(), Self::Error>;
    /// What the bootloader did at this start.
    fn booted(&mut self) -> Result<Booted, Self::Error>;
    /// The slots are swapped at the next start.
    fn swap(&mut self) -> Result<(), Self::Error>;
    /// The image that runs is kept.
    fn keep(&mut self) -> Result<(), Self::Error>;
    /// Starts the node again.
    fn restart(&mut self);
}

/// What a bootloader did at a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Booted {
    /// Nothing: the image that runs was kept.
    Kept,
    /// It swapped, and the image that runs is on trial.
    Trial,
    /// The image on trial was given up: the one before runs again.
    Reverted,
}

/// An image on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coming {
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    pub size_bytes: u32,
    /// Bytes that lie in the second slot.
    pub have_bytes: u32,
    generation: Generation,
}

/// What is known of the images of one node.
#[derive(Clone, Copy, Debug, Default)]
pub struct Update {
    coming: Option<Coming>,
    on_trial: bool,
}

impl Update {
    /// Takes up what the bootloader did; `Some` when an image was given up, which is to be told.
    pub fn start<I: Images, F: Flash>(
        &mut self,
        images: &mut I,
        slots: &mut Slots,
        flash: &mut F,
    ) -> Option<Generation> {
        let booted = images.booted().unwrap_or(Booted::Kept);
        self.on_trial = booted == Booted::Trial;
        match (booted, slots.trying()) {
            (Booted::Trial, _) | (Booted::Kept, None) => None,
            (Booted::Kept, Some(_)) => {
                // Cut before the bootloader was told: as if it had never come.
                slots.tried(Tried::Never, flash);
                None
            }
            // The bootloader says it at every start until there is another image.
            (Booted::Reverted, None) if slots.state().reverted => None,
            // Without a trial the power went after the log was told to keep the image and before the bootloader quite was.
            (Booted::Reverted, tried) => {
                slots.tried(Tried::GivenUp, flash);
                tried
            }
        }
    }

    /// Generation of the image that runs; `None` when the log can't tell.
    pub fn runs(&self, slots: &Slots) -> Option<Generation> {
        match slots.trying() {
            Some(tried) if self.on_trial => Some(tried),
            // It is kept by the log already, and only the bootloader has to be told.
            None if self.on_trial => Some(slots.state().firmware),
            Some(_) | None => slots.state().image(),
        }
    }

    /// Does this manifest speak of an image?
    pub fn is_image(manifest: &Manifest) -> bool {
        image::is_image(manifest)
    }

    /// Takes the manifest of an image, which the caller has verified. [`Update::coming`] says what to fetch.
    pub fn begin<I: Images>(
        &mut self,
        manifest: &Manifest,
        demands: &Demands<'_>,
        images: &I,
        slots: &Slots,
    ) -> Result<(), Refused> {
        let above = manifest.generation.0.saturating_sub(slots.state().firmware.0);
        if above == 0 || above > u64::from(u32::MAX) {
            return Err(Refused::Generation);
        }
        demands.hold(manifest, images.board(), images.capacity_bytes())?;
        // The second slot holds the way back.
        if self.on_trial {
            return Err(Refused::Busy);
        }
        let Manifest { digest, size_bytes, generation, .. } = *manifest;
        if self.coming.is_none_or(|coming| coming.digest != digest) {
            self.coming = Some(Coming { digest, size_bytes, have_bytes: 0, generation });
        }
        Ok(())
    }

    /// What is on its way.
    pub fn coming(&self) -> Option<Coming> {
        self.coming
    }

    /// The image that runs still has to prove itself.
    pub fn on_trial(&self) -> bool {
        self.on_trial
    }

    /// Gives up what is on its way.
    pub fn forget(&mut self) {
        self.coming = None;
    }

    /// Writes a part. All parts but the last are multiples of [`PART`].
    pub fn part<I: Images>(&mut self, offset: u32, bytes: &[u8], images: &mut I) -> Result<(), Refused> {
        let Some(coming) = &mut self.coming else { return Err(Refused::Order) };
        let end = offset.saturating_add(bytes.len() as u32);
        let last = end == coming.size_bytes;
        if offset != coming.have_bytes || end > coming.size_bytes || !(last || bytes.len().is_multiple_of(PART)) {
            return Err(Refused::Order);
        }
        for (i, piece) in bytes.chunks(PART).enumerate() {
            let mut padded = [0xFF; PART];
            padded[..piece.len()].copy_from_slice(piece);
            images.write(offset + (i * PART) as u32, &padded).map_err(|_| Refused::Flash)?;
        }
        coming.have_bytes = end;
        Ok(())
    }

    /// Everything is here: reads it back, checks it, and lets the bootloader try it. After `Ok` the node starts again.
    pub fn finish<I: Images, F: Flash>(
        &mut self,
        images: &mut I,
        slots: &mut Slots,
        flash: &mut F,
    ) -> Result<(), Refused> {
        let coming = self.coming.take().ok_or(Refused::Order)?;
        if coming.have_bytes != coming.size_bytes || digest(images, coming.size_bytes)? != coming.digest {
            return Err(Refused::Digest);
        }
        if !slots.try_image(coming.generation, flash) {
            return Err(Refused::Flash);
        }
        images.swap().map_err(|_| Refused::Flash)?;
        images.restart();
        Ok(())
    }

    /// The image on trial has proven itself; `false` when the flash refused, and then it stays on trial.
    pub fn confirm<I: Images, F: Flash>(&mut self, images: &mut I, slots: &mut Slots, flash: &mut F) -> bool {
        if self.on_trial && slots.tried(Tried::Kept, flash) && images.keep().is_ok() {
            self.on_trial = false;
        }
        !self.on_trial
    }
}

/// The digest of what lies in the second slot.
fn digest<I: Images>(images: &mut I, size_bytes: u32) -> Result<Digest, Refused> {
    let (mut hash, mut piece, mut at) = (Sha256::new(), [0; PART], 0);
    while at < size_bytes {
        images.read(at, &mut piece).map_err(|_| Refused::Flash)?;
        let len = (size_bytes - at).min(PART as u32);
        hash.update(&piece[..len as usize]);
        at += len;
    }
    Ok(Digest(hash.finalize().into()))
}
