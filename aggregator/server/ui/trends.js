// Trends of one machine on one time axis: scores first, then the leading features, with thresholds and alarm bands.

import { Chart } from "./chart.js";
import { h, refill } from "./dom.js";
import { place, select } from "./route.js";
import { STATES, feature } from "./text.js";

const RANGES = [
  ["5 min", 300],
  ["15 min", 900],
  ["1 h", 3_600],
  ["24 h", 86_400],
  ["7 days", 604_800],
];
const DEFAULT = 900;

/** Width of a bucket of the week. */
const BUCKET = 600e6;

/** A section of charts; `set(view)` gives them a machine's data. */
export class Trends {
  constructor(file) {
    this.file = file;
    this.charts = new Map();
    this.grid = h("div.charts");
    this.buttons = RANGES.map(([text, seconds]) =>
      h("button.small", { type: "button", onclick: () => this.range(seconds) }, text),
    );
    this.element = h(
      "section.trends",
      { "aria-label": "Trends" },
      h("div.section-head", {}, h("h2", {}, "Trends"), h("div.ranges", { role: "group", "aria-label": "Time range" }, this.buttons)),
      this.grid,
    );
  }

  end() {
    for (const { chart } of this.charts.values()) chart.end();
  }

  set(view) {
    this.view = view;
    const series = group(view.trends, view.outlooks ?? []);
    const keys = series.map((one) => one.key).join("\n");
    const none = () => h("p.quiet", {}, "No trend yet: the first window is still being filled.");
    if (refill(this.grid, keys, () => (series.length ? series.map((one) => this.chart(one)) : none()))) {
      for (const key of this.charts.keys()) if (!series.some((one) => one.key === key)) this.charts.delete(key);
    }
    this.series = series;
    this.draw();
  }

  /** Draws again for the range in the address. */
  draw() {
    if (!this.view) return;
    const { from, to, zoomed, seconds } = this.span();
    this.buttons.forEach((button, at) => button.setAttribute("aria-pressed", String(!zoomed && RANGES[at][1] === seconds)));
    for (const one of this.series) {
      const entry = this.charts.get(one.key);
      entry.chart.set({
        series: one.lines.map((line) => this.line(line)),
        limits: limits(one, this.view.alarms),
        bands: bands(one, this.view.alarms),
        range: [from, to],
        zoomed,
      });
    }
  }

  chart(one) {
    const known = this.charts.get(one.key);
    if (known) return known.chart.figure;
    const chart = new Chart({
      title: one.title,
      unit: one.unit,
      time: true,
      height: one.score ? 170 : 128,
      file: this.file,
      onzoom: (from, to) => this.zoom(from, to),
      oncursor: (x) => {
        for (const { chart: other } of this.charts.values()) if (other !== chart) other.cursor(x);
      },
    });
    this.charts.set(one.key, { chart });
    if (one.score) chart.figure.classList.add("wide");
    return chart.figure;
  }

  /** Each window where they are still held, before that the week's ten-minute minimum, mean and maximum. */
  line(line) {
    const oldest = line.until ?? line.values[0]?.[0] ?? Infinity;
    const band = line.week
      .filter(([t]) => t < oldest)
      .map(([t, min, mean, max]) => [t, Math.min(t + BUCKET, oldest), min, max, mean]);
    return { name: line.label, colour: line.colour, faint: line.faint, points: line.values, band, fans: line.fans, gap: 6 * typical(line.values) };
  }

  span() {
    const { query } = place();
    const newest = Math.max(this.view.row.last_event_us, ...this.view.trends.map((trend) => trend.values.at(-1)?.[0] ?? 0));
    const [from, to] = ["from", "to"].map((name) => Number(query.get(name)) * 1000);
    if (from > 0 && to > from) return { from, to, zoomed: true };
    const seconds = Number(query.get("range")) || DEFAULT;
    // Room for what is ahead, at most a quarter of what was.
    const end = Math.max(newest, ...(this.view.outlooks ?? []).map((outlook) => fan(outlook).at(-1)[0]));
    const until = Math.min(end, newest + seconds * 0.25e6);
    return { from: newest - seconds * 1e6, to: until, zoomed: false, seconds };
  }

  range(seconds) {
    select({ range: seconds === DEFAULT ? null : String(seconds), from: null, to: null }, true);
    this.draw();
  }

  zoom(from, to) {
    if (from === null) select({ from: null, to: null }, true);
    else select({ from: String(Math.round(from / 1000)), to: String(Math.max(Math.round(to / 1000), Math.round(from / 1000) + 1)) }, true);
    this.draw();
  }
}

const COLOURS = ["--accent", "--second", "--third", "--fourth"];

/** Scores of all points into one chart; each feature of each point into its own. */
function group(trends, outlooks) {
  const scores = trends.filter((trend) => trend.name.endsWith("score / threshold"));
  const points = new Set(trends.map((trend) => trend.point));
  const out = [];
  if (scores.length) {
    const lines = scores.map((trend) => {
      const shadow = trend.name.startsWith("shadow");
      const at = [...new Set(scores.map((score) => score.point))].indexOf(trend.point);
      const fans = shadow ? [] : outlooks.filter((outlook) => outlook.point === trend.point).map(fan);
      return { ...trend, label: trend.point + (shadow ? " (shadow)" : ""), colour: COLOURS[at % COLOURS.length], faint: shadow, fans };
    });
    // The week is kept for the machine, not for each point: it stands beside them as a line of its own.
    const week = scores.find((trend) => trend.week.length)?.week ?? [];
    const oldest = Math.max(...scores.filter((trend) => !trend.name.startsWith("shadow")).map((trend) => trend.values[0]?.[0] ?? 0));
    lines.forEach((line) => (line.week = []));
    if (week.length) lines.push({ label: "all points, ten minutes each", colour: "--muted", values: [], week, until: oldest });
    out.push({ key: `score ${lines.map((line) => line.label).join()}`, title: "Score over threshold", unit: "1", lines, score: true, limit: 1 });
  }
  const rank = (trend) => LEADING.indexOf(trend.name.replace(/^.*?(?=[a-z0-9_]+$)/, "")) + (LEADING.includes(trend.name) ? 0 : LEADING.length);
  for (const trend of trends.filter((other) => !scores.includes(other)).sort((a, b) => a.point.localeCompare(b.point) || rank(a) - rank(b))) {
    const title = points.size > 1 ? `${trend.point}: ${feature(trend.name)}` : feature(trend.name);
    const lines = [{ ...trend, label: feature(trend.name), colour: "--accent" }];
    const { name, point, unit, limit } = trend;
    out.push({ key: `${point} ${name}`, title, unit, name, point, lines, limit });
  }
  return out;
}

/** What is forecast, from the level now on: time, low, mid and high. */
const fan = ({ t_us: t, level, steps }) => [[t, level, level, level], ...steps.map(({ in_h, low, mid, high }) => [t + in_h * 3.6e9, low, mid, high])];

const LEADING = ["velocity_rms", "rms", "envelope_rms", "kurtosis", "bpfo_snr", "bpfi_snr"];

/** The threshold of a score, and limits that an alarm's evidence names. */
function limits(one, alarms) {
  if (one.score) return [{ y: 1, label: "threshold", always: true }];
  const line = alarms
    .filter((alarm) => alarm.point === one.point)
    .flatMap((alarm) => alarm.evidence)
    .find((evidence) => evidence.feature === one.name);
  const limit = one.limit ?? line?.limit;
  return limit === undefined || limit === null ? [] : [{ y: limit, label: "alarm limit", always: line !== undefined }];
}

function bands(one, alarms) {
  return alarms
    .filter((alarm) => one.score || alarm.point === one.point)
    .map((alarm) => ({ from: alarm.raised_us, to: alarm.cleared_us, state: alarm.worst }))
    .sort((a, b) => STATES.indexOf(b.state) - STATES.indexOf(a.state));
}

/** The median time between values. */
function typical(values) {
  const steps = values.slice(1, 60).map(([t], at) => t - values[at][0]).sort((a, b) => a - b);
  return steps[steps.length >> 1] ?? 10e6;
}
