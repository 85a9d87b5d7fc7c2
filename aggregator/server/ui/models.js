// Models and rollouts: per kind of machine the champion against its challenger, how far a rollout is, and every version.

import { post } from "./api.js";
import { cards } from "./cards.js";
import { act, digest, freshen, time } from "./parts.js";
import { ask, h, reconcile, say, style } from "./dom.js";
import { listen, readModels, store } from "./store.js";
import { capital, hex, number, pathOf, plural, span } from "./text.js";

const MOVING = ["waiting", "canary", "everyone"];
const UNLED = "Watching; each machine's own baseline and the fixed limits decide";

export function models(root) {
  document.title = "Models · Kilter";
  const body = h("div.classes");
  const loading = h("p.quiet", {}, "Loading");
  const progress = h("div.run", { role: "status", hidden: true });
  const button = h("button.primary", { type: "button", onclick: () => train(null) }, "Train now");
  root.append(h("div.section-head", {}, h("h1", {}, "Models and rollouts"), h("div.buttons", {}, button)), progress, loading, body);

  const draw = () => {
    const { models: view } = store;
    if (view === null) return;
    const machines = [...store.machines.values()];
    const named = [
      ...view.models.map((model) => model.key.asset_class),
      ...view.rollouts.map((rollout) => rollout.asset_class),
      ...machines.map((row) => row.asset_class),
    ];
    const classes = [...new Set(named.filter(Boolean))].sort();
    const runs = (row) => [pathOf(row), row.device, row.models.map((model) => hex(model.digest) + model.role)];
    const items = classes.map((name) => {
      const mine = machines.filter((row) => row.asset_class === name);
      const own = { models: view.models.filter((model) => model.key.asset_class === name), rollouts: view.rollouts.filter((rollout) => rollout.asset_class === name) };
      return [name, [own, view.champions[name], mine.map(runs)], () => section(name, own, view.champions[name], mine)];
    });
    loading.hidden = classes.length > 0;
    say(loading, "No machine has reported its class yet. Baselines and fixed limits watch until the first model is there.");
    reconcile(body, items);
    freshen(body);
  };
  const stop = listen((kind) => {
    if (kind === "run") drawRun(progress);
    if (kind === "rollout" || kind === "fleet") draw();
  });
  const timer = setInterval(() => {
    freshen(body);
    drawRun(progress);
  }, 1_000);
  draw();
  drawRun(progress);
  return {
    end: () => {
      stop();
      clearInterval(timer);
    },
  };
}

function section(name, { models: mine, rollouts }, champion, machines) {
  const find = (value) => value && mine.find((model) => hex(model.digest) === hex(value));
  const pair = (of) => [find(of?.leader), find(of?.shadow)].filter(Boolean);
  const current = rollouts[0];
  const runs = pair(champion);
  const comes = current && MOVING.includes(current.stage) ? pair(current.pair).filter((model) => !runs.includes(model)) : [];
  const older = mine.filter((model) => !runs.includes(model) && !comes.includes(model));
  return h(
    "section.class",
    { "aria-label": `Machines of class ${name}` },
    h(
      "div.section-head",
      {},
      h("h2", {}, capital(name), h("span.quiet", {}, ` ${plural(machines.length, "machine")}`)),
      h(
        "div.buttons",
        {},
        h("button", { type: "button", onclick: () => train(name) }, `Train ${name}`),
        current?.previous && h("button", { type: "button", onclick: () => rollBack(name, current) }, "Roll back"),
      ),
    ),
    current ? stages(current, machines) : h("p.quiet", {}, "No model yet: each machine's own baseline and the fixed limits decide."),
    comes.length > 0 && [h("h3", {}, "Coming"), cards(comes)],
    runs.length > 0 && [h("h3", {}, comes.length ? "Until then" : champion.leader ? "In charge" : UNLED), cards(runs)],
    older.length > 0 && h("details", {}, h("summary", {}, plural(older.length, "other model")), cards(older, false)),
    rollouts.length > 1 &&
      h(
        "details",
        {},
        h("summary", {}, plural(rollouts.length - 1, "earlier rollout")),
        h("ol.past", {}, rollouts.slice(1, 30).map((rollout) => past(rollout))),
      ),
  );
}

/** The model that a rollout waits for: the leader where one comes, else the shadow. */
function onTrial({ pair, previous }) {
  const [leader, shadow, led] = [pair.leader, pair.shadow, previous?.leader].map(hex);
  return leader && (leader !== led || !shadow) ? [leader, "leader"] : [shadow, "shadow"];
}

/** Leader and shadow in words. */
function named({ leader, shadow }) {
  if (!leader) return ["no model leads, shadow ", digest(shadow)];
  return [digest(leader), shadow && [" with shadow ", digest(shadow)]];
}

/** Who has it, who is next: a rollout as a picture. */
function stages(rollout, machines) {
  const [wanted, role] = onTrial(rollout);
  const devices = [...new Set(machines.map((row) => row.device))].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  const has = (device) => machines.filter((row) => row.device === device).every((row) => row.models.some((model) => model.digest === wanted && model.role === role));
  const canaries = rollout.stage === "canary" ? rollout.devices : [];
  const gets = (device) => (rollout.stage === "canary" ? canaries.includes(device) : ["everyone", "complete"].includes(rollout.stage));
  const lanes = { waits: [], gets: [], has: [] };
  for (const device of devices) lanes[has(device) ? "has" : gets(device) ? "gets" : "waits"].push(device);
  const steps = ["waiting", "canary", "everyone", "complete"];
  const at = steps.indexOf(rollout.stage);
  const ended = at < 0;
  const lane = (title, list, kind) =>
    h(
      `div.lane.${kind}`,
      {},
      h("h4", {}, `${title} `, h("b", {}, String(list.length))),
      h(
        "ul",
        {},
        list.slice(0, 24).map((device) => h("li", { title: canaries.includes(device) ? "canary" : null }, device)),
        list.length > 24 && h("li.more", {}, `${list.length - 24} more`),
      ),
    );
  const part = devices.length ? lanes.has.length / devices.length : 0;
  return h(
    "article.rollout",
    { "aria-label": `Rollout ${rollout.generation}` },
    h(
      "ol.track-steps",
      {},
      steps.map((step, place) =>
        h(`li${ended ? "" : place < at || rollout.stage === "complete" ? ".done" : place === at ? ".now" : ""}`, { "aria-current": place === at ? "step" : null }, step),
      ),
      ended && h("li.now.bad", {}, rollout.stage.replace("_", " ")),
    ),
    h(
      "p.quiet",
      {},
      `Generation ${rollout.generation}: `,
      named(rollout.pair),
      rollout.previous && [", before ", named(rollout.previous)],
      `, started `,
      time(rollout.started),
      ` (${rollout.reason}).`,
      evidence(rollout),
    ),
    h("div.meter", { role: "img", "aria-label": `${lanes.has.length} of ${devices.length} nodes have it` }, style(h("span"), { width: `${part * 100}%` })),
    h(
      "div.lanes",
      {},
      lane("Has it", lanes.has, "has"),
      !ended && lane("Gets it", lanes.gets, "gets"),
      lane(ended ? "Without it" : "Next", lanes.waits, "waits"),
    ),
  );
}

function evidence(rollout) {
  if (rollout.stage === "canary") {
    if (!rollout.running_since) return " Waiting until the canary reports it.";
    return [" The canary reports it since ", time(rollout.running_since), "; it goes on when probation is over."];
  }
  if (rollout.stage === "waiting") return rollout.why ? ` Waiting: ${rollout.why}.` : " Waiting for a node that serves such machines.";
  if (rollout.stage === "complete") return [" Everyone who is there has it since ", time(rollout.at), "."];
  if (rollout.stage === "rolled_back") return [" Rolled back ", time(rollout.at), `: ${rollout.why}.`];
  return "";
}

function past(rollout) {
  return h(
    "li",
    {},
    `Generation ${rollout.generation}, `,
    named(rollout.pair),
    `, ${MOVING.includes(rollout.stage) ? "under way" : rollout.stage.replace("_", " ")}, `,
    time(rollout.started),
    ` (${rollout.reason}${rollout.why ? `; ${rollout.why}` : ""})`,
  );
}

async function train(name) {
  store.run = { waiting: true, name, at: Date.now(), since: Date.now() };
  drawRun(document.querySelector(".run"));
  await act(async () => {
    let answer;
    try {
      answer = await post("train", name ? { asset_class: name } : {});
    } finally {
      store.run = null;
      drawRun(document.querySelector(".run"));
    }
    await readModels();
    const skipped = (answer.skipped ?? []).map((skip) => `${skip.asset_class} (${skip.why})`);
    return `Trained; the rollout starts by itself.${skipped.length ? ` Left out: ${skipped.join("; ")}` : ""}`;
  });
}

function drawRun(element) {
  if (!element) return;
  const { run } = store;
  // A run that someone else started is forgotten when nothing more is heard of it.
  const stale = !run || (!run.waiting && Date.now() - run.at > 30_000);
  element.hidden = stale;
  if (stale) return;
  const told = run.progress ?? run;
  const parts = [told.asset_class ?? run.name, told.family?.replaceAll("_", " "), told.stage === "training" ? null : told.stage];
  const share = told.steps > 0 ? told.step / told.steps : null;
  if (share !== null) parts.push(`step ${told.step} of ${told.steps}`);
  if (Number.isFinite(told.held_out_loss)) parts.push(`held-out loss ${number(told.held_out_loss)}`);
  if (Number.isFinite(told.eta_secs)) parts.push(`at most ${span(told.eta_secs * 1e6)} left`);
  if (run.waiting && share === null) parts.push("the lab prepares its data");
  if (!element.firstChild) element.append(h("p"), h("div.meter", {}, h("span")));
  say(element.firstChild, `Training ${parts.filter(Boolean).join(", ")}`);
  element.lastChild.classList.toggle("unsure", share === null);
  style(element.lastChild.firstChild, { width: share === null ? "30%" : `${share * 100}%` });
}

async function rollBack(name, rollout) {
  const { leader } = rollout.previous;
  const older = leader && hex(leader) !== hex(rollout.pair.leader);
  const where = older ? hex(leader).slice(0, 8) : "what ran before this leader, or else before this shadow";
  const why = await ask({
    title: `Roll ${name} back`,
    hint: `Every ${name} goes back to ${where}, as a new generation.`,
    label: "Why",
    value: "",
    action: "Roll back",
  });
  if (!why) return;
  await act(async () => {
    const { generation } = await post("rollback", { asset_class: name, why });
    await readModels();
    return `Generation ${generation} goes out.`;
  });
}
