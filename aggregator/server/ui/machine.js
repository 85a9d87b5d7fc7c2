// One machine: what we think and why in one sentence, and the proof below it.

import { acknowledge, alarmCard } from "./alarm.js";
import { get } from "./api.js";
import { h, reconcile, refill, say } from "./dom.js";
import { badge, freshen, lasted, maintain, running, time } from "./parts.js";
import { go } from "./route.js";
import { Spectra } from "./spectra.js";
import { listen, store } from "./store.js";
import { Trends } from "./trends.js";
import { feature, life, limit, measured, number, units } from "./text.js";

export function machine(root, { path }) {
  const view = new Machine(root, path);
  return { end: () => view.end(), key: (event) => view.key(event), moved: () => view.moved() };
}

class Machine {
  constructor(root, path) {
    this.path = path;
    this.asset = path.split("/")[2];
    document.title = `${this.asset} · Kilter`;
    this.build(root);
    this.read();
    this.stop = listen((kind, change) => {
      const mine = kind === "fleet" && (change.all || change.changed.has(path));
      if (mine || kind === "alarm" || (kind === "link" && store.link === "live")) this.soon();
    });
    this.timer = setInterval(() => freshen(this.root), 1_000);
  }

  end() {
    this.ended = true;
    this.stop();
    clearInterval(this.timer);
    clearTimeout(this.waiting);
    this.trends.end();
    this.spectra.end();
  }

  moved() {
    this.trends.draw();
    this.spectra.draw();
  }

  build(root) {
    const [tenant, site] = this.path.split("/");
    this.root = root;
    this.state = h("span");
    this.sentence = h("p.sentence");
    this.since = h("p.quiet.since");
    this.facts = h("dl.facts");
    this.alarms = h("section.alarms", { "aria-label": "Alarms" });
    this.features = h("section.features", { "aria-label": "Latest features" });
    this.trends = new Trends(this.asset);
    this.spectra = new Spectra(this.asset);
    this.maintain = h("button", { type: "button", disabled: true, onclick: () => maintain(this.view.row, points(this.view)) }, "Record maintenance");
    this.problem = h("p.problem", { role: "alert", hidden: true });
    root.append(
      h("nav.crumbs", { "aria-label": "Where you are" }, h("a", { href: "/" }, "Fleet"), ` / ${tenant} / ${site}`),
      h("header.machine-head", {}, h("div.title", {}, h("h1", {}, this.asset), this.state), h("div.buttons", {}, this.maintain)),
      this.problem,
      this.sentence,
      this.since,
      this.facts,
      h("div.columns", {}, h("div.wide-column", {}, this.trends.element, this.spectra.element), h("div.side-column", {}, this.alarms, this.features)),
    );
    say(this.sentence, "Loading");
  }

  /** Reads again a little later, however many changes come in until then. */
  soon() {
    if (this.waiting || document.hidden) return;
    this.waiting = setTimeout(() => {
      this.waiting = 0;
      this.read();
    }, 1_000);
  }

  async read() {
    try {
      const view = await get(`machines/${this.path.split("/").map(encodeURIComponent).join("/")}`);
      if (this.ended) return;
      this.view = view;
      this.problem.hidden = true;
      this.draw();
    } catch (error) {
      if (this.ended) return;
      if (error.status === 404) {
        say(this.sentence, "No such machine has sent anything yet.");
      } else if (error.status) {
        this.problem.hidden = false;
        say(this.problem, error.message);
      }
    }
  }

  draw() {
    const { view } = this;
    const { row } = view;
    refill(this.state, row.state, () => badge(row.state));
    this.root.dataset.state = row.state;
    say(this.sentence, view.sentence);
    refill(this.since, `${row.state}${row.since_us}`, () => ["In this state for ", lasted(row.since_us)]);
    this.maintain.disabled = false;
    this.drawFacts();
    drawAlarms(this.alarms, view.alarms);
    this.trends.set(view);
    this.spectra.set(view);
    refill(this.features, JSON.stringify(view.latest ?? view.features), () => featureTables(view, this.features));
    freshen(this.root);
  }

  drawFacts() {
    const { view } = this;
    const { row } = view;
    const shown = [
      ["Operating state", view.operating_state],
      ["Speed", view.rpm > 0 ? `${number(view.rpm, 4)} rpm` : "not known"],
      ["Score / threshold", row.score === null ? "no score yet" : number(row.score)],
      row.velocity_mm_s !== null && ["Velocity RMS", `${number(row.velocity_mm_s)} mm/s`],
      row.rul_h && ["Remaining life", life(row.rul_h).join(" ")],
      row.score !== null && ["Limit reached", row.outlook ? limit(row.outlook)[2] : "too early to say"],
      ["Last seen", [time(row.last_event_us), row.stale && h("span.tag.warn", {}, "stale")]],
      row.drift && ["Drift", `${Math.round(row.drift * 100)} % of windows unfamiliar`],
      view.quality.length > 0 && ["Last window", view.quality.join(", ")],
      ["Model", row.models.length ? running(row.models) : "baseline on the device"],
      ["Node", row.device],
      row.asset_class && ["Class", row.asset_class],
    ].filter(Boolean);
    const key = JSON.stringify([view.operating_state, view.rpm, view.quality, { ...row, spark: 0, since_us: 0, last_received_us: 0 }]);
    refill(this.facts, key, () => shown.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
  }

  key(event) {
    if (event.key === "a") {
      const open = this.view?.alarms.find((alarm) => alarm.open && !alarm.acknowledged);
      if (open) acknowledge(open);
      return Boolean(open);
    }
    if (event.key === "Escape") {
      go(`/?at=${encodeURIComponent(this.path)}`);
      return true;
    }
    return false;
  }
}

const points = (view) => [...new Set([...view.alarms.map((alarm) => alarm.point), ...(view.latest ?? []).map((row) => row.point), ...view.trends.map((trend) => trend.point)])];

/** Fills the alarms; cards that did not change stay, with their focus. */
function drawAlarms(root, alarms) {
  const open = alarms.filter((alarm) => alarm.open);
  const closed = alarms.filter((alarm) => !alarm.open);
  const cards = (list) => list.map((alarm) => [alarm.key, alarm, () => alarmCard(alarm, { machine: false })]);
  if (!root.firstChild) {
    root.append(h("div.section-head", {}, h("h2", {}, "Alarms")), h("p.quiet", {}, "None open."), h("div.stack"), h("details", {}, h("summary"), h("div.stack")));
  }
  const [, none, list, details] = root.children;
  none.hidden = open.length > 0;
  reconcile(list, cards(open));
  details.hidden = closed.length === 0;
  say(details.firstChild, `${closed.length} closed`);
  reconcile(details.lastChild, cards(closed.slice(0, 20)));
}

/** The last row of each point; tables stay as open as the reader left them. */
function featureTables(view, before) {
  const rows = view.latest?.length ? view.latest : [{ point: "last window", t_us: view.row.last_event_us, features: view.features, quality: view.quality }];
  const open = new Set([...before.querySelectorAll("details[open]")].map((element) => element.dataset.point));
  const first = before.querySelector("details") === null;
  return [
    h("div.section-head", {}, h("h2", {}, "Latest features")),
    rows.map((row, at) =>
      h(
        "details",
        { open: first ? at === 0 : open.has(row.point), "data-point": row.point },
        h(
          "summary",
          {},
          row.point,
          h("span.quiet", {}, ` ${row.features.length} values, `, time(row.t_us)),
          row.quality.length > 0 && h("span.tag.warn", {}, row.quality.join(", ")),
        ),
        h(
          "table",
          {},
          h("thead.sr", {}, h("tr", {}, h("th", { scope: "col" }, "Feature"), h("th", { scope: "col" }, "Value"), h("th", { scope: "col" }, "Unit"))),
          h(
            "tbody",
            {},
            row.features.map(([name, unit, value]) =>
              h(
                "tr",
                { title: value === null ? "not valid in this window" : measured(value, unit) },
                h("th", { scope: "row" }, feature(name)),
                h("td", {}, number(value)),
                h("td.unit", {}, units(unit)),
              ),
            ),
          ),
        ),
      ),
    ),
  ];
}
