// One row of the fleet.

import { h, refill, say, style } from "./dom.js";
import { badge, redrawSpark, running, spark } from "./parts.js";
import { go } from "./route.js";
import { now } from "./store.js";
import { absolute, ago, capital, cause, life, limit, number, ratio, span } from "./text.js";

/** One row; fills only what changed. */
export class Row {
  constructor(path) {
    const cell = (name) => h(`span.${name}`, { role: "cell" });
    this.state = cell("c-state");
    this.name = h("a", { href: `/machine/${path}` });
    this.kind = h("span.quiet");
    this.site = cell("c-site");
    this.cause = cell("c-cause");
    this.spark = spark([], "unknown");
    this.score = h("span.score");
    this.velocity = cell("c-velocity");
    this.life = cell("c-life");
    this.last = cell("c-seen");
    this.model = cell("c-model");
    this.element = h(
      "div.row",
      { role: "row", onclick: (event) => !event.target.closest("a") && !getSelection().toString() && go(`/machine/${path}`) },
      this.state,
      h("span.c-name", { role: "cell" }, this.name, this.kind),
      this.site,
      this.cause,
      h("span.c-score", { role: "cell" }, this.spark, this.score),
      this.velocity,
      this.life,
      this.last,
      this.model,
    );
  }

  put(at, height, selected) {
    style(this.element, { transform: `translateY(${at * height}px)` });
    this.element.setAttribute("aria-rowindex", String(at + 2));
    this.element.classList.toggle("selected", selected);
  }

  fill(row) {
    this.row = row;
    if (refill(this.state, row.state, () => badge(row.state))) this.element.dataset.state = row.state;
    this.state.title = `since ${absolute(row.since_us)}`;
    say(this.name, row.asset);
    say(this.kind, row.asset_class ?? "");
    say(this.site, row.site);
    say(this.cause, row.cause ? capital(cause(row.cause)) : row.drift ? `drift, ${Math.round(row.drift * 100)} % unfamiliar` : "");
    redrawSpark(this.spark, row.spark, row.state);
    say(this.score, row.score === null ? "" : ratio(row.score));
    say(this.velocity, row.velocity_mm_s === null ? "–" : `${number(row.velocity_mm_s, 3)} mm/s`);
    this.ahead(row);
    refill(this.model, JSON.stringify(row.models), () => (row.models.length ? running(row.models) : h("span.quiet", {}, "baseline")));
    this.seen();
  }

  /** Remaining life where a model gives it, else when the score reaches its limit. */
  ahead(row) {
    const [text, between, sentence] = row.rul_h ? life(row.rul_h) : row.outlook ? limit(row.outlook) : ["–"];
    refill(this.life, `${text} ${between}`, () => [text, between && h("span.between", {}, ` ${between}`)]);
    const isLimit = !row.rul_h && Boolean(row.outlook);
    this.life.title = isLimit ? `Limit of the score: ${sentence}, if it goes on as it does` : "";
    this.life.classList.toggle("limit", isLimit);
    this.life.classList.toggle("nothing", !row.rul_h && !row.outlook);
  }

  seen() {
    if (!this.row) return;
    const { last_event_us: t, stale } = this.row;
    say(this.last, `${ago(t, now())}${stale ? " · stale" : ""}`);
    this.last.title = `${absolute(t)}; state for ${span(now() - this.row.since_us)}`;
    this.last.classList.toggle("stale", stale);
  }
}
