//! The page when its snapshot is lost and segments are gone: what the lake holds is drawn again through the code that drew it first.
//!
//! The lab tells the rows in the order of their receipt. Those that its marks do not cover come from the journal, so nothing is drawn twice.
//! Beyond what the lab tells (it is bounded) counters are lower and rings shorter than they were.

use std::collections::HashMap;

use kilter_fold::{MarkState, Output, Row};
use kilter_live::Live;
use kilter_types::{Class, DeviceId, Epoch, Micros};

/// Tells rows of the lake; an error where not all of them came.
pub(crate) type Recall<'a> = &'a dyn Fn(&mut dyn FnMut(Output)) -> anyhow::Result<()>;

/// What the page showed of the records below these marks, and of how many.
pub(crate) fn redraw(marks: Vec<MarkState>, upto: Micros, recall: Recall<'_>) -> anyhow::Result<(Live, u64)> {
    let key = |mark: &MarkState| (mark.device.clone(), mark.epoch, mark.class);
    let marks: HashMap<(DeviceId, Epoch, Class), MarkState> =
        marks.into_iter().map(|mark| (key(&mark), mark)).collect();
    let taken = |row: &Row| {
        let (class, seq) = (row.record.class(), row.record.seq);
        marks.get(&(row.device.clone(), row.record.epoch, class)).is_some_and(|mark| {
            seq < mark.to || mark.beyond.iter().any(|(first, last)| (*first..=*last).contains(&seq))
        })
    };
    let (mut live, mut rows) = (Live::new(), 0);
    recall(&mut |output| {
        let drawn = match &output {
            Output::Row(row) => taken(row),
            Output::Quarantine { received, .. } => *received <= upto,
        };
        if drawn {
            live.apply(&output);
            rows += 1;
        }
    })?;
    Ok((live, rows))
}
