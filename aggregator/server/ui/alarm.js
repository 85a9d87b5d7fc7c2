// One alarm: its evidence, its ranked contributions, and what a person can say about it.

import { post } from "./api.js";
import { ask, h, style } from "./dom.js";
import { act, badge, digest, time } from "./parts.js";
import { readAlarms, store } from "./store.js";
import { CAUSE_KEYS, absolute, capital, cause, feature, measured, number, pathOf, plural, source, span } from "./text.js";

/** An alarm with its evidence, its ranked contributions and what can be done about it. */
export function alarmCard(alarm, { machine = true } = {}) {
  const state = alarm.open ? alarm.severity : "healthy";
  const acked = alarm.acknowledged;
  return h(
    `article.alarm.is-${state}`,
    { "aria-label": `${alarm.open ? "Open" : "Closed"} alarm: ${cause(alarm.cause)}`, "data-key": alarm.key },
    h(
      "header",
      {},
      alarm.open ? badge(alarm.severity) : h("span.state.closed", {}, `closed, was ${alarm.worst}`),
      h("h3", {}, capital(cause(alarm.cause))),
      machine
        ? h("a", { href: `/machine/${pathOf(alarm)}` }, `${alarm.asset} · ${alarm.point}`)
        : h("span.quiet", {}, alarm.point),
    ),
    h(
      "p.quiet",
      {},
      `${capital(source(alarm.source))}, raised `,
      time(alarm.raised_us),
      alarm.cleared_us && [", ended ", time(alarm.cleared_us), ` after ${span(alarm.cleared_us - alarm.raised_us)}`],
      alarm.model && [", by model ", digest(alarm.model)],
      alarm.unjournaled && h("span.tag.warn", { title: "The node's disk was dead when this was sent" }, "not durable on the node"),
    ),
    alarm.evidence.length > 0 && evidence(alarm.evidence),
    alarm.contributions.length > 0 && contributions(alarm.contributions),
    alarm.history.length > 1 && history(alarm.history),
    acked && h("p.quiet", {}, `Acknowledged by ${acked[0]} `, time(acked[1])),
    buttons(alarm),
  );
}

function evidence(lines) {
  const rows = lines.map((line) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, feature(line.feature)),
      h("td", {}, measured(line.value, line.unit)),
      h("td", {}, measured(line.limit, line.unit)),
      h("td", {}, line.limit > 0 ? `${number(line.value / line.limit, 2)}×` : ""),
    ),
  );
  const head = ["Evidence", "value", "limit", ""].map((text) => h("th", { scope: "col" }, text));
  return h("table.evidence", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows));
}

/** Ranked contributions as bars. */
export function contributions(parts) {
  const most = Math.max(...parts.map((part) => Math.abs(part.amount)), 1e-12);
  const whole = parts.reduce((sum, part) => sum + Math.abs(part.amount), 0) || 1;
  const bars = parts.map((part) =>
    h(
      "li",
      { title: number(part.amount) },
      h("span.what", {}, feature(part.feature)),
      h("span.track", {}, style(h("span.bar", {}), { width: `${(Math.abs(part.amount) / most) * 100}%` })),
      h("span.share", {}, `${Math.round((Math.abs(part.amount) / whole) * 100)} %`),
    ),
  );
  return h("div.contributions", {}, h("h4", {}, "What made the score"), h("ol", {}, bars));
}

function history(steps) {
  return h(
    "details",
    {},
    h("summary", {}, plural(steps.length, "step")),
    h("ol.steps", {}, steps.map(([t, state, severity]) => h("li", {}, h("span.when", {}, absolute(t)), ` ${state}, ${severity}`))),
  );
}

function buttons(alarm) {
  return h(
    "div.buttons",
    {},
    alarm.open && !alarm.acknowledged && h("button.primary", { type: "button", onclick: (event) => acknowledge(alarm, event.target) }, "Acknowledge"),
    h("button", { type: "button", title: "This was a real fault: a label that training and evaluation use", onclick: () => confirm(alarm) }, "Confirm"),
    h("button", { type: "button", title: "The machine was healthy: a label that training and evaluation use", onclick: () => reject(alarm) }, "Reject"),
  );
}

/** Says that someone has seen it. */
export async function acknowledge(alarm, button) {
  if (button) button.disabled = true;
  await act(async () => {
    await post(`alarms/${encodeURIComponent(alarm.key)}/ack`);
    await readAlarms();
    return "Acknowledged.";
  });
  if (button) button.disabled = false;
}

async function confirm(alarm) {
  const answer = await ask({
    title: "Confirm this fault",
    hint: `Labels ${range(alarm)} of ${alarm.asset}, ${alarm.point} as faulty; training and evaluation use it.`,
    label: "Cause",
    value: alarm.cause,
    pattern: CAUSE_KEYS.join("|"),
    list: CAUSE_KEYS,
    action: "Confirm",
  });
  if (answer) await label(alarm, answer, "Confirmed; the label is on its way to the node.");
}

async function reject(alarm) {
  const answer = await ask({
    title: "Reject this alarm",
    hint: `Labels ${range(alarm)} of ${alarm.asset}, ${alarm.point} as healthy; training and evaluation use it.`,
    action: "It was healthy",
  });
  if (answer !== null) await label(alarm, "healthy", "Rejected; the label is on its way to the node.");
}

const until = (alarm) => Math.max(alarm.raised_us + 1, alarm.cleared_us ?? store.machines.get(pathOf(alarm))?.last_event_us ?? alarm.raised_us + 1);

const range = (alarm) => `${absolute(alarm.raised_us)} to ${absolute(until(alarm))}`;

function label(alarm, text, done) {
  const request = { point: `${pathOf(alarm)}/${alarm.point}`, from_us: alarm.raised_us, to_us: until(alarm), label: text };
  return act(async () => {
    await post("labels", request);
    return done;
  });
}
