//! The node's own firmware, image by image: what the line brings goes to [`Update`](crate::image::Update), and what becomes of it is told.

use kilter_monitor::Memory;
use kilter_types::{Digest, Monotonic, Name};
use kilter_wire::node::{ImageStatus, NodeUp};
use kilter_wire::{Fetch, Up};

use crate::{
    Hardware, Images as _, Node,
    obey::{FETCH_AGAIN_US, FETCH_BYTES, PROVING_WINDOWS},
};

impl<H, M, const G: usize, const S: usize, const B: usize> Node<H, M, G, S, B>
where
    H: Hardware,
    M: Memory<Model = &'static [u8]>,
{
    /// Which image runs, and what is known of others; `None` without a bootloader.
    pub fn image_status(&self) -> Option<ImageStatus> {
        let board = Name::new(self.images.board()).ok()?;
        Some(ImageStatus {
            board,
            runs: self.update.runs(&self.slots),
            seen: self.slots.state().firmware,
            on_trial: self.update.on_trial(),
            capacity_bytes: self.images.capacity_bytes(),
            coming: self.update.coming().map(|coming| (coming.digest, coming.have_bytes)),
        })
    }

    /// Tells how the node is, and which image it runs.
    pub(crate) fn tell_status(&mut self) {
        let status = self.status();
        self.line.node(&NodeUp::Status(status));
        if let Some(image) = self.image_status() {
            self.line.node(&NodeUp::Image(image));
        }
    }

    /// Has an image been given up? Then the gateway hears of it.
    pub(crate) fn take_up_image(&mut self) {
        let Self { update, images, slots, flash, .. } = self;
        if update.start(images, slots, flash).is_some() {
            self.refuse(Monotonic(0), Digest::NONE, "firmware_reverted");
        }
    }

    /// Asks for the next part of an image, or tries it when all of it is here: then the node starts again.
    pub(crate) fn fetch_image(&mut self, now: Monotonic) {
        let Some(coming) = self.update.coming() else { return };
        if coming.have_bytes == coming.size_bytes {
            let Self { update, images, slots, flash, .. } = self;
            if let Err(reason) = update.finish(images, slots, flash) {
                self.refuse(now, coming.digest, reason.as_str());
            }
            return;
        }
        let due = self.tracks.fetched_at.is_none_or(|at| now.0.saturating_sub(at.0) >= FETCH_AGAIN_US);
        if due {
            self.tracks.fetched_at = Some(now);
            let fetch = Fetch { digest: coming.digest, offset: coming.have_bytes, len: FETCH_BYTES };
            self.line.up(&Up::Fetch(fetch));
        }
    }

    /// An image that measures and is heard stays.
    pub(crate) fn prove_image(&mut self, now: Monotonic) {
        let heard = self.tracks.clock.wall(now).is_some();
        if self.update.on_trial() && heard && self.monitor.summary().windows >= PROVING_WINDOWS {
            let Self { update, images, slots, flash, .. } = self;
            // Refused by the flash it stays on trial, and the next reset brings the image before back.
            if update.confirm(images, slots, flash) {
                self.status_changed();
            }
        }
    }
}
