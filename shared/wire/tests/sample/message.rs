//! What agent and aggregator say to each other, and how a connection begins.

use kilter_types::{Class, Epoch, Event, JournalId, Micros, Monotonic, Payload, Record};
use kilter_wire::link::{Credential, Greeting};
use kilter_wire::sign::{sign_manifest, sign_plan};
use kilter_wire::{
    Ack, Batch, BatchRecord, Chunk, ClassAck, Coding, Command, CommandKind, CommandResult, Config, Down, Fetch, Hello,
    Outcome, Packed, Plan, Refetch, SeqRange, SignedManifest, TimeReply, TimeRequest, Up, Welcome, columns,
    encode_record,
};

use super::{SECRET, device, digest, generation, list, manifest, name, point, records, who};

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
fn feature_batch() -> Vec<u8> {
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
