//! What a machine's monitor said, owned, on its way to the recorder.

use kilter_monitor::{Output, What};
use kilter_types::{Micros, Name, Payload, Timeline};

/// One thing to record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Said {
    /// Place of the machine in the configuration.
    pub(crate) machine: usize,
    pub(crate) point: Name,
    pub(crate) group: u8,
    /// The window that it belongs to.
    pub(crate) index: u64,
    /// Event time on `timeline`.
    pub(crate) at: Micros,
    pub(crate) timeline: Timeline,
    /// Computed from inputs, so that it comes again when these inputs do after a restart.
    pub(crate) replayable: bool,
    pub(crate) payload: Payload,
}

impl Said {
    /// An output of the monitor; `None` for a trip, which is an action: its record is the alarm with source `Protection` that comes
    /// with it and that only a reset clears.
    pub(crate) fn of(
        machine: usize,
        output: &Output<'_>,
        timeline: Timeline,
        replayable: bool,
        newest: Micros,
    ) -> Option<Self> {
        let payload = match &output.what {
            What::Features(row) => Payload::Features((*row).clone()),
            What::Score(score) => Payload::Score((*score).clone()),
            What::Alarm(alarm) => Payload::Alarm((*alarm).clone()),
            What::Event(event) => Payload::Event(event.clone()),
            What::Spectrum(spectrum) => Payload::Spectrum((*spectrum).clone()),
            What::State(state) => Payload::State((*state).clone()),
            What::Trip(_) => return None,
        };
        // What is not due to an input has no time of its own.
        let at = if output.at == Micros(0) { newest } else { output.at };
        let (point, group, index) = (output.point.clone(), output.group, output.index);
        Some(Self { machine, point, group, index, at, timeline, replayable, payload })
    }
}

/// What tests have said.
#[cfg(test)]
pub(crate) mod sample {
    use kilter_types::{
        Alarm, AlarmSource, AlarmState, Cause, Digest, KernelId, Micros, Payload, Role, RowRef, Score, Severity,
    };

    /// A score of a window, against a threshold of 2.
    pub(crate) fn score(index: u64, anomaly: f32) -> Payload {
        Payload::Score(Score {
            input: RowRef { group: 0, index, seq: 0 },
            anomaly,
            threshold: 2.0,
            rul: None,
            model: Digest::NONE,
            kernel: KernelId::RULE,
            role: Role::Leader,
            contributions: heapless::Vec::new(),
            rest: anomaly,
        })
    }

    /// An alarm that a window raised.
    pub(crate) fn alarm(index: u64) -> Payload {
        Payload::Alarm(Alarm {
            id: 1,
            state: AlarmState::Raised,
            severity: Severity::Alarm,
            source: AlarmSource::Rule,
            cause: Cause::Unclear,
            since: Micros(0),
            input: RowRef { group: 0, index, seq: 0 },
            model: Digest::NONE,
            evidence: heapless::Vec::new(),
            contributions: heapless::Vec::new(),
            unjournaled: false,
        })
    }
}
