// Answers from the files kept at the first visit, with the headers that threads need.

importScripts("files.js"); // written by the build

const { version, core, onDemand } = self.FILES;
const CACHE = `igcv3det-${version}`;
const urlOf = (name) => new URL(name, self.registration.scope).href;
const FIRST = ["./", "files.js", ...core]; // kept at the first visit
const KEPT = new Set([...FIRST, ...onDemand].map(urlOf));

self.addEventListener("install", (event) => {
  const files = FIRST.map((name) => new Request(urlOf(name), { cache: "reload" }));
  event.waitUntil(
    caches
      .open(CACHE)
      .then((cache) => cache.addAll(files))
      .then(() => self.skipWaiting()),
  );
});

self.addEventListener("activate", (event) => {
  event.waitUntil(
    caches
      .keys()
      .then((names) => names.filter((name) => name.startsWith("igcv3det-") && name !== CACHE))
      .then((old) => Promise.all(old.map((name) => caches.delete(name))))
      .then(() => self.clients.claim()),
  );
});

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== "GET" || url.origin !== self.location.origin) return;
  event.respondWith(answer(event.request));
});

async function answer(request) {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(request, { ignoreSearch: true });
  if (kept) return isolated(kept);
  const reply = await fetch(request);
  if (reply.ok && KEPT.has(request.url)) await cache.put(request, reply.clone());
  return isolated(reply);
}

// A page may share memory between threads only if it admits nothing from other origins
function isolated(reply) {
  if (reply.status === 0) return reply;
  const headers = new Headers(reply.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  return new Response(reply.body, { status: reply.status, statusText: reply.statusText, headers });
}
