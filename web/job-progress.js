/**
 * `<job-progress>`: bars for other people's pages.
 *
 *     <script type="module" src="http://127.0.0.1:8000/web/job-progress.js"></script>
 *     <job-progress job="0-…"></job-progress>
 *
 * `job="…"`, `jobs="… …"` or `group="…"` say what it shows, `base` and `token` where (default: where
 * this module came from), `log` that a log is offered, `readonly` that nothing can be canceled. With
 * `client` a page gives it a Headway of its own. `docs/frontends.md` has the parts and properties.
 */

import { element, show } from "./element.js";
import { duration, percent, quantity, rate, shownFraction } from "./figures.js";
import { Headway } from "./jobs.js";
import { style } from "./job-progress-style.js";
import { isLive } from "./reducer.js";

/**
 * @typedef {import("./reducer.js").Job} Job
 * @typedef {import("./reducer.js").JobEvent} JobEvent
 */

const ANNOUNCE_MS = 5000;
const LOG_LINES = 200;
const LOG_CHARACTERS = 2000;

/** Text from outside: what would reorder or break the text around it is shown as a sign. */
function plain(/** @type {unknown} */ text, most = LOG_CHARACTERS) {
  const all = String(text);
  const cut = all.length > most ? `${all.slice(0, most)}…` : all;
  return cut.replace(/[\p{Cc}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, (sign) => (sign === "\t" ? " " : "\ufffd"));
}

/** One job's bar. */
class Row {
  /** @type {Job | undefined} */ job;
  said = "";
  #fill = element("div", { class: "fill", part: "fill" });
  #bar = element("div", { class: "bar", part: "bar", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100 }, this.#fill);
  #name = element("bdi", { class: "name", part: "name" });
  #percent = element("span", { class: "percent", part: "percent", dir: "ltr" });
  #state = element("span", { class: "state", part: "state" });
  #stage = element("bdi", { part: "stage" });
  #message = element("bdi", { class: "message", part: "message" });
  #pace = element("bdi", { part: "pace" });
  #error = element("bdi", { class: "error", part: "error" });
  #cancel = element("button", { type: "button", part: "cancel", dir: "auto" });
  #log = element("div", { class: "log", part: "log", role: "log", "aria-live": "off", "aria-label": "Log", tabIndex: 0 });
  #details = element("details", { hidden: true }, element("summary", {}, "Log"), this.#log);
  /** @type {string[]} */ #lines = [];
  node = element(
    "div",
    { class: "job", part: "job" },
    element("div", { class: "row" }, this.#name, this.#bar, this.#percent, this.#cancel),
    element("div", { class: "about", part: "about" }, this.#state, this.#stage, this.#message, this.#pace),
    this.#error,
    this.#details,
  );

  /** @param {() => void} cancel */
  constructor(cancel) {
    this.#cancel.addEventListener("click", () => {
      this.#cancel.disabled = true;
      cancel();
    });
    this.#details.addEventListener("toggle", () => this.#drawLog());
  }

  /**
   * @param {Job} job
   * @param {{named: boolean, live: boolean, cancels: boolean, logs: boolean}} how
   */
  draw(job, { named, live, cancels, logs }) {
    this.job = job;
    const running = isLive(job);
    const fraction = shownFraction(job);
    const unknown = fraction === null;
    const text = percent(fraction);
    this.node.dataset.state = job.state;
    this.node.classList.toggle("unknown", unknown);
    this.node.classList.toggle("stale", running && !live);
    // Through the CSSOM, which a policy without 'unsafe-inline' allows.
    this.#fill.style.inlineSize = unknown ? "" : `${fraction * 100}%`;
    const name = plain(job.labels?.name ?? job.type, 100);
    show(this.#name, named ? name : "");
    show(this.#percent, text);
    this.#bar.setAttribute("aria-label", name);
    if (unknown) this.#bar.removeAttribute("aria-valuenow");
    else this.#bar.setAttribute("aria-valuenow", String(Math.floor(fraction * 100 + 1e-9)));
    const state = stateText(job);
    this.said = text && job.state !== "succeeded" ? `${state}, ${text}` : state;
    this.#bar.setAttribute("aria-valuetext", this.said);
    show(this.#state, state);
    const { stage, message } = (running && job.progress) || {};
    show(this.#stage, stage ? `${plain(stage.name, 100)}${stage.count > 1 ? ` (${stage.index}/${stage.count})` : ""}` : "");
    show(this.#message, message ? plain(message, 300) : "");
    show(this.#pace, running && job.state === "running" ? paceText(job, live) : "");
    show(this.#error, job.error && job.state === "failed" ? `${job.error.code}: ${plain(job.error.message)}` : "");
    show(this.#cancel, running && cancels ? (job.cancel_requested ? "Canceling…" : "Cancel") : "");
    this.#cancel.disabled = job.cancel_requested;
    this.#cancel.setAttribute("aria-label", `Cancel ${name}`);
    this.#details.hidden = !logs;
  }

  /** What the service said to the cancellation was no. */
  refused() {
    this.#cancel.disabled = false;
  }

  /** @param {JobEvent} event */
  hear({ event, data }) {
    if (event !== "log") return;
    this.#lines.push(`${data.at.slice(11, 19)} ${plain(data.message)}`);
    if (this.#lines.length > 2 * LOG_LINES) this.#lines = this.#lines.slice(-LOG_LINES);
    if (this.#details.open) this.#drawLog();
  }

  #drawn = false;
  #drawLog() {
    if (this.#drawn) return;
    this.#drawn = true;
    requestAnimationFrame(() => {
      this.#drawn = false;
      const end = this.#log.scrollHeight - this.#log.scrollTop - this.#log.clientHeight < 24;
      this.#log.textContent = this.#lines.slice(-LOG_LINES).join("\n");
      if (end) this.#log.scrollTop = this.#log.scrollHeight;
    });
  }
}

/** @param {Job & {waiting_reason?: string | null}} job */
function stateText(job) {
  const again = job.attempt > 1 ? `, attempt ${job.attempt} of ${job.max_attempts}` : "";
  const why = job.state === "queued" && job.waiting_reason ? `: ${plain(job.waiting_reason, 200)}` : "";
  return `${job.state}${again}${why}`;
}

/**
 * @param {Job} job
 * @param {boolean} live whether it is known to go on like this
 */
function paceText({ progress }, live) {
  const { current, total, unit, rate: pace, eta_s: eta } = progress ?? {};
  const parts = [];
  if (typeof current === "number") {
    parts.push(typeof total === "number" ? `${quantity(current, unit === "bytes" ? unit : null)} of ${quantity(total, unit)}` : quantity(current, unit));
  }
  if (live && typeof pace === "number" && pace > 0) parts.push(rate(pace, unit));
  if (live && typeof eta === "number") parts.push(`${duration(eta)} left`);
  return plain(parts.join(" · "));
}

/**
 * Dispatches `change` (bubbles; detail: {id, job}) for every new state of a job, and `problem`
 * (detail: Error) when a cancellation was refused.
 */
export class JobProgress extends HTMLElement {
  static observedAttributes = ["job", "jobs", "group", "base", "token", "log", "readonly"];
  /** @type {Headway | undefined} The client to use. Set before it is in the page. */
  client;

  /** @type {import("./job-feed.js").JobFeed | undefined} */ #feed;
  /** @type {string[]} */ #ids = [];
  /** @type {Map<string, Row>} */ #rows = new Map();
  /** @type {Set<string>} */ #dirty = new Set();
  #drawing = false;
  #opening = false;
  /** @type {ReturnType<typeof setInterval> | undefined} */ #clock;
  #gone = "";
  #said = "";
  #saidAt = 0;
  #list = element("div", { part: "list" });
  #note = element("bdi", { part: "note" });
  #again = element("button", { type: "button", part: "again", hidden: true }, "Try again");
  #connection = element("div", { class: "about", part: "connection" }, this.#note, this.#again);
  #announcement = element("p", { class: "said", "aria-live": "polite" });

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [style];
    root.append(this.#list, this.#connection, this.#announcement);
    this.#again.addEventListener("click", () => this.#feed?.again());
  }

  connectedCallback() {
    this.#clock = setInterval(() => this.#tick(), 1000);
    this.#open();
  }

  disconnectedCallback() {
    clearInterval(this.#clock);
    this.#close();
  }

  attributeChangedCallback() {
    if (this.isConnected) this.#open();
  }

  /** Several attributes that change at a time are one change. */
  #open() {
    if (this.#opening) return;
    this.#opening = true;
    queueMicrotask(() => {
      this.#opening = false;
      this.#close();
      if (this.isConnected) this.#watch();
    });
  }

  #close() {
    this.#feed?.stop();
    this.#feed = undefined;
    this.#rows.clear();
    this.#gone = "";
    this.#list.replaceChildren();
  }

  #watch() {
    const { job, jobs, group, base, token } = Object.fromEntries([...this.attributes].map((one) => [one.name, one.value]));
    const ids = (this.#ids = (job ?? jobs ?? "").split(/\s+/).filter(Boolean));
    if (ids.length === 0 && !group) return;
    this.client ??= new Headway({ base: base ?? new URL("..", import.meta.url), token });
    const feed = this.client.watch(ids.length > 0 ? { jobs: ids } : { group });
    this.#feed = feed;
    feed.addEventListener("change", (event) => {
      const { detail } = /** @type {CustomEvent} */ (event);
      this.#draw(detail.id);
      this.dispatchEvent(new CustomEvent("change", { bubbles: true, detail }));
    });
    feed.addEventListener("event", (event) => {
      const { detail } = /** @type {CustomEvent} */ (event);
      this.#rows.get(detail.data.job)?.hear(detail);
    });
    feed.addEventListener("status", () => this.#drawAll());
    this.#drawAll();
  }

  #drawAll() {
    this.#feed?.jobs.forEach((_, id) => this.#dirty.add(id));
    this.#drawNow();
  }

  /** Fifty events of one job in one frame are one drawing. */
  #draw(/** @type {string} */ id) {
    this.#dirty.add(id);
    if (!this.#rows.has(id)) this.#drawNow();
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => {
      this.#drawing = false;
      this.#drawNow();
    });
  }

  #drawNow() {
    const many = !this.hasAttribute("job");
    const feed = this.#feed;
    for (const id of feed ? this.#dirty : []) {
      const job = feed?.jobs.get(id);
      let row = this.#rows.get(id);
      if (!job) {
        row?.node.remove();
        this.#rows.delete(id);
        this.#gone = `There is no job ${plain(id, 60)} (any more).`;
        continue;
      }
      if (!row) {
        row = new Row(() => this.#cancel(id));
        this.#rows.set(id, row);
        this.#list.insertBefore(row.node, this.#after(job));
      }
      row.draw(job, {
        named: many,
        live: feed?.status === "live",
        cancels: !this.hasAttribute("readonly"),
        logs: this.hasAttribute("log"),
      });
    }
    this.#dirty.clear();
    this.#tick();
  }

  /**
   * The row before which the job's belongs: as they were listed, of a group as they came.
   * @param {Job} job
   */
  #after(job) {
    const place = (/** @type {Job} */ one) =>
      this.#ids.length > 0 ? this.#ids.indexOf(one.id) : Date.parse(one.created_at);
    const later = [...this.#rows.values()].filter((row) => row.job && place(row.job) > place(job));
    const nodes = new Set(later.map((row) => row.node));
    return [...this.#list.children].find((node) => nodes.has(/** @type {any} */ (node))) ?? null;
  }

  async #cancel(/** @type {string} */ id) {
    try {
      this.#feed?.put(await /** @type {Headway} */ (this.client).cancel(id));
    } catch (error) {
      this.#rows.get(id)?.refused();
      this.dispatchEvent(new CustomEvent("problem", { detail: error }));
    }
  }

  /** Words that change as time passes. */
  #tick() {
    const feed = this.#feed;
    if (!feed) return;
    const alive = [...feed.jobs.values()].some(isLive) || feed.jobs.size === 0;
    show(this.#note, (alive && connectionText(feed.status, feed.since)) || this.#gone);
    this.#again.hidden = feed.status !== "gave-up";
    this.#announce();
  }

  /** At most every five seconds, and in the end the last state. */
  #announce() {
    const rows = [...this.#rows.values()];
    const text = rows.length > 3 ? summary(rows) : rows.map((row) => row.said).join("; ");
    const now = Date.now();
    if (text === this.#said || now - this.#saidAt < ANNOUNCE_MS) return;
    this.#said = text;
    this.#saidAt = now;
    this.#announcement.textContent = text;
  }
}

/** @param {Row[]} rows */
function summary(rows) {
  const ended = rows.filter(({ job }) => job && !isLive(job)).length;
  return `${ended} of ${rows.length} jobs have ended`;
}

/**
 * @param {import("./event-stream.js").Status} status
 * @param {number} since
 */
function connectionText(status, since) {
  const lasting = `since ${duration(Math.floor((Date.now() - since) / 1000))}`;
  if (status === "connecting") return "Connecting…";
  if (status === "reconnecting") return `Reconnecting, out of date ${lasting}`;
  if (status === "stale") return `Out of date ${lasting}`;
  return status === "gave-up" ? `Not connected ${lasting}` : "";
}

if (!customElements.get("job-progress")) customElements.define("job-progress", JobProgress);
