// Keeps the page for when there is no network. What it hands out is isolated from other pages, so that the networks may use threads.

const VERSION = "@VERSION@";
const FILES = ["@FILES@"];
// Taken in when they are asked for first.
const LATER = ["@LATER@"];
const ISOLATED = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};

addEventListener("install", (event) => {
  const taken = caches.open(VERSION).then((cache) => cache.addAll(FILES.map((file) => new Request(file, { cache: "reload" }))));
  event.waitUntil(taken.then(() => skipWaiting()));
});

addEventListener("activate", (event) => {
  const older = (name) => name.startsWith("redecode-") && name !== VERSION;
  const left = caches.keys().then((names) => Promise.all(names.filter(older).map((name) => caches.delete(name))));
  event.waitUntil(left.then(() => clients.claim()));
});

addEventListener("fetch", (event) => {
  const { request } = event;
  const address = new URL(request.url);
  if (request.method !== "GET" || address.origin !== location.origin || !address.href.startsWith(registration.scope)) return;
  event.respondWith(kept(request, address.href.slice(registration.scope.length).replace(/[?#].*$/, "")));
});

async function kept(request, path) {
  const cache = await caches.open(VERSION);
  const name = path || "index.html";
  const found = (await cache.match(name)) ?? (await fetch(request));
  if (LATER.includes(name) && found.ok) await cache.put(name, found.clone());
  const headers = new Headers(found.headers);
  for (const [header, value] of Object.entries(ISOLATED)) headers.set(header, value);
  return new Response(found.body, { status: found.status, statusText: found.statusText, headers });
}
