//! One fixed example of everything that crosses a wire. A new variant fails to compile here until it has a name and a golden.

use kilter_types::{
    Alarm, AlarmSource, AlarmState, Cause, ChannelId, Class, Clip, ClipCause, Contribution, DeviceId, Digest, Epoch,
    Event, Evidence, FeatureId, FeatureRef, FeatureRow, FeatureVector, Gap, GapReason, Generation, GroupKind, Hertz,
    Hours, JournalId, KernelId, Label, MachineEvent, Manifest, Micros, ModelKey, Monotonic, Name, Opening,
    OperatingState, Payload, Point, Predecessor, Quality, Record, Report, Role, RowRef, Rpm, Rul, RunningModel,
    SchemaHash, Score, Seal, SealBefore, SealedRange, Severity, Spectrum, State, Timeline, Unit, Who,
};
use kilter_wire::bundle::{BUNDLE_VERSION, Bundle};
use kilter_wire::link::{Credential, Greeting};
use kilter_wire::node::{FaultCounters, ImageStatus, NodeDown, NodeSettings, NodeStatus, NodeUp, PanicNote};
use kilter_wire::sensor::{Block, ChannelOffer, Offer, SensorDown, SensorUp};
use kilter_wire::sign::{sign_manifest, sign_plan};
use kilter_wire::{
    Ack, Batch, BatchRecord, Chunk, ClassAck, Coding, Command, CommandKind, CommandResult, Config, Down, Fetch, Hello,
    Outcome, Packed, Plan, Refetch, SeqRange, SignedManifest, TimeReply, TimeRequest, Up, Welcome, columns,
    encode_record,
};

/// A signing key that signs nothing but these samples.
pub(crate) const SECRET: [u8; 32] = [7; 32];

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("a good name")
}

pub(crate) fn who() -> Who {
    Who::new("r. meier").expect("a good name")
}

pub(crate) fn device() -> DeviceId {
    DeviceId::new("edge-1").expect("a good id")
}

pub(crate) fn generation() -> Generation {
    Generation(42)
}

/// SHA-256 of `abc`.
pub(crate) fn digest() -> Digest {
    Digest::parse("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad").expect("a good digest")
}

fn point() -> Point {
    Point::parse("acme/north/pump-1/drive-end").expect("a good point")
}

fn list<T: Clone, const N: usize>(items: &[T]) -> heapless::Vec<T, N> {
    heapless::Vec::from_slice(items).expect("it fits")
}

pub(crate) fn ups(each: &mut dyn FnMut(&str, &Up<'_>)) {
    let mut room = [0; 256];
    let mut used = 0;
    for (class, seq, bytes) in [(5, 300, &b"feature"[..]), (0, 1, b"alarm"), (200, u64::MAX, b"")] {
        assert!(Batch::push(&mut room, &mut used, BatchRecord { class, seq, bytes }));
    }
    let plain = feature_batch();
    let (mut words, mut packed) = (vec![0; columns::MAX_WORDS], [0; 1024]);
    let hello = Hello {
        device: device(),
        wire_version: 1,
        software: name("0.1.0"),
        epoch: Epoch(0x0123_4567_89ab_cdef),
        held: list(&[Epoch(1), Epoch(2), Epoch(0x0123_4567_89ab_cdef)]),
    };
    let messages = [
        Up::Hello(hello),
        Up::Batch(Batch { epoch: Epoch(2), count: 3, records: &room[..used] }),
        Up::TimeRequest(TimeRequest { id: 9, sent: Monotonic(123_456_789), last_round_trip_us: 1_500 }),
        Up::Fetch(Fetch { digest: digest(), offset: 65_536, len: 32_768 }),
        Up::CommandResult(CommandResult { id: 77, outcome: Outcome::Done }),
        Up::CommandResult(CommandResult { id: 78, outcome: Outcome::Expired }),
        Up::CommandResult(CommandResult { id: 79, outcome: Outcome::Refused }),
        Up::Packed(Packed {
            epoch: Epoch(2),
            count: 6,
            plain_bytes: plain.len() as u32,
            coding: Coding::Columns,
            bytes: columns::pack(&plain, &mut words, &mut packed).expect("it fits"),
        }),
    ];
    for message in &messages {
        let name = match message {
            Up::Hello(_) => "hello",
            Up::Batch(_) => "batch",
            Up::TimeRequest(_) => "time_request",
            Up::Fetch(_) => "fetch",
            Up::CommandResult(CommandResult { outcome: Outcome::Done, .. }) => "command_done",
            Up::CommandResult(CommandResult { outcome: Outcome::Expired, .. }) => "command_expired",
            Up::CommandResult(CommandResult { outcome: Outcome::Refused, .. }) => "command_refused",
            Up::Packed(_) => "packed",
        };
        each(name, message);
    }
}

/// Five feature rows that move a little, and an alarm.
pub(crate) fn feature_batch() -> Vec<u8> {
    let (mut batch, mut used, mut room) = (vec![0; 2048], 0, [0; 512]);
    let mut push = |record: &Record| {
        let bytes = encode_record(record, &mut room).expect("it fits");
        let outer = BatchRecord { class: record.class() as u8, seq: record.seq, bytes };
        assert!(Batch::push(&mut batch, &mut used, outer));
    };
    let records = records();
    let (_, features) = records.first().expect("features come first");
    for i in 0..5 {
        let mut record = features.clone();
        record.seq += i;
        record.monotonic.0 += i * 1_000_000 + i * i * 37;
        if let Payload::Features(row) = &mut record.payload {
            row.index += i;
            row.start.0 += i as i64 * 1_000_000;
            row.end.0 += i as i64 * 1_000_000;
            row.vector.values[0] += i as f32 * 1e-3;
            row.vector.values[1] = -row.vector.values[1];
        }
        push(&record);
    }
    push(&records.iter().find(|(name, _)| *name == "alarm").expect("an alarm").1);
    batch.truncate(used);
    batch
}

pub(crate) fn downs(each: &mut dyn FnMut(&str, &Down<'_>)) {
    let ack = Ack {
        journal_id: JournalId(0xfeed),
        epoch: Epoch(2),
        classes: list(&[
            ClassAck { class: Class::Alarm, accepted_to: 3, beyond: list(&[]), committed_to: 3 },
            ClassAck {
                class: Class::Feature,
                accepted_to: 300,
                beyond: list(&[SeqRange { first: 302, last: 310 }, SeqRange { first: 400, last: 400 }]),
                committed_to: 250,
            },
        ]),
        credit_bytes: 1 << 20,
    };
    let mut room = [0; 1024];
    let (manifest, signature) = sign_manifest(&manifest(), &SECRET, &mut room).expect("it fits");
    let signed = SignedManifest { manifest, signature: &signature };
    let plan_signature = sign_plan(&device(), generation(), [&signature[..]].into_iter(), &SECRET);
    let plan = Plan { device: device(), generation: generation(), models: list(&[signed]), signature: &plan_signature };
    let command = |kind| Down::Command(Command { id: 77, expires: Micros(1_800_000_000_000_000), kind });
    let reply = TimeReply {
        id: 9,
        sent: Monotonic(123_456_789),
        received: Micros(1_700_000_000_000_000),
        replied: Micros(1_700_000_000_000_250),
    };
    let messages = [
        Down::Ack(ack),
        Down::Plan(plan),
        Down::Chunk(Chunk { digest: digest(), offset: 4, total: 8, bytes: b"\0\x01\xfe\xff" }),
        Down::Config(Config { generation: generation(), toml: "[report]\ninterval_s = 60\n" }),
        command(CommandKind::Flush),
        command(CommandKind::Recommission { asset: name("pump-1") }),
        command(CommandKind::Reset { asset: name("pump-1") }),
        command(CommandKind::Clip { asset: name("pump-1") }),
        command(CommandKind::ResetBy { asset: name("pump-1"), by: who() }),
        Down::Event { point: point(), event: Event::Maintenance { what: name("greased") } },
        Down::TimeReply(reply),
        Down::Welcome(Welcome { wire_version: 2, software: name("0.1.0") }),
        Down::Refetch(Refetch {
            epoch: Epoch(u64::MAX),
            class: Class::Feature,
            ranges: list(&[SeqRange { first: 0, last: 299 }, SeqRange { first: 302, last: 302 }]),
        }),
    ];
    for message in &messages {
        let name = match message {
            Down::Ack(_) => "ack",
            Down::Plan(_) => "plan",
            Down::Chunk(_) => "chunk",
            Down::Config(_) => "config",
            Down::Command(Command { kind: CommandKind::Flush, .. }) => "command_flush",
            Down::Command(Command { kind: CommandKind::Recommission { .. }, .. }) => "command_recommission",
            Down::Command(Command { kind: CommandKind::Reset { .. }, .. }) => "command_reset",
            Down::Event { .. } => "event",
            Down::TimeReply(_) => "time_reply",
            Down::Command(Command { kind: CommandKind::Clip { .. }, .. }) => "command_clip",
            Down::Command(Command { kind: CommandKind::ResetBy { .. }, .. }) => "command_reset_by",
            Down::Welcome(_) => "welcome",
            Down::Refetch(_) => "refetch",
        };
        each(name, message);
    }
}

pub(crate) fn sensor_ups(each: &mut dyn FnMut(&str, &SensorUp<'_>)) {
    let channel = |channel: &str, unit, rate| ChannelOffer { name: name(channel), unit, rate, position: 4_096 };
    let offer = Offer {
        asset: name("pump-1"),
        timeline: Timeline::Source,
        channels: list(&[
            channel("de-x", Unit::MetrePerSecondSquared, Some(Hertz(25_600.0))),
            channel("temperature", Unit::DegreeCelsius, None),
        ]),
    };
    let samples: Vec<u8> = [0.5_f32, -1.25, f32::NAN].iter().flat_map(|value| value.to_le_bytes()).collect();
    let t = Micros(1_700_000_000_000_000);
    let event = |event| SensorUp::Event { t, event };
    let messages = [
        SensorUp::Offer(offer),
        SensorUp::Block(Block { channel: ChannelId(0), position: 70_000, t0: t, samples: &samples }),
        SensorUp::Reading { channel: ChannelId(1), position: 12, t, value: 61.5 },
        SensorUp::Cycle { channel: ChannelId(2), position: 3, n: 4, row: &samples[..8] },
        event(MachineEvent::Speed(Rpm(1_480.0))),
        event(MachineEvent::Load(75.0)),
        event(MachineEvent::Interrupted),
        event(MachineEvent::Maintenance),
        SensorUp::Skipped { channel: ChannelId(0), from: 70_003, to: 80_000 },
        SensorUp::End,
        SensorUp::CycleAt { channel: ChannelId(2), position: 3, n: 4, t, row: &samples[..8] },
    ];
    for message in &messages {
        let name = match message {
            SensorUp::Offer(_) => "offer",
            SensorUp::Block(_) => "block",
            SensorUp::Reading { .. } => "reading",
            SensorUp::Cycle { .. } => "cycle",
            SensorUp::Event { event: MachineEvent::Speed(_), .. } => "event_speed",
            SensorUp::Event { event: MachineEvent::Load(_), .. } => "event_load",
            SensorUp::Event { event: MachineEvent::Interrupted, .. } => "event_interrupted",
            SensorUp::Event { event: MachineEvent::Maintenance, .. } => "event_maintenance",
            SensorUp::Skipped { .. } => "skipped",
            SensorUp::End => "end",
            SensorUp::CycleAt { .. } => "cycle_at",
        };
        each(name, message);
    }
}

pub(crate) fn greetings(each: &mut dyn FnMut(&str, &Greeting<'_>)) {
    let credential = Credential { tenant: "acme", device: "edge-1", secret: "a-secret-of-one-device" };
    for greeting in [Greeting::Hello(credential), Greeting::Accepted, Greeting::Refused("credential")] {
        let name = match greeting {
            Greeting::Hello(_) => "hello",
            Greeting::Accepted => "accepted",
            Greeting::Refused(_) => "refused",
        };
        each(name, &greeting);
    }
}

pub(crate) fn sensor_downs(each: &mut dyn FnMut(&str, &SensorDown)) {
    let from = list(&[(name("de-x"), 70_000), (name("temperature"), 12)]);
    let message = SensorDown::Subscribe { asset: name("pump-1"), from };
    let name = match &message {
        SensorDown::Subscribe { .. } => "subscribe",
    };
    each(name, &message);
}

pub(crate) fn node_ups(each: &mut dyn FnMut(&str, &NodeUp)) {
    let file = "node/src/node.rs".try_into().expect("it fits");
    let status = NodeStatus {
        faults: FaultCounters { boots: 4, watchdog: 1, panics: 2, hard_faults: 0 },
        panic: Some(PanicNote { file, line: 77, at: Monotonic(123_456_789) }),
        lost_samples: 300,
        failed_reads: 2,
        unsent: 5,
        garbled: 1,
        model: Some((digest(), generation())),
        on_trial: true,
        settings: 3,
        charge_uah_per_day: 12_345,
    };
    let image = ImageStatus {
        board: name("nrf52840"),
        runs: Some(Generation(41)),
        seen: generation(),
        on_trial: false,
        capacity_bytes: 430_080,
        coming: Some((digest(), 4_096)),
    };
    for message in [NodeUp::Status(status), NodeUp::Image(image)] {
        let name = match &message {
            NodeUp::Status(_) => "status",
            NodeUp::Image(_) => "image",
        };
        each(name, &message);
    }
}

pub(crate) fn node_downs(each: &mut dyn FnMut(&str, &NodeDown<'_>)) {
    let mut room = [0; 1024];
    let (manifest, signature) = sign_manifest(&manifest(), &SECRET, &mut room).expect("it fits");
    let settings = NodeSettings { generation: 3, nominal_rpm: Rpm(1_480.0), windows: 4, sleep_secs: 600 };
    let messages = [NodeDown::Model(SignedManifest { manifest, signature: &signature }), NodeDown::Settings(settings)];
    for message in &messages {
        let name = match message {
            NodeDown::Model(_) => "model",
            NodeDown::Settings(_) => "settings",
        };
        each(name, message);
    }
}

pub(crate) fn manifest() -> Manifest {
    Manifest {
        digest: digest(),
        size_bytes: 12_345,
        name: name("pump-anomaly"),
        version: 3,
        key: ModelKey { task: name("anomaly"), asset_class: name("pump"), asset: Some(name("pump-1")) },
        role: Role::Leader,
        features: list(&[
            FeatureRef { id: FeatureId(1), hash: 0xdead_beef },
            FeatureRef { id: FeatureId(17), hash: 0x0bad_cafe },
        ]),
        minimum_agent: 1,
        expires: Micros(1_900_000_000_000_000),
        generation: generation(),
    }
}

/// What a manifest says of an image.
pub(crate) fn image_manifest(bytes: &[u8]) -> Manifest {
    Manifest {
        digest: Digest::of(bytes),
        size_bytes: bytes.len() as u32,
        key: ModelKey { task: name(kilter_wire::image::TASK), asset_class: name("nrf52840"), asset: None },
        features: list(&[]),
        ..manifest()
    }
}

pub(crate) fn bundle() -> Bundle<String> {
    Bundle {
        version: BUNDLE_VERSION,
        tenant: name("acme"),
        device: device(),
        credential: "a-secret-of-one-device".into(),
        server: "kilter.example:8883".into(),
        server_ca: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into(),
        signing_key: "07".repeat(32),
    }
}

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
