//! Where a machine's outputs go: what they do on the spot, then to the recorder, which may make the machine wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use kilter_monitor::{Output, What};
use kilter_source::Stop;
use kilter_types::{Class, Micros, Name, Timeline};
use tracing::warn;

use crate::action::Actions;
use crate::board::Board;
use crate::recorder::Message;
use crate::said::Said;

/// Where a machine's outputs go.
#[derive(Clone, Debug)]
pub(crate) struct Outlet {
    pub(crate) recorder: SyncSender<Message>,
    /// Outputs per class that the recorder had no room for.
    pub(crate) overruns: Arc<[AtomicU64; Class::ALL.len()]>,
    pub(crate) board: Board,
    pub(crate) actions: Arc<Actions>,
}

/// Acts on the spot, then hands the output to the recorder.
#[expect(clippy::too_many_arguments, reason = "the parts of a machine that a sink may borrow while its monitor works")]
pub(super) fn hand_over(
    output: &Output<'_>,
    machine: usize,
    asset: &Name,
    timeline: Timeline,
    newest: Micros,
    replayable: bool,
    outlet: &Outlet,
    clogged: &mut bool,
) {
    match &output.what {
        What::Alarm(alarm) => {
            outlet.actions.alarm(asset, output.point, output.at, alarm);
            outlet.board.machine(machine, |machine| machine.alarms += 1);
        }
        What::Trip(trip) => {
            outlet.board.machine(machine, |machine| {
                machine.trips += 1;
                machine.summary.tripped = true;
            });
            outlet.actions.trip(asset, output.point, output.at, trip);
        }
        What::Features(row) => outlet.board.row(machine, output.point, row),
        What::Score(_) | What::Event(_) | What::Spectrum(_) | What::State(_) => {}
    }
    let Some(said) = Said::of(machine, output, timeline, replayable, newest) else { return };
    let class = said.payload.class();
    let mut message = Message::Said(said);
    for _ in 0..if *clogged { 1 } else { PATIENCE } {
        message = match outlet.recorder.try_send(message) {
            Ok(()) => {
                *clogged = false;
                return;
            }
            Err(TrySendError::Full(message)) => message,
            Err(TrySendError::Disconnected(_)) => break,
        };
        // Back-pressure: the source waits while the disk is slow, but not for ever.
        Stop::default().wait(Duration::from_millis(2));
    }
    if !std::mem::replace(clogged, true) {
        warn!(%asset, "the recorder takes nothing: outputs are lost and told as a gap");
    }
    if let Some(count) = outlet.overruns.get(class as usize) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Attempts of 2 ms each.
const PATIENCE: u32 = 2500;
