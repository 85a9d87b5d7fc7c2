//! NAB: one machine's temperature, scored by NAB's own rule. The first 15 % of the rows (at most 750) are probation and train.
//!
//! An alarm counts where it is raised: it stands until the machine is normal again, so it is one detection and not thousands.

use std::collections::BTreeMap;
use std::path::Path;

use kilter_monitor::ChannelKind;
use kilter_recording::{DataSet, Item, read_bounded};
use kilter_types::{GroupKind, Micros, Severity, Unit};

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
    for source in DataSet::Nab.sources(folder)? {
        let file = source.read()?;
        let count = file.items.len();
        tell(&format!("{}: {count} rows", file.name));
        let probation = (count * 15 / 100).min(750);
        let kind = ChannelKind::Reading { period: Some(Micros::from_secs(300)) };
        let mut config = machine(&[("temperature", Unit::One, kind)], GroupKind::Reading, 1, 1)?;
        config.commissioning_windows = probation.max(12) as u32;
        let columns = features(1)?;
        let beginning = table(&file).first(probation);
        let straying = Straying::alone(&beginning, TUNING);
        let artifact = straying.artifact(&beginning, &columns, GroupKind::Reading, TUNING)?;
        let model = Signed::new(artifact, For { task: "anomaly", class: "machine", asset: Some(&file.name) })?;
        let said = run(config, Some(&model), &file)?;
        report.keep(("nab", &file.name, None), &said);
        let stands = standing(&said, count, Severity::Watch);
        // Only now the windows.
        let times: Vec<Micros> = file
            .items
            .iter()
            .filter_map(|item| if let Item::Reading { t, .. } = item { Some(*t) } else { None })
            .collect();
        let Some(windows) = windows(&source.path)? else {
            report.notes.push(format!("{}: no windows beside it, not scored", file.name));
            continue;
        };
        let places: Vec<(usize, usize)> = windows
            .iter()
            .filter_map(|(from, to)| {
                let inside = |t: &Micros| from <= t && t <= to;
                Some((times.iter().position(inside)?, times.iter().rposition(inside)?))
            })
            .collect();
        let alarms = raised(&stands);
        let null = -(places.len() as f64);
        let source = Source::of(std::slice::from_ref(&model));
        let mut add = |metric: &str, value: f64, baseline: Option<f64>| {
            report.add(("nab", &file.name, None), (metric, value, baseline), &source);
        };
        let (value, hit, false_alarms) = score(&alarms, &places, count);
        add("raw score", value, Some(null));
        add("windows hit", hit as f64, Some(0.0));
        add("windows", places.len() as f64, None);
        add("false alarms", false_alarms as f64, Some(0.0));
        report.scorings += 1;
    }
    report.notes.push(PUBLISHED.to_owned());
    Ok(report)
}

/// NAB's raw score by the standard profile, with how many windows were hit and how many alarms lie outside.
fn score(alarms: &[usize], windows: &[(usize, usize)], rows: usize) -> (f64, usize, usize) {
    let probation = (rows * 15 / 100).min(750);
    let sigmoid = |x: f64| 2.0 / (1.0 + (5.0 * x).exp()) - 1.0;
    let mut best: BTreeMap<usize, f64> = BTreeMap::new();
    let (mut score, mut outside) = (0.0, 0);
    for row in alarms.iter().copied().filter(|row| *row >= probation) {
        if let Some(window) = windows.iter().position(|(from, to)| (*from..=*to).contains(&row)) {
            let (from, to) = windows[window];
            let value = sigmoid(-((to - row + 1) as f64) / (to - from + 1) as f64) / sigmoid(-1.0);
            let kept = best.entry(window).or_insert(value);
            *kept = kept.max(value);
            continue;
        }
        outside += 1;
        score -= match windows.iter().rfind(|(_, to)| *to < row) {
            None => FALSE_ALARM,
            Some((from, to)) => {
                let place = (row - to) as f64 / (to - from).max(1) as f64;
                if place > 3.0 { FALSE_ALARM } else { -sigmoid(place) * FALSE_ALARM }
            }
        };
    }
    let missed = windows.len() - best.len();
    (score + best.values().sum::<f64>() - missed as f64, best.len(), outside)
}

/// The labelled windows of a file, from `windows.json` beside it.
fn windows(path: &Path) -> Result<Option<Vec<(Micros, Micros)>>, SuiteError> {
    let beside = path.with_file_name("windows.json");
    if !beside.is_file() {
        return Ok(None);
    }
    let bytes = read_bounded(&beside)?;
    let wrong = |what: String| SuiteError::Format { file: beside.display().to_string(), what };
    let all: BTreeMap<String, Vec<[String; 2]>> =
        serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = name.strip_suffix(".gz").unwrap_or(&name);
    let key = all.keys().find(|key| key.rsplit('/').next() == Some(plain));
    let Some(pairs) = key.and_then(|key| all.get(key)) else { return Ok(None) };
    let time = |text: &str| {
        kilter_recording::TimeFormat::DateTime.parse(text).ok_or_else(|| wrong(format!("{text:?} is not a time")))
    };
    pairs.iter().map(|[from, to]| Ok((time(from)?, time(to)?))).collect::<Result<_, _>>().map(Some)
}

const FALSE_ALARM: f64 = 0.11;
/// An hour's mean, nearly.
const TUNING: Tuning = Tuning::new(0.1);
const PUBLISHED: &str = "first half of machine_temperature: null detector -2 (the baseline), rolling median and EWMA -0.12 to -0.38, \
knncad -0.89, ARTime 1.39, Numenta HTM 1.66";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_is_nabs_own() {
        let windows = [(1_000, 1_099), (2_000, 2_099)];
        // Nothing said: one lost per window. The first row of a window is worth 1, its last nearly nothing.
        assert_eq!(score(&[], &windows, 10_000), (-2.0, 0, 0));
        let (early, hit, _) = score(&[1_000, 2_000], &windows, 10_000);
        assert!((early - 2.0).abs() < 1e-9 && hit == 2);
        let (late, ..) = score(&[1_099, 2_099], &windows, 10_000);
        assert!((0.0..0.1).contains(&late), "{late}");
        // Far from any window an alarm costs 0.11, in probation nothing.
        assert!((score(&[100, 5_000], &windows, 10_000).0 - (-2.11)).abs() < 1e-9);
    }
}
