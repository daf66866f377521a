/**
 * The page's address: `#/`, `#/jobs/<id>`, `#/new`, `#/workers`, each with a query.
 */

/**
 * @typedef {{view: "jobs" | "job" | "new" | "workers", id: string, query: URLSearchParams}} Route
 */

/**
 * @param {string} hash of the address
 * @returns {Route} the list of jobs if the address is unknown
 */
export function routeOf(hash) {
  const [path, search = ""] = hash.replace(/^#/, "").split("?", 2);
  const query = new URLSearchParams(search);
  const job = /^\/jobs\/([^/]+)$/.exec(path);
  if (job) return { view: "job", id: decode(job[1]), query };
  const view = path === "/new" ? "new" : path === "/workers" ? "workers" : "jobs";
  return { view, id: "", query };
}

/** @param {string} text */
function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
