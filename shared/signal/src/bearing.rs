//! Bearing kinematics: how often per shaft revolution each part is struck.
//!
//! For `z` rolling elements of diameter `d` on pitch diameter `D` with contact angle `a`, inner ring turning, no slip, with
//! `g = d/D cos(a)`: FTF `(1-g)/2`, BPFO `z(1-g)/2`, BPFI `z(1+g)/2`, BSF `(1-g²) D/(2d)`. A struck rolling element hits both races
//! once per own revolution, so its fault shows at 2xBSF. Real bearings slip by 1-2 %.

use core::fmt;

/// Fault frequencies of a bearing in multiples of the shaft speed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Orders {
    /// Ball pass frequency, outer race.
    pub bpfo: f32,
    /// Ball pass frequency, inner race.
    pub bpfi: f32,
    /// Ball spin frequency (a defect shows at twice this).
    pub bsf: f32,
    /// Fundamental train (cage) frequency.
    pub ftf: f32,
}

impl Orders {
    /// Orders as given by a maker or an analyst; each finite, above 0 and at most 100.
    pub fn new(bpfo: f32, bpfi: f32, bsf: f32, ftf: f32) -> Result<Self, BearingError> {
        if [bpfo, bpfi, bsf, ftf].iter().all(|o| *o > 0.0 && *o <= 100.0) {
            Ok(Self { bpfo, bpfi, bsf, ftf })
        } else {
            Err(BearingError::Orders)
        }
    }

    /// The built-in bearing of this designation; maker, seals and clearance (`SKF 6205-2RS (DE)`, `6205ZZ`) are ignored.
    pub fn catalogue(designation: &str) -> Result<Self, BearingError> {
        let known = |word: &str| {
            let word = word.trim_start_matches(|c: char| c.is_ascii_alphabetic());
            CATALOGUE.iter().find(|entry| {
                word.strip_prefix(entry.0).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
            })
        };
        let words = designation.split(|c: char| !c.is_ascii_alphanumeric());
        words.into_iter().find_map(known).ok_or(BearingError::Unknown)?.1.orders()
    }

    /// Orders of 2xBSF, the rolling element's fault line.
    pub fn twice_bsf(&self) -> f32 {
        2.0 * self.bsf
    }
}

/// What a bearing looks like inside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Geometry {
    /// Number of rolling elements.
    pub balls: u8,
    /// Their diameter in millimetres.
    pub ball_mm: f32,
    /// The pitch circle's diameter in millimetres.
    pub pitch_mm: f32,
    /// Contact angle in degrees.
    pub angle_deg: f32,
}

impl Geometry {
    /// The orders of this geometry.
    pub fn orders(&self) -> Result<Orders, BearingError> {
        let sound = self.balls >= 3
            && self.ball_mm > 0.0
            && self.pitch_mm > self.ball_mm
            && self.pitch_mm.is_finite()
            && (0.0..90.0).contains(&self.angle_deg);
        if !sound {
            return Err(BearingError::Geometry);
        }
        let ratio = self.ball_mm / self.pitch_mm * libm::cosf(self.angle_deg.to_radians());
        let balls = f32::from(self.balls);
        Orders::new(
            balls * 0.5 * (1.0 - ratio),
            balls * 0.5 * (1.0 + ratio),
            0.5 * self.pitch_mm / self.ball_mm * (1.0 - ratio * ratio),
            0.5 * (1.0 - ratio),
        )
    }
}

/// The designations that [`Orders::catalogue`] knows.
pub fn designations() -> impl Iterator<Item = &'static str> {
    CATALOGUE.iter().map(|entry| entry.0)
}

/// Why there are no orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BearingError {
    /// An order is not above 0, not finite, or above 100.
    Orders,
    /// The geometry can't be a bearing.
    Geometry,
    /// The designation is not in the built-in catalogue.
    Unknown,
}

impl fmt::Display for BearingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Orders => "use the bearing's orders: each must be above 0 and at most 100",
            Self::Geometry => "use the bearing's geometry: 3 balls or more, 0 < ball < pitch, 0 <= angle < 90 degrees",
            Self::Unknown => "find the bearing in the built-in catalogue; give its orders or geometry instead",
        })
    }
}

impl core::error::Error for BearingError {}

const fn deep_groove(balls: u8, ball_mm: f32, pitch_mm: f32) -> Geometry {
    Geometry { balls, ball_mm, pitch_mm, angle_deg: 0.0 }
}

/// Deep-groove ball bearings by their usual inner geometry; makers differ by a few per mille, other designs by more.
const CATALOGUE: [(&str, Geometry); 8] = [
    ("6203", deep_groove(8, 6.747, 28.5)),
    ("6204", deep_groove(8, 7.938, 33.5)),
    ("6205", deep_groove(9, 7.940, 39.04)),
    ("6206", deep_groove(9, 9.525, 46.0)),
    ("6207", deep_groove(9, 11.112, 53.5)),
    ("6208", deep_groove(9, 11.906, 60.0)),
    ("6305", deep_groove(7, 11.509, 43.5)),
    ("6306", deep_groove(8, 12.303, 51.0)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_6205_has_the_published_orders() {
        let orders = Orders::catalogue("SKF 6205-2RS (DE)").expect("6205 is built in");
        for (got, published) in [(orders.bpfo, 3.585), (orders.bpfi, 5.415), (orders.ftf, 0.398), (orders.bsf, 2.357)] {
            assert!((got - published).abs() < 1e-3, "{got} for {published}");
        }
    }

    #[test]
    fn a_bearing_that_is_not_known_or_cannot_be_is_refused() {
        for unknown in ["62051", "NU205", "", "205"] {
            assert_eq!(Orders::catalogue(unknown), Err(BearingError::Unknown));
        }
        for known in ["6205ZZ", "NTN-6205", "SKF6205-2RS", "bearing 6205/C3"] {
            assert_eq!(Orders::catalogue(known), Orders::catalogue("6205"), "{known}");
        }
        assert_eq!(Orders::new(3.5, 5.4, f32::NAN, 0.4), Err(BearingError::Orders));
        let flat = Geometry { balls: 9, ball_mm: 40.0, pitch_mm: 39.0, angle_deg: 0.0 };
        assert_eq!(flat.orders(), Err(BearingError::Geometry));
    }
}
