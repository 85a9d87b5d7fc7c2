//! Bytes that rows of features take on the wire: real recordings, the production session, and the headers of MQTT around it.
//!
//! ```sh
//! cargo run --release -p kilter-tests --example bytes -- $KILTER_DATA/cwru rows.csv
//! python tests/python/sparkplug_bytes.py rows.csv
//! ```
//! Windows of 1024 samples that do not overlap, the first 32 features of Set S, one row a second; every recording by itself. The second
//! argument is where the same rows go for the peer.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, ensure};
use kilter_signal::extract::{VALUES, Vibration, VibrationSetup, scratch_len, vibration};
use kilter_signal::fft::Plan;
use kilter_types::{
    Class, DeviceId, Epoch, FeatureRow, FeatureVector, GroupKind, Hertz, JournalId, Micros, Monotonic, Name,
    OperatingState, Payload, Point, Quality, Record, Rpm, SchemaHash, Timeline,
};
use kilter_uplink::{Identity, Key, Place, Session, SessionConfig, Spool, SpoolError};
use kilter_wire::{Ack, ClassAck, Welcome, encode_record};

const WINDOW: usize = 1024;
const FEATURES: usize = 32;
const EPOCH: Epoch = Epoch(0x0123_4567_89ab_cdef);
/// Property and number of the topic's alias.
const ALIAS: usize = 3;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().context("name the folder of recordings")?;
    let rows_to = arguments.next();
    let mut recordings = Vec::new();
    let mut files: Vec<_> = std::fs::read_dir(&folder)?.filter_map(Result::ok).map(|entry| entry.path()).collect();
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|ending| ending == "npy")) {
        let rate_hz = if file.to_string_lossy().contains("48k") { 48_000.0 } else { 12_000.0 };
        recordings.push(rows(&samples(file)?, rate_hz)?);
    }
    let count: usize = recordings.iter().map(Vec::len).sum();
    ensure!(count > 0, "no recordings in {folder}");
    println!("{count} rows of {FEATURES} features from {} recordings", recordings.len());
    if let Some(path) = rows_to {
        let mut text = String::new();
        for (number, recording) in recordings.iter().enumerate() {
            for row in recording {
                let values: Vec<String> = row.iter().map(f32::to_string).collect();
                writeln!(text, "{number},{}", values.join(","))?;
            }
        }
        std::fs::write(path, text)?;
    }
    for (name, mantissa_bits) in [("lossless", 23), ("11 significant bits", 10), ("8 significant bits", 7)] {
        for (batch, wire_version) in [(60, 2), (1, 2), (60, 1)] {
            let mut bytes = 0;
            for recording in &recordings {
                bytes += sent(recording, batch, wire_version, mantissa_bits)?;
            }
            let row = bytes as f64 / count as f64;
            println!("{name}, {batch} rows a message, wire {wire_version}: {row:.1} bytes a row");
        }
    }
    Ok(())
}

/// Bytes of the MQTT packets that carry these rows.
fn sent(rows: &[[f32; FEATURES]], batch: usize, wire_version: u16, mantissa_bits: u32) -> anyhow::Result<usize> {
    let name = |text: &str| Name::new(text).expect("a good name");
    let identity = Identity { device: DeviceId(name("edge-1")), software: name("0.1.0") };
    let interval_us = batch as u64 * 1_000_000;
    let config =
        SessionConfig { batch_interval_us: interval_us, time_interval_us: u64::MAX / 4, ..SessionConfig::default() };
    let mut session = Session::new(config, identity, EPOCH, vec![EPOCH], 0, 0);
    let mut spool = Memory(rows.iter().enumerate().map(|(seq, row)| record(seq as u64, row, mantissa_bits)).collect());
    session.handle_connected(Monotonic(0));
    let mut accepted = 0;
    let ack = |accepted_to| Ack {
        journal_id: JournalId(1),
        epoch: EPOCH,
        classes: [ClassAck {
            class: Class::Feature,
            accepted_to,
            beyond: heapless::Vec::new(),
            committed_to: accepted_to,
        }]
        .into_iter()
        .collect(),
        credit_bytes: 1 << 20,
    };
    let mut bytes = 0;
    let mut now = Monotonic(1);
    // The hello and the first question for the time are talk, not rows.
    while session.poll_transmit(&mut spool, now)?.is_some() {}
    session.handle_ack(&ack(0), now);
    session.handle_welcome(&Welcome { wire_version, software: name("0.1.0") });
    while session.poll_transmit(&mut spool, now)?.is_some() {}
    let all = rows.len() as u64;
    while accepted < all {
        let end = (accepted + batch as u64).min(all);
        session.handle_record_available(end);
        now = Monotonic(now.0 + interval_us);
        while let Some(frame) = session.poll_transmit(&mut spool, now)? {
            if frame[8] == 1 || frame[8] == 5 {
                bytes += packet(frame.len());
            }
        }
        accepted = end;
        session.handle_ack(&ack(accepted), now);
    }
    Ok(bytes)
}

/// A PUBLISH of MQTT 5 with QoS 1 around a payload: head, length, topic, packet id, properties. The first message of a connection, the
/// hello, has named the topic; from then on its alias stands for it.
fn packet(payload: usize) -> usize {
    let rest = 2 + 2 + 1 + ALIAS + payload;
    let length = match rest {
        0..128 => 1,
        128..16_384 => 2,
        _ => 3,
    };
    1 + length + rest
}

fn record(seq: u64, row: &[f32; FEATURES], mantissa_bits: u32) -> Vec<u8> {
    let start = Micros(1_700_000_000_000_000 + seq as i64 * 1_000_000);
    let values = row.iter().map(|value| rounded(*value, mantissa_bits)).collect();
    // The node's clock moves with the recorder's: some hundred microseconds around the second.
    let jitter = seq.wrapping_mul(2_654_435_761) % 700;
    let record = Record {
        point: Point::parse("default/plant/pump-1/drive-end").expect("a good point"),
        epoch: EPOCH,
        seq,
        monotonic: Monotonic(5_000_000 + seq * 1_000_000 + jitter),
        timeline: Timeline::Device,
        wall: Some(Micros(start.0 + 1_000_000 + jitter as i64)),
        uncertainty: Micros(1_000 + (seq / 10) as i64),
        payload: Payload::Features(FeatureRow {
            group: 0,
            kind: GroupKind::Vibration,
            index: seq,
            start,
            end: start + Micros::from_secs(1),
            state: OperatingState::Steady(0),
            rpm: Rpm(1797.0),
            quality: Quality::GOOD,
            vector: FeatureVector { schema: SchemaHash(0x0123_4567_89ab_cdef), values, valid: (1 << FEATURES) - 1 },
        }),
    };
    let mut room = [0; 4097];
    encode_record(&record, &mut room).expect("it fits").to_vec()
}

fn rounded(value: f32, mantissa_bits: u32) -> f32 {
    let drop = 23 - mantissa_bits;
    let half = if drop == 0 { 0 } else { 1u32 << (drop - 1) };
    f32::from_bits(value.to_bits().wrapping_add(half) >> drop << drop)
}

fn rows(samples: &[f32], rate_hz: f32) -> anyhow::Result<Vec<[f32; FEATURES]>> {
    let setup =
        VibrationSetup::new(Hertz(rate_hz)).map_err(|error| anyhow::anyhow!("{error}"))?.with_shaft(Rpm(1797.0));
    let plan = Plan::new(WINDOW, vec![0.0; 2 * WINDOW]).map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let mut scratch = vec![0.0; scratch_len(WINDOW)];
    let mut rows = Vec::new();
    for window in samples.chunks_exact(WINDOW) {
        let mut found = Vibration::default();
        vibration(window, &setup, &plan, &mut scratch, &mut found).map_err(|error| anyhow::anyhow!("{error}"))?;
        let valid: Vec<f32> = (0..VALUES).filter_map(|place| found.get(place)).take(FEATURES).collect();
        rows.push(valid.try_into().map_err(|short: Vec<f32>| anyhow::anyhow!("only {} features", short.len()))?);
    }
    Ok(rows)
}

/// The floats of a .npy file.
fn samples(path: &Path) -> anyhow::Result<Vec<f32>> {
    let bytes = std::fs::read(path)?;
    let head = bytes.get(8..10).context("a .npy header")?;
    let start = 10 + usize::from(u16::from_le_bytes([head[0], head[1]]));
    let body = bytes.get(start..).context("a .npy body")?;
    Ok(body.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

struct Memory(Vec<Vec<u8>>);

impl Spool for Memory {
    fn read(&mut self, from: u64, bytes: &mut Vec<u8>) -> Result<Option<Place>, SpoolError> {
        let Some(record) = self.0.get(from as usize) else { return Ok(None) };
        bytes.clear();
        bytes.extend_from_slice(record);
        let key = Key { epoch: EPOCH, class: Class::Feature, seq: from };
        Ok(Some(Place { key, offset: from, next: from + 1 }))
    }
}
