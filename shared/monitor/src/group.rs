//! One feature group: its open window, and how a closed one becomes features, scores and decisions.

mod vibration;

use kilter_infer::Scratch;
use kilter_signal::{diagnose, extract::VALUES, fft::Plan, reading, table::Schema, temperature};
use kilter_types::{ChannelId, FeatureRow, FeatureVector, GroupKind, Micros, OperatingState, Quality, Rpm};

use crate::{
    baseline::Baseline,
    config::{ChannelKind, GroupConfig, LEAST_COMMISSIONING, MachineConfig, OUTSIDE},
    judge::Judge,
    memory::Memory,
    model::Installed,
    output::Output,
    precision::rounded,
    protection::Protector,
    readings::{ClosedReadings, Reading, Readings},
    regime::{Operating, Regime},
    samples::{Block, Samples},
    snapshot::{Reader, RestoreError, Writer},
    tacho::{Shaft, Tacho},
    window::Rows,
};

/// Values per row of this group.
pub(crate) fn feature_count(config: &MachineConfig, group: &GroupConfig) -> usize {
    schema(config, group).features().len()
}

fn schema(config: &MachineConfig, group: &GroupConfig) -> Schema {
    let columns = match group.channels.first().and_then(|id| config.channels.get(usize::from(id.0))) {
        Some(channel) if group.kind == GroupKind::Cycle => match channel.kind {
            ChannelKind::Cycle { width } => usize::from(width),
            _ => 0,
        },
        Some(_) | None => group.channels.len(),
    };
    Schema::of(group.kind, columns)
}

/// What all groups of a machine share while one of them works.
pub(crate) struct Shared<'a, M: Memory> {
    pub(crate) config: &'a MachineConfig,
    pub(crate) operating: &'a mut Operating,
    pub(crate) plans: &'a [Plan<M::Floats>],
    /// With a tacho: room for a window at even angles.
    pub(crate) tracked: Option<&'a mut [f32]>,
    pub(crate) tacho: Option<&'a Tacho<M::Times>>,
    pub(crate) kernel: &'a mut Scratch,
    pub(crate) models: &'a [Option<Installed<M::Model>>; 2],
    pub(crate) protector: &'a mut Protector,
    pub(crate) tally: &'a mut Tally,
    pub(crate) sink: &'a mut dyn FnMut(Output<'_>),
}

/// What a machine counts over all its groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Tally {
    pub(crate) windows: u64,
    /// End of the newest window.
    pub(crate) at: Micros,
    pub(crate) next_alarm: u32,
    pub(crate) state: OperatingState,
    pub(crate) score: Option<(f32, f32)>,
    /// Has a speed ever been told, or is there a channel for it?
    pub(crate) speed_awaited: bool,
}

/// One group.
pub(crate) struct Group<M: Memory, const S: usize> {
    open: Open<M>,
    pub(crate) judge: Judge<M::Floats, S>,
    pub(crate) schema: Schema,
    place: u8,
    plan: usize,
}

enum Open<M: Memory> {
    Samples(Samples<M::Floats>),
    Readings(Readings<M>),
    Rows(Rows),
}

impl<M: Memory, const S: usize> Group<M, S> {
    /// `None` when memory runs out.
    pub(crate) fn new(place: u8, plan: usize, config: &MachineConfig, memory: &mut M) -> Option<Self> {
        let group = config.groups.get(usize::from(place))?;
        let needed = crate::window::needed(group);
        let open = match group.kind {
            GroupKind::Vibration => Open::Samples(Samples::new(group, memory.floats(needed.floats)?)),
            GroupKind::Temperature | GroupKind::Reading => {
                Open::Readings(Readings::new(group, memory.floats(needed.floats)?, memory.times(needed.times)?))
            }
            GroupKind::Cycle => Open::Rows(Rows::default()),
        };
        let schema = schema(config, group);
        let features = schema.features().len();
        let buffer = memory.floats(crate::baseline::floats(features, config.regimes))?;
        let windows = match group.kind {
            GroupKind::Temperature => (config.commissioning_windows / 3).max(LEAST_COMMISSIONING),
            GroupKind::Vibration | GroupKind::Reading | GroupKind::Cycle => config.commissioning_windows,
        };
        let rate = crate::budget::rate(config, group);
        let baseline = Baseline::new(group.kind, features, config.regimes, windows, rate, buffer);
        Some(Self { open, judge: Judge::new(place, baseline), schema, place, plan })
    }

    pub(crate) fn block(
        &mut self,
        block: &Block<'_>,
        unit: impl Fn(f32) -> f32,
        scratch: &mut [f32],
        shared: &mut Shared<'_, M>,
    ) {
        let Open::Samples(samples) = &mut self.open else { return };
        let (judge, schema, plan) = (&mut self.judge, &self.schema, self.plan);
        samples.push(block, unit, &mut |closed| {
            vibration::vibration(judge, schema, plan, block.declared, &closed, scratch, shared)
        });
    }

    pub(crate) fn reading(&mut self, reading: Reading, shared: &mut Shared<'_, M>) {
        let Open::Readings(readings) = &mut self.open else { return };
        let (judge, schema) = (&mut self.judge, &self.schema);
        readings.push(reading, &mut |closed| slow(judge, schema, &closed, shared));
    }

    pub(crate) fn cycle(&mut self, position: u64, t: Option<Micros>, row: &[f32], shared: &mut Shared<'_, M>) {
        let Open::Rows(rows) = &mut self.open else { return };
        let Some(mut quality) = rows.push(position) else { return };
        // A source that only counts has no time of its own: the cycle's position stands for it, in seconds.
        let start = t.unwrap_or_else(|| Micros::from_secs(i64::try_from(position).unwrap_or(i64::MAX)));
        let end = start + Micros::from_secs(1);
        let mut values = [0.0; VALUES];
        let width = self.schema.features().len();
        let valid = reading::cycle(&row[..row.len().min(width)], &mut values);
        if row.len() < width || row.iter().any(|x| x.is_nan()) {
            quality = quality | Quality::NON_FINITE;
        }
        if row.contains(&OUTSIDE) {
            quality = quality | Quality::OUT_OF_RANGE;
        }
        let regime = shared.regime(start, end);
        let row = feature_row(
            &self.judge,
            &self.schema,
            GroupKind::Cycle,
            position,
            (start, end),
            quality,
            &regime,
            &values,
            valid,
            shared.config.significant_bits,
        );
        self.judge.conclude(&row, &regime, None, None, &self.schema, shared);
    }

    /// Positions of this channel below `to` that have not come will never come.
    pub(crate) fn skip(&mut self, channel: usize, to: u64, period: Option<Micros>, shared: &mut Shared<'_, M>) {
        match &mut self.open {
            Open::Samples(samples) => samples.skip(to),
            Open::Readings(readings) => {
                let (judge, schema) = (&mut self.judge, &self.schema);
                readings.skip(channel, to, period, &mut |closed| slow(judge, schema, &closed, shared));
            }
            Open::Rows(rows) => rows.skip(to),
        }
    }

    /// The source says that it was interrupted here: what is half full will not be completed.
    pub(crate) fn interrupt(&mut self) {
        match &mut self.open {
            Open::Samples(samples) => samples.interrupt(),
            Open::Readings(readings) => readings.interrupt(),
            Open::Rows(rows) => rows.interrupt(),
        }
    }

    /// Number of the open window.
    pub(crate) fn index(&self) -> u64 {
        match &self.open {
            Open::Samples(samples) => samples.grid.index,
            Open::Readings(readings) => readings.grid.index,
            Open::Rows(rows) => rows.next(),
        }
    }

    pub(crate) fn place(&self) -> u8 {
        self.place
    }

    pub(crate) fn save(&self, models: &[Option<Installed<M::Model>>; 2], out: &mut Writer<'_>) {
        match &self.open {
            Open::Samples(samples) => samples.save(out),
            Open::Readings(readings) => readings.save(out),
            Open::Rows(rows) => out.value(rows),
        }
        self.judge.save(models, out);
    }

    pub(crate) fn load(
        &mut self,
        models: &[Option<Installed<M::Model>>; 2],
        bytes: &mut Reader<'_>,
    ) -> Result<(), RestoreError> {
        match &mut self.open {
            Open::Samples(samples) => samples.load(bytes)?,
            Open::Readings(readings) => readings.load(bytes)?,
            Open::Rows(rows) => *rows = bytes.value()?,
        }
        self.judge.load(models, bytes)
    }
}

impl<M: Memory> Shared<'_, M> {
    pub(crate) fn regime(&mut self, start: Micros, end: Micros) -> Regime {
        let shaft = self.tacho.map(|tacho| tacho.shaft(start, end));
        if let Some(Shaft::Stopping(most)) = shaft {
            self.operating.slows(end, most);
        }
        let mut regime = self.operating.regime(start, end, self.config.nominal_rpm, self.tally.speed_awaited);
        match shaft {
            Some(Shaft::Turning(rpm)) => regime.rpm = Some(rpm),
            Some(Shaft::Unknown) => regime = Regime { load: regime.load, ..Regime::default() },
            Some(Shaft::Stopping(_)) | None => {}
        }
        self.tally.state = regime.state;
        regime
    }
}

/// Which of a group's channels this is.
pub(crate) fn channel_place(group: &GroupConfig, channel: ChannelId) -> Option<usize> {
    group.channels.iter().position(|id| *id == channel)
}

fn slow<M: Memory, const S: usize>(
    judge: &mut Judge<M::Floats, S>,
    schema: &Schema,
    closed: &ClosedReadings<'_>,
    shared: &mut Shared<'_, M>,
) {
    let regime = shared.regime(closed.start, closed.end);
    let mut values = [0.0; VALUES];
    let kind = shared.config.groups.get(usize::from(judge.place())).map_or(GroupKind::Reading, |group| group.kind);
    let mut valid = match (kind, closed.channels.as_slice()) {
        (_, []) => 0,
        (GroupKind::Temperature, [readings, rest @ ..]) => temperature::features(readings, rest.first(), &mut values),
        (GroupKind::Reading | GroupKind::Vibration | GroupKind::Cycle, channels) => {
            reading::features(channels, &mut values)
        }
    };
    if closed.broken {
        valid = 0;
    }
    let times = (closed.start, closed.end);
    let bits = shared.config.significant_bits;
    let row = feature_row(judge, schema, kind, closed.index, times, closed.quality, &regime, &values, valid, bits);
    let diagnosis = (kind == GroupKind::Temperature).then(|| {
        let excess = judge.expect(&row, &regime, shared.config);
        let by_model = excess.map(|excess| diagnose::thermal(excess.residual_k, excess.limit_k)).unwrap_or_default();
        let named = diagnose::temperature(&values, valid, &judge.limits(shared.config)).merge(by_model);
        named.findings().first().cloned()
    });
    judge.conclude(&row, &regime, diagnosis, None, schema, shared);
}

#[expect(clippy::too_many_arguments, reason = "a row has so many parts")]
fn feature_row<F, const S: usize>(
    judge: &Judge<F, S>,
    schema: &Schema,
    kind: GroupKind,
    index: u64,
    (start, end): (Micros, Micros),
    quality: Quality,
    regime: &Regime,
    values: &[f32; VALUES],
    valid: u64,
    bits: u8,
) -> FeatureRow {
    let transient = if regime.state == OperatingState::Transient { Quality::TRANSIENT } else { Quality::GOOD };
    let count = schema.features().len();
    let mut vector = FeatureVector {
        schema: schema.hash(),
        values: heapless::Vec::new(),
        valid: valid & kilter_signal::table::mask(count),
    };
    let kept = values.iter().take(count).enumerate();
    vector.values.extend(kept.map(|(i, value)| if vector.valid >> i & 1 == 1 { rounded(*value, bits) } else { 0.0 }));
    FeatureRow {
        group: judge.place(),
        kind,
        index,
        start,
        end,
        state: regime.state,
        rpm: regime.rpm.unwrap_or(Rpm(0.0)),
        quality: quality | transient,
        vector,
    }
}
