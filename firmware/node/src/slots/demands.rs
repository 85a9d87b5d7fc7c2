//! What a node demands of a manifest before it takes a byte, be it of a model or of an image, and why it refuses.

use kilter_types::{Manifest, Micros, Name};
use kilter_wire::VERSION;

/// The machine that a model must be for, and what is known of the time.
#[derive(Clone, Copy, Debug)]
pub struct Demands<'a> {
    /// Kind of machine.
    pub asset_class: &'a Name,
    /// The machine.
    pub asset: &'a Name,
    /// The latest that it surely is already; `None` when the time is not known, and then nothing counts as expired.
    pub surely: Option<Micros>,
}

/// Why a model is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not signed by the fleet's key, or not readable.
    Signature,
    /// Not above the highest generation seen (R5).
    Generation,
    /// For another machine or kind of machine.
    Machine,
    /// A shadow: the two slots are one leader and its way back.
    Shadow,
    /// It wants newer software.
    Software,
    /// Past its date.
    Expired,
    /// Larger than a slot.
    Size,
    /// A model is on trial: the other slot is its way back.
    Busy,
    /// What came has another digest than was signed.
    Digest,
    /// A part that does not follow on what is there.
    Order,
    /// The flash refused.
    Flash,
}

impl Demands<'_> {
    /// Is it for this machine and this kind of it, and can it be run here now? What model and image have in common.
    pub(crate) fn hold(&self, manifest: &Manifest, class: &str, capacity_bytes: u32) -> Result<(), Refused> {
        let key = &manifest.key;
        if key.asset_class.as_str() != class || key.asset.as_ref().is_some_and(|asset| asset != self.asset) {
            return Err(Refused::Machine);
        }
        if manifest.minimum_agent > u16::from(VERSION) {
            return Err(Refused::Software);
        }
        if self.surely.is_some_and(|now| now > manifest.expires) {
            return Err(Refused::Expired);
        }
        if manifest.size_bytes == 0 || manifest.size_bytes > capacity_bytes {
            return Err(Refused::Size);
        }
        Ok(())
    }
}

impl Refused {
    /// A word for [`kilter_types::Event::ModelRefused`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Signature => "signature",
            Self::Generation => "old_generation",
            Self::Machine => "other_machine",
            Self::Shadow => "leaders_only",
            Self::Software => "agent_too_old",
            Self::Expired => "expired",
            Self::Size => "too_large",
            Self::Busy => "busy",
            Self::Digest => "digest",
            Self::Order => "order",
            Self::Flash => "flash",
        }
    }
}
