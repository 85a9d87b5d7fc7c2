//! One record for each payload.

use kilter_types::{
    Alarm, AlarmSource, AlarmState, Cause, Class, Clip, ClipCause, Contribution, Digest, Epoch, Event, Evidence,
    FeatureId, FeatureRow, FeatureVector, Gap, GapReason, GroupKind, Hertz, Hours, KernelId, Label, Micros, Monotonic,
    Opening, OperatingState, Payload, Predecessor, Quality, Record, Report, Role, RowRef, Rpm, Rul, RunningModel,
    SchemaHash, Score, Seal, SealBefore, SealedRange, Severity, Spectrum, State, Timeline, Unit,
};

use super::{SECRET, digest, generation, list, name, point, who};

/// One record for each payload, and for each kind of event.
pub(crate) fn records() -> Vec<(&'static str, Record)> {
    let row = RowRef { group: 1, index: 1_000, seq: 999 };
    let since = Micros(1_700_000_000_000_000);
    let contributions = [Contribution { feature: FeatureId(17), amount: 1.5 }];
    let features = FeatureRow {
        group: 1,
        kind: GroupKind::Vibration,
        index: 1_000,
        start: since,
        end: since + Micros::from_secs(1),
        state: OperatingState::Steady(3),
        rpm: Rpm(1_480.0),
        quality: Quality::GAP | Quality::TRANSIENT,
        vector: FeatureVector {
            schema: SchemaHash(0x0123_4567_89ab_cdef),
            values: list(&[0.25, 3.0, 0.0]),
            valid: 0b011,
        },
    };
    let score = Score {
        input: row,
        anomaly: 2.25,
        threshold: 2.0,
        rul: Some(Rul { hours: Hours(120.0), low: Hours(80.0), high: Hours(200.0) }),
        model: digest(),
        kernel: KernelId::PORTABLE_F32,
        role: Role::Shadow,
        contributions: list(&contributions),
        rest: 0.75,
    };
    let alarm = Alarm {
        id: 4,
        state: AlarmState::Raised,
        severity: Severity::Danger,
        source: AlarmSource::Physics,
        cause: Cause::InnerRace,
        since,
        input: row,
        model: digest(),
        evidence: list(&[Evidence { feature: FeatureId(17), value: 6.5, limit: 4.0 }]),
        contributions: list(&contributions),
        unjournaled: true,
    };
    let opening = Opening {
        journal: 0xfeed,
        predecessor: Some(Predecessor { epoch: Epoch(1), last: list(&[(Class::Feature, 299), (Class::Alarm, 2)]) }),
        version: name("0.1.0"),
    };
    let running =
        RunningModel { digest: digest(), role: Role::Leader, generation: generation(), expired: true, cost_us: 12.5 };
    let report = Report {
        version: name("0.1.0"),
        asset_class: name("pump"),
        generation: generation(),
        models: list(&[running]),
        journal_bytes: 1_048_576,
        dropped: 3,
        resident_bytes: 12_582_912,
        journal_dead: false,
    };
    let gap = Gap { class: Class::Feature, epoch: Epoch(2), first_seq: 10, last_seq: 19, reason: GapReason::Evicted };
    let spectrum = Spectrum {
        group: 1,
        index: 1_000,
        envelope: true,
        line_hz: 3.125,
        full_scale: 0.5,
        lines: list(&[0, 1, 65_535, 300]),
    };
    let clip = Clip {
        id: 77,
        cause: ClipCause::Alarm(4),
        channel: name("de-x"),
        unit: Unit::MetrePerSecondSquared,
        rate: Hertz(25_600.0),
        position: 70_000,
        t0: since,
        part: 1,
        parts: 9,
        samples: list(&[0, 0, 0x80, 0x3f, 0, 0, 0xc0, 0x7f]),
    };
    let events = [
        Event::Commissioned { from: since, to: since + Micros::from_secs(60) },
        Event::NewRegime { bin: 4 },
        Event::Drift { model: digest(), share: 0.625 },
        Event::ModelSwitched { from: Digest::NONE, to: digest(), generation: generation(), first: row },
        Event::ModelRefused { model: digest(), reason: name("signature") },
        Event::Maintenance { what: name("greased") },
        Event::Labelled { from: since, to: since + Micros::from_secs(60), label: Label::Faulty(Cause::OuterRace) },
    ];
    let mut payloads = vec![
        Payload::Features(features),
        Payload::Score(score),
        Payload::Alarm(alarm),
        Payload::Gap(gap),
        Payload::Opening(opening),
        Payload::Report(report),
        Payload::State(State { group: 1, version: 2, bytes: list(&[1, 2, 3, 250]) }),
        Payload::Spectrum(spectrum),
    ];
    payloads.extend(events.map(Payload::Event));
    // Behind the others: seqs stand in golden bytes.
    payloads.push(Payload::Clip(clip));
    payloads.push(Payload::Event(Event::Reset { by: who() }));
    payloads.push(Payload::Seal(seal()));
    payloads
        .into_iter()
        .enumerate()
        .map(|(seq, payload)| (payload_name(&payload), record(seq as u64, payload)))
        .collect()
}

fn record(seq: u64, payload: Payload) -> Record {
    Record {
        point: point(),
        epoch: Epoch(0x0123_4567_89ab_cdef),
        seq,
        monotonic: Monotonic(123_456_789),
        timeline: Timeline::Device,
        wall: Some(Micros(1_700_000_000_500_000)),
        uncertainty: Micros(2_000),
        payload,
    }
}

fn payload_name(payload: &Payload) -> &'static str {
    match payload {
        Payload::Features(_) => "features",
        Payload::Score(_) => "score",
        Payload::Alarm(_) => "alarm",
        Payload::Event(Event::Commissioned { .. }) => "event_commissioned",
        Payload::Event(Event::NewRegime { .. }) => "event_new_regime",
        Payload::Event(Event::Drift { .. }) => "event_drift",
        Payload::Event(Event::ModelSwitched { .. }) => "event_model_switched",
        Payload::Event(Event::ModelRefused { .. }) => "event_model_refused",
        Payload::Event(Event::Maintenance { .. }) => "event_maintenance",
        Payload::Event(Event::Labelled { .. }) => "event_labelled",
        Payload::Event(Event::Reset { .. }) => "event_reset",
        Payload::Gap(_) => "gap",
        Payload::Opening(_) => "opening",
        Payload::Report(_) => "report",
        Payload::State(_) => "state",
        Payload::Spectrum(_) => "spectrum",
        Payload::Clip(_) => "clip",
        Payload::Seal(_) => "seal",
    }
}

fn seal() -> Seal {
    let range = |class, first_seq, last_seq| SealedRange { class, first_seq, last_seq, hash: [last_seq as u8; 16] };
    let mut seal = Seal {
        key: [0; 32],
        before: Some(SealBefore { epoch: Epoch(2), seq: 300, hash: [7; 16] }),
        epoch: Epoch(0x0123_4567_89ab_cdef),
        ranges: list(&[range(Class::Feature, 0, 199), range(Class::Report, 1, 3)]),
        signature: [[0; 32]; 2],
    };
    kilter_wire::seal::sign(&mut seal, &SECRET).expect("it fits");
    seal
}
