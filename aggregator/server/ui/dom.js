// Elements without markup strings: nothing that comes from a machine is ever parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An element: `h("a.card", { href, onclick }, child, …)`; `null` and `false` children are left out. */
export function h(what, attributes = {}, ...children) {
  const [tag, ...classes] = what.split(".");
  return fill(document.createElement(tag), classes, attributes, children);
}

/** The same for SVG. */
export function s(what, attributes = {}, ...children) {
  const [tag, ...classes] = what.split(".");
  return fill(document.createElementNS(SVG, tag), classes, attributes, children);
}

function fill(element, classes, attributes, children) {
  if (classes.length) element.classList.add(...classes);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Writes text only where it changed, so that selections and screen readers are left in peace. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Replaces what an element holds when `key` differs from the last time. */
export function refill(element, key, make) {
  if (element.dataset.key === key) return false;
  element.dataset.key = key;
  element.replaceChildren(...[make()].flat(Infinity).filter(Boolean));
  return true;
}

/** Makes the children match `items` of [key, value, make]; a child whose value did not change stays the same element. */
export function reconcile(parent, items) {
  const known = new Map([...parent.children].map((child) => [child.dataset.item, child]));
  let before = null;
  for (const [key, value, make] of items) {
    const text = JSON.stringify(value);
    let child = known.get(key);
    known.delete(key);
    if (!child || child.dataset.value !== text) {
      const fresh = make();
      fresh.dataset.item = key;
      fresh.dataset.value = text;
      child?.replaceWith(fresh);
      child = fresh;
    }
    const wanted = before ? before.nextSibling : parent.firstChild;
    if (child !== wanted) parent.insertBefore(child, wanted);
    before = child;
  }
  for (const child of known.values()) child.remove();
}

/** Sets style properties through the object model, which a strict content-security policy permits. */
export function style(element, properties) {
  for (const [name, value] of Object.entries(properties)) element.style.setProperty(name, value);
  return element;
}

/** A short message at the lower edge. */
export function toast(text, bad = false) {
  const element = document.getElementById("toast");
  element.textContent = text;
  element.classList.toggle("bad", bad);
  element.hidden = false;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => (element.hidden = true), bad ? 9000 : 4000);
}

/** Asks for a line of text; resolves to `null` when dismissed. */
export function ask({ title, hint, label, value = "", action, pattern, list = [] }) {
  return new Promise((resolve) => {
    const input = h("input", { type: "text", value, required: label ? true : null, pattern, list: list.length ? "ask-list" : null });
    const done = (answer) => {
      dialog.close();
      dialog.remove();
      resolve(answer);
    };
    const form = h(
      "form",
      {
        method: "dialog",
        onsubmit: (event) => {
          event.preventDefault();
          done(label ? input.value.trim() : "");
        },
      },
      h("h2", {}, title),
      hint && h("p.quiet", {}, hint),
      label && h("label", {}, label, input),
      list.length ? h("datalist", { id: "ask-list" }, list.map((item) => h("option", { value: item }))) : null,
      h("div.buttons", {}, h("button.primary", { type: "submit" }, action), h("button", { type: "button", onclick: () => done(null) }, "Cancel")),
    );
    const dialog = h("dialog", { "aria-label": title, oncancel: () => done(null) }, form);
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Saves bytes as a file. */
export function save(name, blob) {
  const url = URL.createObjectURL(blob);
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
