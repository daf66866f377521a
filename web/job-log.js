/**
 * `<job-log>`: what a job says, from the first line that is kept, and following while it is looked at.
 *
 * It reads the job's own stream, only while it is in the page. Changes of state are lines too.
 */

import { element } from "./element.js";
import { Headway } from "./jobs.js";

/** @typedef {import("./reducer.js").JobEvent} JobEvent */

const MAX_LINES = 1000;
/** The service may refuse (the job is gone): that does not change by asking again and again. */
const ATTEMPTS = 5;
/** Scrolled this near to the end, it stays at the end. */
const NEAR_PX = 24;

export class JobLog extends HTMLElement {
  /** @type {string | null} */ #job = null;
  /** @type {import("./event-stream.js").EventStream | null} */ #stream = null;
  /** @type {HTMLElement[]} */ #pending = [];
  #drawing = false;
  #dropped = 0;
  #note = element("p", { class: "note", hidden: true });
  #lines = element("ol", {
    class: "lines",
    role: "log",
    "aria-live": "off",
    "aria-label": "Log",
    tabIndex: 0,
  });
  #empty = element("p", { class: "note" }, "Nothing yet.");

  connectedCallback() {
    this.append(this.#note, this.#lines, this.#empty);
    this.#open();
  }

  disconnectedCallback() {
    this.#stream?.close();
    this.#stream = null;
  }

  set job(/** @type {string} */ id) {
    if (id === this.#job) return;
    this.#job = id;
    if (this.isConnected) this.#open();
  }

  #open() {
    this.#stream?.close();
    this.#lines.replaceChildren();
    this.#pending = [];
    this.#dropped = 0;
    this.#empty.hidden = false;
    this.#note.hidden = true;
    if (!this.#job) return;
    // "0" asks for everything that is kept.
    const stream = new Headway().events(this.#job, { cursor: "0", attempts: ATTEMPTS });
    stream.addEventListener("event", (event) => this.#take(/** @type {CustomEvent} */ (event).detail));
    stream.open();
    this.#stream = stream;
  }

  /** @param {JobEvent} event */
  #take({ event, data }) {
    if (event === "log") this.#add(data.at, data.level, data.message);
    if (event === "state") this.#add(data.at, "state", stateText(data));
    if (event === "end") this.#add(data.finished_at, "state", endText(data));
    if (event === "reset") {
      this.#note.textContent = "Earlier lines are no longer kept.";
      this.#note.hidden = false;
    }
    if (event === "end" || (event === "reset" && data.job?.finished_at)) this.#stream?.close();
  }

  /**
   * @param {string} at
   * @param {string} level
   * @param {string} message
   */
  #add(at, level, message) {
    const time = new Date(at).toLocaleTimeString("en-GB");
    const line = element(
      "li",
      {},
      element("time", { dateTime: at }, time),
      element("span", { class: "level" }, level),
      element("span", { class: "text foreign" }, message),
    );
    line.dataset.level = level;
    this.#pending.push(line);
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#drawing = false;
    const list = this.#lines;
    const follows = list.scrollHeight - list.scrollTop - list.clientHeight < NEAR_PX;
    const lines = this.#pending.slice(-MAX_LINES);
    const surplus = list.childElementCount + lines.length - MAX_LINES;
    this.#dropped += this.#pending.length - lines.length + Math.max(0, surplus);
    for (let i = 0; i < surplus; i += 1) list.firstElementChild?.remove();
    this.#pending = [];
    list.append(...lines);
    this.#empty.hidden = list.childElementCount > 0;
    if (this.#dropped) {
      this.#note.textContent = `${this.#dropped} earlier lines are not shown.`;
      this.#note.hidden = false;
    }
    if (follows) list.scrollTop = list.scrollHeight;
  }
}

/** @param {{state: string, attempt: number, reason?: string}} data */
function stateText({ state, attempt, reason }) {
  const which = state === "running" ? `running, attempt ${attempt}` : state;
  return reason ? `${which}: ${reason}` : which;
}

/** @param {import("./reducer.js").Job} job */
function endText({ state, error }) {
  return error ? `${state}: ${error.message}` : state;
}

customElements.define("job-log", JobLog);
