// In place of the server: pictures are restored by a worker of this page, and asked for in the same words. See server/page/api.js.

const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
const about = await (await fetch(new URL("about.json", import.meta.url))).json();

/** How results can be written: the name, how files end, and the qualities to choose from. */
export const FORMATS = {
  png: { name: "PNG", suffix: ".png", qualities: [["", "lossless"]] },
  webp: { name: "WebP", suffix: ".webp", qualities: [["95", "95"], ["", "90"], ["80", "80"], ["65", "65"]] },
  jpeg: { name: "JPEG", suffix: ".jpg", qualities: [["98", "98"], ["", "95"], ["90", "90"], ["80", "80"], ["65", "65"]] },
};
const DEFAULT_QUALITY = { png: undefined, webp: 90, jpeg: 95 };

/** What was refused, and why. */
export class Refusal extends Error {
  constructor(problem, status) {
    super(problem.detail);
    this.code = problem.code;
    this.status = status;
  }
}

/** A server that does not answer: here there is none. */
export class Silence extends Error {}

export const onSilence = () => {};
export const knock = async () => {};

const states = new Map();
const waiting = new Map();
let count = 0;

worker.addEventListener("message", ({ data: { id, state, number, result, failure } }) => {
  if (state) {
    if (states.has(id)) states.set(id, { ...states.get(id), ...state });
  } else if (waiting.has(number)) {
    const { resolve, reject } = waiting.get(number);
    waiting.delete(number);
    if (failure === undefined) resolve(result);
    else if (failure === null) reject(new Refusal({ code: "not-found", detail: "the picture is not open any more" }, 404));
    else reject(new Refusal({ code: "failure", detail: failure }, 500));
  }
});
worker.addEventListener("error", ({ message }) => {
  const problem = { code: "failure", detail: `it went wrong: ${message ?? "the worker has ended"}`, status: 500 };
  for (const id of states.keys()) states.set(id, { ...states.get(id), state: "failed", problem });
  for (const { reject } of waiting.values()) reject(new Refusal({ code: "failure", detail: "the worker has ended" }, 500));
  waiting.clear();
});

// A module's messages are kept for it until its top level has run.
const ready = new Promise((resolve) => {
  worker.addEventListener("message", function first({ data }) {
    if (data.ready) resolve();
  });
});

/** Have the worker do something; its number serves to drop it. */
function start(method, ...choices) {
  const number = ++count;
  const result = new Promise((resolve, reject) => {
    waiting.set(number, { resolve, reject });
    ready.then(() => worker.postMessage([number, method, ...choices]));
  });
  return { number, result };
}

const call = (method, ...choices) => start(method, ...choices).result;
const drop = (number) => call("drop", number);

function begin(preset, start) {
  const id = String(++count);
  states.set(id, { id, preset, state: "waiting", tiles_done: 0, tiles_total: 0, facts: null, grid: [0, 0], changed: true });
  start(id).catch(() => {});
  return states.get(id);
}

const open = (file, preset) => begin(preset, (id) => call("open", id, file, preset));

// The last result: its size is told before it is saved.
let last = null;

function result(id, { texture, format, quality }, { method, signal }) {
  const key = JSON.stringify([id, texture, format, quality]);
  if (last?.key !== key) {
    const own = { key, ...start("result", id, { texture, format, quality: Number(quality) || DEFAULT_QUALITY[format] }) };
    last = own;
    own.result.catch(() => forgetResult(own));
  }
  const own = last;
  own.wanted ||= method !== "HEAD";
  // Who turns the dial further does not want to know any more how large this one is.
  signal?.addEventListener("abort", () => {
    if (own.wanted) return;
    forgetResult(own);
    drop(own.number);
  });
  return own.result;
}

function forgetResult(own) {
  if (last === own) last = null;
}

let figures = null;

function figuresOf(id, { texture }) {
  if (figures) drop(figures.number);
  figures = start("figures", id, texture);
  return figures.result;
}

const entryName = (name, format, taken) => {
  const stem = name.replace(/\.[^.]*$/, "") || name;
  for (let n = 1; ; n++) {
    const own = `${stem}${n === 1 ? "" : ` (${n})`}.redecoded${FORMATS[format].suffix}`;
    if (taken.has(own.toLowerCase())) continue;
    taken.add(own.toLowerCase());
    return own;
  }
};

function archive({ pictures, format, quality }) {
  const taken = new Set();
  const wanted = pictures.map(({ id, name, texture }) => ({ id, name: entryName(name, format, taken), texture }));
  return call("archive", wanted, { format, quality: quality ?? DEFAULT_QUALITY[format] });
}

function forget(id) {
  states.delete(id);
  return call("forget", id);
}

const known = (ids) => ids.map((id) => states.get(id)).filter(Boolean);

// What the server's addresses lead to here.
const routes = [
  [/^presets$/, () => ({ presets: about.presets })],
  [/^pictures$/, (_, { method, query, body }) => (method === "POST" ? open(body, query.preset) : { pictures: known([query.id].flat()) })],
  [/^pictures\/([^/]+)\/again$/, ([, old], { query }) => begin(query.preset, (id) => call("again", id, old, query.preset))],
  [/^pictures\/([^/]+)\/layers\/(\w+)$/, ([, id, name]) => call("layer", id, name)],
  [/^pictures\/([^/]+)\/figures$/, ([, id], { query }) => figuresOf(id, query)],
  [/^pictures\/([^/]+)\/result$/, ([, id], { query, ...request }) => result(id, query, request)],
  [/^archives$/, (_, { json }) => archive(json)],
  [/^pictures\/([^/]+)$/, ([, id]) => forget(id)],
];

/** What the server would give: an object, a blob or a bitmap. */
async function answer(path, { method = "GET", query = {}, body, json, signal } = {}) {
  const [route, act] = routes.find(([pattern]) => pattern.test(path));
  const found = act(path.match(route), { method, query, body, json, signal });
  if (!signal) return found;
  const ended = new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  return Promise.race([found, ended]);
}

/** As the server's: an answer with a body. */
export async function ask(path, choices) {
  const found = await answer(path, choices);
  return new Response(found ?? null, { headers: found instanceof Blob ? { "Content-Length": String(found.size) } : {} });
}

export const askJson = answer;
export const askBitmap = answer;

// Everything is kept for when there is no network.
navigator.serviceWorker?.register(new URL("../service-worker.js", import.meta.url)).catch((error) => console.warn(error));
