//! A signed image of a node's firmware as a file: what the aggregator's key signed, and the bytes that it speaks of, in one piece.
//!
//! ```text
//!  0..4     4   5      6..8           8..72       72..72+len   72+len..
//! ┌────────┬───┬──────┬──────────────┬───────────┬────────────┬────────┐
//! │ "KLTI" │ 1 │ 0x00 │ len, u16 LE  │ signature │ manifest   │ image  │
//! └────────┴───┴──────┴──────────────┴───────────┴────────────┴────────┘
//! ```
//! Manifest and signature are those that travel to the node ([`SignedManifest`]), which checks them again: the file only carries them.
//! An image's manifest has the task [`TASK`] and names the board as its class of machine.

use core::fmt;

use kilter_types::{Digest, Manifest};

use crate::{SignError, SignedManifest};

/// The task of a manifest that speaks of an image.
pub const TASK: &str = "firmware";

/// Does this manifest speak of an image of a node's firmware?
pub fn is_image(manifest: &Manifest) -> bool {
    manifest.key.task.as_str() == TASK
}

/// One file, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedImage<'a> {
    /// Manifest and signature as they travel.
    pub signed: SignedManifest<'a>,
    /// The image as the chip's flash holds it.
    pub bytes: &'a [u8],
}

impl<'a> SignedImage<'a> {
    /// Takes a file apart; nothing of it is believed yet.
    pub fn parse(file: &'a [u8]) -> Result<Self, ImageError> {
        let head: &[u8; HEAD] = file.first_chunk().ok_or(ImageError::Layout)?;
        if head[..4] != *MAGIC {
            return Err(ImageError::Layout);
        }
        if head[4] != FILE_VERSION {
            return Err(ImageError::Version(head[4]));
        }
        let len = usize::from(u16::from_le_bytes([head[6], head[7]]));
        let rest = file.get(HEAD..).ok_or(ImageError::Layout)?;
        let (signature, rest) = rest.split_at_checked(SIGNATURE).ok_or(ImageError::Layout)?;
        let (manifest, bytes) = rest.split_at_checked(len).ok_or(ImageError::Layout)?;
        Ok(Self { signed: SignedManifest { manifest, signature }, bytes })
    }

    /// The manifest, if this key signed it, it speaks of an image, and the image is the one that it speaks of.
    pub fn verify(&self, key: &[u8; 32]) -> Result<Manifest, ImageError> {
        let manifest = self.signed.verify(key).map_err(ImageError::Signature)?;
        if !is_image(&manifest) {
            return Err(ImageError::Task);
        }
        let same = manifest.size_bytes as usize == self.bytes.len() && manifest.digest == Digest::of(self.bytes);
        if same { Ok(manifest) } else { Err(ImageError::Digest) }
    }

    /// Writes what stands in front of the image in a file; `None` when it does not fit into `out`.
    pub fn head<'o>(signed: &SignedManifest<'_>, out: &'o mut [u8]) -> Option<&'o [u8]> {
        let (len, end) = (u16::try_from(signed.manifest.len()).ok()?, HEAD + SIGNATURE + signed.manifest.len());
        let head = out.get_mut(..end)?;
        head[..4].copy_from_slice(MAGIC);
        head[4..6].copy_from_slice(&[FILE_VERSION, 0]);
        head[6..HEAD].copy_from_slice(&len.to_le_bytes());
        head[HEAD..HEAD + SIGNATURE].copy_from_slice(signed.signature.first_chunk::<SIGNATURE>()?);
        head[HEAD + SIGNATURE..].copy_from_slice(signed.manifest);
        Some(head)
    }
}

/// Why a file is not taken for an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// Not such a file, or cut short.
    Layout,
    /// A layout that this build does not know.
    Version(u8),
    /// Not signed by the fleet's key, or not readable.
    Signature(SignError),
    /// It was signed for something else.
    Task,
    /// The image is not the one that was signed.
    Digest,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layout => f.write_str("it is not a signed image, or it is cut short"),
            Self::Version(version) => write!(f, "its layout has version {version}; this build reads {FILE_VERSION}"),
            Self::Signature(error) => error.fmt(f),
            Self::Task => f.write_str("what was signed is no image of a node's firmware"),
            Self::Digest => f.write_str("the image is not the one that was signed: it was damaged or exchanged"),
        }
    }
}

impl core::error::Error for ImageError {}

const MAGIC: &[u8; 4] = b"KLTI";
const FILE_VERSION: u8 = 1;
const HEAD: usize = 8;
const SIGNATURE: usize = 64;
