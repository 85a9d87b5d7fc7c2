//! Where an asset's pieces come from: a machine's physics, or a recording.

use std::collections::VecDeque;

use kilter_machine::{Axis, FaultChange, LoadChange, Machine, SpecError, Truth};
use kilter_recording::{Channel, Item, Recording};
use kilter_types::{Hertz, Micros, Name, Timeline, Unit};
use kilter_wire::sensor::{ChannelOffer, MAX_BLOCK_SAMPLES, Offer};
use serde::{Deserialize, Serialize};

use crate::piece::{Data, Piece, little_endian};

/// A source of pieces in the order of simulated time.
#[derive(Debug)]
pub(crate) enum Feed {
    /// Physics.
    Machine(Box<MachineFeed>),
    /// A file.
    Recording(Box<RecordingFeed>),
}

impl Feed {
    /// When the next step will be complete, in simulated time; `None` at the end.
    pub(crate) fn next_s(&self) -> Option<f64> {
        match self {
            Self::Machine(feed) => feed.next_s(),
            Self::Recording(feed) => feed.next_s(),
        }
    }

    /// Makes the next step.
    pub(crate) fn step(&mut self, sink: &mut impl FnMut(Piece)) {
        match self {
            Self::Machine(feed) => feed.step(sink),
            Self::Recording(feed) => feed.step(sink),
        }
    }

    /// What an agent is offered; positions are the asset's beginning.
    pub(crate) fn offer(&self, asset: &Name) -> Offer {
        let channels = match self {
            Self::Machine(feed) => feed.channels(),
            Self::Recording(feed) => feed.channels.clone(),
        };
        let offered =
            channels.into_iter().map(|c| ChannelOffer { name: c.name, unit: c.unit, rate: c.rate, position: 0 });
        // Plants and recordings are limited to 16 channels when they are read.
        Offer { asset: asset.clone(), timeline: Timeline::Source, channels: offered.take(16).collect() }
    }

    /// Event time of the beginning.
    pub(crate) fn start(&self) -> Micros {
        match self {
            Self::Machine(feed) => feed.start,
            Self::Recording(feed) => feed.shift + feed.first,
        }
    }

    /// The end of the simulation is here, wherever it was meant to be.
    pub(crate) fn end_now(&mut self) {
        match self {
            Self::Machine(feed) => feed.end_s = feed.done_s(),
            Self::Recording(feed) => feed.items.clear(),
        }
    }

    /// The machine behind the feed, if there is one.
    pub(crate) fn machine(&mut self) -> Option<&mut MachineFeed> {
        match self {
            Self::Machine(feed) => Some(feed),
            Self::Recording(_) => None,
        }
    }
}

/// A reading that a simulated machine can give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReadingKind {
    /// Bearing housing.
    Temperature,
    /// Air around the machine.
    Ambient,
    /// Shaft speed.
    Speed,
    /// Load; 1 is full load.
    Load,
    /// One pulse per revolution of the shaft.
    Tacho,
}

impl ReadingKind {
    const fn channel(self) -> (&'static str, Unit) {
        match self {
            Self::Temperature => ("temperature", Unit::DegreeCelsius),
            Self::Ambient => ("ambient", Unit::DegreeCelsius),
            Self::Speed => ("speed", Unit::Rpm),
            Self::Load => ("load", Unit::One),
            Self::Tacho => ("tacho", Unit::One),
        }
    }
}

/// A machine in steps of a tenth of a second.
#[derive(Debug)]
pub(crate) struct MachineFeed {
    machine: Machine,
    axes: Vec<Axis>,
    readings: Vec<ReadingKind>,
    every_s: f64,
    start: Micros,
    end_s: f64,
    block_samples: u64,
    blocks: u64,
    read: u64,
}

impl MachineFeed {
    pub(crate) fn new(machine: Machine, axes: &[Axis], readings: &[ReadingKind], every_s: f64, start: Micros) -> Self {
        let block = (machine.spec().rate_hz * STEP_S).round().clamp(1.0, MAX_BLOCK_SAMPLES as f64);
        Self {
            machine,
            axes: axes.to_vec(),
            readings: readings.to_vec(),
            every_s,
            start,
            end_s: f64::INFINITY,
            block_samples: block as u64,
            blocks: 0,
            read: 0,
        }
    }

    /// Ends after this much simulated time.
    pub(crate) fn ending(mut self, end_s: Option<f64>) -> Self {
        self.end_s = end_s.unwrap_or(f64::INFINITY);
        self
    }

    /// Moves a fault; returns when that begins.
    pub(crate) fn set_fault(&mut self, change: FaultChange) -> Result<f64, SpecError> {
        self.machine.set_fault(change)
    }

    /// Moves speed and load; returns when that begins.
    pub(crate) fn set_load(&mut self, change: LoadChange) -> Result<f64, SpecError> {
        self.machine.set_load(change)
    }

    /// The truth at the end of what has been produced.
    pub(crate) fn truth(&self) -> Truth {
        self.machine.truth(self.done_s())
    }

    /// The moment up to which everything has been produced.
    pub(crate) fn done_s(&self) -> f64 {
        (self.blocks * self.block_samples) as f64 / self.machine.spec().rate_hz
    }

    fn next_s(&self) -> Option<f64> {
        let next = ((self.blocks + 1) * self.block_samples) as f64 / self.machine.spec().rate_hz;
        (next <= self.end_s).then_some(next)
    }

    fn step(&mut self, sink: &mut impl FnMut(Piece)) {
        let rate_hz = self.machine.spec().rate_hz;
        let position = self.blocks * self.block_samples;
        let t = self.at(self.done_s());
        let from_s = self.done_s();
        self.blocks += 1;
        let end_s = self.done_s();
        if let Some(index) = self.readings.iter().position(|kind| *kind == ReadingKind::Tacho) {
            let channel = self.axes.len() + index;
            for (position, t_s) in self.machine.pulses(1, from_s, end_s) {
                sink(Piece { channel, position, end_s, t: self.at(t_s), data: Data::Reading(1.0) });
            }
        }
        let mut block = vec![0.0; self.block_samples as usize];
        for (channel, axis) in self.axes.iter().enumerate() {
            self.machine.vibration(*axis, &mut block);
            sink(Piece { channel, position, end_s, t, data: Data::Block { rate_hz, samples: little_endian(&block) } });
        }
        while (self.read as f64) * self.every_s < end_s {
            let t_s = self.read as f64 * self.every_s;
            for (index, kind) in self.readings.iter().enumerate() {
                let value = match kind {
                    ReadingKind::Temperature => self.machine.temperature(t_s),
                    ReadingKind::Ambient => self.machine.ambient(t_s),
                    ReadingKind::Speed => self.machine.speed(t_s),
                    ReadingKind::Load => self.machine.load(t_s),
                    // Pulses come in their own time.
                    ReadingKind::Tacho => continue,
                };
                let channel = self.axes.len() + index;
                sink(Piece { channel, position: self.read, end_s, t: self.at(t_s), data: Data::Reading(value) });
            }
            self.read += 1;
        }
    }

    fn channels(&self) -> Vec<Channel> {
        let rate = Hertz(self.machine.spec().rate_hz as f32);
        let axes = self.axes.iter().map(|axis| channel(axis.word(), Unit::G, Some(rate)));
        let readings = self.readings.iter().map(|kind| channel(kind.channel().0, kind.channel().1, None));
        axes.chain(readings).collect()
    }

    fn at(&self, t_s: f64) -> Micros {
        Micros(self.start.0.saturating_add((t_s * 1e6).round() as i64))
    }
}

/// A recording, item by item; a declared speed becomes a channel of its own.
#[derive(Debug)]
pub(crate) struct RecordingFeed {
    channels: Vec<Channel>,
    items: VecDeque<Item>,
    /// Event time minus the recording's.
    shift: Micros,
    first: Micros,
    done_s: f64,
    cycle_s: f64,
    cycles: u64,
    speed: Option<Speed>,
}

#[derive(Debug)]
struct Speed {
    channel: usize,
    rpm: f32,
    read: u64,
}

impl RecordingFeed {
    /// `start` dates recordings that have no clock of their own; others keep theirs.
    pub(crate) fn new(recording: Recording, start: Micros, cycle_s: f64) -> Self {
        let Recording { mut channels, items, rpm, .. } = recording;
        let time = |item: &Item| match item {
            Item::Block { t0, .. } => Some(*t0),
            Item::Reading { t, .. } | Item::Event { t, .. } => Some(*t),
            Item::Cycle { .. } | Item::Skipped { .. } => None,
        };
        let first = items.iter().find_map(time).unwrap_or_default();
        let undated = first.0.abs() < SECONDS_OF_1970;
        let shift = if undated { start } else { Micros(0) };
        let speed = rpm.filter(|_| channels.len() < kilter_recording::MAX_CHANNELS).map(|rpm| {
            channels.push(channel("speed", Unit::Rpm, None));
            Speed { channel: channels.len() - 1, rpm: rpm.0, read: 0 }
        });
        // Holes need no message of their own: a reader sees them in the positions.
        let items =
            items.into_iter().filter(|item| !matches!(item, Item::Skipped { .. } | Item::Event { .. })).collect();
        Self { channels, items, shift, first, done_s: 0.0, cycle_s, cycles: 0, speed }
    }

    fn next_s(&self) -> Option<f64> {
        let end_s = match self.items.front()? {
            Item::Block { channel, t0, samples, .. } => {
                self.since(*t0) + samples.len() as f64 / self.rate_hz(channel.0)
            }
            Item::Reading { t, .. } | Item::Event { t, .. } => self.since(*t),
            Item::Cycle { .. } => (self.cycles + 1) as f64 * self.cycle_s,
            Item::Skipped { .. } => self.done_s,
        };
        // A clock that goes back does not turn simulated time back.
        Some(end_s.max(self.done_s))
    }

    fn step(&mut self, sink: &mut impl FnMut(Piece)) {
        let (Some(end_s), Some(item)) = (self.next_s(), self.items.pop_front()) else { return };
        self.done_s = end_s;
        let (shift, first) = (self.shift, self.first);
        if let Some(speed) = &mut self.speed {
            while (speed.read as f64) < end_s {
                let t = shift + first + Micros::from_secs(speed.read as i64);
                sink(Piece { channel: speed.channel, position: speed.read, end_s, t, data: Data::Reading(speed.rpm) });
                speed.read += 1;
            }
        }
        match item {
            Item::Block { channel, position, t0, samples } => {
                let data = Data::Block { rate_hz: self.rate_hz(channel.0), samples: little_endian(&samples) };
                sink(Piece { channel: channel.0.into(), position, end_s, t: shift + t0, data });
            }
            Item::Reading { channel, position, t, value } => {
                sink(Piece { channel: channel.0.into(), position, end_s, t: shift + t, data: Data::Reading(value) });
            }
            Item::Cycle { channel, position, n, row } => {
                // A recording of cycles has no clock: they follow each other from the start on, a declared time apart.
                let t = shift + Micros((self.cycles as f64 * self.cycle_s * 1e6).round() as i64);
                self.cycles += 1;
                let data = Data::Cycle { n, row: little_endian(&row) };
                sink(Piece { channel: channel.0.into(), position, end_s, t, data });
            }
            Item::Event { .. } | Item::Skipped { .. } => {}
        }
    }

    fn since(&self, t: Micros) -> f64 {
        (t - self.first).as_secs_f64()
    }

    fn rate_hz(&self, channel: u8) -> f64 {
        let rate = self.channels.get(usize::from(channel)).and_then(|channel| channel.rate);
        rate.map_or(f64::INFINITY, |rate| f64::from(rate.0))
    }
}

fn channel(name: &str, unit: Unit, rate: Option<Hertz>) -> Channel {
    Channel { name: Name::new(name).expect("a constant name"), unit, rate }
}

const STEP_S: f64 = 0.1;
/// A time within 1970 is one counted from zero.
const SECONDS_OF_1970: i64 = 365 * 86_400 * 1_000_000;

#[cfg(test)]
mod tests {
    use kilter_machine::MachineSpec;

    use super::*;

    #[test]
    fn a_tacho_gives_a_reading_per_revolution_before_the_samples_of_its_step() {
        let machine = Machine::new(MachineSpec::named("m"), 1).expect("a good spec");
        let readings = [ReadingKind::Speed, ReadingKind::Tacho];
        let mut feed = MachineFeed::new(machine, &[Axis::Vertical], &readings, 1.0, Micros(0));
        let tacho = feed.channels().pop().expect("three channels");
        assert_eq!((tacho.name.as_str(), tacho.unit, tacho.rate), ("tacho", Unit::One, None));
        let mut pieces = Vec::new();
        for _ in 0..20 {
            feed.step(&mut |piece| pieces.push(piece));
        }
        // 1500 rpm for two seconds.
        let pulses: Vec<u64> = pieces.iter().filter(|piece| piece.channel == 2).map(|piece| piece.position).collect();
        assert!(
            (49..=51).contains(&pulses.len()) && pulses.windows(2).all(|pair| pair[1] == pair[0] + 1),
            "{pulses:?}"
        );
        let mut newest = Micros(i64::MIN);
        for piece in &pieces {
            match piece.channel {
                2 => newest = newest.max(piece.t),
                // The pulse before the block's end has come, and none that is later.
                0 => assert!((piece.end_s - newest.as_secs_f64()) < 0.05 && newest.as_secs_f64() < piece.end_s),
                _ => {}
            }
        }
    }
}
