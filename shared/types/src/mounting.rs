//! How a sensor sits on its machine: the direction it measures and what holds it, in the words of ISO 13373-1 and ISO 5348.

use serde::{Deserialize, Serialize};

use crate::Hertz;

/// The direction that a vibration channel measures, seen from the shaft (ISO 13373-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Across the shaft and level: gravity has no part along it.
    RadialHorizontal,
    /// Across the shaft and upright.
    RadialVertical,
    /// Across the shaft, at any other angle.
    Radial,
    /// Along the shaft.
    Axial,
}

/// What holds a vibration sensor (ISO 5348).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mounting {
    /// Screwed to a flat, clean face.
    Stud,
    /// Glued with a thin stiff layer.
    Adhesive,
    /// Held by a magnet.
    Magnet,
    /// Pressed on by hand.
    Handheld,
}

impl Mounting {
    /// Up to where a general-purpose accelerometer so mounted can be believed: about a third of its mounted resonance, rounded down.
    ///
    /// A guide of this house in the order of ISO 5348's curves; the sensor's own sheet may say less or more.
    pub const fn usable(self) -> Hertz {
        Hertz(match self {
            Self::Stud => 10_000.0,
            Self::Adhesive => 8_000.0,
            Self::Magnet => 2_000.0,
            Self::Handheld => 1_000.0,
        })
    }

    /// Its name in a configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stud => "stud",
            Self::Adhesive => "adhesive",
            Self::Magnet => "magnet",
            Self::Handheld => "handheld",
        }
    }
}
