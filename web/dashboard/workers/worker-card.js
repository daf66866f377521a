/**
 * One worker: what it does, and whether it takes more.
 */

import { element } from "../../element/dom.js";
import { duration, shortId } from "../../element/format.js";
import { pauseNote, switchButton } from "./pauses.js";

/**
 * @typedef {{id: string, type: string, attempt: number, since: string}} Held
 * @typedef {{name: string, host: string, pid: number, concurrency: number, types: string[],
 *   queues: string[], started_at: string, seen_at: string, jobs: Held[]}} Worker
 */

/** A worker sends a heartbeat every 3 s. One that does not may be dead, and soon is no longer listed. */
const SILENT_MS = 5000;

/**
 * @param {Worker} worker
 * @param {number} silent ms since its last heartbeat
 * @param {import("./pauses.js").Pause | undefined} drain
 */
export function workerElement({ name, host, pid, concurrency, types, queues, started_at: started, jobs }, silent, drain) {
  const up = duration(Math.floor((Date.now() - Date.parse(started)) / 1000));
  const free = Math.max(0, concurrency - jobs.length);
  const tags = (/** @type {string[]} */ names) => names.map((one) => element("span", { className: "tag foreign" }, one));
  const quiet = silent > SILENT_MS;
  const room = drain ? "takes no more jobs" : free === 1 ? "1 slot free" : `${free} slots free`;
  return element(
    "div",
    { className: quiet ? "worker silent" : "worker", role: "listitem" },
    element(
      "header",
      {},
      element("h3", {}, element("bdi", { className: "foreign clamped", title: name.slice(0, 200) }, host), element("span", { className: "note" }, ` process ${pid}, up ${up}`)),
      switchButton("worker", name, drain),
    ),
    quiet ? element("p", { className: "silence" }, `No heartbeat for ${duration(Math.floor(silent / 1000))}.`) : "",
    drain ? pauseNote(drain) : "",
    element(
      "ul",
      { className: "held" },
      ...jobs.map(heldElement),
      ...(drain || free > 0 ? [element("li", { className: "free" }, room)] : []),
    ),
    element("p", { className: "serves" }, element("span", { className: "note" }, "serves "), ...tags(types)),
    element("p", { className: "serves" }, element("span", { className: "note" }, "takes from "), ...tags(queues)),
  );
}

/** @param {Held} job */
function heldElement({ id, type, attempt, since }) {
  const lasting = duration(Math.floor((Date.now() - Date.parse(since)) / 1000));
  return element(
    "li",
    {},
    element(
      "a",
      { href: `#/jobs/${encodeURIComponent(id)}` },
      element("bdi", { className: "foreign clamped" }, type),
      " ",
      element("code", {}, shortId(id)),
    ),
    element("span", { className: "note" }, `${attempt > 1 ? `attempt ${attempt}, ` : ""}for ${lasting}`),
  );
}
