//! What an aggregator's journal says, read from outside and folded anew: the records themselves, not what the aggregator tells of them.

use std::path::Path;

use anyhow::Context;
use kilter_fold::{Entry, Fold, Output};
use kilter_journal::{Offset, RealFilesystem, follow};

/// Every record once and every payload in quarantine, in the order of the journal below this data folder, whether an aggregator writes it or not.
pub fn journalled(data: &Path) -> anyhow::Result<Vec<Output>> {
    let mut reader = follow(RealFilesystem, &data.join("journal"), Offset(0)).context("follow the journal")?;
    let (mut fold, mut outputs) = (Fold::new(), Vec::new());
    while let Some(stored) = reader.next().context("read the journal")? {
        let entry = Entry::decode(&stored.bytes).context("read an entry")?;
        fold.apply(stored.offset.0, entry, &mut |output| outputs.push(output));
    }
    Ok(outputs)
}
