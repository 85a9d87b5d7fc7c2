//! What the agents have to deliver: records of every class, the same for the same seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kilter_tests::Chance;
use kilter_types::{
    Alarm, AlarmSource, AlarmState, Cause, Class, Class as C, Clip, ClipCause, Contribution, Digest, Epoch, Event,
    Evidence, FeatureId, FeatureRow, FeatureVector, Gap, GapReason, Generation, GroupKind, Hertz, KernelId, Micros,
    Monotonic, Name, OperatingState, Payload, Point, Quality, Record, Report, Role, RowRef, Rpm, SchemaHash, Score,
    Severity, Spectrum, State, Timeline, Unit,
};
use kilter_uplink::Key;
use kilter_wire::encode_record;

/// Names and bytes of one device's records, in the order in which it made them.
pub(crate) type Records = Arc<Vec<(Key, Vec<u8>)>>;

/// The records of all devices.
pub(crate) struct Backlog(Vec<(String, Records)>);

impl Backlog {
    pub(crate) fn of(seed: u64) -> Self {
        Self((0..DEVICES).map(|device| (format!("edge-{device}"), Arc::new(records(device, seed)))).collect())
    }

    pub(crate) fn devices(&self) -> impl Iterator<Item = (&str, &Records)> {
        self.0.iter().map(|(device, records)| (device.as_str(), records))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|(_, records)| records.len()).sum()
    }

    /// Device, class and seq of what can't be taken.
    pub(crate) fn broken(&self) -> BTreeSet<(String, String, u64)> {
        let all =
            self.0.iter().flat_map(|(device, records)| records.iter().enumerate().map(move |each| (device, each)));
        let broken = all.filter(|(_, (at, _))| is_broken(*at as u64));
        broken.map(|(device, (_, (key, _)))| (device.clone(), key.class.as_str().to_owned(), key.seq)).collect()
    }

    /// How many rows each table must hold.
    pub(crate) fn rows(&self) -> BTreeMap<&'static str, usize> {
        let mut rows = BTreeMap::new();
        for (at, (key, _)) in self.0.iter().flat_map(|(_, records)| records.iter().enumerate()) {
            let table = match key.class {
                _ if is_broken(at as u64) => "quarantine",
                C::Feature => "features",
                C::Score => "scores",
                C::Gap => "gaps",
                C::Clip => "clips",
                C::Alarm | C::Event | C::Report | C::State | C::Spectrum => "events",
            };
            *rows.entry(table).or_default() += 1;
        }
        rows
    }
}

fn records(device: u64, seed: u64) -> Vec<(Key, Vec<u8>)> {
    let (epoch, mut chance) = (Epoch(77 + device), Chance::new(seed << 8 | device));
    let point = Point::parse(&format!("default/north/pump-{device}/drive-end")).expect("a good point");
    let mut next: BTreeMap<Class, u64> = BTreeMap::new();
    let record = |at: u64| {
        let payload = payload(at, epoch, &mut chance);
        let class = payload.class();
        let seq = next.entry(class).or_default();
        let key = Key { epoch, class, seq: *seq };
        *seq += 1;
        let record = Record {
            point: point.clone(),
            epoch,
            // A record that calls itself another one can't be taken: it goes to the quarantine.
            seq: if is_broken(at) { key.seq + (1 << 40) } else { key.seq },
            monotonic: Monotonic(5_000_000 + at * 200_000),
            timeline: Timeline::Source,
            wall: Some(time(at)),
            uncertainty: Micros(1_500),
            payload,
        };
        let mut room = [0; 4097];
        (key, encode_record(&record, &mut room).expect("it fits").to_vec())
    };
    (0..RECORDS).map(record).collect()
}

fn is_broken(at: u64) -> bool {
    at % 97 == 50
}

fn time(at: u64) -> Micros {
    // Over two midnights.
    Micros(1_700_000_000_000_000 + at as i64 * 90_000_000)
}

/// Of twenty records twelve are features, the others one or two of each kind.
fn payload(at: u64, epoch: Epoch, chance: &mut Chance) -> Payload {
    let mut noise = || chance.below(1 << 20) as f32 / 1024.0;
    let input = RowRef { group: 0, index: at, seq: at };
    let contributions = |amount| [Contribution { feature: FeatureId(3), amount }].into_iter().collect();
    match at % 20 {
        12 | 13 => Payload::Score(Score {
            input,
            anomaly: noise(),
            threshold: 4.0,
            rul: None,
            model: Digest([3; 32]),
            kernel: KernelId::PORTABLE_F32,
            role: Role::Leader,
            contributions: contributions(noise()),
            rest: noise(),
        }),
        14 => Payload::Event(Event::Maintenance { what: name("oil") }),
        15 => Payload::Alarm(Alarm {
            id: (at / 40) as u32,
            state: if (at / 20).is_multiple_of(2) { AlarmState::Raised } else { AlarmState::Cleared },
            severity: Severity::Alarm,
            source: AlarmSource::Physics,
            cause: Cause::OuterRace,
            since: time(at / 40 * 40),
            input,
            model: Digest::NONE,
            evidence: [Evidence { feature: FeatureId(3), value: noise(), limit: 4.5 }].into_iter().collect(),
            contributions: contributions(noise()),
            unjournaled: false,
        }),
        16 => Payload::Spectrum(Spectrum {
            group: 0,
            index: at,
            envelope: at.is_multiple_of(40),
            line_hz: 2.0,
            full_scale: noise(),
            lines: (0..64).map(|_| chance.below(1 << 16) as u16).collect(),
        }),
        17 => Payload::Report(Report {
            version: name("0.1.0"),
            asset_class: name("pump"),
            generation: Generation(at),
            models: Default::default(),
            journal_bytes: at,
            dropped: 0,
            resident_bytes: 1 << 20,
            journal_dead: false,
        }),
        18 => Payload::Clip(Clip {
            id: at,
            cause: ClipCause::Alarm(5),
            channel: name("vertical"),
            unit: Unit::G,
            rate: Hertz(25_600.0),
            position: at << 12,
            t0: time(at),
            part: 0,
            parts: 1,
            samples: (0..64).flat_map(|_| noise().to_le_bytes()).collect(),
        }),
        19 if at.is_multiple_of(3) => {
            let first_seq = at * 10;
            let (class, reason) = (Class::Clip, GapReason::Evicted);
            Payload::Gap(Gap { class, epoch: Epoch(epoch.0 - 50), first_seq, last_seq: first_seq + 9, reason })
        }
        19 => Payload::State(State { group: 0, version: 1, bytes: (0..40).map(|_| chance.below(256) as u8).collect() }),
        _ => Payload::Features(FeatureRow {
            group: 0,
            kind: GroupKind::Vibration,
            index: at,
            start: time(at),
            end: time(at + 1),
            state: OperatingState::Steady(0),
            rpm: Rpm(1_480.0 + noise()),
            quality: Quality::GOOD,
            vector: FeatureVector {
                schema: SchemaHash(7),
                values: (0..32).map(|_| noise()).collect(),
                valid: (1 << 32) - 1,
            },
        }),
    }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a good name")
}

const DEVICES: u64 = 4;
/// Of each device.
const RECORDS: u64 = 2_000;
