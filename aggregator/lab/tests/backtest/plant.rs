//! A plant over days in the lake: replayed part by part, side by side, bit for bit; and how fast.
//!
//! `KILTER_MACHINES=100 KILTER_WINDOWS=8640` makes it a day of a hundred machines, a window per 10 s, and the rate is printed;
//! `KILTER_PLANT=FOLDER` keeps it.

use std::path::Path;

use kilter_fold::{Output, Row};
use kilter_infer::{Autoencoder, Body, Dense, Draft, Lstm, Range, ResetRule, ScoreOf, Scratch, State};
use kilter_lake::{DeltaTable, Offset, Rows, Table, TableName, open_gate};
use kilter_monitor::replay::Replay;
use kilter_signal::table::Schema;
use kilter_types::{
    DeviceId, Digest, Epoch, Event, FeatureRow, FeatureVector, Generation, GroupKind, JournalId, Micros, Monotonic,
    OperatingState, Payload, Point, Quality, Record, RowRef, Rpm, Timeline,
};

use super::backtest;

/// Of the values of a row, those that a model asks for.
const INPUTS: usize = 24;
const SEQUENCE: usize = 12;
const HIDDEN: usize = 24;
const CODE: usize = 8;
/// 2026-01-31 at 23:50: midnight lies among the first windows, and a day's files end there.
const START: Micros = Micros(1_769_903_400_000_000);
const PERIOD_US: i64 = 10_000_000;
/// Windows of all machines in a commit.
const COMMIT: u64 = 200_000;

#[test]
fn a_plant_is_replayed_over_midnight_bit_for_bit_whatever_part_of_the_lake_a_window_lies_in() {
    let (machines, windows) = (number("KILTER_MACHINES", 6), number("KILTER_WINDOWS", 150));
    let folder = tempfile::tempdir().expect("a folder");
    let kept = std::env::var_os("KILTER_PLANT").map(std::path::PathBuf::from);
    let data = kept.as_deref().unwrap_or(folder.path());
    let models = [("statistic", model(false)), ("autoencoder", model(true))];
    fill(data, (machines, windows), &models);
    for (name, artifact) in &models {
        let path = data.join(format!("{name}.kltm"));
        std::fs::write(&path, artifact).expect("a file");
        let done = backtest(data, &["--model", path.to_str().expect("a path")]);
        println!(
            "{name}: {} windows of {} streams in {} s, rows read in {} s beside; {} windows/s, {} times real time for 100 machines",
            done["windows"],
            done["streams"],
            done["took_s"],
            done["reading_s"],
            done["windows_per_s"],
            done["windows_per_s"].as_f64().unwrap_or_default() / 10.0,
        );
        let compared = &done["compared"];
        let scores = machines * (windows - SEQUENCE as u64 + 1);
        assert_eq!((&compared["same"], &done["streams"]), (&scores.into(), &machines.into()), "{compared}");
        for none in ["other", "not_comparable", "not_recorded"] {
            assert_eq!(compared[none], 0, "{compared}");
        }
    }
    let rule = backtest(data, &["--rule", "rms>0.9"]);
    assert_eq!(rule["windows"], machines * windows);
    // From the second day on: the memory that the model has by then comes from the first.
    let later = backtest(data, &["--rule", "rms>0.9", "--range", "2026-02-01..2026-03-01"]);
    assert_eq!(later["windows"], machines * (windows - 60));
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What the machines of a plant recorded, in the order in which it came in.
fn fill(data: &Path, (machines, windows): (u64, u64), models: &[(&str, Vec<u8>)]) {
    let schema = Schema::of(GroupKind::Vibration, 1);
    let mut replays: Vec<Vec<Box<Replay<&[u8]>>>> = Vec::new();
    let mut events = Vec::new();
    for machine in 0..machines {
        let mut own = Vec::new();
        for (_, artifact) in models {
            let mut replay = Box::new(Replay::new(artifact.as_slice(), &schema).expect("a good model"));
            replay.begin();
            own.push(replay);
            let event = Event::ModelSwitched {
                from: Digest::NONE,
                to: Digest::of(artifact),
                generation: Generation(1),
                first: RowRef { group: 0, index: 0, seq: 0 },
            };
            events.push(output(machine, 0, Payload::Event(event)));
        }
        replays.push(own);
    }
    let (mut rows, mut scores) = (Rows::new(TableName::Features), Rows::new(TableName::Scores));
    let mut lake = Lake::new(data);
    for index in 0..windows {
        for machine in 0..machines {
            let row = row(&schema, machine, index);
            for replay in &mut replays[machine as usize] {
                if let Some(new) = replay.push(&row) {
                    scores.push(&output(machine, index, Payload::Score(new.score)));
                }
            }
            rows.push(&output(machine, index, Payload::Features(row)));
        }
        if rows.len() as u64 >= COMMIT || index + 1 == windows {
            for part in [&mut rows, &mut scores] {
                let table = part.table();
                lake.append(&std::mem::replace(part, Rows::new(table)), index);
            }
        }
    }
    let mut told = Rows::new(TableName::Events);
    events.iter().for_each(|event| told.push(event));
    lake.append(&told, windows);
}

/// The tables of a lab that is not running.
struct Lake {
    runtime: tokio::runtime::Runtime,
    tables: Vec<DeltaTable>,
}

impl Lake {
    fn new(data: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let open = |name| runtime.block_on(DeltaTable::open(&data.join("lake"), name, 0, JournalId(9), open_gate()));
        let names = [TableName::Features, TableName::Scores, TableName::Events];
        let tables = names.into_iter().map(|name| open(name).expect("a folder that can be written")).collect();
        Self { runtime, tables }
    }

    fn append(&mut self, rows: &Rows, upto: u64) {
        let offset = Offset { shard: 0, journal_id: JournalId(9), offset: upto + 1 };
        let table = self.tables.iter_mut().find(|table| table.name() == rows.table()).expect("one of three");
        self.runtime.block_on(table.append(rows, offset)).expect("an append");
    }
}

fn output(machine: u64, index: u64, payload: Payload) -> Output {
    let at = Micros(START.0 + index as i64 * PERIOD_US);
    let record = Record {
        point: Point::parse(&format!("acme/north/m{machine:03}/drive-end")).expect("a good address"),
        epoch: Epoch(5 + machine),
        seq: index,
        monotonic: Monotonic(index),
        timeline: Timeline::Source,
        wall: Some(at),
        uncertainty: Micros(0),
        payload,
    };
    Output::Row(Box::new(Row {
        device: DeviceId::new(&format!("agent-{}", machine / 4)).expect("a good name"),
        received: at,
        offset: index,
        event_time: at,
        event_bound: Micros(0),
        record,
    }))
}

fn row(schema: &Schema, machine: u64, index: u64) -> FeatureRow {
    let mut noise = Noise(machine << 32 | index);
    let start = Micros(START.0 + (index as i64 - 1) * PERIOD_US);
    FeatureRow {
        group: 0,
        kind: GroupKind::Vibration,
        index,
        start,
        end: Micros(start.0 + PERIOD_US),
        state: OperatingState::Steady(80),
        rpm: Rpm(1_480.0),
        quality: Quality::GOOD,
        vector: FeatureVector {
            schema: schema.hash(),
            values: schema.features().iter().map(|_| noise.next()).collect(),
            valid: u64::MAX >> (64 - schema.features().len()),
        },
    }
}

/// A statistic or an autoencoder with made-up weights, of the size that the lab trains.
fn model(network: bool) -> Vec<u8> {
    let mut noise = Noise(7);
    let mut take = |count: usize, size: f32| (0..count).map(|_| noise.next() * size).collect::<Vec<f32>>();
    let mut lstm = |inputs: usize| [4 * HIDDEN * inputs, 4 * HIDDEN * HIDDEN, 4 * HIDDEN].map(|count| take(count, 0.3));
    let (encoder, decoder) = (lstm(INPUTS), lstm(CODE));
    let mut dense = |outputs: usize| [outputs * HIDDEN, outputs].map(|count| take(count, 0.3));
    let (bottleneck, out) = (dense(CODE), dense(INPUTS));
    let body = match network {
        false => Body::Statistic { ewma: 0.2 },
        true => Body::LstmAutoencoder(Autoencoder {
            hidden: HIDDEN,
            code: CODE,
            score_of: ScoreOf::Sequence,
            encoder: of_lstm(&encoder),
            bottleneck: of_dense(&bottleneck),
            decoder: of_lstm(&decoder),
            output: of_dense(&out),
        }),
    };
    let schema = Schema::of(GroupKind::Vibration, 1);
    let golden: Vec<f32> = (0..SEQUENCE * INPUTS).map(|_| noise.next()).collect();
    let draft = Draft {
        group: GroupKind::Vibration,
        features: &schema.features()[..INPUTS],
        mean: &[0.0; INPUTS],
        inverse_scale: &[1.7; INPUTS],
        range: &[Range::ANY; INPUTS],
        weight: &[1.0 / INPUTS as f32; INPUTS],
        regimes: &[],
        threshold: 4.0,
        input_clip: 8.0,
        residual_clip: 50.0,
        sequence_len: SEQUENCE,
        reset: ResetRule::ALWAYS,
        body,
        golden: &golden,
    };
    let mut bytes = vec![0; draft.size_bytes()];
    draft.write(&mut bytes, &mut State::<1024>::new(), &mut Scratch::new()).expect("a good draft");
    bytes
}

fn of_lstm([input, recurrent, bias]: &[Vec<f32>; 3]) -> Lstm<'_> {
    Lstm { input, recurrent, bias }
}

fn of_dense([weight, bias]: &[Vec<f32>; 2]) -> Dense<'_> {
    Dense { weight, bias }
}

/// The same numbers everywhere, in [-1, 1).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 40) as f32 / 8_388_608.0 - 1.0
    }
}
