//! The versioned table of feature definitions: one entry per feature, each with a hash that rides in rows and models (F2, M1).
//!
//! A model asks for features by number and definition hash, so a changed definition is noticed and an added one disturbs
//! nothing. Changing any bit of a feature's value bumps its version; numbers are never used twice. The vibration schema is
//! Set S: its values stand in this table's order. Readings and cycles take one block of numbers per channel or column.

pub mod at;
mod examined;
mod vibration;

use core::fmt::Write;

use kilter_types::{FeatureId, FeatureRef, FeatureVector, GroupKind, MAX_FEATURES, SchemaHash};

pub use examined::{EXAMINED, GEAR_MESH, GEAR_SIDEBANDS, THERMAL_RESIDUAL, sign_id};
pub use vibration::VIBRATION;

/// One feature's definition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Feature {
    /// Its number.
    pub id: FeatureId,
    /// Its name.
    pub name: &'static str,
    /// The unit of its value.
    pub unit: &'static str,
    /// A typical size: errors are bounded by 1e-4 of the larger of the value and this.
    pub scale: f32,
    /// Goes up whenever any bit of the value would change.
    pub version: u16,
    /// The formula.
    pub definition: &'static str,
}

impl Feature {
    /// FNV-1a (32 bits) over number, name, unit, version and definition.
    pub const fn hash(&self) -> u32 {
        let mut hash = FNV_32;
        hash = fnv_32(hash, &self.id.0.to_le_bytes());
        hash = fnv_32(hash, self.name.as_bytes());
        hash = fnv_32(hash, &[0]);
        hash = fnv_32(hash, self.unit.as_bytes());
        hash = fnv_32(hash, &[0]);
        hash = fnv_32(hash, &self.version.to_le_bytes());
        fnv_32(hash, self.definition.as_bytes())
    }

    /// Number and hash: what a model asks for.
    pub const fn reference(&self) -> FeatureRef {
        FeatureRef { id: self.id, hash: self.hash() }
    }
}

/// A feature as people read it; for readings and cycles the name carries the channel (`r2.mean`, `c07`).
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// The definition, with the number of this very channel.
    pub feature: Feature,
    /// The full name.
    pub name: heapless::String<32>,
}

/// The definition behind a number; `None` for numbers that no feature has.
pub fn describe(id: FeatureId) -> Option<Described> {
    let mut name = heapless::String::new();
    let feature = match id.0 {
        1..READING_BASE => {
            let feature = *VIBRATION.iter().chain(&TEMPERATURE).chain(&EXAMINED).find(|f| f.id == id)?;
            name.push_str(feature.name).ok()?;
            feature
        }
        READING_BASE..CYCLE_BASE => {
            let offset = id.0 - READING_BASE;
            let (channel, place) = (offset / READING_BLOCK, offset % READING_BLOCK);
            let mut feature = *READING.get(usize::from(place))?;
            feature.id = id;
            write!(name, "r{channel}.{}", feature.name).ok()?;
            feature
        }
        CYCLE_BASE..CYCLE_END => {
            write!(name, "c{:02}", id.0 - CYCLE_BASE).ok()?;
            Feature { id, ..CYCLE }
        }
        _ => return None,
    };
    Some(Described { feature, name })
}

/// The number of the feature with this full name.
pub fn find(name: &str) -> Option<FeatureId> {
    if let Some(feature) = VIBRATION.iter().chain(&TEMPERATURE).chain(&EXAMINED).find(|f| f.name == name) {
        return Some(feature.id);
    }
    if let Some(column) = name.strip_prefix('c') {
        let column: u16 = column.parse().ok()?;
        return (usize::from(column) < MAX_FEATURES).then(|| FeatureId(CYCLE_BASE + column));
    }
    let (channel, statistic) = name.strip_prefix('r')?.split_once('.')?;
    let channel: u16 = channel.parse().ok()?;
    let place = READING.iter().position(|f| f.name == statistic)?;
    let fits = usize::from(channel) < MAX_READING_CHANNELS;
    fits.then(|| FeatureId(READING_BASE + channel * READING_BLOCK + place as u16))
}

/// The ordered features of one group: what its vectors hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    features: heapless::Vec<FeatureRef, MAX_FEATURES>,
    hash: SchemaHash,
}

impl Schema {
    /// The schema of a group of this kind with so many channels (readings) or columns (cycles); otherwise the count is ignored.
    ///
    /// Readings beyond [`MAX_READING_CHANNELS`] and columns beyond 64 are left out.
    pub fn of(kind: GroupKind, channels: usize) -> Self {
        let mut features = heapless::Vec::new();
        match kind {
            GroupKind::Vibration => features.extend(VIBRATION.iter().map(Feature::reference)),
            GroupKind::Temperature => features.extend(TEMPERATURE.iter().map(Feature::reference)),
            GroupKind::Reading => {
                let channels = channels.min(MAX_READING_CHANNELS) as u16;
                for channel in 0..channels {
                    features.extend(READING.iter().map(|feature| {
                        let id = FeatureId(READING_BASE + channel * READING_BLOCK + feature.id.0);
                        Feature { id, ..*feature }.reference()
                    }));
                }
            }
            GroupKind::Cycle => {
                let columns = channels.min(MAX_FEATURES) as u16;
                features.extend((0..columns).map(|column| {
                    let id = FeatureId(CYCLE_BASE + column);
                    Feature { id, ..CYCLE }.reference()
                }));
            }
        }
        let hash = schema_hash(&features);
        Self { features, hash }
    }

    /// The features in order.
    pub fn features(&self) -> &[FeatureRef] {
        &self.features
    }

    /// FNV-1a (64 bits) over the ordered numbers and hashes.
    pub fn hash(&self) -> SchemaHash {
        self.hash
    }

    /// Where a feature stands in the vector; `None` when it is missing or its definition differs (M1).
    pub fn position(&self, feature: FeatureRef) -> Option<usize> {
        self.features.iter().position(|f| *f == feature)
    }

    /// A vector of this schema from computed values; values beyond the schema are dropped.
    pub fn vector(&self, values: &[f32], valid: u64) -> FeatureVector {
        let count = self.features.len().min(values.len());
        let mut vector = FeatureVector { schema: self.hash, values: heapless::Vec::new(), valid: valid & mask(count) };
        vector.values.extend(values[..count].iter().copied());
        vector
    }
}

/// FNV-1a (64 bits) over an ordered list of features.
pub fn schema_hash(features: &[FeatureRef]) -> SchemaHash {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for feature in features {
        let bytes = feature.id.0.to_le_bytes().into_iter().chain(feature.hash.to_le_bytes());
        for byte in bytes {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    SchemaHash(hash)
}

/// A mask with the first `count` bits set.
pub fn mask(count: usize) -> u64 {
    match count {
        0 => 0,
        1..64 => u64::MAX >> (64 - count),
        _ => u64::MAX,
    }
}

/// The number of the vibration feature at this place (see [`at`]).
pub const fn vibration_id(place: usize) -> FeatureId {
    FeatureId(place as u16 + 1)
}

/// How many values the vibration schema holds.
pub const VIBRATION_LEN: usize = 51;

/// The temperature schema.
pub const TEMPERATURE: [Feature; 3] = [
    entry(129, "temperature_level", "degC", 10.0, "median of the means of at most 24 blocks of the window's readings"),
    entry(
        130,
        "temperature_slope",
        "K/h",
        1.0,
        "Theil-Sen slope: median of the slopes between all pairs of at most 24 block means",
    ),
    entry(
        131,
        "temperature_difference",
        "K",
        10.0,
        "level less the median of the reference channel (ambient or a peer)",
    ),
];

/// The statistics of one reading channel; the number is [`READING_BASE`] + channel * [`READING_BLOCK`] + place.
pub const READING: [Feature; 6] = [
    entry(0, "mean", "as given", 1.0, "arithmetic mean of the window's readings"),
    entry(1, "std", "as given", 1.0, "population standard deviation"),
    entry(2, "min", "as given", 1.0, "least reading"),
    entry(3, "max", "as given", 1.0, "greatest reading"),
    entry(4, "slope", "per hour", 1.0, "least-squares slope over the readings' own times"),
    entry(5, "last", "as given", 1.0, "newest reading"),
];

/// One column of a cycle row; the number is [`CYCLE_BASE`] + column.
pub const CYCLE: Feature = entry(0, "cycle", "as given", 1.0, "the row's value as given");

/// First number of the reading features.
pub const READING_BASE: u16 = 1024;
/// Numbers per reading channel.
pub const READING_BLOCK: u16 = 8;
/// The most channels in one reading group.
pub const MAX_READING_CHANNELS: usize = MAX_FEATURES / READING.len();
/// First number of the cycle features.
pub const CYCLE_BASE: u16 = 4096;

const CYCLE_END: u16 = CYCLE_BASE + MAX_FEATURES as u16;
const FNV_32: u32 = 0x811c_9dc5;

const fn entry(id: u16, name: &'static str, unit: &'static str, scale: f32, definition: &'static str) -> Feature {
    Feature { id: FeatureId(id), name, unit, scale, version: 1, definition }
}

const fn fnv_32(mut hash: u32, bytes: &[u8]) -> u32 {
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u32).wrapping_mul(0x0100_0193);
        i += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn numbers_names_and_hashes_are_unique_and_found_again() {
        let mut seen = BTreeSet::new();
        let all = VIBRATION.iter().chain(&TEMPERATURE).chain(&EXAMINED);
        for feature in all {
            assert!(seen.insert((feature.name, feature.hash())), "{}", feature.name);
            let described = describe(feature.id).expect("a listed feature is described");
            assert_eq!(described.feature, *feature);
            assert_eq!(find(&described.name), Some(feature.id));
        }
        for (place, feature) in VIBRATION.iter().enumerate() {
            assert_eq!(vibration_id(place), feature.id);
        }
    }

    #[test]
    fn a_changed_definition_changes_the_hash() {
        let rms = VIBRATION[at::RMS];
        let next = Feature { version: 2, ..rms };
        let text = Feature { definition: "sqrt(mean(x^2))", ..rms };
        assert_ne!(rms.hash(), next.hash());
        assert_ne!(rms.hash(), text.hash());
    }

    #[test]
    fn reading_and_cycle_features_carry_their_channel() {
        let schema = Schema::of(GroupKind::Reading, 3);
        assert_eq!(schema.features().len(), 18);
        let described = describe(schema.features()[7].id).expect("a reading feature");
        assert_eq!(described.name, "r1.std");
        assert_eq!(described.feature.reference(), schema.features()[7]);
        assert_eq!(find("r1.std"), Some(schema.features()[7].id));
        let cycle = Schema::of(GroupKind::Cycle, 24);
        let described = describe(cycle.features()[23].id).expect("a cycle feature");
        assert_eq!((described.name.as_str(), find("c23")), ("c23", Some(cycle.features()[23].id)));
        assert_eq!(Schema::of(GroupKind::Reading, 99).features().len(), 60);
    }

    #[test]
    fn a_vector_holds_as_many_values_as_its_schema() {
        let schema = Schema::of(GroupKind::Temperature, 0);
        let vector = schema.vector(&[1.0; 64], u64::MAX);
        assert_eq!((vector.values.len(), vector.valid), (3, 0b111));
    }
}
