// Words, numbers with units, and times.

/** States from the worst; the order of the fleet. */
export const STATES = ["danger", "alarm", "watch", "silent", "unknown", "healthy"];

const CAUSES = {
  unclear: "no clear cause",
  outer_race: "outer race",
  inner_race: "inner race",
  rolling_element: "rolling element",
  cage: "cage",
  unbalance: "unbalance",
  misalignment: "misalignment",
  looseness: "looseness",
  gear: "gear",
  overheating: "overheating",
  severity: "vibration above its limit",
  sensor: "sensor fault",
};

/** The causes a person can name. */
export const CAUSE_KEYS = Object.keys(CAUSES);

export const cause = (key) => CAUSES[key] ?? key?.replaceAll("_", " ") ?? "";

const SOURCES = {
  rule: "fixed limit",
  physics: "diagnosis",
  statistic: "baseline on the device",
  model: "model",
  sensor: "sensor check",
  protection: "protection",
};

export const source = (key) => SOURCES[key] ?? key;

/** A feature's name for people. */
export const feature = (name) =>
  name
    .replace(/\b(bpfo|bpfi|bsf2|bsf|ftf|rms|snr|rul)\b/gi, (word) => word.toUpperCase())
    .replaceAll("_", " ")
    .replace(/\b(bpfo|bpfi|bsf2|bsf|ftf|rms|snr)\b/gi, (word) => word.toUpperCase());

/** Three significant digits, never with an exponent where it can be avoided. */
export function number(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e7)) return value.toExponential(digits - 1);
  if (size >= 1000) return Math.round(value).toLocaleString("en", { useGrouping: true });
  const places = size === 0 ? 0 : Math.max(0, Math.min(6, digits - 1 - Math.floor(Math.log10(size))));
  return value.toFixed(places);
}

/** A score over its threshold, in at most five characters. */
export function ratio(value) {
  if (value < 100) return value.toFixed(2);
  return value < 10_000 ? String(Math.round(value)) : `${Math.min(9999, Math.round(value / 1000))}k`;
}

/** A number with its unit; a unit of `1` is none. */
export const measured = (value, unit) => (unit && unit !== "1" ? `${number(value)} ${units(unit)}` : number(value));

export const units = (unit) => ({ degC: "°C", "degC/h": "°C/h", "degC/s": "°C/s", "1": "" })[unit] ?? unit;

/** Bytes for people. */
export function bytes(count) {
  const names = ["B", "kB", "MB", "GB", "TB"];
  let place = 0;
  while (count >= 1000 && place < names.length - 1) {
    count /= 1000;
    place += 1;
  }
  return `${place === 0 ? count : number(count)} ${names[place]}`;
}

/** How long, in the largest unit that fits. */
export function span(microseconds) {
  const seconds = Math.max(0, microseconds / 1e6);
  if (seconds < 1.5) return "1 s";
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}

/** `12 s ago`; the absolute time belongs into the title. */
export function ago(t, now) {
  const gone = now - t;
  if (gone < 1.5e6) return "now";
  return `${span(gone)} ago`;
}

/** An absolute time in the reader's zone, to the second. */
export function absolute(t) {
  const date = new Date(t / 1000);
  const two = (value) => String(value).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** Hours of remaining life for people: the estimate, and what it lies between. */
export function life([low, estimate, high]) {
  const unit = estimate >= 96 ? ["d", 24] : ["h", 1];
  const part = (hours) => number(hours / unit[1], 2);
  return [`${part(estimate)} ${unit[0]}`, `(${part(low)}–${part(high)})`];
}

/** A number of hours in the unit that fits `like`. */
const inUnit = (hours, like) => (like < 2 ? number(hours * 60, 2) : like < 96 ? number(hours, 2) : number(hours / 24, 2));
const unitOf = (like) => (like < 2 ? "min" : like < 96 ? "h" : "d");

/** When a score reaches its limit, for people: for a cell, between what, and as a sentence. It is no remaining life. */
export function limit({ limit_h: [earliest, estimate, latest], within_h: within }) {
  const whole = (hours) => `${inUnit(hours, hours)} ${unitOf(hours)}`;
  if (estimate === 0) return ["limit reached", "", "the score stands at its limit"];
  if (estimate === null) {
    const text = earliest === null ? `not within ${whole(within)}` : `not before ${whole(earliest)}`;
    return [text, "", text];
  }
  const [low, high] = [inUnit(earliest ?? 0, estimate), latest === null ? null : inUnit(latest, estimate)];
  const between = high === null ? `(${low}–…)` : `(${low}–${high})`;
  return [`limit ${whole(estimate)}`, between, `in ${whole(estimate)} ${high === null ? `(not before ${low})` : `(${low} to ${high})`}`];
}

/** A digest as text; the API writes it as hexadecimal or as its bytes. */
export function hex(digest) {
  if (Array.isArray(digest)) return digest.map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return digest ?? "";
}

/** What fits a column and still tells two apart. */
export const short = (digest) => hex(digest).slice(0, 8);

/** A path of `tenant/site/asset`. */
export const pathOf = ({ tenant, site, asset }) => `${tenant}/${site}/${asset}`;

export const capital = (text) => (text ? text[0].toUpperCase() + text.slice(1) : "");

export const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
