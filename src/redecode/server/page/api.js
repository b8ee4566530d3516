// The server, as the page sees it.

const BASE = new URL("v1/", document.baseURI);
const KNOCK_MS = 4000; // It is there at once, or not there.

/** How results can be written: the name, how files end, and the qualities to choose from; "" is the server's own. */
export const FORMATS = {
  png: { name: "PNG", suffix: ".png", qualities: [["", "lossless"]] },
  webp: { name: "WebP", suffix: ".webp", qualities: [["", "lossless"], ["95", "95"], ["90", "90"], ["80", "80"], ["65", "65"]] },
  avif: { name: "AVIF", suffix: ".avif", qualities: [["95", "95"], ["", "90"], ["80", "80"], ["65", "65"]] },
  jpeg: { name: "JPEG", suffix: ".jpg", qualities: [["98", "98"], ["", "95"], ["90", "90"], ["80", "80"], ["65", "65"]] },
  tiff: { name: "TIFF", suffix: ".tif", qualities: [["", "lossless"]] },
};

// A token in the address is taken out of it, so that it stays out of bookmarks and screenshots.
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  sessionStorage.setItem("token", given);
  history.replaceState(null, "", location.pathname + location.search);
}

/** What the server refused, in its own words. */
export class Refusal extends Error {
  constructor(problem, status) {
    super(problem.detail);
    this.code = problem.code;
    this.status = status;
  }
}

/** The server does not answer at all. */
export class Silence extends Error {
  constructor() {
    super("the server does not answer");
  }
}

let silent = false;
const listeners = [];

/** Be told when the server falls silent (true), and when it answers again (false). */
export const onSilence = (listener) => listeners.push(listener);

function setSilent(now) {
  if (now === silent) return;
  silent = now;
  for (const listener of listeners) listener(silent);
}

/** Look whether the server is there. */
export async function knock() {
  try {
    await fetch(new URL("healthz", document.baseURI), { method: "HEAD", cache: "no-store", signal: AbortSignal.timeout(KNOCK_MS) });
    setSilent(false);
  } catch {
    setSilent(true);
  }
}

const sleep = (seconds, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });

let asking = null;

// One dialog, however many requests wait for its answer.
function askForToken() {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("asking");
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.addEventListener("close", () => {
      sessionStorage.setItem("token", document.getElementById("token").value);
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

async function problemOf(answer) {
  try {
    return await answer.json();
  } catch {
    return { code: "failure", detail: `the server answered ${answer.status}` };
  }
}

/**
 * Ask the server; while it is busy, wait as long as its answer tells, and ask again.
 * @returns {Promise<Response>} a good one
 * @throws {Refusal|Silence}
 */
export async function ask(path, { method = "GET", query = {}, body, json, signal } = {}) {
  const address = new URL(path, BASE);
  for (const [name, value] of Object.entries(query)) {
    for (const one of [value].flat()) if (one !== undefined && one !== null) address.searchParams.append(name, one);
  }
  for (;;) {
    const headers = {};
    const token = sessionStorage.getItem("token");
    if (token) headers.Authorization = `Bearer ${token}`;
    if (json) headers["Content-Type"] = "application/json";
    let answer;
    try {
      answer = await fetch(address, { method, headers, body: json ? JSON.stringify(json) : body, signal });
    } catch (error) {
      if (signal?.aborted) throw error;
      setSilent(true);
      throw new Silence();
    }
    setSilent(false);
    if (answer.ok) return answer;
    if (answer.status === 401) await askForToken();
    else if (answer.status === 429) await sleep(Number(answer.headers.get("Retry-After")) || 1, signal);
    else throw new Refusal(await problemOf(answer), answer.status);
  }
}

/** Ask for JSON. */
export const askJson = async (path, choices) => (await ask(path, choices)).json();

/** Ask for a picture, decoded. */
export const askBitmap = async (path, choices) => createImageBitmap(await (await ask(path, choices)).blob());
