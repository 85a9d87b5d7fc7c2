//! What a day has cost so far, on disk: one line `<day> <bytes>`, whole or not there, so that a restart refills no budget.

use std::io;
use std::path::{Path, PathBuf};

use kilter_uplink::{Spent, Status};
use tokio::sync::watch;
use tracing::warn;

use crate::file;

/// What was kept; nothing where there is none or it can't be read.
pub(crate) fn load(path: &Path) -> Spent {
    let text = file::read(path).ok().flatten().and_then(|bytes| String::from_utf8(bytes).ok());
    let numbers = text.as_deref().and_then(|text| text.trim().split_once(' '));
    let known = numbers.and_then(|(day, bytes)| Some(Spent { day: day.parse().ok()?, bytes: bytes.parse().ok()? }));
    known.unwrap_or_default()
}

/// Keeps it, durably.
pub(crate) fn keep(path: &Path, spent: Spent) -> io::Result<()> {
    file::replace(path, format!("{} {}\n", spent.day, spent.bytes).as_bytes())
}

/// Keeps what the uplink says, until it ends.
pub(crate) async fn follow(path: PathBuf, mut uplink: watch::Receiver<Status>) {
    let mut kept = load(&path);
    while uplink.changed().await.is_ok() {
        let spent = uplink.borrow_and_update().spent;
        if spent == kept {
            continue;
        }
        kept = spent;
        let file = path.clone();
        match tokio::task::spawn_blocking(move || keep(&file, spent)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(path = %path.display(), %error, "the day's budget of the uplink is not kept"),
            Err(_) => return,
        }
    }
}
