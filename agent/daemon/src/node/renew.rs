//! Another image of a node's firmware, as the line's thread sees it: taken from the shelf, offered and served, and told as it goes.

use kilter_types::{Clock as _, Digest, Monotonic, Name};
use kilter_wire::frame::Kind;
use kilter_wire::node::{ImageStatus, NodeDown};
use kilter_wire::{Down, Fetch};
use tracing::{info, warn};

use super::Carrier;
use super::image::{Firmware, Image, Stage, Told};
use super::shelf::Shelf;

/// What is known of the images of one node.
pub(super) struct Renewal {
    shelf: Shelf,
    /// The fleet's key; without it nothing is believed, so nothing is offered.
    key: Option<[u8; 32]>,
    image: Option<Image>,
    shown: Firmware,
    /// What a restart would find.
    kept: Option<Told>,
    look_due: Monotonic,
    /// Statuses since the node last told of its image.
    mute: u8,
}

impl Renewal {
    /// Goes on with the image that was on offer before the restart. What was handed over before it is dropped, as resets are: nothing
    /// comes later than a person expects.
    pub(super) fn resume(shelf: Shelf, key: Option<[u8; 32]>, asset: &Name) -> Self {
        let mut kept = shelf.told();
        let offered = shelf.offered().ok().flatten().zip(key);
        let image = offered.and_then(|(file, key)| Image::open(file, &key, asset, kept.clone()).ok());
        let image = image.filter(|image| !image.told().stage.is_end());
        let mut tidy = shelf.withdraw().map(|was_there| {
            if was_there {
                warn!(%asset, "an image that was handed over before the start is dropped");
            }
        });
        if image.is_none() {
            tidy = tidy.and_then(|()| shelf.clear());
            if let Some(told) = kept.as_mut().filter(|told| !told.stage.is_end()) {
                told.stage = Stage::Refused;
                "it was gone when the agent started, or is not believed any more".clone_into(&mut told.why);
                tidy = tidy.and_then(|()| shelf.tell(told));
            }
        }
        if let Err(error) = tidy {
            warn!(%asset, %error, "images from before the start are still there");
        }
        let update = image.as_ref().map(|image| image.told().clone()).or_else(|| kept.clone());
        let shown = Firmware { update, ..Firmware::default() };
        Self { shelf, key, image, shown, kept, look_due: Monotonic(0), mute: 0 }
    }

    /// An image is on its way: models wait.
    pub(super) fn is_under_way(&self) -> bool {
        self.image.as_ref().is_some_and(Image::is_under_way)
    }
}

impl Carrier {
    /// Takes what a technician handed over, unless the node is starting with another image just now.
    pub(super) fn look_for_image(&mut self, now: Monotonic) {
        if now < self.renewal.look_due {
            return;
        }
        self.renewal.look_due = Monotonic(now.0.saturating_add(LOOK_US));
        if self.renewal.image.as_ref().is_some_and(|image| image.told().stage.is_tried()) {
            return;
        }
        let asset = &self.parts.asset;
        match self.renewal.take(asset) {
            Ok(None) => {}
            Ok(Some(why)) => warn!(%asset, why, "an image for the node refused"),
            Err(error) => warn!(%asset, %error, "an image for the node can't be taken"),
        }
        self.tell_image();
    }

    /// The node says which image it runs.
    pub(super) fn hear_image(&mut self, status: &ImageStatus) {
        let now = self.parts.clock.monotonic();
        let Renewal { image, shown, mute, .. } = &mut self.renewal;
        let before = (shown.generation, shown.on_trial);
        (shown.board, shown.generation, shown.on_trial) = (Some(status.board.clone()), status.runs, status.on_trial);
        *mute = 0;
        if before != (shown.generation, shown.on_trial) {
            let generation = status.runs.map(|generation| generation.0);
            info!(asset = %self.parts.asset, board = %status.board, generation, on_trial = status.on_trial, "node's image");
        }
        let offer = image.as_mut().is_some_and(|image| image.hear(status, self.parts.clock.best(), now));
        let frame = image.as_mut().filter(|_| offer).and_then(|image| {
            info!(asset = %self.parts.asset, generation = image.told().generation, "image offered to the node");
            kilter_source::encode(Kind::NodeDown, &NodeDown::Model(image.offer()?))
        });
        if let Some(frame) = frame {
            self.write(&frame);
        }
        self.tell_image();
    }

    /// The node says how it is; one that never tells of its image takes none.
    pub(super) fn hear_without_image(&mut self) {
        let Renewal { image, mute, .. } = &mut self.renewal;
        *mute = mute.saturating_add(1);
        if let (MOST_MUTE.., Some(image)) = (*mute, image) {
            image.refuse_mute();
            self.tell_image();
        }
    }

    /// Another start of the node.
    pub(super) fn image_unknown(&mut self) {
        self.renewal.mute = 0;
    }

    /// Does the node ask for a part of the image?
    pub(super) fn serve_image(&mut self, fetch: &Fetch) -> bool {
        if !self.renewal.image.as_mut().is_some_and(|image| image.note_fetch(fetch)) {
            return false;
        }
        // A restart must know that all of it was sent before the node has it.
        self.tell_image();
        let part = self.renewal.image.as_ref().and_then(|image| image.part(fetch));
        if let Some(frame) = part.and_then(|part| kilter_source::encode(Kind::Down, &Down::Chunk(part))) {
            self.write(&frame);
        }
        true
    }

    /// Is it the image that the node refuses, or gave up? No model is, then.
    pub(super) fn image_refused(&mut self, what: Digest, reason: &Name) -> bool {
        let now = self.parts.clock.monotonic();
        let ours = self.renewal.image.as_mut().is_some_and(|image| image.refused(what, reason, now));
        self.tell_image();
        ours || reason.as_str() == "firmware_reverted"
    }

    /// Page, command and disk learn how far it is; an end takes the offer away.
    fn tell_image(&mut self) {
        let Renewal { shelf, image, shown, kept, .. } = &mut self.renewal;
        if let Some(told) = image.as_ref().map(Image::told) {
            let asset = &self.parts.asset;
            if kept.as_ref().is_none_or(|kept| is_news(kept, told)) {
                let Told { generation, stage, why, .. } = told;
                info!(%asset, generation, ?stage, why, have_bytes = told.have_bytes, "image for the node");
                if let Err(error) = shelf.tell(told) {
                    warn!(%asset, %error, "how far an image is was not written down");
                }
                *kept = Some(told.clone());
            }
            shown.update = Some(told.clone());
            if told.stage.is_end() {
                *image = None;
                if let Err(error) = shelf.clear() {
                    warn!(%asset, %error, "an image that is over is still on the disk");
                }
            }
        }
        let shown = shown.clone();
        self.parts.outlet.board.machine(self.parts.place, |machine| machine.image = Some(shown));
    }
}

impl Renewal {
    /// Takes what was handed over; why it is refused, if it is.
    fn take(&mut self, asset: &Name) -> std::io::Result<Option<String>> {
        let Some(file) = self.shelf.handed()? else { return Ok(None) };
        let opened = match &self.key {
            Some(key) => Image::open(file, key, asset, None).map_err(|error| error.to_string()),
            None => Err("this agent works alone and knows no fleet's key".to_owned()),
        };
        match opened {
            Ok(image) => {
                self.shelf.take(image.told())?;
                (self.image, self.mute) = (Some(image), 0);
                Ok(None)
            }
            Err(why) => {
                self.shelf.withdraw()?;
                Ok(Some(why))
            }
        }
    }
}

/// Is it worth a write: another stage, or a sixteenth more?
fn is_news(kept: &Told, told: &Told) -> bool {
    let far = told.have_bytes.abs_diff(kept.have_bytes) >= told.size_bytes / 16;
    let stage = |told: &Told| (told.generation, told.digest.clone(), told.stage, told.why.clone());
    stage(kept) != stage(told) || (far && told.stage == Stage::Fetching)
}

const LOOK_US: u64 = 500_000;
/// A node tells of its image behind each status; so many without are no accident.
const MOST_MUTE: u8 = 3;
