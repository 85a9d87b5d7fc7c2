//! A recorded file as a source: `.npy`, `.wav` and `.csv` with declared columns, units and rates, at any speed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kilter_recording::{CsvDeclaration, Declaration, Item as Recorded, Recording};
use kilter_types::{ChannelId, Hertz, Input, MachineEvent, Micros, Name, Rpm, Timeline, Unit};

use crate::check::{Offered, map_channels};
use crate::{ChannelSpec, Item, Source, SourceError, Stop};

/// Which file, and what it does not say itself.
#[derive(Clone, Debug, PartialEq)]
pub struct FileConfig {
    /// The file.
    pub path: PathBuf,
    /// Samples per second; a `.wav` states its own.
    pub rate: Option<Hertz>,
    /// Unit of the values.
    pub unit: Option<Unit>,
    /// Shaft speed.
    pub rpm: Option<Rpm>,
    /// Time of the first sample.
    pub t0: Micros,
    /// Length of a cycle, for a recording that counts cycles and does not say when they were; 0 leaves them undated.
    pub cycle: Micros,
    /// Columns of a `.csv`.
    pub csv: Option<CsvDeclaration>,
    /// Sample time per real time; 0 replays as fast as the monitor takes it.
    pub speed: f32,
}

/// A recording, replayed once from given positions.
#[derive(Debug)]
pub struct FileSource {
    recording: Recording,
    map: Vec<Option<ChannelId>>,
    positions: Vec<u64>,
    /// When cycles are: the first, and how far apart.
    cycles: Option<(Micros, Micros)>,
    speed: f32,
    stop: Stop,
    next: usize,
    started: bool,
    rpm: Option<Rpm>,
    at: Option<Micros>,
}

impl FileSource {
    /// Reads the file and checks it against the configured channels.
    pub fn open(
        config: &FileConfig,
        asset: &Name,
        channels: &[ChannelSpec],
        mut positions: Vec<u64>,
        stop: Stop,
    ) -> Result<Self, SourceError> {
        positions.resize(channels.len(), 0);
        let recording = read(&config.path, config, asset, channels)?;
        let offered: Vec<Offered<'_>> = recording
            .channels
            .iter()
            .map(|channel| Offered { name: &channel.name, unit: channel.unit, rate: channel.rate })
            .collect();
        let map = map_channels(channels, &offered)
            .map_err(|difference| SourceError::Offer { asset: asset.clone(), difference: Box::new(difference) })?;
        let rpm = recording.rpm;
        let cycles = (config.cycle > Micros(0)).then_some((config.t0, config.cycle));
        Ok(Self {
            recording,
            map,
            positions,
            cycles,
            speed: config.speed,
            stop,
            next: 0,
            started: false,
            rpm,
            at: None,
        })
    }

    fn cycle_at(&self, position: u64) -> Option<Micros> {
        let (first, period) = self.cycles?;
        Some(Micros(first.0.saturating_add(period.0.saturating_mul(i64::try_from(position).unwrap_or(i64::MAX)))))
    }

    /// Waits as long as the recording did, divided by the speed.
    fn pace(&mut self, t: Micros) {
        let before = self.at.replace(t);
        if self.speed > 0.0
            && let Some(before) = before
        {
            let step_us = (t - before).0.clamp(0, MOST_STEP_US) as f64 / f64::from(self.speed);
            self.stop.wait(Duration::from_micros(step_us as u64));
        }
    }
}

impl Source for FileSource {
    fn next(&mut self) -> Result<Item<'_>, SourceError> {
        if !self.started {
            self.started = true;
            return Ok(Item::Started(Timeline::Source));
        }
        if self.stop.is_set() {
            return Ok(Item::Idle);
        }
        let t = loop {
            let Some(item) = self.recording.items.get(self.next) else {
                // Called again and again: nothing follows, so take it slowly.
                self.stop.wait(POLL);
                return Ok(Item::End);
            };
            self.next += 1;
            let wanted = |channel: &ChannelId| self.map.get(usize::from(channel.0)).copied().flatten();
            let (t, mine, end) = match item {
                Recorded::Block { channel, position, t0, samples } => {
                    (Some(*t0), wanted(channel), position + samples.len() as u64)
                }
                Recorded::Reading { channel, position, t, .. } => (Some(*t), wanted(channel), position + 1),
                Recorded::Cycle { channel, position, .. } => (self.cycle_at(*position), wanted(channel), position + 1),
                Recorded::Event { .. } => break None,
                Recorded::Skipped { channel, to, .. } => (None, wanted(channel), *to),
            };
            let needed = mine.and_then(|channel| self.positions.get(usize::from(channel.0)));
            if needed.is_some_and(|needed| end > *needed) {
                break t;
            }
        };
        if let (Some(rpm), Some(t)) = (self.rpm, t) {
            self.rpm = None;
            self.next -= 1;
            return Ok(Item::Event { t, event: MachineEvent::Speed(rpm) });
        }
        if let Some(t) = t {
            self.pace(t);
        }
        let place = |channel: &ChannelId| self.map.get(usize::from(channel.0)).copied().flatten().unwrap_or(*channel);
        let item = &self.recording.items[self.next - 1];
        Ok(match item {
            Recorded::Block { channel, position, t0, samples } => {
                let rate = self.recording.channels[usize::from(channel.0)].rate.unwrap_or_default();
                let channel = place(channel);
                let needed = self.positions[usize::from(channel.0)];
                let known = usize::try_from(needed.saturating_sub(*position)).unwrap_or(usize::MAX).min(samples.len());
                let t0 = Micros(t0.0 + (known as f64 * 1e6 / f64::from(rate.0)).round() as i64);
                let position = position + known as u64;
                Item::Input { channel, position, input: Input::Block { t0, rate, samples: &samples[known..] } }
            }
            Recorded::Reading { channel, position, t, value } => Item::Input {
                channel: place(channel),
                position: *position,
                input: Input::Reading { t: *t, value: *value },
            },
            Recorded::Cycle { channel, position, n, row } => Item::Input {
                channel: place(channel),
                position: *position,
                input: Input::Cycle { n: *n, t: self.cycle_at(*position), row },
            },
            Recorded::Event { t, event } => Item::Event { t: *t, event: *event },
            Recorded::Skipped { channel, from, to } => Item::Skipped { channel: place(channel), from: *from, to: *to },
        })
    }
}

fn read(path: &Path, config: &FileConfig, asset: &Name, channels: &[ChannelSpec]) -> Result<Recording, SourceError> {
    let declaration = Declaration {
        rate: config.rate,
        unit: config.unit,
        rpm: config.rpm,
        t0: config.t0,
        names: channels.iter().map(|channel| channel.name.clone()).collect(),
        csv: config.csv.clone(),
        ..Declaration::default()
    };
    kilter_recording::open(path, &declaration).map_err(|source| SourceError::Recording {
        asset: asset.clone(),
        path: path.display().to_string(),
        source: Box::new(source),
    })
}

const POLL: Duration = Duration::from_millis(200);
/// A hole in the recording is not waited out for longer than this.
const MOST_STEP_US: i64 = 2_000_000;
