//! What leaves the device is what its model saw: rounded rows are off by no more than was declared, and raw clips give rows and scores again.

use kilter_infer::{Artifact, Body, Draft, Range, ResetRule, Scratch, State};
use kilter_machine::{Axis, Machine, MachineSpec};
use kilter_monitor::{
    ChannelConfig, ChannelKind, ConfigError, EXACT_BITS, GroupConfig, Heap, MachineConfig, Monitor, Output, What,
};
use kilter_signal::{
    extract::{self, Vibration, VibrationSetup},
    fft::{self, Plan},
    table::{self, at},
};
use kilter_types::{
    CLIP_PART_BYTES, ChannelId, Digest, FeatureRow, Generation, GroupKind, Hertz, Input, Micros, Name, Role, Score,
    Unit,
};

const RATE_HZ: f32 = 12_800.0;
const WINDOW: usize = 1024;

#[test]
fn scoring_the_rounded_rows_again_gives_the_devices_scores_bit_by_bit_and_no_value_is_further_off_than_declared() {
    let artifact = artifact(0.5);
    let (exact, _) = run(EXACT_BITS, &artifact);
    for bits in [16, 11, 8] {
        let (rows, scores) = run(bits, &artifact);
        assert_eq!((rows.len(), scores.len()), (40, 40));
        let parsed = Artifact::parse(&artifact).expect("a good artifact");
        let (mut state, mut scratch) = (State::<4096>::new(), Scratch::new());
        for ((row, score), exact) in rows.iter().zip(&scores).zip(&exact) {
            let inputs = [at::RMS, at::KURTOSIS].map(|place| row.vector.values[place]);
            let again = parsed.push(&inputs, &mut state, &mut scratch).expect("a good row").expect("a score");
            assert_eq!(again.anomaly.to_bits(), score.anomaly.to_bits());
            for (value, exact) in row.vector.values.iter().zip(&exact.vector.values) {
                let kept = value.to_bits() & ((1 << (EXACT_BITS - bits)) - 1);
                assert_eq!(kept, 0, "{value} has more than {bits} bits");
                let bound = exact.abs() / f32::from(1u16 << 7) / f32::from(1u16 << (bits - 8)) / 2.0;
                assert!((value - exact).abs() <= bound, "{value} for {exact} at {bits} bits");
            }
        }
    }
}

#[test]
fn rows_and_scores_computed_again_from_a_clips_raw_samples_are_the_devices_bit_for_bit() {
    // A model without memory: a clip begins in the middle of a life.
    let artifact = artifact(1.0);
    let (rows, scores) = run(EXACT_BITS, &artifact);
    let setup = VibrationSetup::new(Hertz(RATE_HZ)).expect("a rate");
    let plan = Plan::new(WINDOW, vec![0.0; fft::table_len(WINDOW)]).expect("a length");
    let mut scratch = vec![0.0; extract::scratch_len(WINDOW)];
    let parsed = Artifact::parse(&artifact).expect("a good artifact");
    // From the middle of window 9 to the middle of window 30, in parts of bytes as a clip leaves the device.
    let (from, to) = (9 * WINDOW + 500, 30 * WINDOW + 500);
    let parts: Vec<Vec<u8>> = samples()[from..to]
        .chunks(CLIP_PART_BYTES / 4)
        .map(|part| part.iter().flat_map(|x| x.to_le_bytes()).collect())
        .collect();
    let clip: Vec<f32> = parts.concat().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let mut compared = 0;
    for (row, score) in rows.iter().zip(&scores) {
        let start = row.index as usize * WINDOW;
        if start < from || start + WINDOW > to {
            continue;
        }
        let mut again = Vibration::default();
        extract::vibration(&clip[start - from..][..WINDOW], &setup, &plan, &mut scratch, &mut again).expect("it fits");
        assert_eq!(again.valid & table::mask(row.vector.values.len()), row.vector.valid);
        for (place, value) in row.vector.values.iter().enumerate() {
            assert_eq!(again.values[place].to_bits(), value.to_bits(), "window {}, value {place}", row.index);
        }
        let inputs = [at::RMS, at::KURTOSIS].map(|place| again.values[place]);
        let (mut state, mut kernel) = (State::<4096>::new(), Scratch::new());
        let again = parsed.push(&inputs, &mut state, &mut kernel).expect("a good row").expect("a score");
        assert_eq!(again.anomaly.to_bits(), score.anomaly.to_bits(), "window {}", row.index);
        compared += 1;
    }
    assert_eq!(compared, 20);
}

#[test]
fn fewer_bits_than_make_sense_are_refused() {
    for bits in [0, 7, 25] {
        let config = MachineConfig { significant_bits: bits, ..config() };
        assert!(matches!(Monitor::<Heap>::new(config, &mut Heap), Err(ConfigError::Figures)), "{bits}");
    }
}

/// Forty windows of a machine: their rows, and the model's scores.
fn run(bits: u8, artifact: &[u8]) -> (Vec<FeatureRow>, Vec<Score>) {
    let config = MachineConfig { significant_bits: bits, ..config() };
    let mut monitor = Box::new(Monitor::<Heap>::new(config, &mut Heap).expect("a good configuration"));
    let digest = Digest([7; 32]);
    monitor.install(Role::Leader, artifact.to_vec(), digest, Generation(1), &mut |_| {}).expect("a good model");
    let (mut rows, mut scores) = (Vec::new(), Vec::new());
    let mut sink = |output: Output<'_>| match output.what {
        What::Features(row) => rows.push(row.clone()),
        What::Score(score) if score.model == digest => scores.push(score.clone()),
        _ => {}
    };
    for (i, block) in samples().chunks(WINDOW).enumerate() {
        let position = (i * WINDOW) as u64;
        let t0 = Micros((position as f64 * 1e6 / f64::from(RATE_HZ)) as i64);
        let input = Input::Block { t0, rate: Hertz(RATE_HZ), samples: block };
        monitor.push(ChannelId(0), position, input, &mut sink).expect("it is taken");
    }
    (rows, scores)
}

/// What the machine's sensor measures.
fn samples() -> Vec<f32> {
    let spec = MachineSpec { rate_hz: f64::from(RATE_HZ), ..MachineSpec::named("pump-1") };
    let mut machine = Machine::new(spec, 3).expect("a good machine");
    let mut samples = vec![0.0; 40 * WINDOW];
    machine.vibration(Axis::Vertical, &mut samples);
    samples
}

fn config() -> MachineConfig {
    let name = |text| Name::new(text).expect("a good name");
    let mut config = MachineConfig::new(name("pump"));
    let kind = ChannelKind::Vibration { rate: Hertz(RATE_HZ) };
    config.channels.push(ChannelConfig::new(name("z"), Unit::G, kind)).expect("it fits");
    let channels = [ChannelId(0)].into_iter().collect();
    let window = WINDOW as u32;
    let group = GroupConfig { kind: GroupKind::Vibration, point: name("de"), channels, window, hop: window };
    config.groups.push(group).expect("it fits");
    config
}

/// A statistic over RMS and kurtosis that remembers.
fn artifact(ewma: f32) -> Vec<u8> {
    let features = [at::RMS, at::KURTOSIS].map(|place| table::VIBRATION[place].reference());
    let draft = Draft {
        group: GroupKind::Vibration,
        features: &features,
        mean: &[1.0, 3.0],
        inverse_scale: &[2.0, 1.0],
        range: &[Range::ANY, Range::ANY],
        weight: &[0.5, 0.5],
        regimes: &[],
        threshold: 1e6,
        input_clip: 100.0,
        residual_clip: 1000.0,
        sequence_len: 1,
        reset: ResetRule::ALWAYS,
        body: Body::Statistic { ewma },
        golden: &[1.0, 3.0, 2.0, 4.0],
    };
    let mut bytes = vec![0; draft.size_bytes()];
    draft.write(&mut bytes, &mut State::<4096>::new(), &mut Scratch::new()).expect("a good draft");
    bytes
}
