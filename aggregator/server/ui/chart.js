// A line chart: a cursor with its readout, zoom by drag or key, saving as PNG and CSV; `paint.js` draws it.

import { h, refill, s, save, say, style } from "./dom.js";
import { nearest, paint } from "./paint.js";
import { absolute, measured, number, units } from "./text.js";

/** One chart in its own figure. */
export class Chart {
  /** `options`: title, unit, time (is x a time in microseconds?), xUnit, height, file, onzoom(from, to), oncursor(x). */
  constructor(options) {
    this.options = options;
    this.data = { series: [], limits: [], bands: [], marks: [], range: null };
    this.at = null;
    this.drag = null;
    this.canvas = h("canvas", { tabindex: "0", role: "img" });
    this.readout = h("output.readout", { "aria-live": "off" });
    const whole = { type: "button", hidden: true, title: "Show the whole range again (0)", onclick: () => options.onzoom?.(null, null) };
    this.reset = h("button.small", whole, "Whole range");
    const tools = h(
      "span.tools",
      {},
      this.reset,
      h("button.small", { type: "button", title: "Save as picture", onclick: () => this.savePng() }, "PNG"),
      h("button.small", { type: "button", title: "Save the values shown", onclick: () => this.saveCsv() }, "CSV"),
    );
    this.name = h("span.name", {}, options.title);
    this.figure = h("figure.chart", {}, h("figcaption", {}, this.name, this.readout, tools), this.canvas);
    style(this.canvas, { height: `${options.height ?? 150}px` });
    this.listen();
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.canvas);
  }

  /** New data: series [{name, colour, points, band, fans, faint}], limits [{y, label}], bands [{from, to, state}], marks [{x, label}], range. */
  set(data) {
    this.data = { limits: [], bands: [], marks: [], range: null, ...data };
    this.reset.hidden = !this.data.zoomed;
    this.draw();
  }

  /** Shows the cursor at `x` without telling others. */
  cursor(x) {
    if (this.at === x) return;
    this.at = x;
    this.draw();
  }

  end() {
    this.observer.disconnect();
  }

  /** The limits of x: what was asked for, or what the series span. */
  span() {
    if (this.data.range) return this.data.range;
    let [low, high] = [Infinity, -Infinity];
    for (const { points, band } of this.data.series) {
      for (const list of [points, band ?? []]) {
        if (!list.length) continue;
        low = Math.min(low, list[0][0]);
        high = Math.max(high, list === points ? list.at(-1)[0] : list.at(-1)[1]);
      }
    }
    if (!(high > low)) return Number.isFinite(low) ? [low - 1, low + 1] : [0, 1];
    return [low, high];
  }

  heights([from, to]) {
    let [low, high] = [Infinity, -Infinity];
    const take = (value) => {
      if (value < low) low = value;
      if (value > high) high = value;
    };
    for (const { points, band, fans } of this.data.series) {
      for (const [x, y] of points) if (x >= from && x <= to) take(y);
      for (const [x, low, , high] of (fans ?? []).flat()) if (x >= from && x <= to) (take(low), take(high));
      for (const [begin, end, min, max] of band ?? []) if (end >= from && begin <= to) (take(min), take(max));
    }
    if (!Number.isFinite(low)) [low, high] = [0, 1];
    for (const { y, always } of this.data.limits) if (always || (y > low - (high - low) && y < high * 2.5)) take(y);
    if (low > 0 && low < high * 0.6) low = 0;
    const room = (high - low || Math.abs(high) || 1) * 0.08;
    return [low === 0 ? 0 : low - room, high + room];
  }

  draw() {
    const { width, height } = this.canvas.getBoundingClientRect();
    if (width < 40) return;
    const ratio = devicePixelRatio || 1;
    const [w, t] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== w || this.canvas.height !== t) [this.canvas.width, this.canvas.height] = [w, t];
    const g = this.canvas.getContext("2d");
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, width, height);
    this.paint(g, width, height);
    this.tell();
  }

  paint(g, width, height) {
    const { figure, options, data, at, drag } = this;
    const [from, to] = this.span();
    this.scale = paint(g, { figure, time: options.time, data, at, drag, from, to, heights: this.heights([from, to]), width, height });
  }

  /** The readout: values at the cursor; without one the last ones, or the highest of a spectrum. */
  tell() {
    const { series } = this.data;
    const rest = ({ points }) => (this.options.time ? points.at(-1) : highest(points, this.span()));
    const found = series.map((line) => [line, this.at === null ? rest(line) : nearest(line.points, this.at)]).filter(([, point]) => point);
    const texts = found.map(([line, point]) => (series.length > 1 && line.name ? `${line.name} ` : "") + measured(point[1], this.options.unit));
    const at = found[0]?.[1][0];
    const where = !found.length || (this.options.time && this.at === null) ? "" : this.where(at);
    const parts = found.map(([line], place) => ({ text: texts[place], colour: series.length > 1 ? line.colour : null }));
    if (where) parts.push({ text: `${this.at === null ? "highest at " : "at "}${where}`, colour: null });
    const key = parts.map((part) => part.colour).join();
    refill(this.readout, `${key}${parts.length}`, () => parts.map((part) => [" ", h("span", {}, part.colour && swatch(part.colour), h("span"))]));
    parts.forEach((part, place) => say(this.readout.children[place].lastChild, part.text));
    this.canvas.setAttribute("aria-label", `${this.options.title}: ${texts.length ? `${texts.join(", ")} ${where}` : "no values"}`);
  }

  where(x) {
    if (this.options.where) return this.options.where(x);
    return this.options.time ? absolute(x) : `${number(x, 4)} ${this.options.xUnit ?? ""}`;
  }

  listen() {
    const { canvas } = this;
    const value = (event) => {
      const { x0, x1, from, to } = this.scale ?? { x0: 0, x1: 1, from: 0, to: 1 };
      const place = event.clientX - canvas.getBoundingClientRect().left;
      return from + (Math.max(0, Math.min(x1 - x0, place - x0)) / (x1 - x0)) * (to - from);
    };
    const move = (x) => {
      this.cursor(x);
      this.options.oncursor?.(x);
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "mouse" && event.button === 0 && this.options.onzoom) {
        this.drag = { from: event.offsetX, to: event.offsetX, start: value(event) };
        canvas.setPointerCapture(event.pointerId);
      }
      move(value(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (this.drag) this.drag.to = event.offsetX;
      move(value(event));
      if (this.drag) this.draw();
    });
    canvas.addEventListener("pointerup", (event) => {
      const drag = this.drag;
      this.drag = null;
      if (drag && Math.abs(drag.to - drag.from) > 6) {
        const ends = [drag.start, value(event)].sort((a, b) => a - b);
        this.options.onzoom(...ends);
      }
      this.draw();
    });
    canvas.addEventListener("pointerleave", () => {
      if (!this.drag) move(null);
    });
    canvas.addEventListener("dblclick", () => this.options.onzoom?.(null, null));
    canvas.addEventListener("blur", () => move(null));
    canvas.addEventListener("keydown", (event) => this.key(event, move));
  }

  key(event, move) {
    const [from, to] = this.span();
    const points = this.data.series[0]?.points ?? [];
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
      const inside = points.filter(([x]) => x >= from && x <= to);
      const here = inside.findIndex((point) => point === nearest(inside, this.at ?? to));
      const step = (event.shiftKey ? 10 : 1) * (event.key === "ArrowLeft" ? -1 : 1);
      const next = inside[Math.max(0, Math.min(inside.length - 1, here + step))];
      if (next) move(next[0]);
    } else if (event.key === "+" || event.key === "=") {
      const middle = this.at ?? (from + to) / 2;
      this.options.onzoom?.(Math.max(from, middle - (to - from) / 4), Math.min(to, middle + (to - from) / 4));
    } else if (event.key === "0" || event.key === "-") {
      this.options.onzoom?.(null, null);
    } else if (event.key === "Escape") {
      move(null);
      return;
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  savePng() {
    const [width, height] = [Math.max(640, this.canvas.clientWidth), Math.max(220, this.canvas.clientHeight)];
    const canvas = h("canvas", { width: width * 2, height: (height + 26) * 2 });
    const g = canvas.getContext("2d");
    const css = getComputedStyle(this.figure);
    g.scale(2, 2);
    g.fillStyle = css.getPropertyValue("--paper").trim();
    g.fillRect(0, 0, width, height + 26);
    g.fillStyle = css.getPropertyValue("--ink").trim();
    g.font = `600 13px ${css.getPropertyValue("--font")}`;
    g.fillText(`${this.options.file ?? ""} · ${this.options.title} ${this.options.unit === "1" ? "" : `in ${units(this.options.unit)}`}`, 12, 18);
    g.translate(0, 26);
    this.paint(g, width, height);
    canvas.toBlob((blob) => save(`${this.fileName()}.png`, blob), "image/png");
    this.draw();
  }

  saveCsv() {
    const [from, to] = this.span();
    const time = this.options.time;
    const rows = [[time ? "time_utc" : `x_${this.options.xUnit ?? ""}`, "series", "min", `value_${this.options.unit ?? ""}`, "max"].join(",")];
    for (const { name, points, band, fans } of this.data.series) {
      const x = (value) => (time ? new Date(value / 1000).toISOString() : value);
      const quoted = (more) => `"${(name ?? this.options.title).replaceAll('"', '""')}${more}"`;
      for (const [t, value] of points) if (t >= from && t <= to) rows.push([x(t), quoted(""), "", value, ""].join(","));
      for (const [t, end, min, max, mean] of band ?? []) if (end >= from && t <= to) rows.push([x(t), quoted(""), min, mean, max].join(","));
      for (const [t, low, mid, high] of (fans ?? []).flat()) if (t >= from && t <= to) rows.push([x(t), quoted(" (forecast)"), low, mid, high].join(","));
    }
    save(`${this.fileName()}.csv`, new Blob([rows.join("\n"), "\n"], { type: "text/csv" }));
  }

  fileName() {
    return `${this.options.file ?? "chart"} ${this.options.title}`.replace(/[^a-z0-9.-]+/gi, "-").toLowerCase();
  }
}

const swatch = (colour) => style(s("svg.swatch", { viewBox: "0 0 8 8", width: 8, height: 8 }, s("rect", { width: 8, height: 8, rx: 2 })), { fill: `var(${colour})` });

/** The highest point within a range. */
function highest(points, [from, to]) {
  let best = null;
  for (const point of points) if (point[0] >= from && point[0] <= to && (best === null || point[1] > best[1])) best = point;
  return best;
}
