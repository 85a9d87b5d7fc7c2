//! Charts as inline SVG: axes with round numbers, lines, bands, dots and levels. Colours are the page's.

/// How an axis counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scale {
    Linear,
    Logarithmic,
}

/// A chart being drawn.
pub(crate) struct Chart {
    x: Axis,
    y: Axis,
    marks: String,
    legend: Vec<(&'static str, String)>,
}

struct Axis {
    label: &'static str,
    low: f64,
    high: f64,
    scale: Scale,
}

impl Chart {
    /// Axes from the least to the greatest of the values.
    pub(crate) fn new(
        x: (&'static str, Scale, &mut dyn Iterator<Item = f64>),
        y: (&'static str, Scale, &mut dyn Iterator<Item = f64>),
    ) -> Self {
        Self { x: Axis::over(x.0, x.1, x.2), y: Axis::over(y.0, y.1, y.2), marks: String::new(), legend: Vec::new() }
    }

    /// A line through the points, in their order.
    pub(crate) fn line(&mut self, class: &'static str, name: &str, points: &[(f64, f64)]) {
        let points = self.path(&thinned(points));
        self.marks += &format!("<polyline class=\"line {class}\" points=\"{points}\"/>");
        self.name(class, name);
    }

    /// The area between two lines.
    pub(crate) fn band(&mut self, class: &'static str, name: &str, low: &[(f64, f64)], high: &[(f64, f64)]) {
        let mut around = thinned(high);
        around.extend(thinned(low).into_iter().rev());
        self.marks += &format!("<polygon class=\"band {class}\" points=\"{}\"/>", self.path(&around));
        self.name(class, name);
    }

    /// A dot at each point.
    pub(crate) fn dots(&mut self, class: &'static str, name: &str, points: &[(f64, f64)]) {
        let stride = points.len().div_ceil(MOST_DOTS).max(1);
        for (x, y) in points.iter().step_by(stride) {
            let (x, y) = self.place(*x, *y);
            self.marks += &format!("<circle class=\"dot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"1.8\"/>");
        }
        self.name(class, name);
    }

    /// A line across at this height.
    pub(crate) fn level(&mut self, class: &'static str, name: &str, y: f64) {
        let (low, high) = (self.x.low, self.x.high);
        self.line(class, name, &[(low, y), (high, y)]);
    }

    /// The chart; `label` says in words what it shows.
    pub(crate) fn finish(self, label: &str) -> String {
        let mut grid = String::new();
        for (value, text) in self.y.ticks() {
            let (_, y) = self.place(self.x.low, value);
            grid += &format!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                LEFT - 5.0,
                y + 3.5
            );
        }
        for (value, text) in self.x.ticks() {
            let (x, _) = self.place(value, self.y.low);
            grid += &format!("<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{text}</text>", BOTTOM + 14.0);
        }
        let key =
            |(class, name): &(&'static str, String)| format!("<span class=\"key {class}\">{}</span>", escaped(name));
        let legend: String = self.legend.iter().map(key).collect();
        format!(
            "<figure><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">{grid}<text class=\"axis\" x=\"{LEFT}\" y=\"11\">{}</text>\
             <text class=\"axis\" x=\"{RIGHT}\" y=\"{}\" text-anchor=\"end\">{}</text>{}</svg><figcaption>{legend}</figcaption></figure>",
            escaped(label),
            escaped(self.y.label),
            HEIGHT - 3.0,
            escaped(self.x.label),
            self.marks,
        )
    }

    fn name(&mut self, class: &'static str, name: &str) {
        if !name.is_empty() {
            self.legend.push((class, name.to_owned()));
        }
    }

    fn path(&self, points: &[(f64, f64)]) -> String {
        let place = |(x, y): &(f64, f64)| {
            let (x, y) = self.place(*x, *y);
            format!("{x:.1},{y:.1}")
        };
        points.iter().map(place).collect::<Vec<_>>().join(" ")
    }

    fn place(&self, x: f64, y: f64) -> (f64, f64) {
        (LEFT + (RIGHT - LEFT) * self.x.share(x), BOTTOM - (BOTTOM - TOP) * self.y.share(y))
    }
}

impl Axis {
    fn over(label: &'static str, scale: Scale, values: &mut dyn Iterator<Item = f64>) -> Self {
        let usable = |value: &f64| value.is_finite() && (scale == Scale::Linear || *value > 0.0);
        let (low, high) = values.filter(usable).fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
        let (low, high) = match (low < high, scale) {
            (true, _) => (low, high),
            (false, Scale::Logarithmic) if low == high => (0.5 * low, 2.0 * low),
            (false, Scale::Logarithmic) => (0.1, 1.0),
            (false, Scale::Linear) if low == high => (low - 1.0, low + 1.0),
            (false, Scale::Linear) => (0.0, 1.0),
        };
        Self { label, low, high, scale }
    }

    /// Between 0 and 1; what lies outside is drawn at the edge.
    fn share(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Logarithmic => (value.max(self.low) / self.low).ln() / (self.high / self.low).ln(),
        };
        share.clamp(0.0, 1.0)
    }

    /// Round values within the axis.
    fn ticks(&self) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Logarithmic => {
                let decades = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
                let narrow = self.high < 5.0 * self.low;
                let steps: &[f64] = match (decades.clone().count() > 3, narrow) {
                    (_, true) => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0],
                    (true, false) => &[1.0],
                    (false, false) => &[1.0, 2.0, 5.0],
                };
                let all = decades.flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)));
                let within = all.filter(|value| (self.low..=self.high).contains(value));
                within.map(|value| (value, written(value, if narrow { value / 10.0 } else { value }))).collect()
            }
            Scale::Linear => {
                let raw = (self.high - self.low) / 4.0;
                let decade = 10f64.powf(raw.log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * decade).into_iter().find(|step| *step >= raw);
                let step = step.unwrap_or(raw);
                let first = (self.low / step).ceil() as i64;
                let all = (first..first + 8).map(|number| number as f64 * step);
                all.take_while(|value| *value <= self.high + 1e-9 * step)
                    .map(|value| (value, written(value, step)))
                    .collect()
            }
        }
    }
}

/// Text within HTML.
pub(crate) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// With as many digits as the step needs.
fn written(value: f64, step: f64) -> String {
    let digits = if step >= 1.0 { 0 } else { (-step.log10()).ceil().clamp(0.0, 6.0) as usize };
    format!("{value:.digits$}")
}

/// Of many points the least and the greatest of each stretch.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= MOST_POINTS {
        return points.to_vec();
    }
    let stretch = points.len().div_ceil(MOST_POINTS / 2);
    let ends = |points: &[(f64, f64)]| {
        let place = |better: fn(f64, f64) -> bool| {
            (1..points.len()).fold(0, |best, i| if better(points[i].1, points[best].1) { i } else { best })
        };
        let (low, high) = (place(|a, b| a < b), place(|a, b| a > b));
        [points[low.min(high)], points[low.max(high)]]
    };
    points.chunks(stretch).flat_map(ends).collect()
}

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 40.0;
const RIGHT: f64 = 346.0;
const TOP: f64 = 18.0;
const BOTTOM: f64 = 186.0;
const MOST_POINTS: usize = 600;
const MOST_DOTS: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within_the_axis() {
        let texts = |low, high, scale| {
            let axis = Axis { label: "", low, high, scale };
            axis.ticks().into_iter().map(|(_, text)| text).collect::<Vec<_>>()
        };
        assert_eq!(texts(0.0, 1.0, Scale::Linear), ["0.0", "0.5", "1.0"]);
        assert_eq!(texts(3.0, 129.0, Scale::Linear), ["50", "100"]);
        assert_eq!(texts(0.004, 2.0, Scale::Logarithmic), ["0.01", "0.1", "1"].map(str::to_owned));
    }

    #[test]
    fn a_long_line_keeps_its_peaks_and_stays_short() {
        let mut points: Vec<(f64, f64)> = (0..100_000).map(|i| (f64::from(i), 0.0)).collect();
        points[51_234].1 = 9.0;
        let short = thinned(&points);
        assert!(short.len() <= MOST_POINTS && short.contains(&(51_234.0, 9.0)));
    }

    #[test]
    fn values_that_are_no_numbers_and_words_that_are_no_html_do_no_harm() {
        let values = [f64::NAN, 1.0, 0.0, f64::INFINITY];
        let mut chart = Chart::new(
            ("x", Scale::Linear, &mut values.into_iter()),
            ("y", Scale::Logarithmic, &mut values.into_iter()),
        );
        chart.line("a", "<b>", &[(0.0, 0.0), (1.0, 5.0)]);
        let svg = chart.finish("\"quoted\"");
        assert!(!svg.contains("NaN") && !svg.contains("<b>") && svg.contains("&quot;quoted&quot;"), "{svg}");
    }
}
