//! SKAB: faults of a water circuit, row by row. The first 400 rows of each file train, the rest is scored, counts are pooled.
//!
//! Each file gets its own detector around its own beginning; how far a healthy rig strays is learned from the training rows
//! of all files. `anomaly-free` holds no fault to find and is left out.

use std::path::Path;

use kilter_monitor::ChannelKind;
use kilter_recording::{ChannelDeclaration, CsvDeclaration, DataSet, Declaration, Item, Recording};
use kilter_signal::table::{Schema, find};
use kilter_types::{ChannelId, FeatureRef, GroupKind, Micros, Severity, Unit};

use super::{
    Evaluation, Report, SuiteError,
    alarm::{raised, standing},
    detector::{Fleet, Table, Tuning},
    path::{Signed, failed, machine, run},
    report::Source,
};

pub(crate) fn evaluate(folder: &Path, _: &Evaluation, tell: &mut dyn FnMut(&str)) -> Result<Report, SuiteError> {
    let mut files = Vec::new();
    for source in DataSet::Skab.sources(folder)? {
        if !source.name.contains("anomaly-free") {
            files.push((source.read()?, source.path));
        }
    }
    let tables: Vec<Table> = files.iter().map(|(file, _)| table(file)).collect();
    let pieces: Vec<Table> = tables.iter().map(|table| table.first(TRAIN)).collect();
    let fleet = Fleet::learn(&pieces, TUNING)?;
    let (mut counts, mut every) = (Counts::default(), Counts::default());
    let mut models = Vec::new();
    for ((file, path), piece) in files.iter().zip(&pieces) {
        tell(&format!("{}: {} rows", file.name, file.items.len() / file.channels.len().max(1)));
        let features = features(file.channels.len())?;
        let model =
            Signed::new(fleet.straying(piece).artifact(piece, &features, GroupKind::Reading, TUNING)?, "anomaly")?;
        let names: Vec<&str> = file.channels.iter().map(|channel| channel.name.as_str()).collect();
        let kind = ChannelKind::Reading { period: Some(Micros::from_secs(1)) };
        let channels: Vec<_> =
            names.iter().zip(&file.channels).map(|(name, channel)| (*name, channel.unit, kind)).collect();
        let mut config = machine(&channels, GroupKind::Reading, 1, 1)?;
        // The model already knows this machine's beginning: the baseline on the device need not learn it again.
        config.commissioning_windows = LEAST_COMMISSIONING;
        let said = run(config, Some(&model), file)?;
        // Only now the labels.
        let labels = labels(path)?;
        let stands = standing(&said, labels.len(), Severity::Watch);
        counts.count(&labels[TRAIN..], &stands[TRAIN..]);
        every.count(&labels[TRAIN..], &vec![true; labels.len() - TRAIN]);
        models.push(model);
    }
    let mut report = Report { scorings: 1, ..Report::default() };
    let source = Source::of(&models);
    let name = format!("{} files", files.len());
    let mut add = |metric: &str, of: &dyn Fn(&Counts) -> f64| {
        report.add(("skab", &name, None), (metric, of(&counts), Some(of(&every))), &source);
    };
    add("F1", &Counts::f1);
    add("false-alarm rate, %", &Counts::far);
    add("missed-alarm rate, %", &Counts::mar);
    add("false alarm events", &|c| c.false_events as f64);
    add("faults found, %", &|c| 100.0 * c.found as f64 / c.faults.max(1) as f64);
    report.notes.push(PUBLISHED.to_owned());
    Ok(report)
}

#[derive(Clone, Debug, Default)]
struct Counts {
    pairs: [[usize; 2]; 2],
    false_events: usize,
    faults: usize,
    found: usize,
}

impl Counts {
    fn count(&mut self, labels: &[bool], stands: &[bool]) {
        for (label, stands) in labels.iter().zip(stands) {
            self.pairs[usize::from(*label)][usize::from(*stands)] += 1;
        }
        self.false_events += raised(stands).into_iter().filter(|row| !labels[*row]).count();
        if labels.contains(&true) {
            self.faults += 1;
            self.found += usize::from(labels.iter().zip(stands).any(|(label, stands)| *label && *stands));
        }
    }

    fn f1(&self) -> f64 {
        let [[_, fp], [fn_, tp]] = self.pairs;
        tp as f64 / (tp as f64 + (fp + fn_) as f64 / 2.0).max(1.0)
    }

    fn far(&self) -> f64 {
        let [[tn, fp], _] = self.pairs;
        100.0 * fp as f64 / (fp + tn).max(1) as f64
    }

    fn mar(&self) -> f64 {
        let [_, [fn_, tp]] = self.pairs;
        100.0 * fn_ as f64 / (fn_ + tp).max(1) as f64
    }
}

/// The last value of each channel's window.
pub(crate) fn features(channels: usize) -> Result<Vec<FeatureRef>, SuiteError> {
    let schema = Schema::of(GroupKind::Reading, channels);
    let last = |channel: usize| {
        let id = find(&format!("r{channel}.last")).ok_or_else(|| failed("no such feature"))?;
        schema.features().iter().find(|feature| feature.id == id).copied().ok_or_else(|| failed("no such feature"))
    };
    (0..channels).map(last).collect()
}

/// The readings as rows; what is missing repeats what was there before.
pub(crate) fn table(recording: &Recording) -> Table {
    let width = recording.channels.len();
    let columns: Vec<Vec<f32>> = (0..width)
        .map(|channel| {
            let mut last = 0.0;
            let mut column = Vec::new();
            for item in &recording.items {
                if let Item::Reading { channel: ChannelId(of), value, .. } = item
                    && usize::from(*of) == channel
                {
                    last = if value.is_finite() { *value } else { last };
                    column.push(last);
                }
            }
            column
        })
        .collect();
    let rows = columns.iter().map(Vec::len).min().unwrap_or(0);
    Table { width, values: (0..rows).flat_map(|row| columns.iter().map(move |column| column[row])).collect() }
}

fn labels(path: &Path) -> Result<Vec<bool>, SuiteError> {
    let anomaly = ChannelDeclaration { column: "anomaly".to_owned(), name: None, unit: Some(Unit::One) };
    let csv = CsvDeclaration {
        separator: Some(';'),
        rate_hz: Some(1.0),
        columns: vec![anomaly],
        ..CsvDeclaration::default()
    };
    let recording = kilter_recording::open(path, &Declaration { csv: Some(csv), ..Declaration::default() })?;
    Ok(recording.samples(ChannelId(0)).iter().map(|label| *label > 0.5).collect())
}

const TRAIN: usize = 400;
const LEAST_COMMISSIONING: u32 = 12;
const TUNING: Tuning = Tuning { ewma: 0.1 };
const PUBLISHED: &str = "on this half: T2+Q .732 with 36.2 % false alarms and 38 events, EWMA-Mahalanobis .790 with 41.9 %, with a 30-row \
majority .747 with 26.1 % and 6 events; always alarm is the baseline";
