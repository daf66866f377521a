/**
 * What takes no jobs until it is resumed: queues, types and workers. How it is shown, and its button.
 */

import { element } from "../../element/dom.js";
import { withLocalTimes } from "../../element/format.js";

/**
 * @typedef {"queue" | "type" | "worker"} Kind
 * @typedef {{kind: Kind, name: string, since: string, by: string}} Pause
 */

/** @param {Pause} pause */
export function pauseNote({ kind, since, by }) {
  const what = kind === "worker" ? "Draining" : "Paused";
  return element("p", { className: "paused" }, withLocalTimes(`${what} since ${since}`), " by ", element("bdi", { className: "foreign" }, by));
}

/**
 * The button that pauses or resumes. Its `value` is the address that it asks.
 * @param {Kind} kind
 * @param {string} name
 * @param {Pause | undefined} pause
 */
export function switchButton(kind, name, pause) {
  const verb = pause ? "resume" : kind === "worker" ? "drain" : "pause";
  const text = verb[0].toUpperCase() + verb.slice(1);
  return element(
    "button",
    { type: "button", className: "quiet switch", value: `/${kind}s/${encodeURIComponent(name)}/${verb}`, ariaLabel: `${text} the ${kind} ${name.slice(0, 200)}` },
    text,
  );
}
