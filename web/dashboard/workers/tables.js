/**
 * The rows of queues and of types: what waits and what has ended, and whether jobs are taken.
 */

import { element } from "../../element/dom.js";
import { number } from "../../element/format.js";
import { JobFilter } from "../jobs/job-filter.js";
import { pauseNote, switchButton } from "./pauses.js";

/**
 * @typedef {import("./pauses.js").Pause} Pause
 * @typedef {{name: string, waiting: number, workers: number}} Queue
 * @typedef {{name: string, counts: Record<string, number>, known: boolean, alive: boolean}} Type `known`: it takes jobs
 */

/**
 * @param {Queue} queue
 * @param {Pause | undefined} pause
 */
export function queueElement({ name, waiting, workers }, pause) {
  const made = element(
    "tr",
    {},
    nameCell(name, pause),
    element("td", {}, number(waiting)),
    element("td", {}, workers === 0 ? "none" : String(workers)),
    element("td", { className: "switches" }, switchButton("queue", name, pause)),
  );
  made.classList.toggle("stuck", waiting > 0 && workers === 0);
  return made;
}

/**
 * @param {Type} type
 * @param {Pause | undefined} pause
 */
export function typeElement({ name, counts, known, alive }, pause) {
  const links = Object.entries(counts)
    .filter(([, count]) => count > 0)
    .map(([state, count]) => element("a", { href: `#/?${new JobFilter({ state, type: name }).query}` }, `${number(count)} ${state}`));
  return element(
    "tr",
    {},
    nameCell(name, pause, known && !alive ? "no worker" : ""),
    element("td", { className: "counts" }, ...(links.length > 0 ? links : ["none"])),
    element("td", { className: "switches" }, known || pause ? switchButton("type", name, pause) : ""),
  );
}

/**
 * @param {string} name
 * @param {Pause | undefined} pause
 */
function nameCell(name, pause, note = "") {
  return element(
    "th",
    { scope: "row" },
    element("span", { className: "foreign clamped" }, name),
    note && element("span", { className: "note" }, note),
    pause ? pauseNote(pause) : "",
  );
}
