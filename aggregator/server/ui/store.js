// What the page knows, kept fresh: one full read, then changes; a lost connection heals itself.

import { get, stream } from "./api.js";
import { STATES, pathOf } from "./text.js";

/** The present. `link` is connecting, live, lost or refused. */
export const store = {
  link: "connecting",
  linkSince: Date.now(),
  why: "",
  loaded: false,
  machines: new Map(),
  counts: {},
  fleet: null,
  alarms: null,
  models: null,
  rate: null,
  run: null,
  /** Server's clock minus ours, in microseconds. */
  skew: 0,
};

const listeners = new Set();
const refresh = { timer: 0 };
let samples = [];

/** Milliseconds before the next try; grows until a read succeeds. */
const FIRST_PAUSE = 500;
const LAST_PAUSE = 8_000;
let pause = FIRST_PAUSE;

/** Now by the server's clock, in microseconds. */
export const now = () => Date.now() * 1000 + store.skew;

/** Calls back with the kind of change until the returned function is called. */
export function listen(callback) {
  listeners.add(callback);
  return () => listeners.delete(callback);
}

function tell(kind, value) {
  for (const callback of listeners) callback(kind, value);
}

/** Reads and follows for ever. */
export async function follow() {
  setInterval(() => store.link === "live" && readFleet().catch(() => {}), 10_000);
  for (;;) {
    try {
      await stream((kind, value) => {
        if (kind === "open") {
          readAll();
        } else {
          take(kind, value);
        }
      });
      lost("The server ended the connection.");
    } catch (error) {
      if (error.status === 401) return refused(error);
      lost(error.status ? error.message : "The aggregator does not answer.");
    }
    await new Promise((next) => setTimeout(next, pause * (0.75 + Math.random() / 2)));
    pause = Math.min(pause * 2, LAST_PAUSE);
  }
}

/** Reads everything that the header and the lists need. */
export async function readAll() {
  try {
    await readFleet();
    pause = FIRST_PAUSE;
    setLink("live", "");
    await Promise.all([readAlarms(), readModels()]);
  } catch (error) {
    if (error.status === 401) refused(error);
    else lost(error.message);
  }
}

async function readFleet() {
  const view = await get("fleet");
  store.fleet = view;
  store.machines = new Map(view.machines.map((row) => [pathOf(row), row]));
  store.counts = view.counts;
  store.loaded = true;
  clock(view);
  tell("fleet", { all: true });
}

export async function readAlarms() {
  store.alarms = (await get("alarms")).alarms;
  tell("alarm", null);
}

export async function readModels() {
  store.models = await get("models");
  tell("rollout", null);
}

function take(kind, value) {
  if (kind === "fleet") {
    for (const row of value.machines) store.machines.set(pathOf(row), row);
    store.counts = value.counts;
    if (store.fleet) Object.assign(store.fleet, { rows: value.rows, open_alarms: value.open_alarms, quarantined: value.quarantined });
    clock(value);
    tell("fleet", { changed: new Set(value.machines.map(pathOf)) });
  } else if (kind === "alarm") {
    const others = (store.alarms ?? []).filter((alarm) => alarm.key !== value.key);
    store.alarms = [value, ...others].sort(byRisk);
    tell("alarm", value);
  } else if (kind === "rollout") {
    if (store.models) store.models.rollouts = value;
    // The registry may have grown with it; at most one read a second.
    clearTimeout(refresh.timer);
    refresh.timer = setTimeout(() => readModels().catch(() => {}), 1_000);
  } else if (kind === "run") {
    store.run = { ...store.run, ...value, at: Date.now() };
    tell("run", value);
  } else if (kind === "reload") {
    readAll();
  }
}

function byRisk(a, b) {
  const rank = (alarm) => STATES.indexOf(alarm.worst);
  return b.open - a.open || (a.open ? rank(a) - rank(b) : 0) || b.raised_us - a.raised_us;
}

function clock(view) {
  store.skew = view.now_us - Date.now() * 1000;
  samples.push([view.now_us, view.rows]);
  samples = samples.filter(([t]) => view.now_us - t < 10e6);
  const [t, rows] = samples[0];
  if (view.now_us - t > 2e6) store.rate = ((view.rows - rows) * 1e6) / (view.now_us - t);
}

function lost(why) {
  samples = [];
  store.rate = null;
  setLink("lost", why);
}

function refused(error) {
  setLink("refused", error.message);
}

function setLink(link, why) {
  if (store.link !== link) store.linkSince = Date.now();
  store.link = link;
  store.why = why;
  tell("link", link);
}
