//! Windows on the hop grid: window `i` of a group covers the positions `i * hop` up to `i * hop + window` (W1).
//!
//! **The rule.** A window is emitted exactly when every one of its positions was delivered, in order, by every channel that
//! gates the group. A window that overlaps a hole is not emitted, is never stitched, and the first one after it carries
//! [`Quality::GAP`]; a hole between two windows (where the hop is longer) touches neither. So anybody can say from positions alone which rows there must be: those `i` whose range holds no missing
//! position. Where a stream begins at a position off the grid, the first window is the next one on it.
//!
//! A repeated position is dropped, so a conversation that is taken up again gives the same windows. A reading group waits for
//! its slowest channel; one that falls more than `max(hop, 32)` readings behind counts as missing there.
//!
//! **In time.** A clock that goes back sets `CLOCK_BACK`; a sampling rate that differs from the declared one, by word or by the
//! blocks' times, sets `WRONG_RATE`; a pause of more than three nominal periods between two readings sets `GAP`. These windows
//! are emitted, without a valid value, because positions know nothing of time.
//!
//! **Missing samples.** A sample that was delivered as NaN is no hole in positions: its window is emitted. A few are filled in by the
//! policy of [`kilter_signal::impute`]; the window is then marked `IMPUTED`, is scored, judged and diagnosed like any other, and teaches the
//! baseline nothing. Where the policy fills nothing the window is `NON_FINITE` and has no valid value.

use kilter_types::{GroupKind, Quality};
use serde::{Deserialize, Serialize};

use crate::{config::GroupConfig, memory::Needed, readings::reading_room};

/// What is asked for a group's open window.
pub(crate) fn needed(group: &GroupConfig) -> Needed {
    let window = group.window as usize;
    match group.kind {
        GroupKind::Vibration => Needed { floats: window, times: 0 },
        GroupKind::Temperature | GroupKind::Reading => {
            let room = group.channels.len() * reading_room(group);
            Needed { floats: room, times: room }
        }
        GroupKind::Cycle => Needed::default(),
    }
}

/// Where the grid stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Grid {
    /// The open window.
    pub(crate) index: u64,
    /// Has anything arrived yet?
    pub(crate) started: bool,
    /// A hole lies before the open window.
    pub(crate) gap: bool,
    /// Flags of what lies in the open window, from the times.
    pub(crate) flags: Quality,
}

impl Grid {
    /// Position of the open window's first sample.
    pub(crate) fn start(&self, hop: u64) -> u64 {
        self.index.saturating_mul(hop)
    }

    /// Moves to the first window that begins at `position` or later.
    pub(crate) fn move_to(&mut self, position: u64, hop: u64) {
        self.index = self.index.max(position.div_ceil(hop));
        self.flags = Quality::GOOD;
    }
}

/// Rows are windows of their own; a hole shows in the next one's flag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rows {
    next: u64,
    started: bool,
    gap: bool,
}

impl Rows {
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The row's quality; `None` when it was seen before.
    pub(crate) fn push(&mut self, position: u64) -> Option<Quality> {
        if self.started && position < self.next {
            return None;
        }
        let gap = core::mem::take(&mut self.gap) || self.started && position > self.next;
        self.started = true;
        self.next = position.saturating_add(1);
        Some(if gap { Quality::GAP } else { Quality::GOOD })
    }

    pub(crate) fn interrupt(&mut self) {
        self.gap = self.started;
    }

    pub(crate) fn skip(&mut self, to: u64) {
        if to > self.next {
            self.gap = self.started;
            self.started = true;
            self.next = to;
        }
    }
}

/// Beyond it a restored index would make positions overflow.
pub(crate) const MAX_INDEX: u64 = 1 << 38;
