// Ticks: round numbers, and round times in the reader's zone.

import { number } from "./text.js";

/** About `count` round values within `[low, high]`. */
export function ticks(low, high, count) {
  const rough = (high - low) / Math.max(1, count);
  if (!(rough > 0) || !Number.isFinite(rough)) return [];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((digit) => digit * power).find((size) => size >= rough * 0.999);
  const out = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-9; value += step) out.push(Math.abs(value) < step / 1e6 ? 0 : value);
  return out;
}

/** A tick's text; all of one axis have the same number of places. */
export function tickText(value, values) {
  const step = values.length > 1 ? Math.abs(values[1] - values[0]) : Math.abs(value);
  const size = Math.max(...values.map(Math.abs));
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value === 0 ? "0" : number(value, 2);
  const places = step > 0 ? Math.max(0, Math.min(6, -Math.floor(Math.log10(step) + 1e-9))) : 0;
  return value.toFixed(places);
}

const SECOND = 1e6;
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800];

/** Round times in `[from, to]` (microseconds) with their texts. */
export function timeTicks(from, to, count) {
  const rough = (to - from) / SECOND / Math.max(1, count);
  const step = (STEPS.find((size) => size >= rough) ?? 604_800) * SECOND;
  const zone = new Date(to / 1000).getTimezoneOffset() * 60 * SECOND;
  const out = [];
  for (let t = Math.ceil((from - zone) / step) * step + zone; t <= to; t += step) out.push(t);
  return out.map((t) => ({ value: t, text: timeText(t, step) }));
}

function timeText(t, step) {
  const date = new Date(t / 1000);
  const two = (value) => String(value).padStart(2, "0");
  if (step >= 86_400 * SECOND) return `${two(date.getDate())}.${two(date.getMonth() + 1)}.`;
  const minutes = `${two(date.getHours())}:${two(date.getMinutes())}`;
  return step < 60 * SECOND ? `${minutes}:${two(date.getSeconds())}` : minutes;
}
