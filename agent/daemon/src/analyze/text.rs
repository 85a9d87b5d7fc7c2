//! The findings as text for people: a page per record, or a table of a folder.

use std::fmt::Write as _;

use kilter_signal::health;
use kilter_signal::table::{self, VIBRATION, at};
use kilter_signal::zone::Zone;

use super::examine::{Examined, Said, UNREADABLE};
use super::json::{NO_FAULT, demodulation_name, nearest, sensor};

/// One record in full.
pub(crate) fn record(examined: &Examined) -> String {
    let mut page = String::new();
    // Writing to a string cannot fail.
    let _ = write_record(&mut page, examined);
    page
}

/// One line per record.
pub(crate) fn table(all: &[Examined]) -> String {
    let width = all.iter().map(|e| e.file.len()).max().unwrap_or(0).max(4);
    let mut page =
        format!("{:<width$}  {:>4}  {:<16}  {:>5}  {:<26}  sensor\n", "file", "zone", "diagnosis", "score", "windows");
    for examined in all {
        let whole = &examined.whole;
        let score = whole.diagnosis.findings().first().map_or(String::new(), |f| format!("{:.2}", f.score));
        let _ = writeln!(
            page,
            "{:<width$}  {:>4}  {:<16}  {score:>5}  {:<26}  {}",
            examined.file,
            whole.zone.map_or("-", Zone::as_str),
            cause(whole),
            tally(examined),
            sensor(whole).join(", ")
        );
    }
    page
}

fn write_record(page: &mut String, examined: &Examined) -> std::fmt::Result {
    let Examined { whole, windows, .. } = examined;
    writeln!(
        page,
        "{}, {}: {:.2} s at {} Hz, {} windows of {} samples",
        examined.file,
        examined.channel,
        examined.samples.len() as f64 / f64::from(examined.rate.0),
        examined.rate.0,
        windows.len(),
        examined.window_len
    )?;
    for finding in whole.diagnosis.findings() {
        writeln!(page, "\n  {} (score {:.2})", finding.cause.as_str().replace('_', " "), finding.score)?;
        for evidence in &finding.evidence {
            let known = table::describe(evidence.feature);
            let (name, unit) = known.as_ref().map_or(("", ""), |k| (k.name.as_str(), k.feature.unit));
            let unit = if unit == "1" { "" } else { unit };
            writeln!(page, "    {name:<22} {:>10.4} {unit:<5} limit {:.4}", evidence.value, evidence.limit)?;
        }
    }
    if whole.diagnosis.findings().is_empty() {
        writeln!(page, "\n  {}", cause(whole))?;
        if let Some(nearest) = nearest(whole) {
            writeln!(page, "    {nearest}")?;
        }
    }
    if let Some((demodulation, _)) = &whole.sign {
        writeln!(page, "    envelope of {}", demodulation_name(*demodulation))?;
    }
    writeln!(page, "\n  severity zone          {}", whole.zone.map_or("not known", Zone::as_str))?;
    writeln!(page, "  sensor                 {}", sensor(whole).join(", "))?;
    for (name, reason) in health::reasons(whole.quality) {
        writeln!(page, "    {name}: {reason}")?;
    }
    for place in SHOWN {
        if let Some(value) = whole.features.get(place) {
            let unit = VIBRATION[place].unit;
            writeln!(page, "  {:<22} {value:>10.4} {}", VIBRATION[place].name, if unit == "1" { "" } else { unit })?;
        }
    }
    let peaks =
        |peaks: &[(f32, f32)]| peaks.iter().map(|(f, a)| format!("{f:.1} Hz {a:.4} g")).collect::<Vec<_>>().join(", ");
    writeln!(page, "  spectrum peaks         {}", peaks(&whole.spectrum_peaks))?;
    writeln!(page, "  envelope peaks         {}", peaks(&whole.envelope_peaks))?;
    writeln!(page, "\n  {:>8}  {:>4}  {:>9}  {:<16}  {:>5}  sensor", "second", "zone", "rms g", "diagnosis", "score")?;
    for window in windows {
        let score = window.diagnosis.findings().first().map_or(String::new(), |f| format!("{:.2}", f.score));
        writeln!(
            page,
            "  {:>8.1}  {:>4}  {:>9.4}  {:<16}  {score:>5}  {}",
            window.start_s,
            window.zone.map_or("-", Zone::as_str),
            window.features.get(at::RMS).unwrap_or(0.0),
            cause(window),
            sensor(window).join(", ")
        )?;
    }
    for note in &examined.notes {
        writeln!(page, "  note: {note}")?;
    }
    writeln!(page)
}

/// The clearest cause in words.
pub(crate) fn cause(said: &Said) -> String {
    match said.diagnosis.findings().first() {
        Some(finding) => finding.cause.as_str().replace('_', " "),
        None if said.quality.intersects(UNREADABLE) && said.sign.is_none() => "sensor".to_owned(),
        None => NO_FAULT.to_owned(),
    }
}

/// How many windows say what, the most frequent first.
fn tally(examined: &Examined) -> String {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for window in &examined.windows {
        let cause = cause(window);
        match counts.iter_mut().find(|(known, _)| *known == cause) {
            Some((_, count)) => *count += 1,
            None => counts.push((cause, 1)),
        }
    }
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.iter().map(|(cause, count)| format!("{count} {cause}")).collect::<Vec<_>>().join(", ")
}

/// What is printed for people; JSON has everything.
const SHOWN: [usize; 8] = [
    at::RMS,
    at::PEAK,
    at::CREST_FACTOR,
    at::KURTOSIS,
    at::VELOCITY_RMS,
    at::ENVELOPE_RMS,
    at::ENVELOPE_KURTOSIS,
    at::SHAFT_1X,
];
