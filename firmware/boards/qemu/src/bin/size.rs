//! The image whose size is gated: set S, a small model, and framing; and the RAM that it uses, stack included.
#![no_std]
#![no_main]

use core::hint::black_box;
use core::panic::PanicInfo;

use cortex_m_rt::entry;
use kilter_bits::{STATISTIC as MODEL, WINDOW, example, setup};
use kilter_infer::{Artifact, Scratch, State};
use kilter_signal::extract::{self, Vibration};
use kilter_signal::fft::{self, Plan};
use kilter_signal::table::{Schema, VIBRATION_LEN, mask};
use kilter_types::{
    DeviceId, Digest, Epoch, FeatureRow, FeatureVector, GroupKind, KernelId, Micros, Monotonic, Name, OperatingState,
    Payload, Point, Quality, Record, Role, RowRef, Rpm, Score, Timeline,
};
use kilter_wire::frame::{self, Kind};
use kilter_wire::{Batch, BatchRecord, Up, cobs, encode_record};

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    kilter_board_qemu::exit(false)
}

#[entry]
fn main() -> ! {
    static mut SAMPLES: [f32; WINDOW] = [0.0; WINDOW];
    static mut ROOTS: [f32; fft::table_len(WINDOW)] = [0.0; fft::table_len(WINDOW)];
    static mut WORK: [f32; WORK_LEN] = [0.0; WORK_LEN];
    static mut FEATURES: Option<Vibration> = None;
    kilter_board_qemu::paint_stack();
    let sent = run(SAMPLES, ROOTS, WORK, FEATURES);
    report(sent);
    kilter_board_qemu::exit(sent.is_some())
}

/// One window: features, score, two records, two frames on the line.
fn run(
    samples: &mut [f32; WINDOW],
    roots: &mut [f32],
    work: &mut [f32; WORK_LEN],
    features: &mut Option<Vibration>,
) -> Option<usize> {
    let features = features.insert(Vibration::default());
    extracted(samples, roots, work, features)?;
    let sent = send(|| row(features), work)?;
    let values = features.values.get(..VIBRATION_LEN)?;
    let score = scored(values, lend(work)?)?;
    Some(sent + send(|| Some(Payload::Score(score)), work)?)
}

#[inline(never)]
fn row(features: &Vibration) -> Option<Payload> {
    Some(Payload::Features(FeatureRow {
        group: 0,
        kind: GroupKind::Vibration,
        index: 0,
        start: Micros(0),
        end: Micros(320_000),
        state: OperatingState::Steady(0),
        rpm: Rpm(1797.0),
        quality: Quality::GOOD,
        vector: FeatureVector {
            schema: Schema::of(GroupKind::Vibration, VIBRATION_LEN).hash(),
            values: features.values.get(..VIBRATION_LEN)?.iter().copied().collect(),
            valid: features.valid & mask(VIBRATION_LEN),
        },
    }))
}

#[inline(never)]
fn extracted(
    samples: &mut [f32; WINDOW],
    roots: &mut [f32],
    work: &mut [f32; WORK_LEN],
    out: &mut Vibration,
) -> Option<()> {
    let head = example(samples);
    let plan = Plan::new(WINDOW, roots).ok()?;
    extract::vibration(black_box(samples), &setup(&head).ok()?, &plan, work, out).ok().map(drop)
}

/// The features are out, so their work space serves the model.
#[inline(never)]
fn lend(work: &mut [f32; WORK_LEN]) -> Option<&mut Scratch> {
    const { assert!(size_of::<Scratch>() <= 4 * WORK_LEN && align_of::<Scratch>() <= 8) };
    let place = work.as_mut_ptr().cast::<Scratch>();
    if !place.is_aligned() {
        return None;
    }
    // SAFETY: the room is large enough, aligned and ours alone for the borrow; a scratch is numbers only, so zeros are a good one
    // (and writing `Scratch::new()` would first build it on the stack).
    unsafe {
        place.write_bytes(0, 1);
        Some(&mut *place)
    }
}

/// Two rooms for frames in the same work space.
fn rooms(work: &mut [f32; WORK_LEN]) -> Option<(&mut [u8], &mut [u8])> {
    // SAFETY: every bit pattern is a good byte, and the room is ours alone for the borrow.
    let bytes = unsafe { core::slice::from_raw_parts_mut(work.as_mut_ptr().cast::<u8>(), size_of_val(work)) };
    bytes.split_at_mut_checked(1024)
}

#[inline(never)]
fn scored(values: &[f32], kernel: &mut Scratch) -> Option<Score> {
    let model = Artifact::parse(MODEL).ok()?;
    let mut state = State::<64>::new();
    model.certify(&mut state, kernel).ok()?;
    let mut scored = None;
    for _ in 0..model.sequence_len() {
        scored = model.push(values.get(..model.inputs())?, &mut state, kernel).ok()?;
    }
    let scored = scored?;
    let ranking = model.rank(&scored);
    Some(Score {
        input: RowRef { group: 0, index: 0, seq: 0 },
        anomaly: scored.anomaly,
        threshold: model.threshold(),
        rul: None,
        model: Digest::NONE,
        kernel: KernelId::PORTABLE_F32,
        role: Role::Leader,
        contributions: ranking.contributions,
        rest: ranking.rest,
    })
}

#[inline(never)]
fn send(payload: impl FnOnce() -> Option<Payload>, work: &mut [f32; WORK_LEN]) -> Option<usize> {
    let name = |text| Name::new(text).ok();
    let device = DeviceId::new("node-1").ok()?;
    let point = Point { tenant: name("default")?, site: name("north")?, asset: device.0, point: name("drive-end")? };
    let record = Record {
        point,
        epoch: Epoch(42),
        seq: 0,
        monotonic: Monotonic(320_000),
        timeline: Timeline::Device,
        wall: None,
        uncertainty: Micros(0),
        payload: payload()?,
    };
    let (frame, body) = rooms(work)?;
    let len = encode_record(&record, frame).ok()?.len();
    let mut used = 0;
    let entry = BatchRecord { class: record.class() as u8, seq: record.seq, bytes: &frame[..len] };
    if !Batch::push(body, &mut used, entry) {
        return None;
    }
    let batch = Up::Batch(Batch { epoch: record.epoch, count: 1, records: &body[..used] });
    let bytes = frame::encode(Kind::Up, &batch, frame).ok()?;
    let mut sent = 0;
    let mut line = |piece: &[u8]| -> Result<(), ()> {
        sent += black_box(piece).len();
        Ok(())
    };
    cobs::encode_each(bytes, &mut line).ok()?;
    Some(sent)
}

/// Figures in a file: text formatting would count against the image.
fn report(sent: Option<usize>) {
    use kilter_board_qemu::file::{File, Mode};
    let figures = [kilter_board_qemu::static_ram(), kilter_board_qemu::stack_used(), sent.unwrap_or(0)];
    if let Some(mut file) = File::open(c"size.bin", Mode::Create) {
        for figure in figures {
            file.write(&(figure as u32).to_le_bytes());
        }
    }
}

const WORK_LEN: usize = extract::scratch_len(WINDOW);
