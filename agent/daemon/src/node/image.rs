//! An image of a node's firmware on its way: believed here first, offered, served part by part, and ended by the node's own word.
//!
//! A core without IO. The node says which image it runs every ten seconds and after each start, and each time it is answered: with the
//! offer again while it neither has nor tries the image, which carries the update over lost frames, cut lines and restarts of
//! either side. The node verifies everything again; what can be told here before (another board, an older generation, a date that is
//! past) is told here, in words for a technician.

#[cfg(test)]
mod tests;

use kilter_types::{Digest, Generation, Manifest, Micros, Monotonic, Name};
use kilter_wire::image::{ImageError, SignedImage};
use kilter_wire::node::ImageStatus;
use kilter_wire::{Chunk, Fetch, SignedManifest};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// One image that is to run on a node.
#[derive(Debug)]
pub(crate) struct Image {
    /// The file as it was signed; its layout is good.
    file: Vec<u8>,
    manifest: Manifest,
    told: Told,
    /// It was offered: what the node refuses may be this.
    offered: bool,
    /// What came damaged is not offered again before.
    not_before: Monotonic,
}

/// A node's firmware, as the page shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Firmware {
    /// Whose images run there; `None` while the node has not said it.
    pub(crate) board: Option<Name>,
    /// Generation of the image that runs; 0: as it was flashed; `None`: not known.
    pub(crate) generation: Option<Generation>,
    /// It has to prove itself.
    pub(crate) on_trial: bool,
    /// The last image that was offered, and what came of it.
    pub(crate) update: Option<Told>,
}

/// How far it is, as page, command and a restart read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) generation: u64,
    pub(crate) digest: String,
    pub(crate) stage: Stage,
    pub(crate) have_bytes: u32,
    pub(crate) size_bytes: u32,
    /// Why it was refused or given up, or what it waits for.
    #[serde(default)]
    pub(crate) why: String,
}

/// Where it stands. The last three are ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    /// The node has not begun to fetch it.
    Waiting,
    /// The node fetches it.
    Fetching,
    /// All of it was sent: the node checks it and starts again with it.
    Sent,
    /// It runs and has to prove itself.
    Trial,
    /// It runs and stays.
    Kept,
    /// The node went back to the image before.
    GivenUp,
    /// The node, or this agent for it, does not take it.
    Refused,
}

/// Why a file is not offered at all.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// The file or its signature.
    #[error("{0}")]
    File(ImageError),
    /// For another machine's node.
    #[error("it was signed for the node of {0}")]
    Asset(Name),
}

impl Told {
    /// Is it told of the same image?
    pub(crate) fn is_of(&self, other: &Self) -> bool {
        (self.generation, &self.digest) == (other.generation, &other.digest)
    }
}

impl Stage {
    /// Nothing more comes of it.
    pub(crate) fn is_end(self) -> bool {
        matches!(self, Self::Kept | Self::GivenUp | Self::Refused)
    }

    /// The node may be starting with it.
    pub(crate) fn is_tried(self) -> bool {
        matches!(self, Self::Sent | Self::Trial)
    }
}

impl Image {
    /// Believes a file for the node of this machine; `before` is what was told of it before a restart.
    pub(crate) fn open(file: Vec<u8>, key: &[u8; 32], asset: &Name, before: Option<Told>) -> Result<Self, Unfit> {
        let manifest = SignedImage::parse(&file).and_then(|image| image.verify(key)).map_err(Unfit::File)?;
        if let Some(other) = manifest.key.asset.as_ref().filter(|other| *other != asset) {
            return Err(Unfit::Asset(other.clone()));
        }
        let fresh = Told {
            generation: manifest.generation.0,
            digest: manifest.digest.to_string(),
            stage: Stage::Waiting,
            have_bytes: 0,
            size_bytes: manifest.size_bytes,
            why: String::new(),
        };
        let told = before.filter(|told| told.is_of(&fresh)).unwrap_or(fresh);
        Ok(Self { file, manifest, told, offered: false, not_before: Monotonic(0) })
    }

    /// How far it is.
    pub(crate) fn told(&self) -> &Told {
        &self.told
    }

    /// It was offered and the end is not known yet: no model is offered meanwhile.
    pub(crate) fn is_under_way(&self) -> bool {
        self.offered && !self.told.stage.is_end()
    }

    /// The node says which image it runs; `true`: offer this one now.
    pub(crate) fn hear(&mut self, node: &ImageStatus, (wall, uncertainty): (Micros, Micros), now: Monotonic) -> bool {
        let (generation, stage) = (self.manifest.generation, self.told.stage);
        let runs = node.runs == Some(generation);
        if stage.is_end() {
            return false;
        }
        if node.on_trial {
            // Another one on trial keeps the slot that is the way back.
            self.told.why = if runs { String::new() } else { "another image is on trial".to_owned() };
            if runs {
                self.at(Stage::Trial);
            }
            return false;
        }
        if stage.is_tried() && runs {
            self.at(Stage::Kept);
        } else if node.seen >= generation {
            self.end_below(node, stage);
        } else if let Some(why) = self.unfit(node, wall - uncertainty) {
            self.refuse(why);
        } else if let Some((_, have)) = node.coming.filter(|(digest, _)| *digest == self.manifest.digest) {
            self.told.have_bytes = have;
            if have < self.manifest.size_bytes {
                self.at(Stage::Fetching);
            }
        } else {
            // Whatever was sent is lost: it was cut before the bootloader knew of it.
            self.told.have_bytes = 0;
            self.at(Stage::Waiting);
            return now >= self.not_before;
        }
        false
    }

    /// For the node.
    pub(crate) fn offer(&mut self) -> Option<SignedManifest<'_>> {
        self.offered = true;
        SignedImage::parse(&self.file).ok().map(|image| image.signed)
    }

    /// Does the node ask for a part of it? Then that part is what follows.
    pub(crate) fn note_fetch(&mut self, fetch: &Fetch) -> bool {
        if fetch.digest != self.manifest.digest || self.told.stage.is_end() {
            return false;
        }
        self.told.why.clear();
        self.told.have_bytes = fetch.offset.min(self.manifest.size_bytes);
        let last = fetch.offset.saturating_add(part_bytes(fetch)) >= self.manifest.size_bytes;
        self.at(if last { Stage::Sent } else { Stage::Fetching });
        true
    }

    /// A part of it.
    pub(crate) fn part(&self, fetch: &Fetch) -> Option<Chunk<'_>> {
        let bytes = SignedImage::parse(&self.file).ok()?.bytes;
        let from = (fetch.offset as usize).min(bytes.len());
        let to = from.saturating_add(part_bytes(fetch) as usize).min(bytes.len());
        let total = self.manifest.size_bytes;
        Some(Chunk { digest: fetch.digest, offset: fetch.offset, total, bytes: &bytes[from..to] })
    }

    /// A node refuses something; `true` when it is this.
    pub(crate) fn refused(&mut self, what: Digest, reason: &Name, now: Monotonic) -> bool {
        let unnamed = what == Digest::NONE && self.is_under_way();
        if self.told.stage.is_end() || !(unnamed || what == self.manifest.digest) {
            return false;
        }
        match reason.as_str() {
            "digest" | "order" | "flash" => {
                // What came damaged may come whole.
                self.at(Stage::Waiting);
                self.told.why = format!("what came was damaged ({reason}): it is offered again in five minutes");
                self.not_before = Monotonic(now.0.saturating_add(DAMAGED_US));
            }
            "signature" => {
                self.refuse("the node does not believe the signature: it was flashed with another key".into())
            }
            // Its status says what runs now.
            "firmware_reverted" => {}
            other => self.refuse(format!("the node refused it: {other}")),
        }
        true
    }

    /// It never tells which image it runs.
    pub(crate) fn refuse_mute(&mut self) {
        if !self.told.stage.is_end() {
            let why =
                "the node tells of no image: it has no bootloader, or firmware from before this; flash it by a probe";
            self.refuse(why.to_owned());
        }
    }

    /// The generation is used up without this image running.
    fn end_below(&mut self, node: &ImageStatus, stage: Stage) {
        let (mine, seen) = (self.manifest.generation.0, node.seen.0);
        let runs = node.runs.map_or("an earlier image".to_owned(), |runs| format!("generation {}", runs.0));
        if stage.is_tried() && node.runs.is_none() {
            self.at(Stage::GivenUp);
            self.told.why = "the power went while it was being kept: the node can't tell which image runs".to_owned();
        } else if stage.is_tried() {
            self.at(Stage::GivenUp);
            self.told.why = format!("it did not prove itself: {runs} runs again, and generation {mine} is used up");
        } else if node.runs == Some(self.manifest.generation) {
            self.refuse(format!("generation {mine} runs there already"));
        } else {
            self.refuse(format!(
                "generation {mine} is not above {seen}, the highest that the node has had; {runs} runs"
            ));
        }
    }

    fn unfit(&self, node: &ImageStatus, surely: Micros) -> Option<String> {
        let Manifest { key, size_bytes, expires, .. } = &self.manifest;
        if key.asset_class != node.board {
            return Some(format!("the image is for board {}, the node is a {}", key.asset_class, node.board));
        }
        if *size_bytes > node.capacity_bytes {
            return Some(format!("the image has {size_bytes} bytes, the node has room for {}", node.capacity_bytes));
        }
        (surely > *expires).then(|| "the image has expired: sign it again".to_owned())
    }

    fn refuse(&mut self, why: String) {
        self.at(Stage::Refused);
        self.told.why = why;
    }

    fn at(&mut self, stage: Stage) {
        self.told.stage = stage;
        if stage == Stage::Kept {
            self.told.have_bytes = self.manifest.size_bytes;
            self.told.why.clear();
        }
    }
}

/// What a fetch is answered with, so that a frame stays short whatever a node asks for.
fn part_bytes(fetch: &Fetch) -> u32 {
    fetch.len.min(MOST_PART_BYTES)
}

const MOST_PART_BYTES: u32 = 1024;
const DAMAGED_US: u64 = 300_000_000;
