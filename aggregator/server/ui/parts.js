// Pieces that several views share: state badges, times, sparklines, digests, and doing something about a machine.

import { post } from "./api.js";
import { ask, h, s, say, style, toast } from "./dom.js";
import { now } from "./store.js";
import { absolute, ago, hex, number, pathOf, short, span } from "./text.js";

const SHAPES = {
  healthy: () => s("circle", { cx: 8, cy: 8, r: 5.5 }),
  watch: () => s("path", { d: "M8 2 14.5 13.5H1.5Z" }),
  alarm: () => s("path", { d: "M8 1 15 8 8 15 1 8Z" }),
  danger: () => [s("path", { d: "M5 1h6l4 4v6l-4 4H5l-4-4V5Z" }), s("path.hole", { d: "M7 3.5h2v5.5H7zM7 10.5h2v2H7z" })],
  silent: () => s("circle.hollow.dashed", { cx: 8, cy: 8, r: 5.5 }),
  unknown: () => s("circle.hollow", { cx: 8, cy: 8, r: 5.5 }),
};

/** A state as shape; its colour comes from the class. */
export const shape = (state) => s(`svg.shape.is-${state}`, { viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" }, (SHAPES[state] ?? SHAPES.unknown)());

/** A state as shape, word and colour. */
export const badge = (state) => h(`span.state.is-${state}`, {}, shape(state), h("span", {}, state));

/** A relative time that keeps itself fresh; the absolute one on hover. */
export const time = (t) => h("time", { datetime: new Date(t / 1000).toISOString(), title: absolute(t), "data-t": t }, ago(t, now()));

/** How long something has lasted; keeps itself fresh. */
export const lasted = (t) => h("time", { datetime: new Date(t / 1000).toISOString(), title: `since ${absolute(t)}`, "data-t": t, "data-lasted": true }, span(now() - t));

/** Refreshes the relative times below an element. */
export function freshen(root) {
  for (const element of root.querySelectorAll("time[data-t]")) {
    const t = Number(element.dataset.t);
    say(element, "lasted" in element.dataset ? span(now() - t) : ago(t, now()));
  }
}

/** A short digest; the whole one on hover. */
export const digest = (value, ...classes) => h(["code.digest", ...classes].join("."), { title: hex(value) }, short(value));

/** The models on a machine: the leader, and shadows marked as such. */
export function running(models) {
  return models.map((model) =>
    h(
      "span.model",
      { title: `${model.role}, generation ${model.generation}, ${number(model.cost_us)} µs a score${model.expired ? ", past its expiry" : ""}` },
      digest(model.digest),
      model.role === "shadow" && h("span.tag", {}, "shadow"),
      model.expired && h("span.tag.warn", {}, "expired"),
    ),
  );
}

/** Linear up to twice the threshold, logarithmic above: a score of a thousand must not flatten the way there. */
const soft = (value) => (value <= 2 ? value : 2 + Math.log2(value / 2));

const WIDE = 120;
const HIGH = 28;

/** A sparkline of score over threshold; the dashed line is the threshold. */
export function spark(points, state) {
  const line = s("path.line", {});
  const over = s("path.over", {});
  const limit = s("line.limit", { x1: 0, x2: WIDE });
  const element = s(`svg.spark`, { viewBox: `0 0 ${WIDE} ${HIGH}`, width: WIDE, height: HIGH, role: "img" }, over, limit, line);
  redrawSpark(element, points, state);
  return element;
}

/** Draws new points into a sparkline. */
export function redrawSpark(element, points, state) {
  const [over, limit, line] = element.children;
  element.setAttribute("class", `spark is-${state}`);
  if (!points.length) {
    line.setAttribute("d", "");
    over.setAttribute("d", "");
    limit.setAttribute("visibility", "hidden");
    element.setAttribute("aria-label", "no score yet");
    return;
  }
  const worst = Math.max(...points.map(([, value]) => value));
  const highest = Math.max(1.25, soft(worst));
  const [from, to] = [points[0][0], points.at(-1)[0]];
  const x = (t) => (to > from ? ((t - from) / (to - from)) * (WIDE - 3) + 1 : WIDE - 2);
  const y = (value) => HIGH - 1.5 - (soft(Math.max(0, value)) / highest) * (HIGH - 4);
  const path = points.map(([t, value], at) => `${at ? "L" : "M"}${x(t).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  line.setAttribute("d", points.length === 1 ? `${path}h2` : path);
  const part = points.map(([t, value], at) => `${at ? "L" : "M"}${x(t).toFixed(1)} ${y(Math.max(1, value)).toFixed(1)}`).join("");
  over.setAttribute("d", `${part}L${x(to).toFixed(1)} ${y(1).toFixed(1)}L${x(from).toFixed(1)} ${y(1).toFixed(1)}Z`);
  limit.setAttribute("visibility", "visible");
  limit.setAttribute("y1", y(1));
  limit.setAttribute("y2", y(1));
  element.setAttribute("aria-label", `score over threshold, last ${number(points.at(-1)[1], 2)}, highest ${number(worst, 2)}`);
}

/** Records maintenance that was done on a machine. */
export async function maintain(row, points) {
  const what = await ask({
    title: `Maintenance on ${row.asset}`,
    hint: "A word or two for what was done: small letters, digits, dots, dashes and underscores.",
    label: "What was done",
    value: "",
    pattern: "[a-z0-9._\\-]{1,32}",
    list: ["bearing-replaced", "balanced", "aligned", "greased", "tightened", "sensor-replaced", "failed"],
    action: "Record",
  });
  if (!what) return;
  await act(async () => {
    await post("maintenance", { point: `${pathOf(row)}/${points[0] ?? "housing"}`, what });
    return "Recorded; it is on its way to the node.";
  });
}

/** Does something and says how it went. */
export async function act(what) {
  try {
    toast(await what());
  } catch (error) {
    toast(error.message, true);
  }
}

/** Asks for a token where the server wants one. */
export function sessionToken(bar, why) {
  const input = h("input", { type: "password", autocomplete: "off", "aria-label": "Token" });
  const form = h(
    "form.token",
    {
      onsubmit: (event) => {
        event.preventDefault();
        sessionStorage.setItem("kilter-token", input.value.trim());
        location.reload();
      },
    },
    h("span", {}, `No permission. ${why}`),
    input,
    h("button.primary", { type: "submit" }, "Use this token"),
  );
  bar.replaceChildren(form);
}
