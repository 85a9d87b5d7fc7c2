// Alarms: open first, each with its evidence; closed ones below.

import { acknowledge, alarmCard } from "./alarm.js";
import { h, reconcile, say } from "./dom.js";
import { freshen } from "./parts.js";
import { place, select } from "./route.js";
import { listen, store } from "./store.js";
import { cause, pathOf, plural } from "./text.js";

const MOST = 100;

export function alarms(root) {
  document.title = "Alarms · Kilter";
  const parts = {
    openHead: h("h2"),
    none: h("p.quiet", {}, "Nothing is open. Alarms appear here by themselves."),
    open: h("div.cards"),
    closedHead: h("h2"),
    closed: h("div.cards"),
    more: h("p.quiet", {}, `The last ${MOST} are shown; search finds the others.`),
  };
  const list = h("div.alarm-list", {}, Object.values(parts));
  const loading = h("p.quiet", {}, "Loading");
  const search = h("input", {
    type: "search",
    placeholder: "Search alarms   /",
    "aria-label": "Search alarms",
    oninput: () => {
      select({ q: search.value });
      draw();
    },
  });
  root.append(h("div.section-head", {}, h("h1", {}, "Alarms"), search), loading, list);

  const fits = (alarm) => {
    const words = (place().query.get("q") ?? "").toLowerCase().split(/\s+/);
    const text = [pathOf(alarm), alarm.point, cause(alarm.cause), alarm.worst, alarm.source, alarm.device].join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  };
  const draw = () => {
    const shown = (store.alarms ?? []).filter(fits);
    const cards = (all) => all.map((alarm) => [alarm.key, alarm, () => alarmCard(alarm)]);
    const [open, closed] = [shown.filter((alarm) => alarm.open), shown.filter((alarm) => !alarm.open)];
    loading.hidden = store.alarms !== null;
    list.hidden = store.alarms === null;
    say(parts.openHead, plural(open.length, "open alarm"));
    parts.none.hidden = open.length > 0;
    reconcile(parts.open, cards(open));
    parts.closedHead.hidden = closed.length === 0;
    say(parts.closedHead, `${closed.length} closed`);
    reconcile(parts.closed, cards(closed.slice(0, MOST)));
    parts.more.hidden = closed.length <= MOST;
    freshen(list);
  };
  const fromAddress = () => {
    search.value = place().query.get("q") ?? "";
    draw();
  };
  const cards = () => [...list.querySelectorAll(".alarm")];
  const chosen = () => cards().findIndex((card) => card.contains(document.activeElement));
  const choose = (at) => {
    const card = cards()[Math.max(0, Math.min(at, cards().length - 1))];
    card?.querySelector("a, button")?.focus();
    card?.scrollIntoView({ block: "nearest" });
  };
  const stop = listen((kind) => kind === "alarm" && draw());
  const timer = setInterval(() => freshen(list), 1_000);
  fromAddress();
  return {
    end: () => {
      stop();
      clearInterval(timer);
    },
    moved: fromAddress,
    key: (event) => {
      if (event.key === "/") search.focus();
      else if (event.key === "j") choose(chosen() + 1);
      else if (event.key === "k") choose(chosen() - 1);
      else if (event.key === "a") {
        const key = cards()[chosen()]?.dataset.key;
        const alarm = store.alarms?.find((one) => one.key === key && one.open && !one.acknowledged);
        if (alarm) acknowledge(alarm);
      } else return false;
      return true;
    },
  };
}
