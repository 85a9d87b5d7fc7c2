//! What is known to be wrong with a window. NaN never crosses a door: it becomes a flag here.

use core::ops::BitOr;

use serde::{Deserialize, Serialize};

/// A set of flags; empty means good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Quality(pub u16);

impl Quality {
    /// Nothing known to be wrong.
    pub const GOOD: Self = Self(0);
    /// A gap closed the window early (W1).
    pub const GAP: Self = Self(1);
    /// Samples that were NaN or infinite.
    pub const NON_FINITE: Self = Self(1 << 1);
    /// The sensor repeats one value.
    pub const STUCK: Self = Self(1 << 2);
    /// The sensor sits at its limit.
    pub const SATURATED: Self = Self(1 << 3);
    /// Runs of zeros.
    pub const DROPOUT: Self = Self(1 << 4);
    /// Less noise than any live sensor has.
    pub const NOISE_FLOOR: Self = Self(1 << 5);
    /// The rate differs from the declared one.
    pub const WRONG_RATE: Self = Self(1 << 6);
    /// Another axis than declared seems to be measured.
    pub const SWAPPED_AXIS: Self = Self(1 << 7);
    /// Missing samples were filled in by the stated policy.
    pub const IMPUTED: Self = Self(1 << 8);
    /// The source's clock went back.
    pub const CLOCK_BACK: Self = Self(1 << 9);
    /// Speed or load was changing.
    pub const TRANSIENT: Self = Self(1 << 10);
    /// A value outside the range that its channel declares.
    pub const OUT_OF_RANGE: Self = Self(1 << 11);
    /// Pulses of the tacho that no shaft can give: the window's speed is not known.
    pub const BAD_PULSES: Self = Self(1 << 12);

    /// Are all flags of `other` set?
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Is any flag of `other` set?
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The names of the flags that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.iter().enumerate().filter(move |(bit, _)| self.0 & (1 << bit) != 0).map(|(_, name)| *name)
    }
}

impl BitOr for Quality {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

const NAMES: [&str; 13] = [
    "gap",
    "non_finite",
    "stuck",
    "saturated",
    "dropout",
    "noise_floor",
    "wrong_rate",
    "swapped_axis",
    "imputed",
    "clock_back",
    "transient",
    "out_of_range",
    "bad_pulses",
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn flags_are_named_in_the_order_of_their_bits() {
        let quality = Quality::GAP | Quality::TRANSIENT;
        assert_eq!(quality.names().collect::<Vec<_>>(), ["gap", "transient"]);
        assert!(quality.contains(Quality::GAP) && !quality.contains(Quality::STUCK));
    }
}
