//! A rolling bearing: its kinematics, and the trains of impacts that a defect makes.
//!
//! Each time a rolling element meets the defect, the housing rings at its resonance. The instants follow the shaft's angle times
//! the defect's order, with slip: every interval is longer or shorter by a normal amount, so the train drifts like a real one and
//! its lines widen. Where the defect moves through the load zone, the zone's shape (Stribeck) modulates the impacts.

use serde::{Deserialize, Serialize};

use crate::random;
use crate::spec::FaultKind;

/// Geometry and resonance of the monitored bearing. The default is a 6205 with its housing at 3.4 kHz.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BearingSpec {
    /// What the catalogue calls it.
    pub designation: String,
    /// Number of rolling elements.
    pub balls: u32,
    /// Diameter of a rolling element.
    pub ball_mm: f64,
    /// Diameter of the pitch circle.
    pub pitch_mm: f64,
    /// Contact angle.
    pub contact_deg: f64,
    /// Resonance that impacts excite.
    pub resonance_hz: f64,
    /// Damping ratio of that resonance.
    pub damping: f64,
    /// Peak of one impact at severity 1, nominal speed and full load.
    pub impact_g: f64,
    /// Standard deviation of one impact interval, relative.
    pub slip: f64,
}

impl Default for BearingSpec {
    fn default() -> Self {
        Self {
            designation: "6205".to_owned(),
            balls: 9,
            ball_mm: 7.94,
            pitch_mm: 39.04,
            contact_deg: 0.0,
            resonance_hz: 3_400.0,
            damping: 0.04,
            impact_g: 6.0,
            slip: 0.005,
        }
    }
}

impl BearingSpec {
    /// Impacts per revolution of the shaft (inner ring turning): BPFO, BPFI, twice BSF, FTF.
    pub fn order(&self, defect: Defect) -> f64 {
        let ratio = self.ball_mm / self.pitch_mm * libm::cos(self.contact_deg.to_radians());
        let balls = f64::from(self.balls);
        match defect {
            Defect::OuterRace => balls / 2.0 * (1.0 - ratio),
            Defect::InnerRace => balls / 2.0 * (1.0 + ratio),
            Defect::RollingElement => self.pitch_mm / self.ball_mm * (1.0 - ratio * ratio),
            Defect::Cage => 0.5 * (1.0 - ratio),
        }
    }
}

/// Where the bearing is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// Outer race, in the load zone: every impact alike.
    OuterRace,
    /// Inner race: passes the load zone once per revolution.
    InnerRace,
    /// Rolling element: hits both races once per spin, passes the load zone with the cage.
    RollingElement,
    /// Cage: one soft impact per turn of the cage.
    Cage,
}

impl Defect {
    pub(crate) const ALL: [Self; 4] = [Self::OuterRace, Self::InnerRace, Self::RollingElement, Self::Cage];

    pub(crate) const fn fault(self) -> FaultKind {
        match self {
            Self::OuterRace => FaultKind::OuterRace,
            Self::InnerRace => FaultKind::InnerRace,
            Self::RollingElement => FaultKind::RollingElement,
            Self::Cage => FaultKind::Cage,
        }
    }

    /// How hard this defect hits, against an outer race of the same severity.
    const fn strength(self) -> f64 {
        match self {
            Self::OuterRace => 1.0,
            Self::InnerRace => 0.9,
            Self::RollingElement => 0.6,
            Self::Cage => 0.7,
        }
    }
}

/// One defect's impacts, in order: when each falls, as shaft revolutions, and how hard.
#[derive(Debug, Clone)]
pub(crate) struct ImpactTrain {
    defect: Defect,
    order: f64,
    cage_order: f64,
    slip: f64,
    seed: u64,
    count: u64,
    next_rev: f64,
}

impl ImpactTrain {
    pub(crate) fn new(defect: Defect, bearing: &BearingSpec, seed: u64) -> Self {
        let order = bearing.order(defect);
        let first = random::unit(seed, KEY_PHASE, defect as u64);
        Self {
            defect,
            order,
            cage_order: bearing.order(Defect::Cage),
            slip: bearing.slip,
            seed,
            count: 0,
            next_rev: first / order,
        }
    }

    /// The next impact if it falls at or before `rev`: its place and its relative strength.
    pub(crate) fn poll(&mut self, rev: f64) -> Option<(f64, f64)> {
        if self.next_rev > rev {
            return None;
        }
        let at = self.next_rev;
        let strength = self.defect.strength() * self.load_zone(at);
        self.count += 1;
        let key = KEY_SLIP + self.defect as u64;
        // Four sigma is the most that one interval may differ, so that the train never runs backwards.
        let slip = random::normal(self.seed, key, self.count).clamp(-4.0, 4.0) * self.slip;
        self.next_rev = at + (1.0 + slip) / self.order;
        Some((at, strength))
    }

    fn load_zone(&self, rev: f64) -> f64 {
        let turn = match self.defect {
            Defect::OuterRace | Defect::Cage => return 1.0,
            Defect::InnerRace => rev,
            Defect::RollingElement => rev * self.cage_order,
        };
        let angle = std::f64::consts::TAU * (turn - libm::floor(turn));
        // Stribeck's load distribution with half of the ring carrying; a little clearance load outside.
        let carried = (1.0 - (1.0 - libm::cos(angle)) / (2.0 * LOAD_ZONE)).max(0.0);
        UNLOADED + (1.0 - UNLOADED) * libm::pow(carried, 1.5)
    }
}

const KEY_PHASE: u64 = 0x6265_6172_0001;
const KEY_SLIP: u64 = 0x6265_6172_1000;
const LOAD_ZONE: f64 = 0.5;
const UNLOADED: f64 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinematics_of_a_6205_match_the_catalogue() {
        let bearing = BearingSpec::default();
        // Figures per revolution as printed in catalogues: three decimals; the element's is twice 2.357.
        assert!((bearing.order(Defect::OuterRace) - 3.585).abs() < 5e-4);
        assert!((bearing.order(Defect::InnerRace) - 5.415).abs() < 5e-4);
        assert!((bearing.order(Defect::RollingElement) - 2.0 * 2.357).abs() < 1e-3);
        assert!((bearing.order(Defect::Cage) - 0.398).abs() < 5e-4);
    }

    #[test]
    fn an_inner_race_is_hit_hardest_in_the_load_zone() {
        let mut train = ImpactTrain::new(Defect::InnerRace, &BearingSpec::default(), 1);
        let (mut inside, mut outside) = (0.0f64, 1.0f64);
        while let Some((rev, strength)) = train.poll(200.0) {
            let turn = rev - rev.floor();
            if !(0.05..=0.95).contains(&turn) {
                inside = inside.max(strength);
            } else if (0.4..0.6).contains(&turn) {
                outside = outside.min(strength);
            }
        }
        assert!(inside > 0.8 && outside < 0.06, "inside {inside}, outside {outside}");
    }
}
