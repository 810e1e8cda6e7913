// Keeps the page's files for later visits, and lets it use threads.

const RELOADED = "igcv3det-reloaded";
const PATIENCE = 60_000; // milliseconds, for the download of all files

/**
 * Installs the service worker. Resolves when the page may continue; on a first visit the page may
 * be reloaded instead, because only a page that came with its headers can use threads.
 *
 * @returns {Promise<boolean>} whether the page works offline.
 */
export async function keepOffline() {
  if (!navigator.serviceWorker) return false;
  try {
    await navigator.serviceWorker.register("service_worker.js");
  } catch (error) {
    console.warn("the page is not kept for offline use:", error);
    return false;
  }
  if (!navigator.serviceWorker.controller && !(await controlled())) return false;
  if (!self.crossOriginIsolated && !sessionStorage.getItem(RELOADED)) {
    sessionStorage.setItem(RELOADED, "yes");
    location.reload();
    await new Promise(() => {});
  }
  return true;
}

function controlled() {
  return new Promise((resolve) => {
    navigator.serviceWorker.addEventListener("controllerchange", () => resolve(true), { once: true });
    setTimeout(() => resolve(Boolean(navigator.serviceWorker.controller)), PATIENCE);
  });
}
