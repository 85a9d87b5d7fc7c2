//! When a machine ran: sessions of windows in which it was turning, closed after ten minutes without one.

use std::collections::BTreeMap;

use kilter_types::{FeatureRow, Micros, OperatingState};
use serde::{Deserialize, Serialize};

use crate::window::{Shape, Span, Summary, Told, Windows};

/// The runs of one machine; the summary is of the shaft's speed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Runs {
    windows: Windows,
    ended: BTreeMap<Span, Summary>,
}

impl Default for Runs {
    fn default() -> Self {
        let windows = Windows::new(Shape::Session { gap: GAP }, LATENESS).expect("a gap has a length");
        Self { windows, ended: BTreeMap::new() }
    }
}

impl Runs {
    /// Takes a row that met the watermark `met`; the watermark stands at `reached` since.
    pub(crate) fn take(&mut self, t: Micros, row: &FeatureRow, met: Option<Micros>, reached: Option<Micros>) {
        let ended = &mut self.ended;
        let mut hear = |told| match told {
            Told::Closed(span, summary) | Told::Corrected(span, summary) => drop(ended.insert(span, summary)),
            Told::Retracted(span) => drop(ended.remove(&span)),
        };
        match row.state {
            OperatingState::Transient | OperatingState::Steady(_) => {
                // What is too late for its run is in the lake and counted with the rest.
                self.windows.add(t, row.rpm.0, met, &mut hear);
            }
            OperatingState::Off | OperatingState::Unknown => {}
        }
        if let Some(reached) = reached {
            self.windows.advance(reached, &mut hear);
        }
        while self.ended.len() > MAX_RUNS {
            self.ended.pop_first();
        }
    }

    /// Runs that have ended, oldest first, the last of them.
    pub fn ended(&self) -> impl Iterator<Item = (Span, Summary)> {
        self.ended.iter().map(|(span, summary)| (*span, *summary))
    }

    /// The run that goes on, if there is one.
    pub fn current(&self) -> Option<(Span, Summary)> {
        self.windows.iter().filter(|(_, _, closed)| !closed).map(|(span, summary, _)| (span, summary)).last()
    }
}

/// So long a silence ends a run.
const GAP: Micros = Micros::from_secs(600);

/// So long after its end a run is still corrected.
const LATENESS: Micros = Micros::from_secs(3_600);

/// So long after a window its run may still be corrected by it.
pub(crate) const CORRECTED_FOR: Micros = Micros::from_secs(3_600 + 600);

const MAX_RUNS: usize = 64;
