//! IMS: bearings until one of them fails, as a trend. The first 200 rows of each bearing train; then rows come one by one.
//!
//! Each bearing is a machine of its own with its own detector around its own beginning.

use std::path::Path;

use kilter_monitor::ChannelKind;
use kilter_recording::{DataSet, Item, Recording};
use kilter_types::{ChannelId, GroupKind, Micros, Severity, Unit};

use super::{
    Evaluation, Report, SuiteError,
    alarm::{raised, standing},
    detector::{Straying, Tuning},
    path::{For, Signed, machine, run},
    report::Source,
    skab::{features, table},
};

pub(crate) fn evaluate(folder: &Path, _: &Evaluation, tell: &mut dyn FnMut(&str)) -> Result<Report, SuiteError> {
    let mut report = Report::default();
    for source in DataSet::Ims.sources(folder)? {
        let file = source.read()?;
        for channel in 0..file.channels.len() {
            let bearing = only(&file, channel);
            let rows = table(&bearing);
            let count = rows.values.len();
            let beginning = rows.first(TRAIN);
            let straying = Straying::alone(&beginning, TUNING);
            let artifact = straying.artifact(&beginning, &features(1)?, GroupKind::Reading, TUNING)?;
            let name = format!("{} bearing {}", file.name, channel + 1);
            let model = Signed::new(artifact, For { task: "anomaly", class: "bearing", asset: Some(&name) })?;
            let kind = ChannelKind::Reading { period: Some(Micros::from_secs(600)) };
            let mut config = machine(&[("bearing", Unit::G, kind)], GroupKind::Reading, 1, 1)?;
            config.commissioning_windows = TRAIN as u32;
            let said = run(config, Some(&model), &bearing)?;
            report.keep(("ims", &name, None), &said);
            let alarms = raised(&standing(&said, count, Severity::Watch));
            let severe = raised(&standing(&said, count, Severity::Alarm));
            tell(&format!("{} bearing {}: alarms at rows {alarms:?}", file.name, channel + 1));
            let source = Source::of(std::slice::from_ref(&model));
            let first = alarms.iter().find(|row| **row >= TRAIN).map_or(f64::NAN, |row| *row as f64);
            report.add(("ims", &name, None), ("first alarm, row", first, simple(&rows.values)), &source);
            let first = severe.first().map_or(f64::NAN, |row| *row as f64);
            report.add(("ims", &name, None), ("first severe alarm, row", first, None), &source);
            report.add(("ims", &name, None), ("alarms", alarms.len() as f64, None), &source);
        }
        report.scorings += 1;
    }
    report.notes.push(PUBLISHED.to_owned());
    Ok(report)
}

/// The simple rule: a median of six rows beyond four robust scales of rows 20 to 199, six times in a row.
fn simple(values: &[f32]) -> Option<f64> {
    let median = |values: &[f32]| {
        let mut sorted = values.to_vec();
        sorted.sort_by(f32::total_cmp);
        let middle = sorted.len() / 2;
        if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
    };
    if values.len() < TRAIN {
        return None;
    }
    let smooth: Vec<f32> = values.windows(6).map(median).collect();
    let known = &smooth[15..TRAIN - 5];
    let centre = median(known);
    let spread = 1.4826 * median(&known.iter().map(|v| (v - centre).abs()).collect::<Vec<_>>());
    let beyond: Vec<bool> = smooth.iter().map(|v| (v - centre) / spread > 4.0).collect();
    let start = beyond.windows(6).skip(TRAIN).position(|six| six.iter().all(|b| *b));
    Some(start.map_or(f64::NAN, |row| (row + TRAIN + 10) as f64))
}

/// One channel as a recording of its own.
pub(crate) fn only(file: &Recording, channel: usize) -> Recording {
    let mut recording = file.clone();
    recording.channels = vec![file.channels[channel].clone()];
    recording.items.retain_mut(|item| match item {
        Item::Reading { channel: of, .. } if usize::from(of.0) == channel => {
            *of = ChannelId(0);
            true
        }
        _ => false,
    });
    recording
}

const TRAIN: usize = 200;
const TUNING: Tuning = Tuning::new(0.2);
const PUBLISHED: &str = "goal of test 2: bearing 1 at or before row 540, none on any bearing before row 500; baseline: the simple rule, robust z > 4";
