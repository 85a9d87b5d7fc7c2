// Every view is a link: the path says which one, the query says what is selected in it.

/** The place now: view, its parameters, and the query. */
export function place() {
  const parts = location.pathname.split("/").filter(Boolean).map(decodeURIComponent);
  const query = new URLSearchParams(location.search);
  if (parts[0] === "machine" && parts.length >= 4) return { view: "machine", path: parts.slice(1, 4).join("/"), query };
  if (parts[0] === "alarms") return { view: "alarms", query };
  if (parts[0] === "models") return { view: "models", query };
  return { view: "fleet", query };
}

/** Goes to a link of this page. */
export function go(href) {
  history.pushState(null, "", href);
  dispatchEvent(new Event("kilter:place"));
}

/** Changes parts of the query; `null` removes one. `push` makes it a step that back undoes. */
export function select(changes, push = false) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") query.delete(name);
    else query.set(name, value);
  }
  const text = query.toString();
  const href = location.pathname + (text ? `?${text}` : "");
  if (href === location.pathname + location.search) return;
  history[push ? "pushState" : "replaceState"](history.state, "", href);
}

/** Lets links of this page work without a reload. */
export function catchLinks() {
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href]");
    if (!link || event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey) return;
    if (link.origin !== location.origin || link.hasAttribute("download") || link.getAttribute("href").startsWith("#")) return;
    event.preventDefault();
    go(link.href);
  });
  addEventListener("popstate", () => dispatchEvent(new Event("kilter:place")));
}
