//! Pictures as inline SVG: a curve with cursors, a strip of windows, a bar of zones. No script, no style sheet from elsewhere.

use std::fmt::Write as _;

/// A curve over evenly spaced places.
pub(crate) struct Curve<'a> {
    pub(crate) title: String,
    pub(crate) values: &'a [f32],
    /// What the first value stands at, and how far apart they stand.
    pub(crate) start: f64,
    pub(crate) step: f64,
    pub(crate) x_label: &'static str,
    pub(crate) y_label: &'static str,
    /// Both signs, or from zero up.
    pub(crate) swings: Swing,
    pub(crate) cursors: Vec<Cursor>,
}

/// Where the zero line lies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Swing {
    Both,
    Up,
}

/// A marked place.
pub(crate) struct Cursor {
    pub(crate) at: f64,
    pub(crate) text: String,
    pub(crate) colour: &'static str,
}

/// The curve: each column of the picture shows the least and the greatest value that fall into it.
pub(crate) fn curve(curve: &Curve<'_>) -> String {
    let span = curve.step * curve.values.len().max(1) as f64;
    let top = curve.values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let top = f64::from(if top > 0.0 { top } else { 1.0 }) * 1.05;
    let x = |at: f64| LEFT + (at - curve.start) / span * WIDTH;
    let y = |v: f64| match curve.swings {
        Swing::Both => TOP + HEIGHT * (0.5 - 0.5 * v / top),
        Swing::Up => TOP + HEIGHT * (1.0 - v / top),
    };
    let mut svg = format!(
        "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\"><text x=\"{LEFT}\" y=\"16\" class=\"t\">{}</text>",
        LEFT + WIDTH + 20.0,
        TOP + HEIGHT + 40.0,
        escape(&curve.title),
        escape(&curve.title)
    );
    let _ = write!(svg, "<rect x=\"{LEFT}\" y=\"{TOP}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" class=\"f\"/>");
    for tick in ticks(curve.start, curve.start + span) {
        let _ = write!(
            svg,
            "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{TOP}\" y2=\"{1}\" class=\"g\"/><text x=\"{0:.1}\" y=\"{2}\" class=\"m\">{3}</text>",
            x(tick),
            TOP + HEIGHT,
            TOP + HEIGHT + 15.0,
            number(tick)
        );
    }
    let low = if curve.swings == Swing::Both { -top } else { 0.0 };
    for tick in ticks(low, top) {
        let _ = write!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{1:.1}\" y2=\"{1:.1}\" class=\"g\"/><text x=\"{2}\" y=\"{3:.1}\" class=\"e\">{4}</text>",
            LEFT + WIDTH,
            y(tick),
            LEFT - 5.0,
            y(tick) + 4.0,
            number(tick)
        );
    }
    for cursor in curve.cursors.iter().filter(|c| c.at >= curve.start && c.at <= curve.start + span) {
        let _ = write!(
            svg,
            "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{TOP}\" y2=\"{1}\" stroke=\"{2}\" stroke-dasharray=\"4 3\"/><text x=\"{0:.1}\" y=\"{3}\" class=\"m\" fill=\"{2}\">{4}</text>",
            x(cursor.at),
            TOP + HEIGHT,
            cursor.colour,
            TOP - 4.0,
            escape(&cursor.text)
        );
    }
    let _ = write!(svg, "<path class=\"c\" d=\"");
    let columns = (WIDTH as usize).min(curve.values.len());
    for column in 0..columns {
        let from = column * curve.values.len() / columns;
        let to = ((column + 1) * curve.values.len() / columns).max(from + 1);
        let part = &curve.values[from..to];
        let finite = || part.iter().copied().filter(|v| v.is_finite());
        let (least, greatest) = finite().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, g), v| (l.min(v), g.max(v)));
        if least > greatest {
            continue;
        }
        let at = x(curve.start + (from as f64 + 0.5) * curve.step);
        let letter = if column == 0 { 'M' } else { 'L' };
        if curve.swings == Swing::Both {
            let _ = write!(svg, "{letter}{at:.1} {:.1}L{at:.1} {:.1}", y(f64::from(least)), y(f64::from(greatest)));
        } else {
            let _ = write!(svg, "{letter}{at:.1} {:.1}", y(f64::from(greatest)));
        }
    }
    let _ = write!(
        svg,
        "\"/><text x=\"{}\" y=\"{}\" class=\"m\">{}</text><text x=\"12\" y=\"{}\" class=\"m\" transform=\"rotate(-90 12 {3})\">{}</text></svg>",
        LEFT + WIDTH / 2.0,
        TOP + HEIGHT + 32.0,
        curve.x_label,
        TOP + HEIGHT / 2.0,
        curve.y_label
    );
    svg
}

/// One cell per window, coloured by what it says.
pub(crate) fn strip(cells: &[(String, &'static str)]) -> String {
    let width = (WIDTH / cells.len().max(1) as f64).min(60.0);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {} 46\" role=\"img\" aria-label=\"windows\"><text x=\"{LEFT}\" y=\"14\" class=\"t\">Per window of one second</text>",
        LEFT + WIDTH + 20.0
    );
    for (i, (text, colour)) in cells.iter().enumerate() {
        let _ = write!(
            svg,
            "<rect x=\"{:.1}\" y=\"22\" width=\"{:.1}\" height=\"18\" fill=\"{colour}\"><title>{i} s: {}</title></rect>",
            LEFT + i as f64 * width,
            (width - 1.0).max(0.5),
            escape(text)
        );
    }
    svg.push_str("</svg>");
    svg
}

/// The severity zones with the value in them.
pub(crate) fn zones(boundaries: [f32; 3], velocity_mm_s: f32) -> String {
    let end = f64::from(boundaries[2] * 1.5).max(f64::from(velocity_mm_s) * 1.1);
    let x = |v: f64| LEFT + v / end * WIDTH;
    let edges = [0.0, f64::from(boundaries[0]), f64::from(boundaries[1]), f64::from(boundaries[2]), end];
    let mut svg = format!(
        "<svg viewBox=\"0 0 {} 78\" role=\"img\" aria-label=\"severity zone\"><text x=\"{LEFT}\" y=\"14\" class=\"t\">Severity: velocity {velocity_mm_s:.2} mm/s RMS</text>",
        LEFT + WIDTH + 20.0
    );
    for ((pair, letter), colour) in
        edges.windows(2).zip(["A", "B", "C", "D"]).zip(["#3a8f5c", "#9bb53c", "#e0a030", "#c8443c"])
    {
        let _ = write!(
            svg,
            "<rect x=\"{:.1}\" y=\"26\" width=\"{:.1}\" height=\"24\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"43\" class=\"z\">{letter}</text><text x=\"{:.1}\" y=\"66\" class=\"m\">{}</text>",
            x(pair[0]),
            x(pair[1]) - x(pair[0]),
            (x(pair[0]) + x(pair[1])) / 2.0,
            x(pair[0]),
            number(pair[0])
        );
    }
    let at = x(f64::from(velocity_mm_s));
    let _ = write!(svg, "<path d=\"M{at:.1} 50l-6 -30h12z\" fill=\"#111\"/></svg>");
    svg
}

/// Text that may stand in HTML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let digits = (2 - value.abs().log10().floor() as i32).clamp(0, 6) as usize;
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Four to nine round places.
fn ticks(from: f64, to: f64) -> Vec<f64> {
    let rough = (to - from) / 6.0;
    let power = 10f64.powf(rough.abs().max(1e-12).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= rough).unwrap_or(power * 10.0);
    let first = (from / step).ceil() as i64;
    (first..).map(|i| i as f64 * step).take_while(|at| *at <= to).take(20).collect()
}

const LEFT: f64 = 70.0;
const TOP: f64 = 34.0;
const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 200.0;
