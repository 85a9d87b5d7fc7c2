//! When seals go into the journal: every so many records, once a day, after a restart and at the end.

use kilter_journal::{Filesystem, Journal, Key as JournalKey};
use kilter_types::{Class, Epoch, Payload};
use kilter_uplink::Key;
use kilter_wire::encode_record;
use tracing::error;

use super::Spooler;
use crate::number::Stamp;
use crate::sealer::Sealer;

impl<F: Filesystem> Spooler<F> {
    /// Seals what is due; `all` that is open when the agent ends.
    pub(super) fn seal_due(&mut self, now: Stamp, all: bool) {
        while let Some(epoch) = self.sealer.as_mut().and_then(|sealer| sealer.due(now.monotonic.0, all)) {
            if !self.seal(epoch, now) {
                return;
            }
        }
    }

    /// Records of earlier runs that a crash left open.
    pub(super) fn seal_what_earlier_runs_left(&mut self, now: Stamp) {
        let own = self.numbering.epoch();
        let left = |sealer: &Sealer| sealer.epochs().into_iter().find(|epoch| *epoch != own);
        while let Some(epoch) = self.sealer.as_ref().and_then(left) {
            if !self.seal(epoch, now) {
                return;
            }
        }
    }

    /// Appends a seal over what is open of an epoch; `false` when the journal does not take it now.
    fn seal(&mut self, epoch: Epoch, now: Stamp) -> bool {
        if self.full {
            return false;
        }
        let (Some(journal), Some(sealer)) = (&mut self.journal, &mut self.sealer) else { return false };
        let Some(seal) = sealer.seal(epoch) else { return false };
        let record = self.numbering.own(Payload::Seal(seal), now);
        let key = Key { epoch: record.epoch, class: Class::Report, seq: record.seq };
        let outer = JournalKey { class: Class::Report as u8, epoch: key.epoch.0, seq: key.seq };
        let bytes = match encode_record(&record, &mut self.scratch) {
            Ok(bytes) => bytes,
            Err(reason) => {
                error!(error = %reason, "a seal can't be written");
                self.numbering.take_back(Class::Report);
                return false;
            }
        };
        match journal.append(outer, bytes, false) {
            Ok(_) => {
                sealer.made(&record, Journal::next_offset(journal).0);
                self.undurable.push(key);
                // Room for it may have cost others.
                self.take_dropped();
                true
            }
            Err(error) => {
                self.numbering.take_back(Class::Report);
                self.failed(&error);
                false
            }
        }
    }
}
