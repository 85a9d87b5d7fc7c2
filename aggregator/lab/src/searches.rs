//! The logs of searches, and which search is not ended yet.
//!
//! ```text
//! search/<class>.json         the search that runs or was interrupted: what was asked and the time whose tables it reads
//! search/<class>-<time>.jsonl its trials, one line each, durable once written
//! networks/<digest>.kltm      the networks trained here, in f32: what a later run may go on from
//! networks/<class>.json       the card of the newest of each kind of machine
//! reports/<digest>.html       the report of a run, by its leader
//! ```

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use kilter_train::{Card, TrialLog};
use serde::{Deserialize, Serialize};

use crate::files::Files;
use crate::training::Search;

/// A search that was begun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Begun {
    /// The seed.
    pub(crate) seed: u64,
    /// What was asked.
    pub(crate) search: Search,
    /// It reads the tables as they stood then, by the lab's clock.
    pub(crate) at_us: i64,
}

/// A log of trials in a file.
pub(crate) struct FileLog(pub(crate) PathBuf);

impl TrialLog for FileLog {
    fn lines(&mut self) -> std::io::Result<Vec<String>> {
        match std::fs::read_to_string(&self.0) {
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn add(&mut self, line: &str) -> std::io::Result<()> {
        // A line that a crash cut does not take this one with it.
        let cut = std::fs::read(&self.0).is_ok_and(|bytes| bytes.last().is_some_and(|last| *last != b'\n'));
        let mut file = File::options().create(true).append(true).open(&self.0)?;
        let begin = if cut { "\n" } else { "" };
        file.write_all(format!("{begin}{line}\n").as_bytes())?;
        file.sync_data()
    }
}

impl Files {
    /// The search of this kind of machine (all of them without a class) that did not end.
    pub(crate) fn begun(&self, class: Option<&str>) -> Option<Begun> {
        serde_json::from_slice(&std::fs::read(self.path(&begun_name(class))).ok()?).ok()
    }

    /// A search begins.
    pub(crate) fn begin(&self, class: Option<&str>, begun: &Begun) -> anyhow::Result<()> {
        self.replace(&begun_name(class), &serde_json::to_vec(begun)?)
    }

    /// It ended.
    pub(crate) fn ended(&self, class: Option<&str>) -> anyhow::Result<()> {
        let path = self.path(&begun_name(class));
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("failed to remove {}", path.display()))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The log of a kind of machine's search that began at this time.
    pub(crate) fn trials(&self, class: &str, at_us: i64) -> anyhow::Result<FileLog> {
        let path = self.path(&format!("search/{class}-{at_us}.jsonl"));
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
        }
        Ok(FileLog(path))
    }

    /// The newest network of a kind of machine, with its card.
    pub(crate) fn champion(&self, class: &str) -> Option<(Vec<u8>, Card)> {
        let card = std::fs::read(self.path(&format!("networks/{class}.json"))).ok()?;
        let card: Card = serde_json::from_slice(&card).ok()?;
        let exact = card.exact.as_ref().unwrap_or(&card.digest);
        Some((self.network(exact).ok()?, card))
    }

    /// A network that was trained here.
    pub(crate) fn network(&self, digest: &str) -> anyhow::Result<Vec<u8>> {
        let path = self.path(&format!("networks/{digest}.kltm"));
        std::fs::read(&path)
            .with_context(|| format!("failed to read the network that it went on from, {}", path.display()))
    }

    /// Keeps a network, in f32, for later runs to go on from.
    pub(crate) fn keep_network(&self, class: &str, artifact: &[u8], card: &Card) -> anyhow::Result<()> {
        let exact = card.exact.as_ref().unwrap_or(&card.digest);
        self.replace(&format!("networks/{exact}.kltm"), artifact)?;
        self.replace(&format!("networks/{class}.json"), &serde_json::to_vec_pretty(card)?)
    }

    /// Writes a run's report; where it lies.
    pub(crate) fn report(&self, digest: &str, page: &str) -> anyhow::Result<PathBuf> {
        let name = format!("reports/{digest}.html");
        self.replace(&name, page.as_bytes())?;
        Ok(self.path(&name))
    }
}

fn begun_name(class: Option<&str>) -> String {
    // No class has such a name.
    format!("search/{}.json", class.unwrap_or("ALL"))
}

#[cfg(test)]
mod tests {
    use kilter_lake::open_gate;

    use super::*;

    #[test]
    fn a_line_that_a_crash_cut_does_not_take_the_next_one_with_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut log = FileLog(folder.path().join("log"));
        assert!(log.lines().expect("no file is no line").is_empty());
        log.add("one").expect("written");
        std::fs::write(&log.0, "one\ntw").expect("cut");
        log.add("three").expect("written");
        assert_eq!(log.lines().expect("readable"), ["one", "tw", "three"]);
    }

    #[test]
    fn a_search_is_remembered_until_it_ends() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = Files::open(folder.path(), open_gate()).expect("a lab");
        let begun = Begun { seed: 3, search: Search { candidates: 5, ..Search::default() }, at_us: 7 };
        assert_eq!(files.begun(Some("pump")), None);
        files.begin(Some("pump"), &begun).expect("written");
        assert_eq!((files.begun(Some("pump")), files.begun(None)), (Some(begun), None));
        files.ended(Some("pump")).expect("removed");
        files.ended(Some("pump")).expect("there is nothing to remove");
        assert_eq!(files.begun(Some("pump")), None);
    }
}
