// Model cards, and champion against challenger.

import { digest, time } from "./parts.js";
import { h } from "./dom.js";
import { bytes, capital, number } from "./text.js";

/** Cards side by side; a pair of them with the figures that decided. */
export function cards(models, pair = models.length === 2) {
  return h("div.cards", {}, models.map((model) => card(model)), pair && compare(...models));
}

/** A model card. */
function card(model) {
  const { card: told } = model;
  const facts = [
    ["Family", model.family.replaceAll("_", " ")],
    ["Seed", told.seed],
    ["Rows", told.rows?.toLocaleString("en")],
    ["Data version", versions(told.snapshot)],
    ["Parity", told.parity_max_abs === undefined ? null : told.parity_max_abs === 0 ? "exact" : `within ${number(told.parity_max_abs, 2)}`],
    ["Features", String(model.features.length)],
    ["Size", bytes(model.size_bytes)],
    ["Why trained", told.reason],
  ];
  return h(
    `article.card.${model.role}`,
    {},
    h("header", {}, h("h3", {}, `${model.name} v${model.version}`), h(`span.tag.${model.role}`, {}, model.role === "leader" ? "leads" : "shadow"), digest(model.digest)),
    told.why && h("p", {}, capital(told.why)),
    h(
      "dl.facts",
      {},
      facts
        .filter(([, value]) => value !== null && value !== undefined && value !== "")
        .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, String(value)))),
      h("div", {}, h("dt", {}, "Trained"), h("dd", {}, time(told.trained_at_us ?? model.imported))),
    ),
    h("details", {}, h("summary", {}, "Figures and how to make it again"), figures(told), recipe(told)),
  );
}

function recipe(told) {
  const text = JSON.stringify({ reproduce: told.reproduce, features: told.features?.map((one) => one.name) }, null, 1);
  return h("pre", { tabindex: "0" }, text);
}

const versions = (snapshot) => Object.entries(snapshot ?? {}).map(([table, version]) => `${table.replace("_version", "")} ${version}`).join(", ");

function figures(told) {
  const names = [...new Set([...Object.keys(told.metrics ?? {}), ...Object.keys(told.baseline ?? {})])];
  return table(["Figure", "model", "simple rule"], names.map((name) => [name.replaceAll("_", " "), number(told.metrics?.[name]), number(told.baseline?.[name])]));
}

/** Champion against challenger, with the figures that decided. */
function compare(leader, shadow) {
  const names = Object.keys(leader.card.metrics ?? {}).filter((name) => name in (shadow.card.metrics ?? {}));
  if (!names.length) return null;
  const family = (model) => model.family.replaceAll("_", " ");
  const rows = names.map((name) => [name.replaceAll("_", " "), number(leader.card.metrics[name]), number(shadow.card.metrics[name]), number(leader.card.baseline?.[name])]);
  return h("article.card.compare", {}, h("h3", {}, "Champion against challenger"), h("div.scroll", {}, table(["", family(leader), family(shadow), "simple rule"], rows)));
}

function table(head, rows) {
  return h(
    "table.figures",
    {},
    h("thead", {}, h("tr", {}, head.map((text) => h("th", { scope: "col" }, text)))),
    h("tbody", {}, rows.map(([name, ...values]) => h("tr", {}, h("th", { scope: "row" }, name), values.map((value) => h("td", {}, value))))),
  );
}
