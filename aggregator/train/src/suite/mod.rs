//! Public data sets through the production path: input, features, the kernel's score, the decision.
//!
//! A suite takes every file of its kind that lies in a folder, trains on what the set calls training, exports and signs what it
//! trained, and lets the monitor that firmware and agents run say what it says of the rest, row by row and causally. Burn scores
//! none of the figures, and no choice is made by a row that is scored: choices come from machines, or from rows of the training
//! part, that their candidate did not see. Labels of scored rows are read after the last word. A trivial baseline stands beside
//! each figure, and each figure names the artifact and the kernel it comes from.

mod ai4i;
mod alarm;
mod bearing;
mod cmapss;
pub(crate) mod detector;
mod export;
mod femto;
mod ims;
mod measure;
mod nab;
mod path;
mod report;
mod shift;
pub(crate) mod skab;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{LifeDataset, TrainError};

pub use export::{Exported, ScoreRow};
pub use report::{Report, Row};

/// Which data sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// Turbofan engines: how long is left.
    Cmapss,
    /// A water circuit: faults, row by row.
    Skab,
    /// A machine's temperature: early alarms, few false ones.
    Nab,
    /// Bearings until one fails, as a trend.
    Ims,
    /// Bearings worn to failure in hours.
    Femto,
    /// Records of faulty bearings: which race.
    Bearing,
    /// Rows of a milling machine: failures.
    Ai4i,
    /// A head meets engines that wear faster, and learns them.
    Shift,
}

impl Suite {
    /// Every suite.
    pub const ALL: [Self; 8] =
        [Self::Cmapss, Self::Skab, Self::Nab, Self::Ims, Self::Femto, Self::Bearing, Self::Ai4i, Self::Shift];

    /// The word that names it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cmapss => "cmapss",
            Self::Skab => "skab",
            Self::Nab => "nab",
            Self::Ims => "ims",
            Self::Femto => "femto",
            Self::Bearing => "bearing",
            Self::Ai4i => "ai4i",
            Self::Shift => "shift",
        }
    }

    /// The suite of this name.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.word() == word)
    }
}

/// What stops an evaluation.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// A file.
    #[error("read the data set")]
    Recording(#[from] kilter_recording::RecordingError),
    /// A file that holds something else than its kind promises.
    #[error("read {file}: {what}")]
    Format {
        /// Which.
        file: String,
        /// What is wrong.
        what: String,
    },
    /// No model came of it.
    #[error("train for the suite")]
    Train(#[from] TrainError),
    /// The monitor refused something.
    #[error("run the production path: {0}")]
    Path(String),
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Seeds from 1 to so many.
    pub seeds: u64,
    /// Steps per network; fewer for a quick look.
    pub steps: Option<usize>,
    /// C-MAPSS: mixes what the training engines had left, so that there is nothing to learn; the constant must win.
    pub shuffled_labels: bool,
}

impl Default for Evaluation {
    fn default() -> Self {
        Self { seeds: 3, steps: None, shuffled_labels: false }
    }
}

/// Runs one suite on the files that lie in the folder; `tell` hears how far it is.
pub fn evaluate(
    suite: Suite,
    folder: &Path,
    evaluation: &Evaluation,
    tell: &mut dyn FnMut(&str),
) -> Result<Report, SuiteError> {
    match suite {
        Suite::Cmapss => cmapss::evaluate(folder, evaluation, tell),
        Suite::Skab => skab::evaluate(folder, evaluation, tell),
        Suite::Nab => nab::evaluate(folder, evaluation, tell),
        Suite::Ims => ims::evaluate(folder, evaluation, tell),
        Suite::Femto => femto::evaluate(folder, evaluation, tell),
        Suite::Bearing => bearing::evaluate(folder, evaluation, tell),
        Suite::Ai4i => ai4i::evaluate(folder, evaluation, tell),
        Suite::Shift => shift::evaluate(folder, evaluation, tell),
    }
}

/// Machines that ran to failure, of each C-MAPSS subset in the folder: its training part alone.
pub fn lives(folder: &Path) -> Result<BTreeMap<String, LifeDataset>, SuiteError> {
    let subsets = cmapss::subsets(folder)?.into_iter();
    subsets.map(|(name, engines)| Ok((name, cmapss::dataset(&engines.train)?))).collect()
}

/// The files of a folder with one of these endings, by name.
fn files(folder: &Path, endings: &[&str]) -> Result<Vec<PathBuf>, SuiteError> {
    let failed = |source| kilter_recording::RecordingError::Read { path: folder.to_owned(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_file() && endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(path);
        }
    }
    found.sort();
    if found.is_empty() {
        return Err(SuiteError::Format {
            file: folder.display().to_string(),
            what: format!("holds no file that ends in {}", endings[0]),
        });
    }
    Ok(found)
}
