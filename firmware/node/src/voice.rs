//! Says what the monitor says: first at the node's own output, then as records on the line.

use kilter_monitor::{Output, What};
use kilter_types::{AlarmState, Class, Monotonic, Name, Payload, Point, Record, RowRef, Severity, Timeline};

use crate::{AlarmOutput, Identity, Line, Link, time::Clock};

/// How far the records have come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Numbers {
    /// Next seq per class.
    seq: [u64; Class::ALL.len()],
    /// The newest feature row, which scores and alarms name.
    row: u64,
    /// What the output shows.
    pub(crate) shown: Severity,
    /// The machine was stopped and nobody has released it.
    pub(crate) tripped: bool,
}

/// Everything that speaking needs.
pub(crate) struct Voice<'a, L, O, const B: usize> {
    pub(crate) identity: &'a Identity,
    pub(crate) now: Monotonic,
    pub(crate) clock: &'a Clock,
    pub(crate) numbers: &'a mut Numbers,
    pub(crate) line: &'a mut Line<L, B>,
    pub(crate) output: &'a mut O,
}

impl<L: Link, O: AlarmOutput, const B: usize> Voice<'_, L, O, B> {
    /// Acts on one output of the monitor and records it. The local alarm is set before anything is sent (A2).
    pub(crate) fn say(&mut self, said: &Output<'_>) {
        let payload = match &said.what {
            What::Features(row) => Payload::Features((*row).clone()),
            What::Score(score) => {
                let mut score = (*score).clone();
                score.input = self.named(score.input);
                Payload::Score(score)
            }
            What::Alarm(alarm) => {
                if alarm.state != AlarmState::Cleared && alarm.severity > self.numbers.shown {
                    self.numbers.shown = alarm.severity;
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
                self.numbers.tripped = true;
                self.output.trip();
                return;
            }
        };
        self.record(said.point.clone(), payload);
    }

    /// Records something with the next seq of its class.
    pub(crate) fn record(&mut self, point: Name, payload: Payload) {
        let class = payload.class();
        let Some(next) = self.numbers.seq.get_mut(class as usize) else { return };
        let seq = *next;
        *next += 1;
        if class == Class::Feature {
            self.numbers.row = seq;
        }
        let Identity { tenant, site, asset, epoch, .. } = self.identity;
        let time = self.clock.wall(self.now);
        self.line.record(&Record {
            point: Point { tenant: tenant.clone(), site: site.clone(), asset: asset.clone(), point },
            epoch: *epoch,
            seq,
            monotonic: self.now,
            timeline: Timeline::Device,
            wall: time.map(|(wall, _)| wall),
            uncertainty: time.unwrap_or_default().1,
            payload,
        });
    }

    fn named(&self, input: RowRef) -> RowRef {
        RowRef { seq: self.numbers.row, ..input }
    }
}
