//! Bearing records of a folder with a `meta.json`: which race is faulty, by physics alone.
//!
//! The verdict is the cause of the alarm that the monitor raises from the diagnosis. It is trained on no record, so every class is
//! left out by nature; random splits of one bearing would be leakage and are not reported.

use std::path::Path;

use kilter_monitor::ChannelKind;
use kilter_recording::{Bearing, DataSet, read_bounded};
use kilter_signal::bearing::Orders;
use kilter_types::{AlarmState, GroupKind, Hertz};

use super::{
    Evaluation, Report, SuiteError,
    path::{Said, failed, machine, run},
    report::Source,
};

pub(crate) fn evaluate(folder: &Path, _: &Evaluation, tell: &mut dyn FnMut(&str)) -> Result<Report, SuiteError> {
    let mut verdicts = Vec::new();
    for source in DataSet::Cwru.sources(folder)? {
        let record = source.read()?;
        let channel = record.channels.first().ok_or_else(|| failed("a record without a channel"))?;
        let rate = channel.rate.unwrap_or(Hertz(0.0));
        let window = kilter_signal::fft::longest_len(rate.0 as usize).ok_or_else(|| failed("a rate too low"))? as u32;
        let kind = ChannelKind::Vibration { rate };
        let mut config =
            machine(&[(channel.name.as_str(), channel.unit, kind)], GroupKind::Vibration, window, window / 4)?;
        config.bearing = record.bearing.as_ref().and_then(orders);
        config.nominal_rpm = record.rpm;
        let said = run(config, None, &record)?;
        let causes: Vec<&'static str> = said
            .iter()
            .filter_map(|word| match word {
                Said::Alarm { alarm, .. } if alarm.state != AlarmState::Cleared => Some(alarm.cause.as_str()),
                Said::Alarm { .. } | Said::Score(_) | Said::Drift => None,
            })
            .collect();
        tell(&format!("{}: {causes:?}", record.name));
        verdicts.push((record.name.clone(), causes.last().copied().unwrap_or("normal")));
    }
    // Only now the labels.
    let labels = labels(folder)?;
    let mut report = Report { scorings: 1, ..Report::default() };
    let source = Source::of(&[]);
    let mut classes: Vec<&String> = labels.values().collect();
    classes.sort();
    classes.dedup();
    let most = classes.iter().map(|class| labels.values().filter(|l| l == class).count()).max().unwrap_or(0);
    let right = |class: Option<&String>| {
        let of: Vec<_> = verdicts
            .iter()
            .filter(|(name, _)| labels.get(name).is_some_and(|label| class.is_none_or(|class| label == class)))
            .collect();
        let hits = of.iter().filter(|(name, verdict)| labels.get(name).is_some_and(|label| same(label, verdict)));
        (hits.count() as f64 / of.len().max(1) as f64, of.len())
    };
    for class in classes {
        let (share, count) = right(Some(class));
        report.add(("bearing", &format!("{class}, {count} records"), None), ("recall", share, None), &source);
    }
    let (share, count) = right(None);
    let baseline = Some(most as f64 / labels.len().max(1) as f64);
    report.add(("bearing", &format!("{count} records"), None), ("accuracy", share, baseline), &source);
    report
        .notes
        .push("physics, no artifact: the kernel is that of rules; baseline: the most frequent class".to_owned());
    report.notes.push("ball faults of 0.007 in are graded not diagnosable (Smith and Randall 2015)".to_owned());
    Ok(report)
}

fn same(label: &str, verdict: &str) -> bool {
    let word = |text: &str| text.to_ascii_lowercase().replace(['-', ' '], "_");
    let (label, verdict) = (word(label), word(verdict));
    label == verdict || label == "ball" && verdict.contains("element")
}

fn orders(bearing: &Bearing) -> Option<Orders> {
    match bearing {
        Bearing::Designation(name) => name
            .split(|c: char| !c.is_ascii_digit())
            .filter(|word| word.len() >= 3)
            .find_map(|word| Orders::catalogue(word).ok()),
        Bearing::Orders { bpfo, bpfi, bsf, ftf } => Some(Orders { bpfo: *bpfo, bpfi: *bpfi, bsf: *bsf, ftf: *ftf }),
    }
}

fn labels(folder: &Path) -> Result<std::collections::BTreeMap<String, String>, SuiteError> {
    let own = folder.join(DataSet::Cwru.word());
    let path = if own.is_dir() { own } else { folder.to_owned() }.join("meta.json");
    let meta: serde_json::Value = serde_json::from_slice(&read_bounded(&path)?)
        .map_err(|error| SuiteError::Format { file: path.display().to_string(), what: error.to_string() })?;
    let entries = meta.as_object().into_iter().flatten();
    Ok(entries
        .filter_map(|(name, entry)| {
            let name = name.trim_end_matches(".npy").to_owned();
            Some((name, entry["label"].as_str()?.to_owned()))
        })
        .collect())
}
