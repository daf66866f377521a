/**
 * A job's log, from the first line that is kept: of `<job-progress log>` and of the dashboard.
 *
 * It follows new lines while its end is in view. If the user scrolls up it stays, and a button follows again.
 * Changes of state are lines, too.
 */

import { JobEvents } from "../client/job-events.js";
import { element, show } from "./dom.js";
import { plain } from "./format.js";

/** @typedef {import("../jobs.js").JobEvent} JobEvent */

const MAX_LINES = 1000;
const MAX_CHARACTERS = 10_000;
/** Within this distance of the end it counts as at the end. */
const NEAR_PX = 24;

const style = new CSSStyleSheet();
style.replaceSync(`
.scroller { position: relative; }
.log {
  max-block-size: var(--job-log-size, 12em);
  overflow: auto;
  overflow-wrap: anywhere;
  margin: .25em 0;
  white-space: pre-wrap;
  font: .875em/1.5 ui-monospace, monospace;
}
.log ol { margin: 0; padding: 0; list-style: none; }
.log li { display: flex; flex-wrap: wrap; gap: 0 .75em; }
.log :is(time, .level) { opacity: .75; }
.log .level { min-inline-size: 4.5em; max-inline-size: 100%; }
.log .text { flex: 1 1 16em; min-inline-size: 0; }
.log :is([data-level="state"], [data-level="message"], [data-level="sent"]) .text { font-weight: 600; }
.log :is([data-level="error"], [data-level="critical"]) .level { color: var(--job-bad, color-mix(in srgb, red 60%, currentColor)); opacity: 1; }
.log [data-level="warning"] .level { color: var(--job-warn, color-mix(in srgb, orange 50%, currentColor)); opacity: 1; }
.follow { position: absolute; inset-block-end: .5em; inset-inline-end: 1.25em; }
`);

export class LogView {
  /** @type {HTMLElement[]} */ #pending = [];
  #drawing = false;
  #dropped = 0;
  #unseen = 0;
  #follows = true;
  /** Where it was scrolled to. */
  #top = 0;
  #note = element("div", { className: "note", hidden: true });
  #lines = element("ol");
  #box = element(
    "div",
    { className: "log", part: "log", role: "log", ariaLive: "off", ariaLabel: "Log", tabIndex: 0, hidden: true },
    this.#lines,
  );
  #empty = element("div", { className: "note" }, "Loading…");
  #follow = element("button", { type: "button", className: "follow", part: "follow", hidden: true });
  node = element("div", {}, this.#note, element("div", { className: "scroller" }, this.#box, this.#follow), this.#empty);

  /** @param {Document | ShadowRoot} root where it will be */
  constructor(root) {
    if (!root.adoptedStyleSheets.includes(style)) root.adoptedStyleSheets.push(style);
    this.#box.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = this.#box;
      const near = scrollHeight - scrollTop - clientHeight < NEAR_PX;
      // Only scrolling up stops following: lines that grow move the end away, too.
      if (near || scrollTop < this.#top) this.#follows = near;
      this.#top = scrollTop;
      this.#drawFollow();
    });
    // When a phone is turned.
    new ResizeObserver(() => this.#stay()).observe(this.#box);
    this.#follow.addEventListener("click", () => {
      this.#box.scrollTop = this.#box.scrollHeight;
      this.#box.focus({ preventScroll: true });
    });
  }

  clear() {
    this.#lines.replaceChildren();
    this.#pending = [];
    this.#dropped = 0;
    this.#follows = true;
    this.#draw();
  }

  /** Everything up to now has been received. */
  loaded() {
    this.#empty.textContent = "Nothing yet.";
  }

  /** Say that there were earlier lines. */
  truncated() {
    show(this.#note, "Earlier lines are no longer kept.");
  }

  /** @param {JobEvent} event */
  receive({ event, data }) {
    if (event === "log") this.#add(data.at, data.level, data.message);
    if (event === "message") this.#add(data.at, data.from === "task" ? "message" : "sent", `${data.name}: ${textOf(data.data)}`);
    if (event === "state") this.#add(data.at, "state", stateText(data));
    if (event === "end") this.#add(String(data.finished_at), "state", data.state + (data.error ? `: ${data.error.message}` : ""));
  }

  /**
   * @param {string} at
   * @param {string} level
   * @param {string} message
   */
  #add(at, level, message) {
    const line = element(
      "li",
      {},
      element("time", { dateTime: at }, new Date(at).toLocaleTimeString("en-GB")),
      element("bdi", { className: "level" }, plain(level, 100)),
      element("bdi", { className: "text" }, plain(message, MAX_CHARACTERS)),
    );
    line.dataset.level = level;
    this.#pending.push(line);
    // A page in the background has no frames, and must not keep lines that it would not show.
    if (this.#pending.length > 2 * MAX_LINES) this.#draw();
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#drawing = false;
    const list = this.#lines;
    const lines = this.#pending.slice(-MAX_LINES);
    const surplus = list.childElementCount + lines.length - MAX_LINES;
    this.#dropped += this.#pending.length - lines.length + Math.max(0, surplus);
    for (let i = 0; i < surplus; i += 1) list.firstElementChild?.remove();
    this.#unseen += this.#pending.length;
    this.#pending = [];
    list.append(...lines);
    this.#empty.hidden = list.childElementCount > 0;
    this.#box.hidden = !this.#empty.hidden;
    if (this.#dropped) show(this.#note, `${this.#dropped} earlier lines are not shown.`);
    this.#stay();
    this.#drawFollow();
  }

  #stay() {
    if (this.#follows) this.#box.scrollTop = this.#box.scrollHeight;
  }

  #drawFollow() {
    if (this.#follows) this.#unseen = 0;
    this.#follow.hidden = this.#follows;
    this.#follow.textContent = this.#unseen > 0 ? `Follow (${this.#unseen} new)` : "Follow";
  }
}

/** @param {unknown} data of a message */
const textOf = (data) => (typeof data === "string" ? data : JSON.stringify(data));

/** @param {{state: string, attempt: number, reason?: string}} data */
function stateText({ state, attempt, reason }) {
  const which = state === "running" ? `running, attempt ${attempt}` : state;
  return reason ? `${which}: ${reason}` : which;
}

/**
 * The log of `<job-progress>`, which is read once it is opened.
 * @param {ShadowRoot} root where it will be
 * @param {{client: import("../client/client.js").Client, feed: import("../client/job-feed.js").JobFeed, id: string,
 *   signal: AbortSignal}} of the job, the feed that it is in, and what ends the log
 * @returns {HTMLElement}
 */
export function logFor(root, { client, feed, id, signal }) {
  const log = new LogView(root);
  const events = new JobEvents(client, feed, id);
  events.addEventListener("clear", () => log.clear());
  events.addEventListener("events", (event) => {
    for (const one of /** @type {CustomEvent<JobEvent[]>} */ (event).detail) log.receive(one);
  });
  events.addEventListener("read", () => log.loaded());
  const details = element("details", {}, element("summary", {}, "Log"), log.node);
  details.addEventListener("toggle", () => signal.aborted || events.open(), { once: true });
  signal.addEventListener("abort", () => events.close());
  return details;
}
