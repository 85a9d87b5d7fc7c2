//! When an alarm stood, from what the monitor said.

use kilter_types::{AlarmSource, AlarmState, Severity};

use super::path::Said;

/// Per window: does an alarm of the machine stand that is at least this severe? Windows that were never closed keep what stood before.
pub(crate) fn standing(said: &[Said], windows: usize, least: Severity) -> Vec<bool> {
    let mut changes: Vec<(u64, bool)> = Vec::new();
    for word in said {
        if let Said::Alarm { index, alarm } = word
            && alarm.source != AlarmSource::Sensor
        {
            match alarm.state {
                AlarmState::Raised | AlarmState::Changed => changes.push((*index, alarm.severity >= least)),
                AlarmState::Cleared => changes.push((*index, false)),
            }
        }
    }
    let mut next = changes.into_iter().peekable();
    let mut stands = false;
    (0..windows as u64)
        .map(|window| {
            while let Some((_, on)) = next.next_if(|(index, _)| *index <= window) {
                stands = on;
            }
            stands
        })
        .collect()
}

/// The windows in which an alarm was raised.
pub(crate) fn raised(standing: &[bool]) -> Vec<usize> {
    (0..standing.len()).filter(|i| standing[*i] && (*i == 0 || !standing[i - 1])).collect()
}
