//! The application: one turn of the loop reads a block, judges it, sets the output and tells the gateway.

use kilter_monitor::{Memory, Monitor, Output, What};
use kilter_types::{
    AlarmState, ChannelId, Class, Epoch, Hertz, Input, Micros, Monotonic, Name, Payload, Point, Record, RowRef,
    Severity, Timeline,
};
use kilter_wire::{Command, CommandKind, CommandResult, Down, Outcome, TimeReply, TimeRequest, Up};

use crate::{Accelerometer, AlarmOutput, Line, Link};

/// Who the node is and what it measures.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// Who owns the data.
    pub tenant: Name,
    /// Plant or location.
    pub site: Name,
    /// The machine.
    pub asset: Name,
    /// Drawn at this boot, or made of device id and boot counter.
    pub epoch: Epoch,
    /// The accelerometer's channel in the monitor's configuration.
    pub channel: ChannelId,
    /// Its rate.
    pub rate: Hertz,
}

/// What went wrong since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Samples lost in the ring.
    pub lost: u64,
    /// Reads that the accelerometer refused.
    pub failed_reads: u32,
    /// Frames that the line did not take.
    pub unsent: u32,
    /// Stretches on the line that were no frame.
    pub garbled: u32,
}

/// One node. `G`, `S`: see [`Monitor`]; `B`: longest frame in bytes.
pub struct Node<A, L, O, M: Memory, const G: usize, const S: usize, const B: usize> {
    identity: Identity,
    accelerometer: A,
    line: Line<L, B>,
    output: O,
    monitor: Monitor<M, G, S>,
    tracks: Tracks,
    block: [f32; BLOCK],
}

/// The node's own life beside its monitor.
#[derive(Clone, Copy, Debug, Default)]
struct Tracks {
    /// Samples since boot, lost ones included.
    position: u64,
    /// Next seq per class.
    seq: [u64; 9],
    /// The newest feature row, which scores and alarms name.
    row: u64,
    time: Option<Time>,
    asked: Option<Monotonic>,
    last_command: Option<(u64, Outcome)>,
    shown: Severity,
    lost: u64,
    failed_reads: u32,
}

/// What the gateway said about the time.
#[derive(Clone, Copy, Debug)]
struct Time {
    /// Wall clock less the node's.
    offset: i64,
    uncertainty: Micros,
    round_trip_us: u32,
}

impl<A, L, O, M, const G: usize, const S: usize, const B: usize> Node<A, L, O, M, G, S, B>
where
    A: Accelerometer,
    L: Link,
    O: AlarmOutput,
    M: Memory,
{
    /// A node from its parts.
    pub fn new(identity: Identity, accelerometer: A, line: Line<L, B>, output: O, monitor: Monitor<M, G, S>) -> Self {
        Self { identity, accelerometer, line, output, monitor, tracks: Tracks::default(), block: [0.0; BLOCK] }
    }

    /// One turn: does what the gateway sent, takes the samples that wait (at most [`BLOCK`]), judges them. How many were taken.
    pub fn poll(&mut self, now: Monotonic) -> usize {
        self.obey(now);
        self.ask_time(now);
        let Ok(filled) = self.accelerometer.fill(&mut self.block) else {
            self.tracks.failed_reads = self.tracks.failed_reads.saturating_add(1);
            return 0;
        };
        let samples = self.block.get(..filled.len).unwrap_or(&self.block);
        let from = self.tracks.position;
        let first = from.saturating_add(filled.lost);
        self.tracks.position = first.saturating_add(samples.len() as u64);
        self.tracks.lost = self.tracks.lost.saturating_add(filled.lost);
        let Identity { channel, rate, .. } = self.identity;
        let mut voice = Voice {
            identity: &self.identity,
            now,
            tracks: &mut self.tracks,
            line: &mut self.line,
            output: &mut self.output,
        };
        let mut sink = |said: Output<'_>| voice.say(&said);
        self.monitor.skipped(channel, from, first, &mut sink);
        let t0 = Micros(i64::try_from(filled.t0.0).unwrap_or(i64::MAX));
        // The channel is the one that the node was built for; a block of another kind is refused and changes nothing.
        let taken = self.monitor.push(channel, first, Input::Block { t0, rate, samples }, &mut sink);
        let count = samples.len();
        self.show();
        if taken.is_ok() { count } else { 0 }
    }

    /// Resets latched alarms and trips: the button beside the machine.
    pub fn reset(&mut self, now: Monotonic) {
        self.with_monitor(now, |monitor, at, sink| monitor.reset(at, sink));
        self.output.release();
        self.show();
    }

    /// The monitor, for a summary or to install a model.
    pub fn monitor(&mut self) -> &mut Monitor<M, G, S> {
        &mut self.monitor
    }

    /// The accelerometer, for example to set its range.
    pub fn accelerometer(&mut self) -> &mut A {
        &mut self.accelerometer
    }

    /// The link.
    pub fn link(&mut self) -> &mut L {
        self.line.link()
    }

    /// The alarm output.
    pub fn output(&self) -> &O {
        &self.output
    }

    /// What went wrong since boot.
    pub fn counters(&self) -> Counters {
        Counters {
            lost: self.tracks.lost,
            failed_reads: self.tracks.failed_reads,
            unsent: self.line.unsent,
            garbled: self.line.garbled,
        }
    }

    fn show(&mut self) {
        let severity = self.monitor.summary().severity;
        if severity != self.tracks.shown {
            self.tracks.shown = severity;
            self.output.show(severity);
        }
    }

    fn with_monitor(
        &mut self,
        now: Monotonic,
        f: impl FnOnce(&mut Monitor<M, G, S>, Micros, &mut dyn FnMut(Output<'_>)),
    ) {
        let mut voice = Voice {
            identity: &self.identity,
            now,
            tracks: &mut self.tracks,
            line: &mut self.line,
            output: &mut self.output,
        };
        f(&mut self.monitor, micros(now), &mut |said| voice.say(&said));
    }

    fn ask_time(&mut self, now: Monotonic) {
        let due = self.tracks.asked.is_none_or(|asked| now.0.saturating_sub(asked.0) >= TIME_EVERY_US);
        if due {
            self.tracks.asked = Some(now);
            let last_round_trip_us = self.tracks.time.map_or(0, |time| time.round_trip_us);
            self.line.message(&Up::TimeRequest(TimeRequest { id: 0, sent: now, last_round_trip_us }));
        }
    }

    fn obey(&mut self, now: Monotonic) {
        let mut command = None;
        let tracks = &mut self.tracks;
        self.line.receive(|message| match message {
            Down::TimeReply(reply) => tracks.time = Time::from(reply, now).or(tracks.time),
            // One at a time: the aggregator repeats a command until its result comes.
            Down::Command(new) => command = Some(new.clone()),
            Down::Ack(_) | Down::Plan(_) | Down::Chunk(_) | Down::Config(_) | Down::Event { .. } => {}
        });
        if let Some(command) = command {
            let outcome = self.execute(&command, now);
            self.tracks.last_command = Some((command.id, outcome));
            self.line.message(&Up::CommandResult(CommandResult { id: command.id, outcome }));
        }
    }

    /// Does a command once; without a clock its expiry can't be judged, so it is refused.
    fn execute(&mut self, command: &Command, now: Monotonic) -> Outcome {
        if let Some((_, outcome)) = self.tracks.last_command.filter(|(id, _)| *id == command.id) {
            return outcome;
        }
        let Some(time) = self.tracks.time else { return Outcome::Refused };
        if micros(now).0.saturating_add(time.offset) > command.expires.0 {
            return Outcome::Expired;
        }
        match &command.kind {
            CommandKind::Reset { asset } if *asset == self.identity.asset => self.reset(now),
            CommandKind::Recommission { asset } if *asset == self.identity.asset => {
                self.with_monitor(now, |monitor, at, sink| monitor.recommission(at, sink));
                self.show();
            }
            CommandKind::Flush => {}
            CommandKind::Reset { .. } | CommandKind::Recommission { .. } => return Outcome::Refused,
        }
        Outcome::Done
    }
}

impl Time {
    /// `None` of a reply that can't belong to a request of this node.
    fn from(reply: &TimeReply, now: Monotonic) -> Option<Self> {
        let away = now.0.checked_sub(reply.sent.0)?;
        let there = u64::try_from(reply.replied.0.checked_sub(reply.received.0)?).ok()?;
        let round_trip = i64::try_from(away.checked_sub(there)?).ok()?;
        let offset = reply.replied.0.checked_add(round_trip / 2)?.checked_sub(micros(now).0)?;
        let uncertainty = Micros(round_trip / 2 + 1);
        Some(Self { offset, uncertainty, round_trip_us: u32::try_from(round_trip).unwrap_or(u32::MAX) })
    }
}

/// Says what the monitor says: first locally, then on the line.
struct Voice<'a, L, O, const B: usize> {
    identity: &'a Identity,
    now: Monotonic,
    tracks: &'a mut Tracks,
    line: &'a mut Line<L, B>,
    output: &'a mut O,
}

impl<L: Link, O: AlarmOutput, const B: usize> Voice<'_, L, O, B> {
    fn say(&mut self, said: &Output<'_>) {
        let payload = match &said.what {
            What::Features(row) => Payload::Features((*row).clone()),
            What::Score(score) => {
                let mut score = (*score).clone();
                score.input = self.named(score.input);
                Payload::Score(score)
            }
            What::Alarm(alarm) => {
                if alarm.state != AlarmState::Cleared && alarm.severity > self.tracks.shown {
                    self.tracks.shown = alarm.severity;
                    self.output.show(alarm.severity);
                }
                let mut alarm = (*alarm).clone();
                alarm.input = self.named(alarm.input);
                // Without a journal nothing here is durable.
                alarm.unjournaled = true;
                Payload::Alarm(alarm)
            }
            What::Event(event) => Payload::Event(event.clone()),
            What::Spectrum(spectrum) => Payload::Spectrum((*spectrum).clone()),
            What::State(state) => Payload::State((*state).clone()),
            What::Trip(_) => {
                self.output.trip();
                return;
            }
        };
        let class = payload.class();
        let Some(next) = self.tracks.seq.get_mut(class as usize) else { return };
        let seq = *next;
        *next += 1;
        if class == Class::Feature {
            self.tracks.row = seq;
        }
        let Identity { tenant, site, asset, epoch, .. } = self.identity.clone();
        let time = self.tracks.time;
        self.line.record(&Record {
            point: Point { tenant, site, asset, point: said.point.clone() },
            epoch,
            seq,
            monotonic: self.now,
            timeline: Timeline::Device,
            wall: time.map(|time| Micros(micros(self.now).0.saturating_add(time.offset))),
            uncertainty: time.map_or(Micros(0), |time| time.uncertainty),
            payload,
        });
    }

    fn named(&self, input: RowRef) -> RowRef {
        RowRef { seq: self.tracks.row, ..input }
    }
}

fn micros(now: Monotonic) -> Micros {
    Micros(i64::try_from(now.0).unwrap_or(i64::MAX))
}

/// Samples per turn.
pub const BLOCK: usize = 128;
const TIME_EVERY_US: u64 = 60_000_000;
