/**
 * `<job-log>`: what a job says, from the first line that is kept.
 *
 * It follows what comes while its end is in sight; whoever scrolls up to read is left alone, and has a
 * button to go on following. Changes of state are lines too.
 */

import { element } from "../../element/dom.js";

/** @typedef {import("../../jobs.js").JobEvent} JobEvent */

const MAX_LINES = 1000;
/** Scrolled this near to the end, it stays at the end. */
const NEAR_PX = 24;

export class JobLog extends HTMLElement {
  /** @type {HTMLElement[]} */ #pending = [];
  #drawing = false;
  #dropped = 0;
  #unseen = 0;
  #follows = true;
  /** Where it was scrolled to. */
  #top = 0;
  #note = element("p", { class: "note", hidden: true });
  #lines = element("ol");
  #box = element(
    "div",
    { class: "lines", role: "log", "aria-live": "off", "aria-label": "Log", tabIndex: 0, hidden: true },
    this.#lines,
  );
  #empty = element("p", { class: "note" }, "Reading…");
  #follow = element("button", { type: "button", class: "follow", hidden: true });

  constructor() {
    super();
    this.#box.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = this.#box;
      const near = scrollHeight - scrollTop - clientHeight < NEAR_PX;
      // Only who scrolls up wants to read there: lines that become longer move the end away, too.
      if (near || scrollTop < this.#top) this.#follows = near;
      this.#top = scrollTop;
      this.#drawFollow();
    });
    // A phone was turned.
    new ResizeObserver(() => this.#stay()).observe(this.#box);
    this.#follow.addEventListener("click", () => {
      this.#box.scrollTop = this.#box.scrollHeight;
      this.#box.focus({ preventScroll: true });
    });
  }

  connectedCallback() {
    if (this.#lines.isConnected) return;
    this.append(this.#note, element("div", { class: "scroller" }, this.#box, this.#follow), this.#empty);
  }

  clear() {
    this.#lines.replaceChildren();
    this.#pending = [];
    this.#dropped = 0;
    this.#follows = true;
    this.#draw();
  }

  /** All that there was has been taken. */
  read() {
    this.#empty.textContent = "Nothing yet.";
  }

  /** Say above it that there was more. */
  cut() {
    this.#note.textContent = "Earlier lines are no longer kept.";
    this.#note.hidden = false;
  }

  /** @param {JobEvent} event */
  take({ event, data }) {
    if (event === "log") this.#add(data.at, data.level, data.message);
    if (event === "state") this.#add(data.at, "state", stateText(data));
    if (event === "end") this.#add(data.finished_at, "state", endText(data));
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
      element("span", { class: "level foreign" }, level),
      element("span", { class: "text foreign" }, message),
    );
    line.dataset.level = level;
    this.#pending.push(line);
    // A page that nobody sees has no frames, and must not keep for its return what it would not show.
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
    if (this.#dropped) {
      this.#note.textContent = `${this.#dropped} earlier lines are not shown.`;
      this.#note.hidden = false;
    }
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

/** @param {{state: string, attempt: number, reason?: string}} data */
function stateText({ state, attempt, reason }) {
  const which = state === "running" ? `running, attempt ${attempt}` : state;
  return reason ? `${which}: ${reason}` : which;
}

/** @param {import("../../jobs.js").Job} job */
function endText({ state, error }) {
  return error ? `${state}: ${error.message}` : state;
}

customElements.define("job-log", JobLog);
