//! A lab that has nothing left to do, and accounts of what it holds.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::house::{Lab, Server, ask, committed, within};

/// Commits come at once.
pub(crate) const QUICK: &str = "[commit]\nmax_wait_ms = 50\n";

/// A lab that has committed and published everything that the journal holds.
pub(crate) fn settled(data: &Path, server: &Server) -> Lab {
    let lab = Lab::start(data);
    published(data, server);
    lab
}

/// Waits until everything that the journal holds is published.
pub(crate) fn published(data: &Path, server: &Server) {
    within(60, || committed(data).filter(|published| published["offset"] == server.journal.next_offset().get()));
}

/// The account of the one measuring point.
pub(crate) fn account(data: &Path, from_s: i64, to_s: i64) -> Value {
    let request = json!({
        "op": "completeness", "point": "acme/north/press/drive-end", "from": from_s * 1_000_000, "to": to_s * 1_000_000,
    });
    ask(data, &request).expect("an account")
}

/// The lab's clock.
#[expect(clippy::disallowed_methods, reason = "the lab's clock is this machine's")]
pub(crate) fn now_us() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    now.as_micros() as i64
}

/// Every data file under a folder.
pub(crate) fn parquet_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        match path.is_dir() {
            true => files.extend(parquet_files(&path)),
            false if path.extension().is_some_and(|extension| extension == "parquet") => files.push(path),
            false => {}
        }
    }
    files
}
