//! The findings as one self-contained HTML page with its pictures inside.

use std::fmt::Write as _;

use kilter_signal::bearing_sign::Part;
use kilter_signal::table;
use kilter_signal::table::{VIBRATION, at};
use kilter_signal::zone::{self, Zone};

use super::examine::{Examined, Said};
use super::json::{demodulation_name, nearest, part_name, sensor};
use super::picture::{self, Cursor, Curve, Swing, escape};
use super::text::cause;

/// The page of all records.
pub(crate) fn page(all: &[Examined]) -> String {
    let mut page = String::from(HEAD);
    if all.len() > 1 {
        page.push_str("<table><tr><th>file</th><th>zone</th><th>diagnosis</th><th>score</th><th>sensor</th></tr>");
        for (i, examined) in all.iter().enumerate() {
            let score =
                examined.whole.diagnosis.findings().first().map_or(String::new(), |f| format!("{:.2}", f.score));
            let _ = write!(
                page,
                "<tr><td><a href=\"#r{i}\">{}</a></td><td>{}</td><td>{}</td><td>{score}</td><td>{}</td></tr>",
                escape(&examined.file),
                examined.whole.zone.map_or("–", Zone::as_str),
                cause(&examined.whole),
                sensor(&examined.whole).join(", ")
            );
        }
        page.push_str("</table>");
    }
    for (i, examined) in all.iter().enumerate() {
        record(&mut page, i, examined);
    }
    page.push_str("</body></html>\n");
    page
}

fn record(page: &mut String, index: usize, examined: &Examined) {
    let whole = &examined.whole;
    let seconds = examined.samples.len() as f64 / f64::from(examined.rate.0);
    let speed = examined.rpm.map_or("speed not declared".to_owned(), |rpm| format!("{} rpm", rpm.0));
    let _ = write!(
        page,
        "<section id=\"r{index}\"><h2>{}, {}</h2><p>{seconds:.2} s at {} Hz, {speed}. Sensor: {}.</p>",
        escape(&examined.file),
        escape(&examined.channel),
        examined.rate.0,
        sensor(whole).join(", ")
    );
    diagnosis(page, whole);
    if let Some(velocity) = whole.features.get(at::VELOCITY_RMS) {
        let standing = examined.standing;
        page.push_str(&picture::zones(zone::boundaries_mm_s(standing.group, standing.support), velocity));
    }
    let cells: Vec<_> = examined.windows.iter().map(|w| (cause(w), colour(w))).collect();
    page.push_str(&picture::strip(&cells));
    let shown = examined.samples.len().min(examined.window_len);
    page.push_str(&picture::curve(&Curve {
        title: "Acceleration, first window".to_owned(),
        values: &examined.samples[..shown],
        start: 0.0,
        step: 1.0 / f64::from(examined.rate.0),
        x_label: "s",
        y_label: "g",
        swings: Swing::Both,
        cursors: Vec::new(),
    }));
    spectra(page, examined);
    features(page, whole);
    if !examined.notes.is_empty() {
        page.push_str("<ul>");
        for note in &examined.notes {
            let _ = write!(page, "<li>{}</li>", escape(note));
        }
        page.push_str("</ul>");
    }
    page.push_str("</section>");
}

fn diagnosis(page: &mut String, whole: &Said) {
    let findings = whole.diagnosis.findings();
    if findings.is_empty() {
        let _ = write!(page, "<p class=\"d\">{}</p>", cause(whole));
        if let Some(nearest) = nearest(whole) {
            let _ = write!(page, "<p>{}</p>", escape(&nearest));
        }
    }
    for finding in findings {
        let _ = write!(
            page,
            "<p class=\"d\">{} <small>score {:.2}</small></p><ul>",
            finding.cause.as_str().replace('_', " "),
            finding.score
        );
        for line in &finding.evidence {
            let known = table::describe(line.feature);
            let (name, meaning) = known.as_ref().map_or(("", ""), |k| (k.name.as_str(), k.feature.definition));
            let _ =
                write!(page, "<li><b>{name} {:.4}</b>, limit {:.4}: {}</li>", line.value, line.limit, escape(meaning));
        }
        page.push_str("</ul>");
    }
}

fn spectra(page: &mut String, examined: &Examined) {
    let shaft_hz = examined.rpm.map(|rpm| f64::from(rpm.hertz().0));
    let shaft = |count: usize| -> Vec<Cursor> {
        let cursor = |n: usize, hz: f64| Cursor { at: hz * n as f64, text: format!("{n}x"), colour: "#888" };
        shaft_hz.map(|hz| (1..=count).map(|n| cursor(n, hz)).collect()).unwrap_or_default()
    };
    let step = f64::from(examined.acceleration.spacing_hz);
    let mut cursors = shaft(1);
    cursors.extend(bearing_cursors(examined, shaft_hz, 1));
    if let Some(demodulation) = examined.demodulation {
        let band = demodulation.band();
        for edge in [band.low(), band.high()] {
            cursors.push(Cursor { at: f64::from(edge.0), text: "band".to_owned(), colour: "#a60" });
        }
    }
    page.push_str(&picture::curve(&Curve {
        title: "Spectrum (mean of the windows), with the bearing's frequencies and the demodulated band".to_owned(),
        values: &examined.acceleration.lines,
        start: 0.0,
        step,
        x_label: "Hz",
        y_label: "g, 0 to peak",
        swings: Swing::Up,
        cursors,
    }));
    let top_hz = examined.bearing.zip(shaft_hz).map_or(500.0, |(b, hz)| 4.3 * f64::from(b.bpfi) * hz);
    let count = ((top_hz / step.max(1e-9)) as usize).clamp(1, examined.envelope.lines.len().max(1));
    let lines = examined.envelope.lines.get(..count).unwrap_or(&examined.envelope.lines);
    let mut cursors = shaft(2);
    cursors.extend(bearing_cursors(examined, shaft_hz, 4));
    let from = examined.demodulation.map(demodulation_name).unwrap_or_default();
    page.push_str(&picture::curve(&Curve {
        title: format!("Envelope spectrum of {from} (mean of the windows), with the bearing's frequencies"),
        values: lines,
        start: 0.0,
        step: f64::from(examined.envelope.spacing_hz),
        x_label: "Hz",
        y_label: "0 to peak",
        swings: Swing::Up,
        cursors,
    }));
}

/// Cursors at the kinematic frequencies; harmonics only of the part that is named.
fn bearing_cursors(examined: &Examined, shaft_hz: Option<f64>, harmonics: usize) -> Vec<Cursor> {
    let (Some(bearing), Some(hz)) = (examined.bearing, shaft_hz) else { return Vec::new() };
    let named = cause(&examined.whole);
    let mut cursors = Vec::new();
    for (part, word, colour) in [
        (Part::Outer, "BPFO", "#c22"),
        (Part::Inner, "BPFI", "#27c"),
        (Part::Element, "2BSF", "#292"),
        (Part::Cage, "FTF", "#808"),
    ] {
        let count = if named == part_name(part) { harmonics } else { 1 };
        for n in 1..=count {
            let text = if n == 1 { word.to_owned() } else { format!("{n}{word}") };
            cursors.push(Cursor { at: f64::from(part.order(&bearing)) * hz * n as f64, text, colour });
        }
    }
    cursors
}

fn features(page: &mut String, whole: &Said) {
    page.push_str("<details><summary>Features (mean of the windows)</summary><table>");
    for (place, feature) in VIBRATION.iter().enumerate() {
        let value = whole.features.get(place).map_or("–".to_owned(), |v| format!("{v:.5}"));
        let _ = write!(
            page,
            "<tr><td>{}</td><td>{value}</td><td>{}</td><td>{}</td></tr>",
            feature.name,
            feature.unit,
            escape(feature.definition)
        );
    }
    page.push_str("</table></details>");
}

fn colour(window: &Said) -> &'static str {
    match cause(window).as_str() {
        "no clear fault" => "#3a8f5c",
        "sensor" => "#999",
        "outer race" => "#c22",
        "inner race" => "#27c",
        "rolling element" => "#292",
        "cage" => "#808",
        _ => "#e0a030",
    }
}

const HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Kilter: analysis of recordings</title>\
<meta name=\"viewport\" content=\"width=device-width\"><style>\
body{font:15px/1.5 system-ui,sans-serif;max-width:1040px;margin:2em auto;padding:0 1em;color:#1a1a1a;background:#fff}\
h2{border-top:1px solid #ccc;padding-top:1em}table{border-collapse:collapse}td,th{padding:.15em .8em;text-align:left;border-bottom:1px solid #eee}\
.d{font-size:1.4em;font-weight:600;margin:.3em 0}small{font-weight:400;color:#555}svg{display:block;width:100%;height:auto;margin:.6em 0}\
.t{font-size:13px;font-weight:600}.m{font-size:11px;text-anchor:middle}.e{font-size:11px;text-anchor:end}.z{font-size:13px;text-anchor:middle;fill:#fff}\
.f{fill:#fafafa;stroke:#bbb}.g{stroke:#e4e4e4}.c{fill:none;stroke:#1b5e9e;stroke-width:1}\
</style></head><body><h1>Analysis of recordings</h1>";
