// Starts the page: the frame around the views, the connection's state, keys, and which view is shown.

import { alarms } from "./alarms.js";
import { sessionToken } from "./parts.js";
import { fleet } from "./fleet.js";
import { machine } from "./machine.js";
import { models } from "./models.js";
import { catchLinks, place } from "./route.js";
import { follow, listen, store } from "./store.js";
import { say } from "./dom.js";
import { span } from "./text.js";

const VIEWS = { fleet, machine, alarms, models };
const main = document.getElementById("main");
let shown = null;

function show() {
  const now = place();
  const key = now.view + (now.path ?? "");
  if (shown?.key === key) {
    shown.view.moved?.(now);
    return;
  }
  shown?.view.end?.();
  main.replaceChildren();
  for (const link of document.querySelectorAll("nav [data-view]")) {
    const here = link.dataset.view === now.view || (link.dataset.view === "fleet" && now.view === "machine");
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const first = shown === null;
  shown = { key, view: VIEWS[now.view](main, now) };
  if (!first) {
    scrollTo(0, shown.view.scroll?.() ?? 0);
    main.focus({ preventScroll: true });
  }
}

function drawLink() {
  const link = document.getElementById("link");
  const bar = document.getElementById("lost");
  link.dataset.link = store.link;
  say(link, store.link === "live" ? "live" : store.link);
  const wrong = store.link === "lost" || store.link === "refused";
  bar.hidden = !wrong;
  document.body.classList.toggle("is-lost", wrong);
  if (store.link === "lost") {
    const since = span((Date.now() - store.linkSince) * 1000);
    say(bar, `Connection lost ${since} ago. What you see is from before. ${store.why} Trying again by itself.`);
  } else if (store.link === "refused") {
    sessionToken(bar, store.why);
  }
}

function drawCount() {
  const open = (store.alarms ?? []).filter((alarm) => alarm.open && !alarm.acknowledged).length;
  const count = document.getElementById("alarm-count");
  count.hidden = open === 0;
  say(count, String(open));
  count.setAttribute("aria-label", `${open} open and not acknowledged`);
}

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches?.("input, select, textarea") || document.querySelector("dialog[open]");
  if (typing) {
    if (event.key === "Escape") event.target.blur?.();
    return;
  }
  if (shown?.view.key?.(event)) event.preventDefault();
}

catchLinks();
addEventListener("kilter:place", show);
addEventListener("keydown", key);
listen((kind) => {
  if (kind === "link") drawLink();
  if (kind === "alarm") drawCount();
});
setInterval(() => store.link === "lost" && drawLink(), 1_000);
show();
follow();
