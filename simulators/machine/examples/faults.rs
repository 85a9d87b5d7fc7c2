//! Draws the spectrum of each fault into one SVG: `cargo run -p kilter-machine --example faults -- docs/pictures/faults.svg`.
//!
//! Shaft faults show low frequencies in g; gear and cavitation the whole spectrum; bearing faults the spectrum of the squared signal
//! (a crude envelope), where their beats stand; failing cooling the housing's temperature over two hours.

use std::fmt::Write as _;

use kilter_machine::{Axis, Defect, FaultChange, FaultKind, GearSpec, Growth, LoadChange, Machine, MachineSpec};

const RATE_HZ: f64 = 25_600.0;
const SHAFT_HZ: f64 = 25.0;
const LEN: usize = 65_536;

fn main() -> std::io::Result<()> {
    let Some(path) = std::env::args().nth(1) else {
        eprintln!("say where to draw: faults docs/pictures/faults.svg");
        std::process::exit(2);
    };
    let panels: Vec<Option<FaultKind>> = std::iter::once(None).chain(FaultKind::ALL.map(Some)).collect();
    let rows = panels.len().div_ceil(COLUMNS);
    let (width, height) = (COLUMNS as f64 * PANEL.0, rows as f64 * PANEL.1);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"11\"><rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>"
    );
    for (i, kind) in panels.into_iter().enumerate() {
        let at = ((i % COLUMNS) as f64 * PANEL.0, (i / COLUMNS) as f64 * PANEL.1);
        panel(&mut svg, at, kind);
    }
    svg.push_str("</svg>\n");
    std::fs::write(path, svg)
}

fn panel(svg: &mut String, at: (f64, f64), kind: Option<FaultKind>) {
    let (axis, name) = match kind {
        Some(FaultKind::Misalignment) => (Axis::Axial, "misalignment (axial)"),
        Some(kind) => (Axis::Vertical, kind.word()),
        None => (Axis::Vertical, "healthy"),
    };
    if kind == Some(FaultKind::Cooling) {
        let temperature = |kind: Option<FaultKind>| -> Vec<f64> {
            let mut machine = Machine::new(spec(kind), 7).expect("a sound spec");
            (0..240).map(|i| f64::from(machine.temperature(f64::from(i) * 30.0))).collect()
        };
        let values = temperature(kind);
        let greatest = values.iter().copied().fold(0.0, f64::max);
        draw(svg, at, &format!("{name}: degrees Celsius"), &values, 30.0 / 60.0, "minutes", greatest, &[]);
        return;
    }
    let mut samples = vec![0.0f32; 4 * LEN];
    Machine::new(spec(kind), 7).expect("a sound spec").vibration(axis, &mut samples);
    let bearing = match kind {
        Some(FaultKind::OuterRace) => Some((Defect::OuterRace, "BPFO")),
        Some(FaultKind::InnerRace) => Some((Defect::InnerRace, "BPFI")),
        Some(FaultKind::RollingElement) => Some((Defect::RollingElement, "2BSF")),
        Some(FaultKind::Cage) => Some((Defect::Cage, "FTF")),
        _ => None,
    };
    let squared = |x: &f32| f64::from(*x) * f64::from(*x);
    let signal: Vec<f64> = match bearing {
        Some(_) => samples.iter().map(squared).collect(),
        None => samples.iter().map(|x| f64::from(*x)).collect(),
    };
    let lines = amplitudes(&signal);
    let top_hz = match kind {
        Some(FaultKind::Gear) => 2000.0,
        Some(FaultKind::Cavitation) => RATE_HZ / 2.0,
        _ if bearing.is_some() => 500.0,
        _ => 200.0,
    };
    let spacing = RATE_HZ / LEN as f64;
    let shown = &lines[..(top_hz / spacing) as usize];
    let mut cursors = vec![(SHAFT_HZ, "1x")];
    if let Some((defect, word)) = bearing {
        cursors.push((spec(None).bearing.order(defect) * SHAFT_HZ, word));
    }
    if kind == Some(FaultKind::Gear) {
        cursors.push((37.0 * SHAFT_HZ, "mesh"));
    }
    let what = if bearing.is_some() { "squared, g²" } else { "g" };
    let greatest = shown.iter().skip(4).copied().fold(0.0, f64::max);
    draw(svg, at, &format!("{name}: {what}"), shown, spacing, "Hz", greatest, &cursors);
}

fn spec(kind: Option<FaultKind>) -> MachineSpec {
    let mut spec = MachineSpec::named("drawn");
    spec.rate_hz = RATE_HZ;
    spec.gear = Some(GearSpec { teeth: 37, mesh_g: 0.05 });
    spec.load_changes = vec![LoadChange { at_s: 0.0, rpm: SHAFT_HZ * 60.0, load: 0.8, ramp_s: 0.0 }];
    let start_s = if kind == Some(FaultKind::Cooling) { 1800.0 } else { 0.0 };
    let fault = |kind| FaultChange { kind, start_s, growth_s: 0.0, severity: 0.6, growth: Growth::Linear };
    spec.faults = kind.map(fault).into_iter().collect();
    spec
}

#[expect(clippy::too_many_arguments, reason = "a picture has so many parts")]
fn draw(
    svg: &mut String,
    at: (f64, f64),
    title: &str,
    values: &[f64],
    step: f64,
    unit: &str,
    top: f64,
    cursors: &[(f64, &str)],
) {
    let (left, upper, width, height) = (at.0 + 48.0, at.1 + 26.0, PANEL.0 - 64.0, PANEL.1 - 62.0);
    let span = step * values.len() as f64;
    let low = if unit == "minutes" { 0.8 * values.iter().copied().fold(f64::INFINITY, f64::min) } else { 0.0 };
    let x = |v: f64| left + v / span * width;
    let y = |v: f64| upper + height * (1.0 - ((v - low) / (1.05 * top - low)).clamp(0.0, 1.0));
    let _ = write!(svg, "<text x=\"{left:.0}\" y=\"{:.0}\" font-weight=\"bold\">{title}</text>", at.1 + 14.0);
    let _ = write!(
        svg,
        "<rect x=\"{left:.0}\" y=\"{upper:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" fill=\"#fafafa\" stroke=\"#bbb\"/>"
    );
    for part in [0.0, 0.5, 1.0] {
        let place = span * part;
        let _ = write!(
            svg,
            "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{place:.0} {unit}</text>",
            x(place),
            upper + height + 15.0
        );
    }
    let _ = write!(svg, "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{top:.3}</text>", left - 4.0, y(top) + 4.0);
    for (place, word) in cursors {
        let _ = write!(
            svg,
            "<path d=\"M{0:.1} {1:.1}v{2:.1}\" stroke=\"#c22\" stroke-dasharray=\"3 3\"/><text x=\"{0:.1}\" y=\"{3:.1}\" fill=\"#c22\" text-anchor=\"middle\">{word}</text>",
            x(*place),
            upper,
            height,
            upper - 2.0
        );
    }
    svg.push_str("<path fill=\"none\" stroke=\"#1b5e9e\" d=\"");
    let columns = values.len().min(width as usize);
    for column in 0..columns {
        let (from, to) = (column * values.len() / columns, (column + 1) * values.len() / columns);
        let greatest = values[from..to].iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let letter = if column == 0 { 'M' } else { 'L' };
        let _ = write!(svg, "{letter}{:.1} {:.1}", x(from as f64 * step), y(greatest));
    }
    svg.push_str("\"/>");
}

/// Mean one-sided Hann amplitude spectrum of whole windows, each less its mean.
fn amplitudes(signal: &[f64]) -> Vec<f64> {
    let mut power = vec![0.0; LEN / 2];
    let windows: Vec<&[f64]> = signal.chunks_exact(LEN).collect();
    for window in &windows {
        let mean = window.iter().sum::<f64>() / LEN as f64;
        let tapered = window.iter().enumerate().map(|(i, x)| {
            let taper = 0.5 - 0.5 * (std::f64::consts::TAU * i as f64 / LEN as f64).cos();
            ((x - mean) * taper, 0.0)
        });
        for (p, (re, im)) in power.iter_mut().zip(transform(&tapered.collect::<Vec<_>>())) {
            *p += (re * re + im * im) / windows.len() as f64;
        }
    }
    power.iter().map(|p| 4.0 / LEN as f64 * p.sqrt()).collect()
}

/// The Fourier sum of a power of two of complex values, by halves.
fn transform(values: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let n = values.len();
    if n == 1 {
        return values.to_vec();
    }
    let half = |odd: usize| transform(&values.iter().copied().skip(odd).step_by(2).collect::<Vec<_>>());
    let (even, odd) = (half(0), half(1));
    let mut out = vec![(0.0, 0.0); n];
    for (k, (e, o)) in even.iter().zip(&odd).enumerate() {
        let (sin, cos) = (std::f64::consts::TAU * k as f64 / n as f64).sin_cos();
        let t = (o.0 * cos + o.1 * sin, o.1 * cos - o.0 * sin);
        (out[k], out[k + n / 2]) = ((e.0 + t.0, e.1 + t.1), (e.0 - t.0, e.1 - t.1));
    }
    out
}

const COLUMNS: usize = 3;
const PANEL: (f64, f64) = (340.0, 200.0);
