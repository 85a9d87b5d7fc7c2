// Spectrum and envelope spectrum of the last window, with cursors at the shaft's harmonics, in Hz or orders.

import { Chart } from "./chart.js";
import { h, refill } from "./dom.js";
import { time } from "./parts.js";
import { place, select } from "./route.js";
import { number } from "./text.js";

/** A section of spectra; `set(view)` gives it a machine's data. */
export class Spectra {
  constructor(file) {
    this.file = file;
    this.charts = new Map();
    this.grid = h("div.charts.pairs");
    this.buttons = ["hz", "orders"].map((unit) =>
      h("button.small", { type: "button", onclick: () => this.unit(unit) }, unit === "hz" ? "Hz" : "Orders"),
    );
    this.units = h("div.ranges", { role: "group", "aria-label": "Unit of the frequency axis" }, this.buttons);
    this.element = h("section.spectra", { "aria-label": "Spectra" }, h("div.section-head", {}, h("h2", {}, "Spectra"), this.units), this.grid);
  }

  end() {
    for (const { chart } of this.charts.values()) chart.end();
  }

  set(view) {
    this.view = view;
    const keys = view.spectra.map(keyOf);
    refill(this.grid, keys.join(), () =>
      keys.length ? view.spectra.map((spectrum) => this.chart(spectrum)) : h("p.quiet", {}, "No spectrum yet; nodes send one now and then, and with each alarm."),
    );
    this.draw();
  }

  chart(spectrum) {
    const key = keyOf(spectrum);
    const chart = new Chart({
      title: `${spectrum.point}: ${spectrum.envelope ? "envelope spectrum" : "spectrum"}`,
      unit: "g",
      xUnit: "Hz",
      height: 220,
      file: this.file,
      onzoom: (from, to) => this.zoom(key, from, to),
      where: (x) => this.where(key, x),
    });
    chart.figure.classList.add("two-line");
    const of = h("p.quiet.of");
    this.charts.set(key, { chart, of });
    return h("div", {}, chart.figure, of);
  }

  draw() {
    if (!this.view) return;
    const { query } = place();
    for (const spectrum of this.view.spectra) {
      const key = keyOf(spectrum);
      const entry = this.charts.get(key);
      if (!entry) continue;
      const shaft = this.rpm(spectrum) / 60;
      const orders = query.get("unit") === "orders" && shaft > 0;
      const scale = orders ? 1 / shaft : 1;
      Object.assign(entry, { shaft, orders });
      entry.chart.options.xUnit = orders ? "orders" : "Hz";
      const line = spectrum.line_hz * scale;
      const points = spectrum.amplitudes_g.map((amplitude, at) => [at * line, amplitude]);
      const zoom = (query.get(`x-${key}`) ?? "").split("-").map(Number);
      const zoomed = zoom.length === 2 && zoom[1] > zoom[0];
      const marks = shaft > 0 ? [1, 2, 3].map((order) => ({ x: order * shaft * scale, label: `${order}x` })) : [];
      const range = zoomed ? zoom.map((hz) => hz * scale) : [0, points.length ? points.at(-1)[0] : 1];
      const name = spectrum.envelope ? "envelope" : "amplitude";
      entry.chart.set({ series: [{ name, points, colour: spectrum.envelope ? "--second" : "--accent" }], marks, range, zoomed });
      refill(entry.of, `${spectrum.t_us} ${shaft}`, () => [
        `Window ${shaft > 0 ? `at ${number(shaft * 60, 4)} rpm, ` : ""}`,
        time(spectrum.t_us),
        `, lines of ${number(spectrum.line_hz)} Hz`,
      ]);
    }
    const known = this.view.spectra.some((spectrum) => this.rpm(spectrum) > 0);
    this.units.hidden = !known;
    const unit = query.get("unit") === "orders" && known ? "orders" : "hz";
    this.buttons.forEach((button, at) => button.setAttribute("aria-pressed", String(["hz", "orders"][at] === unit)));
  }

  /** The speed at this point; any speed of the machine where the point has none. */
  rpm(spectrum) {
    const rows = this.view.latest ?? [];
    return rows.find((row) => row.point === spectrum.point && row.rpm > 0)?.rpm ?? rows.find((row) => row.rpm > 0)?.rpm ?? this.view.rpm;
  }

  where(key, x) {
    const { shaft, orders } = this.charts.get(key);
    if (!(shaft > 0)) return `${number(x, 4)} Hz`;
    const hz = orders ? x * shaft : x;
    return `${number(hz, 4)} Hz = ${number(hz / shaft, 3)} orders = ${number(hz * 60, 4)} cpm`;
  }

  unit(unit) {
    select({ unit: unit === "hz" ? null : unit }, true);
    for (const { chart } of this.charts.values()) chart.cursor(null);
    this.draw();
  }

  zoom(key, from, to) {
    const { shaft, orders } = this.charts.get(key);
    const scale = orders ? shaft : 1;
    select({ [`x-${key}`]: from === null ? null : `${number(from * scale, 5).replaceAll(",", "")}-${number(to * scale, 5).replaceAll(",", "")}` }, true);
    this.draw();
  }
}

const keyOf = (spectrum) => `${spectrum.point}.${spectrum.envelope ? "envelope" : "plain"}`;
