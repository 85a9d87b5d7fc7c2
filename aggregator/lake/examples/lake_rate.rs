//! How many feature rows a second go into the lake: fold outputs in, durable commits out.
//!
//! `cargo run --release -p kilter-lake -p kilter-lab --example lake_rate -- [rows] [rows per commit] [folder]`
#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::time::Instant;

use kilter_fold::{Output, Row};
use kilter_lake::{DeltaTable, Offset, Rows, Table, TableName, open_gate};
use kilter_types::{
    DeviceId, Epoch, FeatureRow, FeatureVector, GroupKind, JournalId, Micros, Monotonic, OperatingState, Payload,
    Point, Quality, Record, Rpm, SchemaHash, Timeline,
};

type Failed = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let (rows, per_commit) = (number(400_000)?, number(100_000)?);
    let folder = std::env::args().nth(3).unwrap_or_else(|| "/tmp/kilter-lake-rate".into());
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    let journal_id = JournalId(1);
    let mut table = DeltaTable::open(folder.as_ref(), TableName::Features, 0, journal_id, open_gate()).await?;
    let (mut building, mut committing) = (0.0, 0.0);
    for start in (0..rows).step_by(usize::try_from(per_commit)?) {
        let outputs = (start..rows.min(start + per_commit)).map(output).collect::<Result<Vec<_>, Failed>>()?;
        let begin = Instant::now();
        let mut part = Rows::new(TableName::Features);
        outputs.iter().for_each(|output| part.push(output));
        building += begin.elapsed().as_secs_f64();
        let begin = Instant::now();
        table.append(&part, Offset { shard: 0, journal_id, offset: start + per_commit }).await?;
        committing += begin.elapsed().as_secs_f64();
    }
    let bytes: u64 = table.snapshot()?.files.iter().map(|file| file.bytes).sum();
    println!(
        "{rows} rows of 32 values, {per_commit} a commit: {:.0} rows/s (columns {building:.2} s, durable commits {committing:.2} s), {:.1} bytes a row",
        rows as f64 / (building + committing),
        bytes as f64 / rows as f64
    );
    Ok(std::fs::remove_dir_all(&folder)?)
}

/// One of 5,000 machines' windows, noise in every value.
fn output(i: u64) -> Result<Output, Failed> {
    let machine = i % 5_000;
    let noise =
        |k: u64| (i.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(k << 40) >> 40) as f32 / (1 << 24) as f32;
    let vector =
        FeatureVector { schema: SchemaHash(7), values: (0..32).map(noise).collect(), valid: u64::from(u32::MAX) };
    let payload = Payload::Features(FeatureRow {
        group: 0,
        kind: GroupKind::Vibration,
        index: i / 5_000,
        start: Micros(i as i64 * 10),
        end: Micros(i as i64 * 10 + 100),
        state: OperatingState::Steady(0),
        rpm: Rpm(1_480.0),
        quality: Quality::GOOD,
        vector,
    });
    let record = Record {
        point: Point::parse(&format!("acme/north/m{machine}/drive-end"))?,
        epoch: Epoch(machine),
        seq: i / 5_000,
        monotonic: Monotonic(i),
        timeline: Timeline::Device,
        wall: None,
        uncertainty: Micros(10),
        payload,
    };
    let received = Micros(1_798_675_300_000_000 + i as i64);
    Ok(Output::Row(Box::new(Row {
        device: DeviceId::new(&format!("agent-{}", machine / 10))?,
        received,
        offset: i,
        event_time: received,
        event_bound: Micros(500),
        record,
    })))
}
