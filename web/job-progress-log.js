/**
 * The log of `<job-progress>`, loaded when somebody opens one: its lines from the first that is kept.
 */

import { JobHistory } from "./job-history.js";

/** @typedef {import("./reducer.js").JobEvent} JobEvent */

const LINES = 200;
/** Scrolled this near to the end, it stays at the end. */
const NEAR_PX = 24;

/**
 * Fill the box, and go on until the signal.
 * @param {HTMLElement} box
 * @param {object} of
 * @param {import("./jobs.js").Headway} of.client
 * @param {import("./job-feed.js").JobFeed} of.feed that the job is in
 * @param {string} of.id
 * @param {AbortSignal} of.signal
 * @param {(text: string) => string} of.plain makes text from outside harmless
 */
export function follow(box, { client, feed, id, signal, plain }) {
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
      if (type === "log") lines.push(`${data.at.slice(11, 19)} ${plain(data.message)}`);
    }
    lines = lines.slice(-LINES);
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(draw);
  });
  signal.addEventListener("abort", () => history.close());
  if (!signal.aborted) history.open();
}
