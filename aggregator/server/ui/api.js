// Requests to the aggregator that this page came from.

/** What went wrong, in the server's own words. */
export class ApiError extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export const get = (path) => request(path, {});

export const post = (path, body = {}) =>
  request(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

async function request(path, options) {
  const token = sessionStorage.getItem("kilter-token");
  if (token) options.headers = { ...options.headers, authorization: `Bearer ${token}` };
  let response;
  try {
    response = await fetch(`/api/${path}`, { ...options, cache: "no-store" });
  } catch {
    throw new ApiError(0, "The aggregator does not answer.");
  }
  const text = await response.text();
  let answer = null;
  try {
    answer = JSON.parse(text);
  } catch {
    // A proxy may answer in its own words; the status tells enough then.
  }
  if (!response.ok) throw new ApiError(response.status, answer?.detail ?? `The server answered ${response.status}.`);
  return answer;
}

/**
 * Server-sent events over `fetch`, so that a token can be sent along. Calls `on(kind, value)`; resolves when the stream ends.
 * A stream on which nothing comes for `patience` milliseconds counts as ended: the server sends a sign of life more often.
 */
export async function stream(on, patience = 25_000) {
  const token = sessionStorage.getItem("kilter-token");
  const control = new AbortController();
  let timer = setTimeout(() => control.abort(), patience);
  try {
    const response = await fetch("/api/stream", {
      headers: token ? { authorization: `Bearer ${token}` } : {},
      signal: control.signal,
      cache: "no-store",
    });
    if (!response.ok) throw new ApiError(response.status, `The server answered ${response.status}.`);
    on("open", null);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => control.abort(), patience);
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) event(block, on);
    }
  } finally {
    clearTimeout(timer);
  }
}

function event(block, on) {
  let kind = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) kind = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
  if (!data.length) return;
  try {
    on(kind, JSON.parse(data.join("\n")));
  } catch {
    // Half an event is worth nothing; the next full read corrects it.
  }
}
