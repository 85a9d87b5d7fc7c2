//! The monitor of one machine: inputs go in by position, windows come out judged.
//!
//! It is deterministic and owns no clock: the same inputs in the same order give the same outputs, bit for bit, after a
//! snapshot too. A window is worked through inside the [`Monitor::push`] that completes it.

mod kept;
mod slots;

use core::fmt;

use kilter_infer::Scratch;
use kilter_signal::fft::Plan;
use kilter_types::{
    Cause, ChannelId, Event, GroupKind, Input, MAX_FEATURES, MachineEvent, Micros, Name, RowRef, Rpm, Severity, Unit,
};

use crate::{
    config::{ChannelConfig, ChannelKind, ConfigError, MAX_GROUPS, MachineConfig},
    decision::Bench,
    group::{Group, Shared, Tally, channel_place},
    memory::{Memory, scratch_len, tracked_len},
    model::Installed,
    output::{Output, Summary, What},
    protection::Protector,
    readings::Reading,
    regime::Operating,
    samples::Block,
    tacho::{self, Tacho, pulses_per_rev},
};

/// One machine. `G` groups at most; `S` values of memory per model and group (sequence length times features).
///
/// With the defaults the struct itself is large; keep it in a box or a static, not on a small stack.
pub struct Monitor<M: Memory, const G: usize = MAX_GROUPS, const S: usize = 1024> {
    config: MachineConfig,
    operating: Operating,
    plans: heapless::Vec<Plan<M::Floats>, G>,
    scratch: M::Floats,
    /// With a tacho: room for a window at even angles and for the work on it.
    tracked: Option<M::Floats>,
    tacho: Option<Tacho<M::Times>>,
    kernel: Scratch,
    groups: heapless::Vec<Group<M, S>, G>,
    models: [Option<Installed<M::Model>>; 2],
    protector: Protector,
    tally: Tally,
}

impl<M: Memory, const G: usize, const S: usize> Monitor<M, G, S> {
    /// Checks the configuration and borrows all memory that will ever be used.
    pub fn new(config: MachineConfig, memory: &mut M) -> Result<Self, ConfigError> {
        config.check()?;
        let values = scratch_len(&config);
        let scratch = memory.floats(values).ok_or(ConfigError::Memory { values })?;
        let (tracked, tacho) = lend_tacho(&config, memory)?;
        let mut plans = heapless::Vec::<Plan<M::Floats>, G>::new();
        let mut groups = heapless::Vec::new();
        for (place, group) in config.groups.iter().enumerate() {
            let len = group.window as usize;
            let mut plan = plans.iter().position(|plan| plan.len() == len).unwrap_or(plans.len());
            if group.kind == GroupKind::Vibration && plan == plans.len() {
                let values = kilter_signal::fft::table_len(len);
                let table = memory.floats(values).ok_or(ConfigError::Memory { values })?;
                let made = Plan::new(len, table).map_err(|_| ConfigError::Figures)?;
                plans.push(made).map_err(|_| ConfigError::TooManyGroups)?;
            } else if group.kind != GroupKind::Vibration {
                plan = 0;
            }
            let values = crate::window::needed(group).floats;
            let made = Group::new(place as u8, plan, &config, memory).ok_or(ConfigError::Memory { values })?;
            groups.push(made).map_err(|_| ConfigError::TooManyGroups)?;
        }
        let speed_awaited = tacho.is_some() || config.channels.iter().any(|channel| channel.kind == ChannelKind::Speed);
        let tally = Tally { speed_awaited, ..Tally::default() };
        Ok(Self {
            config,
            operating: Operating::default(),
            plans,
            scratch,
            tracked,
            tacho,
            kernel: Scratch::new(),
            groups,
            models: [None, None],
            protector: Protector::default(),
            tally,
        })
    }

    /// Takes one input of a channel; `position` counts its samples, readings or cycles since the sensor's beginning.
    ///
    /// Positions already seen are dropped, positions left out are a hole. An [`Input::Event`] belongs to the machine: channel
    /// and position are then ignored.
    pub fn push(
        &mut self,
        channel: ChannelId,
        position: u64,
        input: Input<'_>,
        sink: &mut dyn FnMut(Output<'_>),
    ) -> Result<(), PushError> {
        if let Input::Event { t, event } = input {
            self.machine_event(t, event, sink);
            return Ok(());
        }
        let declared = self.config.channels.get(usize::from(channel.0)).ok_or(PushError::Channel(channel))?;
        if position > MAX_POSITION {
            return Err(PushError::Position(position));
        }
        let (unit, kind, range) = (declared.unit, declared.kind, declared.range);
        match (input, kind) {
            (Input::Block { t0, rate, samples }, ChannelKind::Vibration { rate: declared }) => {
                let block = Block { position, t0, rate, declared, samples };
                self.for_groups(channel, sink, |group, _, scratch, shared| {
                    group.block(&block, |x| unit.to_house(range.admit(x)), scratch, shared);
                });
            }
            (Input::Reading { t, value }, ChannelKind::Speed) => {
                let value = range.admit(value);
                self.operating.speed(t, to_rpm(unit, value));
                self.slow(channel, position, t, value, kind, sink);
            }
            (Input::Reading { t, .. }, ChannelKind::Tacho { .. }) => {
                if let Some(rpm) = self.tacho.as_mut().and_then(|tacho| tacho.push(position, t)) {
                    self.operating.speed(t, rpm);
                }
            }
            (Input::Reading { t, value }, ChannelKind::Load) => {
                let value = range.admit(value);
                self.operating.load(t, value);
                self.slow(channel, position, t, value, kind, sink);
            }
            (Input::Reading { t, value }, ChannelKind::Reading { .. } | ChannelKind::Ambient) => {
                self.slow(channel, position, t, unit.to_house(range.admit(value)), kind, sink);
            }
            (Input::Cycle { t, row, .. }, ChannelKind::Cycle { width }) => {
                if row.len() != usize::from(width) {
                    return Err(PushError::Width { declared: width, found: row.len() });
                }
                let row: heapless::Vec<f32, MAX_FEATURES> =
                    row.iter().take(MAX_FEATURES).map(|x| range.admit(*x)).collect();
                self.for_groups(channel, sink, |group, _, _, shared| group.cycle(position, t, &row, shared));
            }
            (Input::Block { .. } | Input::Reading { .. } | Input::Cycle { .. } | Input::Event { .. }, _) => {
                return Err(PushError::Kind(channel));
            }
        }
        Ok(())
    }

    /// Positions of a channel that will never come: its open window closes, the next one carries [`kilter_types::Quality::GAP`].
    pub fn skipped(&mut self, channel: ChannelId, from: u64, to: u64, sink: &mut dyn FnMut(Output<'_>)) {
        if from < to && to <= MAX_POSITION {
            let kind = self.config.channels.get(usize::from(channel.0)).map(|channel| channel.kind);
            let period = period(kind);
            self.for_groups(channel, sink, |group, place, _, shared| group.skip(place, to, period, shared));
        }
    }

    /// Something happened to the machine itself.
    pub fn machine_event(&mut self, t: Micros, event: MachineEvent, sink: &mut dyn FnMut(Output<'_>)) {
        match event {
            MachineEvent::Speed(rpm) => self.operating.speed(t, rpm),
            MachineEvent::Load(percent) => self.operating.load(t, percent),
            MachineEvent::Interrupted => {
                for group in &mut self.groups {
                    group.interrupt();
                }
                if let Some(tacho) = &mut self.tacho {
                    tacho.begin();
                }
            }
            MachineEvent::Maintenance => {
                self.recommission(t, sink);
                let Ok(what) = Name::new("maintenance") else { return };
                self.say(0, t, What::Event(Event::Maintenance { what }), sink);
            }
        }
    }

    /// An event from outside: maintenance starts the baselines again, the others change nothing here.
    pub fn event(&mut self, event: &Event, now: Micros, sink: &mut dyn FnMut(Output<'_>)) {
        if let Event::Maintenance { .. } = event {
            self.recommission(now, sink);
        }
    }

    /// Starts the baselines of the machine again; alarms clear and come back if their reason stands.
    pub fn recommission(&mut self, now: Micros, sink: &mut dyn FnMut(Output<'_>)) {
        self.for_judges(now, sink, |judge, bench| judge.recommission(bench));
    }

    /// Resets latched alarms and trips.
    pub fn reset(&mut self, now: Micros, sink: &mut dyn FnMut(Output<'_>)) {
        self.protector.reset();
        self.for_judges(now, sink, |judge, bench| judge.reset(bench));
    }

    /// How the machine is.
    pub fn summary(&self) -> Summary {
        let worst = self.groups.iter().filter_map(|group| group.judge.worst()).max_by_key(|(severity, _)| *severity);
        let (severity, cause) = worst.unwrap_or((Severity::Healthy, Cause::Unclear));
        Summary {
            severity,
            cause,
            state: self.tally.state,
            windows: self.tally.windows,
            score: self.tally.score,
            baseline_ready: self
                .config
                .groups
                .iter()
                .zip(&self.groups)
                .all(|(declared, group)| declared.kind == GroupKind::Temperature || group.judge.is_ready()),
            tripped: self.protector.is_tripped(),
        }
    }

    /// What it was built from.
    pub fn config(&self) -> &MachineConfig {
        &self.config
    }

    fn slow(
        &mut self,
        channel: ChannelId,
        position: u64,
        t: Micros,
        value: f32,
        kind: ChannelKind,
        sink: &mut dyn FnMut(Output<'_>),
    ) {
        let period = period(Some(kind));
        self.for_groups(channel, sink, |group, place, _, shared| {
            group.reading(Reading { channel: place, position, t, value, period }, shared);
        });
    }

    /// Every group that this channel belongs to, in order.
    fn for_groups(
        &mut self,
        channel: ChannelId,
        sink: &mut dyn FnMut(Output<'_>),
        mut f: impl FnMut(&mut Group<M, S>, usize, &mut [f32], &mut Shared<'_, M>),
    ) {
        let Self { config, operating, plans, scratch, tracked, tacho, kernel, groups, models, protector, tally } = self;
        let tracked = tracked.as_mut().map(M::Floats::as_mut);
        let mut shared =
            Shared { config, operating, plans, tracked, tacho: tacho.as_ref(), kernel, models, protector, tally, sink };
        for (group, declared) in groups.iter_mut().zip(&config.groups) {
            if let Some(place) = channel_place(declared, channel) {
                f(group, place, scratch.as_mut(), &mut shared);
            }
        }
    }

    fn for_judges(
        &mut self,
        now: Micros,
        sink: &mut dyn FnMut(Output<'_>),
        mut f: impl FnMut(&mut crate::judge::Judge<M::Floats, S>, &mut Bench<'_>),
    ) {
        for (group, declared) in self.groups.iter_mut().zip(&self.config.groups) {
            let input = RowRef { group: group.place(), index: group.index(), seq: 0 };
            let mut bench = Bench {
                patience: &self.config.patience,
                next_id: &mut self.tally.next_alarm,
                input,
                start: now,
                emit: &mut |alarm| {
                    let what = What::Alarm(alarm);
                    sink(Output { point: &declared.point, group: input.group, index: input.index, at: now, what });
                },
            };
            f(&mut group.judge, &mut bench);
        }
    }

    fn say(&self, group: usize, at: Micros, what: What<'_>, sink: &mut dyn FnMut(Output<'_>)) {
        if let (Some(open), Some(declared)) = (self.groups.get(group), self.config.groups.get(group)) {
            sink(Output { point: &declared.point, group: open.place(), index: open.index(), at, what });
        }
    }
}

/// Why an input was refused; the monitor is as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushError {
    /// No such channel.
    Channel(ChannelId),
    /// Another kind of input than the channel declares.
    Kind(ChannelId),
    /// A cycle row of another width.
    Width {
        /// Declared values per row.
        declared: u8,
        /// Values given.
        found: usize,
    },
    /// A position that no stream can reach.
    Position(u64),
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel(channel) => write!(f, "take an input of channel {}: there is none", channel.0),
            Self::Kind(channel) => write!(f, "take an input of channel {}: it declares another kind", channel.0),
            Self::Width { declared, found } => write!(f, "take a row of {found} values where {declared} are declared"),
            Self::Position(position) => write!(f, "take position {position}: it is beyond any stream"),
        }
    }
}

impl core::error::Error for PushError {}

/// A channel's name to its number.
pub fn channel(config: &MachineConfig, name: &Name) -> Option<ChannelId> {
    let named = |channel: &ChannelConfig| channel.name == *name;
    config.channels.iter().position(named).and_then(|place| u8::try_from(place).ok()).map(ChannelId)
}

/// What a machine with a tacho needs besides.
#[expect(clippy::type_complexity, reason = "two buffers that are there or not")]
fn lend_tacho<M: Memory>(
    config: &MachineConfig,
    memory: &mut M,
) -> Result<(Option<M::Floats>, Option<Tacho<M::Times>>), ConfigError> {
    let Some(pulses) = pulses_per_rev(config) else { return Ok((None, None)) };
    let (values, marks) = (tracked_len(config), tacho::room(config));
    let tracked = memory.floats(values).ok_or(ConfigError::Memory { values })?;
    let marks = memory.times(marks).ok_or(ConfigError::Memory { values: 2 * marks })?;
    Ok((Some(tracked), Some(Tacho::new(config, pulses, marks))))
}

fn to_rpm(unit: Unit, value: f32) -> Rpm {
    if unit == Unit::Hertz { Rpm(60.0 * value) } else { Rpm(value) }
}

fn period(kind: Option<ChannelKind>) -> Option<Micros> {
    match kind {
        Some(ChannelKind::Reading { period }) => period,
        Some(
            ChannelKind::Vibration { .. }
            | ChannelKind::Cycle { .. }
            | ChannelKind::Speed
            | ChannelKind::Tacho { .. }
            | ChannelKind::Load
            | ChannelKind::Ambient,
        )
        | None => None,
    }
}

/// Positions stay below, so that no sum of them overflows.
const MAX_POSITION: u64 = 1 << 52;
