// How a chart looks: axes, series with their roll-up bands, limit lines, alarm bands, marks and cursor on a canvas.

import { tickText, ticks, timeTicks } from "./axis.js";

const PAD = { left: 52, right: 12, top: 10, bottom: 22 };

/** Paints a chart; returns the scale of x for those who point at it. */
export function paint(g, chart) {
  const { figure, data, at, drag, from, to, width, height } = chart;
  const [low, high] = chart.heights;
  const css = getComputedStyle(figure);
  const colour = (name) => css.getPropertyValue(name).trim() || "#888";
  const [x0, x1, y0, y1] = [PAD.left, width - PAD.right, height - PAD.bottom, PAD.top];
  const x = (value) => x0 + ((value - from) / (to - from)) * (x1 - x0);
  const y = (value) => y0 - ((value - low) / (high - low)) * (y0 - y1);
  g.font = `11px ${css.getPropertyValue("--font") || "sans-serif"}`;
  g.lineWidth = 1;
  paintAxes(g, colour, chart, { x, y, x0, x1, y0, y1, low, high });
  g.save();
  g.beginPath();
  g.rect(x0, y1 - 4, x1 - x0, y0 - y1 + 8);
  g.clip();
  for (const band of data.bands) {
    const [a, b] = [x(Math.max(band.from, from)), x(Math.min(band.to ?? to, to))];
    if (b < x0 || a > x1) continue;
    g.fillStyle = colour(`--${band.state}`);
    g.globalAlpha = 0.1;
    g.fillRect(a, y1, Math.max(1, b - a), y0 - y1);
    g.globalAlpha = 0.9;
    g.fillRect(a, y1 - 3, Math.max(2, b - a), 3);
    g.globalAlpha = 1;
  }
  for (const series of data.series) paintSeries(g, series, colour(series.colour ?? "--accent"), x, y, [from, to]);
  for (const limit of data.limits) {
    g.strokeStyle = g.fillStyle = colour("--limit");
    g.setLineDash([6, 4]);
    g.beginPath();
    g.moveTo(x0, y(limit.y));
    g.lineTo(x1, y(limit.y));
    g.stroke();
    g.setLineDash([]);
    if (limit.label) {
      g.textAlign = "left";
      const above = y(limit.y) - 4 > y1 + 8;
      g.fillText(limit.label, x0 + 6, above ? y(limit.y) - 4 : y(limit.y) + 12);
    }
  }
  paintMarks(g, colour, data.marks, x, y1, y0);
  if (at !== null && at >= from && at <= to) {
    g.strokeStyle = colour("--ink");
    g.globalAlpha = 0.55;
    g.beginPath();
    g.moveTo(x(at), y1);
    g.lineTo(x(at), y0);
    g.stroke();
    g.globalAlpha = 1;
    for (const series of data.series) {
      const near = nearest(series.points, at);
      if (!near) continue;
      g.fillStyle = colour(series.colour ?? "--accent");
      g.beginPath();
      g.arc(x(near[0]), y(near[1]), 3.5, 0, 7);
      g.fill();
    }
  }
  if (drag && Math.abs(drag.to - drag.from) > 3) {
    g.fillStyle = colour("--accent");
    g.globalAlpha = 0.18;
    g.fillRect(Math.min(drag.from, drag.to), y1, Math.abs(drag.to - drag.from), y0 - y1);
    g.globalAlpha = 1;
  }
  g.restore();
  return { x0, x1, from, to };
}

function paintAxes(g, colour, { time, data, from, to }, { x, y, x0, x1, y0, y1, low, high }) {
  g.fillStyle = colour("--muted");
  g.strokeStyle = colour("--grid");
  const values = ticks(low, high, Math.max(2, (y0 - y1) / 36));
  g.textAlign = "right";
  g.textBaseline = "middle";
  for (const value of values) {
    g.beginPath();
    g.moveTo(x0, Math.round(y(value)) + 0.5);
    g.lineTo(x1, Math.round(y(value)) + 0.5);
    g.stroke();
    g.fillText(tickText(value, values), x0 - 6, y(value));
  }
  g.textBaseline = "alphabetic";
  const count = Math.max(2, (x1 - x0) / 90);
  const linear = time ? [] : ticks(from, to, count);
  const marks = time ? timeTicks(from, to, count) : linear.map((value) => ({ value, text: tickText(value, linear) }));
  for (const { value, text } of marks) {
    const place = Math.round(x(value)) + 0.5;
    g.beginPath();
    g.moveTo(place, y0);
    g.lineTo(place, y0 + 4);
    g.stroke();
    g.textAlign = place < x0 + 16 ? "left" : place > x1 - 22 ? "right" : "center";
    g.fillText(text, place, y0 + 16);
  }
  if (!data.series.some((series) => series.points.length || series.band?.length)) {
    g.textAlign = "center";
    g.fillText("nothing in this range", (x0 + x1) / 2, (y0 + y1) / 2);
  }
}

function paintSeries(g, series, colour, x, y, [from, to]) {
  const inside = (list, at) => list[at][0] >= from || (list[at + 1]?.[0] ?? -Infinity) >= from;
  const { band, points } = series;
  for (const fan of series.fans ?? []) paintFan(g, fan, colour, x, y);
  g.strokeStyle = g.fillStyle = colour;
  for (const [begin, end, min, max, mean] of band ?? []) {
    if (end < from || begin > to) continue;
    const [left, right] = [x(begin), x(end)];
    g.globalAlpha = 0.14;
    g.fillRect(left, y(max), right - left, Math.max(1, y(min) - y(max)));
    g.globalAlpha = 1;
    g.fillRect(left, y(mean) - 0.75, right - left, 1.5);
  }
  g.strokeStyle = colour;
  g.lineWidth = series.faint ? 1 : 1.5;
  if (series.faint) g.setLineDash([3, 2]);
  g.lineJoin = "round";
  g.beginPath();
  let last = null;
  let drawn = 0;
  for (let at = 0; at < points.length; at += 1) {
    if (!inside(points, at)) continue;
    const [t, value] = points[at];
    if (last !== null && !(series.gap && t - last > series.gap)) g.lineTo(x(t), y(value));
    else g.moveTo(x(t), y(value));
    last = t;
    drawn += 1;
    if (t > to) break;
  }
  g.stroke();
  g.setLineDash([]);
  if (drawn === 1 && last >= from && last <= to) {
    g.fillStyle = colour;
    const only = nearest(points, last);
    g.beginPath();
    g.arc(x(only[0]), y(only[1]), 3, 0, 7);
    g.fill();
  }
  g.lineWidth = 1;
}

/** A forecast: the interval as a surface, the estimate as a broken line. */
function paintFan(g, fan, colour, x, y) {
  g.fillStyle = g.strokeStyle = colour;
  g.globalAlpha = 0.14;
  g.beginPath();
  for (const [t, , , high] of fan) g.lineTo(x(t), y(high));
  for (const [t, low] of [...fan].reverse()) g.lineTo(x(t), y(low));
  g.fill();
  g.globalAlpha = 1;
  g.setLineDash([5, 4]);
  g.beginPath();
  for (const [t, , mid] of fan) g.lineTo(x(t), y(mid));
  g.stroke();
  g.setLineDash([]);
}

function paintMarks(g, colour, marks, x, top, bottom) {
  g.strokeStyle = g.fillStyle = colour("--mark");
  g.textAlign = "left";
  let free = -Infinity;
  let before = -Infinity;
  for (const mark of marks) {
    const place = x(mark.x);
    // Lines that would run into each other say nothing; zooming in parts them.
    if (place - before < 8) continue;
    before = place;
    g.globalAlpha = 0.7;
    g.setLineDash([2, 3]);
    g.beginPath();
    g.moveTo(place, top);
    g.lineTo(place, bottom);
    g.stroke();
    g.setLineDash([]);
    g.globalAlpha = 1;
    if (place > free) {
      g.fillText(mark.label, place + 3, top + 9);
      free = place + g.measureText(mark.label).width + 6;
    }
  }
}

/** The point of a sorted list that is closest to `x`. */
export function nearest(points, x) {
  if (!points.length || x === null) return null;
  let [low, high] = [0, points.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (points[middle][0] <= x) low = middle;
    else high = middle;
  }
  return Math.abs(points[low][0] - x) <= Math.abs(points[high][0] - x) ? points[low] : points[high];
}
