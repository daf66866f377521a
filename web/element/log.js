/**
 * The log of `<job-progress log>`: its lines from the first that is kept, once somebody opens it.
 */

import { JobHistory } from "../client/job-events.js";

/** @typedef {import("../jobs.js").JobEvent} JobEvent */

const LINES = 200;
const CHARACTERS = 2000;
/** Scrolled this near to the end, it stays at the end. */
const NEAR_PX = 24;

const style = new CSSStyleSheet();
style.replaceSync(`
.log { max-block-size: 12em; overflow: auto; margin: .25em 0; white-space: pre-wrap; font: .9em/1.4 ui-monospace, monospace; }
`);

/**
 * @param {ShadowRoot} root where it will be
 * @param {object} of
 * @param {import("../jobs.js").Headway} of.client
 * @param {import("../client/job-feed.js").JobFeed} of.feed that the job is in
 * @param {string} of.id
 * @param {AbortSignal} of.signal ends it
 * @param {(text: string, most: number) => string} of.plain makes text from outside harmless
 * @returns {HTMLElement}
 */
export function logFor(root, { client, feed, id, signal, plain }) {
  if (!root.adoptedStyleSheets.includes(style)) root.adoptedStyleSheets.push(style);
  const box = Object.assign(document.createElement("div"), {
    className: "log",
    part: "log",
    role: "log",
    ariaLive: "off",
    ariaLabel: "Log",
    tabIndex: 0,
  });
  const summary = document.createElement("summary");
  summary.textContent = "Log";
  const details = document.createElement("details");
  details.append(summary, box);

  /** @type {string[]} */ let lines = [];
  let frame = 0;
  const draw = () => {
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR_PX;
    box.textContent = lines.join("\n");
    if (atEnd) box.scrollTop = box.scrollHeight;
  };
  const history = new JobHistory(client, feed, id);
  history.addEventListener("clear", () => (lines = []));
  history.addEventListener("events", (event) => {
    for (const { event: type, data } of /** @type {CustomEvent<JobEvent[]>} */ (event).detail) {
      if (type === "log") lines.push(`${data.at.slice(11, 19)} ${plain(data.message, CHARACTERS)}`);
    }
    lines = lines.slice(-LINES);
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(draw);
  });
  details.addEventListener("toggle", () => signal.aborted || history.open(), { once: true });
  signal.addEventListener("abort", () => history.close());
  return details;
}
