// The fleet: one row a machine, worst first. Only the rows in sight exist, so that 5,000 machines scroll like 5.

import { h, refill, say, style } from "./dom.js";
import { digest, freshen, shape } from "./parts.js";
import { go, place, select } from "./route.js";
import { Row } from "./row.js";
import { listen, store } from "./store.js";
import { STATES, bytes, cause, number, pathOf, plural } from "./text.js";

const SPARE = 6;
const HINTS = { "Life or limit": "Remaining life where a model gives it; else when the score reaches its limit if it goes on as it does" };
const PHONE = matchMedia("(max-width: 720px)");
let remembered = 0;

export function fleet(root) {
  const view = new Fleet(root);
  return { end: () => view.end(), key: (event) => view.key(event), moved: () => view.fromAddress(), scroll: () => remembered };
}

class Fleet {
  constructor(root) {
    document.title = "Fleet · Kilter";
    this.rows = new Map();
    this.order = [];
    this.states = "";
    this.sorted = 0;
    this.build(root);
    this.fromAddress(false);
    this.stop = listen((kind, change) => {
      if (kind === "fleet") this.changed(change);
      if (kind === "fleet" || kind === "alarm" || kind === "rollout" || kind === "link") this.head();
    });
    this.onscroll = () => this.draw();
    addEventListener("scroll", this.onscroll, { passive: true });
    addEventListener("resize", this.onscroll);
    this.timer = setInterval(() => this.tick(), 1_000);
    this.sort();
    this.head();
  }

  end() {
    remembered = scrollY;
    this.stop();
    clearInterval(this.timer);
    removeEventListener("scroll", this.onscroll);
    removeEventListener("resize", this.onscroll);
  }

  build(root) {
    this.chips = new Map(
      STATES.map((state) => [
        state,
        h(`button.chip.is-${state}`, { type: "button", "aria-pressed": "false", onclick: () => this.toggle(state) }, shape(state), h("b", {}, "0"), ` ${state}`),
      ]),
    );
    this.facts = Object.fromEntries(["rate", "lag", "alarms", "rollout"].map((name) => [name, h("dd")]));
    this.search = h("input", {
      type: "search",
      placeholder: "Search machines   /",
      "aria-label": "Search machines, sites, classes, causes and models",
      oninput: () => {
        select({ q: this.search.value });
        this.fromAddress();
      },
      onkeydown: (event) => {
        if (event.key === "Enter" || event.key === "ArrowDown") {
          event.preventDefault();
          this.search.blur();
          this.choose(0);
          if (event.key === "Enter" && this.order.length === 1) this.open(0);
        }
      },
    });
    this.site = this.filter("site", "All sites");
    this.kind = this.filter("class", "All classes");
    this.found = h("span.quiet.found", { role: "status" });
    const fact = (name, text, title) => h("div", { title }, h("dt", {}, text), this.facts[name]);
    this.summary = h(
      "section.summary",
      { "aria-label": "Summary" },
      h("div.chips", { role: "group", "aria-label": "Filter by state" }, [...this.chips.values()]),
      h(
        "dl.facts",
        {},
        fact("rate", "records", "Records folded per second over the last ten seconds"),
        fact("lag", "lag to history", "Journal bytes that the lab has not committed to the lake yet"),
        fact("alarms", "open alarms", "Alarms that have not cleared"),
        fact("rollout", "rollout", "The rollout that is under way"),
      ),
    );
    const head = h(
      "div.row.head",
      { role: "row" },
      ["State", "Machine", "Site", "Cause", "Score / threshold", "Velocity", "Life or limit", "Last seen", "Model"].map((text) =>
        h("span", { role: "columnheader", title: HINTS[text] }, text),
      ),
    );
    this.body = h("div.body", { role: "rowgroup" });
    this.table = h("div.fleet", { role: "table", "aria-label": "Machines, worst first" }, h("div", { role: "rowgroup" }, head), this.body);
    this.empty = h("section.empty", { hidden: true });
    this.bar = h("div.bar-row", {}, this.search, this.site, this.kind, this.found);
    root.append(h("h1.sr", {}, "Fleet"), this.summary, this.bar, this.table, this.empty);
  }

  filter(name, all) {
    const change = (event) => {
      select({ [name]: event.target.value });
      this.fromAddress();
    };
    return h("select", { "aria-label": all, onchange: change }, h("option", { value: "" }, all));
  }

  /** Takes search, filters and selection from the address. */
  fromAddress(sort = true) {
    const { query } = place();
    this.query = (query.get("q") ?? "").toLowerCase();
    this.wanted = { state: (query.get("state") ?? "").split(",").filter(Boolean), site: query.get("site") ?? "", kind: query.get("class") ?? "" };
    this.selected = query.get("at");
    if (this.search.value.toLowerCase() !== this.query) this.search.value = query.get("q") ?? "";
    if (sort) this.sort();
  }

  toggle(state) {
    const states = this.wanted.state.includes(state) ? this.wanted.state.filter((other) => other !== state) : [...this.wanted.state, state];
    select({ state: states.join(",") });
    this.fromAddress();
  }

  changed({ all, changed }) {
    const states = [...store.machines.values()].map((row) => row.state).join();
    // Order changes when a state does, and otherwise only now and then: rows must not dance under the pointer.
    if (states !== this.states || (Date.now() - this.sorted > 15_000 && !this.table.matches(":hover"))) this.sort();
    else this.draw(all ? null : changed);
  }

  sort() {
    this.states = [...store.machines.values()].map((row) => row.state).join();
    this.sorted = Date.now();
    const rank = new Map(STATES.map((state, at) => [state, at]));
    this.order = [...store.machines.values()]
      .filter((row) => this.fits(row))
      .sort((a, b) => rank.get(a.state) - rank.get(b.state) || (b.score ?? 0) - (a.score ?? 0) || pathOf(a).localeCompare(pathOf(b), "en", { numeric: true }))
      .map(pathOf);
    this.options(this.site, "site", "All sites");
    this.options(this.kind, "asset_class", "All classes", this.wanted.kind);
    this.draw();
  }

  fits(row) {
    const { state, site, kind } = this.wanted;
    if (state.length && !state.includes(row.state)) return false;
    if ((site && row.site !== site) || (kind && row.asset_class !== kind)) return false;
    if (!this.query) return true;
    const text = [pathOf(row), row.asset_class, row.device, row.state, cause(row.cause), ...row.models.map((model) => model.digest)].join(" ").toLowerCase();
    return this.query.split(/\s+/).every((word) => text.includes(word));
  }

  options(element, field, all, wanted = this.wanted.site) {
    const values = [...new Set([...store.machines.values()].map((row) => row[field]).filter(Boolean))].sort();
    refill(element, values.join(), () => [h("option", { value: "" }, all), ...values.map((value) => h("option", { value }, value))]);
    element.value = values.includes(wanted) ? wanted : "";
    element.hidden = values.length < 2 && !wanted;
  }

  head() {
    const { fleet } = store;
    for (const [state, chip] of this.chips) {
      say(chip.querySelector("b"), String(store.counts[state] ?? 0));
      chip.setAttribute("aria-pressed", String(this.wanted.state.includes(state)));
      chip.classList.toggle("none", !store.counts[state]);
    }
    say(this.facts.rate, store.rate === null ? "–" : `${number(store.rate, 3)}/s`);
    say(this.facts.lag, fleet?.lag_bytes === undefined ? "–" : bytes(fleet.lag_bytes));
    const open = fleet?.open_alarms ?? 0;
    say(this.facts.alarms, String(open));
    const moving = (store.models?.rollouts ?? []).find((rollout) => ["waiting", "canary", "everyone"].includes(rollout.stage));
    refill(this.facts.rollout, moving ? `${moving.generation}${moving.stage}` : "none", () =>
      moving ? h("a", { href: "/models" }, `${moving.asset_class} ${moving.stage} `, digest(moving.pair.leader ?? moving.pair.shadow)) : "none",
    );
  }

  tick() {
    for (const row of this.rows.values()) row.seen();
    freshen(this.summary);
  }

  /** Draws the rows in sight; `only` names those whose values changed. */
  draw(only = null) {
    const nobody = store.loaded && store.machines.size === 0;
    this.empty.hidden = !nobody;
    for (const element of [this.table, this.bar, this.summary]) element.hidden = nobody || !store.loaded;
    if (!store.loaded) return this.loading();
    if (nobody) return this.enrol();
    const height = PHONE.matches ? 92 : 44;
    style(this.body, { height: `${this.order.length * height}px` });
    const top = this.body.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(-top / height) - SPARE);
    const last = Math.min(this.order.length, Math.ceil((innerHeight - top) / height) + SPARE);
    const seen = new Set();
    for (let at = first; at < last; at += 1) {
      const path = this.order[at];
      seen.add(path);
      let row = this.rows.get(path);
      if (!row) {
        row = new Row(path);
        this.rows.set(path, row);
        this.body.append(row.element);
        row.fill(store.machines.get(path));
      } else if (only === null || only.has(path)) {
        row.fill(store.machines.get(path));
      }
      row.put(at, height, path === this.selected);
    }
    for (const [path, row] of this.rows) {
      if (seen.has(path)) continue;
      row.element.remove();
      this.rows.delete(path);
    }
    this.table.setAttribute("aria-rowcount", String(this.order.length + 1));
    const all = this.order.length === store.machines.size;
    say(this.found, all ? plural(this.order.length, "machine") : `${this.order.length} of ${plural(store.machines.size, "machine")}`);
  }

  loading() {
    this.empty.hidden = false;
    refill(this.empty, store.link, () => h("p.quiet", {}, store.link === "lost" ? "Waiting for the aggregator." : "Loading the fleet"));
  }

  enrol() {
    const enrolled = store.fleet?.enrolled ?? [];
    refill(this.empty, `none${enrolled.join()}`, () => [
      h("h2", {}, enrolled.length ? "Enrolled, and nothing has come in yet" : "No machine yet"),
      enrolled.length
        ? h("p", {}, `${plural(enrolled.length, "agent")} may send: ${enrolled.slice(0, 12).join(", ")}${enrolled.length > 12 ? ", …" : ""}. Start one with its bundle:`)
        : h("p", {}, "Enrol the first agent here, carry its bundle to the machine, and start it:"),
      h(
        "pre",
        { tabindex: "0" },
        `${enrolled.length ? "" : "kilter-aggregator enroll edge-1 --out edge-1.bundle.toml\n"}kilter-agent --print-config > agent.toml\nkilter-agent run --config agent.toml`,
      ),
      h("p", {}, "Between the two, name the bundle, the machine and its channels in ", h("code", {}, "agent.toml"), "; every key is explained there."),
      h("p.quiet", {}, "The machine appears here by itself with its first window. Fixed limits watch from that moment; what is normal for it is learned meanwhile."),
    ]);
  }

  key(event) {
    const at = this.order.indexOf(this.selected);
    if (event.key === "/") {
      this.search.focus();
      this.search.select();
    } else if (event.key === "j" || event.key === "ArrowDown") this.choose(at + 1);
    else if (event.key === "k" || event.key === "ArrowUp") this.choose(Math.max(0, at - 1));
    else if (event.key === "Home") this.choose(0);
    else if (event.key === "End") this.choose(this.order.length - 1);
    else if (event.key === "Enter" && at >= 0 && !event.target.closest("a, button")) this.open(at);
    else if (event.key === "Escape" && (this.query || this.wanted.state.length)) {
      select({ q: null, state: null });
      this.fromAddress();
    } else return false;
    return true;
  }

  choose(at) {
    const place = Math.min(at, this.order.length - 1);
    if (place < 0) return;
    this.selected = this.order[place];
    select({ at: this.selected });
    const height = PHONE.matches ? 92 : 44;
    const top = this.body.getBoundingClientRect().top + place * height;
    const above = document.querySelector(".top").offsetHeight + (this.table.querySelector(".head").offsetHeight || 0);
    if (top < above) scrollBy(0, top - above);
    else if (top + height > innerHeight) scrollBy(0, top + height - innerHeight + 8);
    this.draw(new Set());
    this.rows.get(this.selected)?.element.querySelector("a").focus({ preventScroll: true });
  }

  open(at) {
    go(`/machine/${this.order[at]}`);
  }
}
