//! What a node's gateway must know after a restart, as its checkpoint holds it.

use kilter_types::{Alarm, Name};
use serde::{Deserialize, Serialize};

use super::errand::Errand;

/// The snapshot of a node's checkpoint.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Kept {
    /// The node's start that was heard last.
    pub(super) epoch: Option<u64>,
    /// The last records: epoch, class, seq.
    pub(super) last: Vec<(u64, u8, u64)>,
    pub(super) errands: Vec<Errand>,
    pub(super) open: Vec<(Name, Alarm)>,
}

impl Kept {
    pub(super) fn parse(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_else(|_| {
            // As it was written before there were errands.
            Self { last: serde_json::from_slice(bytes).unwrap_or_default(), ..Self::default() }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_gateway_kept_before_there_were_errands_is_still_read() {
        for last in [vec![], vec![(7, 0, 3)], vec![(7, 0, 3), (7, 5, 9), (8, 0, 1)]] {
            let kept = Kept::parse(&serde_json::to_vec(&last).expect("a list"));
            assert_eq!((kept.last, kept.epoch, kept.errands.len()), (last, None, 0));
        }
        let kept = Kept { epoch: Some(7), last: vec![(7, 0, 3)], ..Kept::default() };
        let again = Kept::parse(&serde_json::to_vec(&kept).expect("text"));
        assert_eq!((again.epoch, again.last), (Some(7), kept.last));
    }
}
