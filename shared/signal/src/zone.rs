//! Severity zones of ISO 20816-3 for the RMS velocity on non-rotating parts.
//!
//! A: newly commissioned machines; B: fit for unrestricted long-term operation; C: not fit for long-term operation; D: severe
//! enough to damage. A value on a boundary belongs to the lower (better) zone.

/// Machine group by size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Above 300 kW up to 50 MW, or electrical machines with a shaft height of 315 mm and more.
    One,
    /// 15 kW to 300 kW, or a shaft height from 160 mm to 315 mm.
    Two,
}

/// How the machine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// Lowest natural frequency of machine and support is well above the running speed.
    Rigid,
    /// It is not.
    Flexible,
}

/// A severity zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Zone {
    /// Like new.
    A,
    /// Fit for long-term operation.
    B,
    /// For a limited time only.
    C,
    /// Damaging.
    D,
}

impl Zone {
    /// The zone of an RMS velocity in mm/s; `None` of a value that is not a number or below 0.
    pub fn of(velocity_mm_s: f32, group: Group, support: Support) -> Option<Self> {
        if velocity_mm_s.is_nan() || velocity_mm_s < 0.0 {
            return None;
        }
        let [ab, bc, cd] = boundaries_mm_s(group, support);
        Some(match velocity_mm_s {
            v if v <= ab => Self::A,
            v if v <= bc => Self::B,
            v if v <= cd => Self::C,
            _ => Self::D,
        })
    }

    /// The zone's letter.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
            Self::D => "D",
        }
    }
}

/// The boundaries A/B, B/C and C/D in mm/s RMS.
pub const fn boundaries_mm_s(group: Group, support: Support) -> [f32; 3] {
    match (group, support) {
        (Group::One, Support::Rigid) => [2.3, 4.5, 7.1],
        (Group::One, Support::Flexible) => [3.5, 7.1, 11.0],
        (Group::Two, Support::Rigid) => [1.4, 2.8, 4.5],
        (Group::Two, Support::Flexible) => [2.3, 4.5, 7.1],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_boundary_belongs_to_the_lower_zone() {
        let zone = |v| Zone::of(v, Group::Two, Support::Rigid);
        assert_eq!(
            [0.0, 1.4, 1.401, 2.8, 4.5, 4.501, f32::INFINITY].map(zone),
            [Zone::A, Zone::A, Zone::B, Zone::B, Zone::C, Zone::D, Zone::D].map(Some)
        );
        assert_eq!((zone(f32::NAN), zone(-1.0)), (None, None));
    }
}
