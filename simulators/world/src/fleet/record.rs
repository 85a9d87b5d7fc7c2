//! What the machines of a simulated fleet say: small records of the classes that matter to delivery.

use kilter_types::{
    Alarm, AlarmSource, AlarmState, Cause, DeviceId, Digest, Event, FeatureRow, FeatureVector, GroupKind, KernelId,
    Micros, Name, OperatingState, Payload, Point, Quality, Role, RowRef, Rpm, SchemaHash, Score, Severity,
};

use crate::Random;

/// One thing that a monitor might say.
pub(crate) fn payload(random: &mut Random, index: u64) -> Payload {
    let input = RowRef { group: 0, index, seq: index };
    match random.below(100) {
        0..=54 => Payload::Features(features(random, index)),
        55..=87 => Payload::Score(Score {
            input,
            anomaly: random.below(100) as f32 / 10.0,
            threshold: 5.0,
            rul: None,
            model: Digest::NONE,
            kernel: KernelId::RULE,
            role: Role::Leader,
            contributions: heapless::Vec::new(),
            rest: 0.0,
        }),
        88..=95 => Payload::Event(Event::NewRegime { bin: random.below(8) as u8 }),
        _ => Payload::Alarm(Alarm {
            id: index as u32,
            state: AlarmState::Raised,
            severity: Severity::Alarm,
            source: AlarmSource::Rule,
            cause: Cause::Severity,
            since: Micros(0),
            input,
            model: Digest::NONE,
            evidence: heapless::Vec::new(),
            contributions: heapless::Vec::new(),
            unjournaled: false,
        }),
    }
}

/// Where an agent's records come from.
pub(crate) fn point(agent: usize) -> Point {
    Point {
        tenant: name("world"),
        site: name("north"),
        asset: name(&format!("pump-{agent}")),
        point: name("drive-end"),
    }
}

/// Who an agent says it is.
pub(crate) fn device(agent: usize) -> DeviceId {
    DeviceId(name(&format!("edge-{agent}")))
}

/// A name of the world's own making.
pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("the world's names are good")
}

fn features(random: &mut Random, index: u64) -> FeatureRow {
    FeatureRow {
        group: 0,
        kind: GroupKind::Vibration,
        index,
        start: Micros(0),
        end: Micros(0),
        state: OperatingState::Steady(0),
        rpm: Rpm(1_480.0),
        quality: Quality::GOOD,
        vector: FeatureVector {
            schema: SchemaHash(1),
            values: (0..8).map(|_| random.below(1_000) as f32).collect(),
            valid: 0xFF,
        },
    }
}
