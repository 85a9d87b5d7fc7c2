//! What stands in the aggregator's journal.

use kilter_types::{Class, DeviceId, Epoch, JournalId, Micros, Monotonic};
use serde::{Deserialize, Serialize};

/// One entry. Variants are only ever added at the end: postcard numbers them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Entry {
    /// The first entry: a journal begins, with what earlier journals had brought into the lake.
    Opened {
        /// The journal.
        journal_id: JournalId,
        /// When.
        at: Micros,
        /// Marks stored with the lake's last commits.
        marks: Vec<MarkState>,
    },
    /// A batch of records, admitted.
    Batch {
        /// Who sent it.
        device: DeviceId,
        /// When it came in.
        received: Micros,
        /// The records' epoch.
        epoch: Epoch,
        /// The records as in [`kilter_wire::Batch`].
        #[serde(with = "serde_bytes")]
        records: Vec<u8>,
    },
    /// A time exchange.
    Exchange {
        /// With whom.
        device: DeviceId,
        /// The epoch in which the node asked.
        epoch: Epoch,
        /// When the request came in.
        received: Micros,
        /// The node's clock when it asked.
        monotonic: Monotonic,
        /// The node's last round trip in microseconds; 0 before the first.
        round_trip_us: u32,
    },
    /// The fold's clock: one a second.
    Tick {
        /// The aggregator's wall clock.
        now: Micros,
    },
    /// A payload that could not be admitted.
    Quarantined {
        /// Who sent it.
        device: DeviceId,
        /// When it came in.
        received: Micros,
        /// What is wrong with it.
        reason: String,
        /// The payload, cut at [`Entry::MAX_QUARANTINED_BYTES`].
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// A batch of records, admitted though its device had used up its day: what is no alarm, event, gap or report is quarantined.
    OverQuota {
        /// Who sent it.
        device: DeviceId,
        /// When it came in.
        received: Micros,
        /// The records' epoch.
        epoch: Epoch,
        /// The records as in [`kilter_wire::Batch`].
        #[serde(with = "serde_bytes")]
        records: Vec<u8>,
    },
}

impl Entry {
    /// The most bytes of a payload that quarantine keeps.
    pub const MAX_QUARANTINED_BYTES: usize = 4096;

    /// The number that stands as `class` in the journal's entry header.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Opened { .. } => 0,
            Self::Batch { .. } => 1,
            Self::Exchange { .. } => 2,
            Self::Tick { .. } => 3,
            Self::Quarantined { .. } => 4,
            Self::OverQuota { .. } => 5,
        }
    }

    /// The entry's bytes: version, then postcard.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![VERSION]).expect("an entry holds nothing that postcard can't write")
    }

    /// Reads an entry back.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        match bytes.split_first() {
            None => Err(EntryError::Body),
            Some((&VERSION, body)) => match postcard::take_from_bytes(body) {
                Ok((entry, [])) => Ok(entry),
                Ok(_) | Err(_) => Err(EntryError::Body),
            },
            Some((&version, _)) => Err(EntryError::Version(version)),
        }
    }
}

/// One mark of a device, as the lake's commits store it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MarkState {
    /// The device.
    pub device: DeviceId,
    /// The epoch.
    pub epoch: Epoch,
    /// The class.
    pub class: Class,
    /// Every seq below is in the lake.
    pub to: u64,
    /// Ranges beyond that are in the lake too: first and last seq.
    pub beyond: Vec<(u64, u64)>,
}

/// Why bytes are not an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// A version that this build does not know.
    #[error("read a journal entry of version {0}: this build reads version {VERSION}")]
    Version(u8),
    /// Not readable.
    #[error("read a journal entry: its body is damaged")]
    Body,
}

const VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use kilter_types::{DeviceId, Epoch, Micros, Name};

    use super::Entry;

    #[test]
    fn a_batch_is_written_as_version_number_and_fields_with_its_records_as_they_are() {
        let device = DeviceId(Name::new("a").expect("a name"));
        let entry = Entry::Batch { device, received: Micros(1), epoch: Epoch(200), records: vec![0xff, 0, 0x80] };
        let bytes = entry.encode();
        assert_eq!(bytes, [1, 1, 1, b'a', 2, 0xc8, 1, 3, 0xff, 0, 0x80]);
        assert_eq!(Entry::decode(&bytes), Ok(entry));
    }
}
