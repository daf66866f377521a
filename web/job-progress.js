/**
 * `<job-progress>`: bars for other people's pages.
 *
 *     <script type="module" src="http://127.0.0.1:8000/web/job-progress.min.js"></script>
 *     <job-progress job="0-…"></job-progress>
 *
 * `job="…"`, `jobs="… …"` or `group="…"` say what it shows, `base` and `token` where (default: where
 * this module came from), `log` that a log is offered, `readonly` that nothing can be canceled. With
 * `client` a page gives it a Headway of its own. `docs/frontends.md` has the parts and properties.
 *
 * The `.min.js` is made of this file and what it imports, by `make bundle`. It is to stay small:
 * what few pages need comes by `import()`.
 */

import { Client } from "./client.js";
import { show } from "./element.js";
import { duration, percent, quantity, rate, shownFraction } from "./figures.js";
import { style } from "./job-progress-style.js";
import { isLive } from "./reducer.js";

/** @typedef {import("./reducer.js").Job} Job */

export { Client };

/** Whoever cannot see it is told this often, at most. */
const ANNOUNCE_MS = 5000;

/** Text from outside: what would reorder or break the text around it is shown as a sign. */
function plain(/** @type {string} */ text, most = 2000) {
  const cut = text.length > most ? `${text.slice(0, most)}…` : text;
  return cut.replace(/(?!\t)[\p{Cc}\p{Bidi_C}]/gu, "\ufffd");
}

/**
 * An element that a page can style by its name.
 * @param {keyof HTMLElementTagNameMap} tag
 * @param {string} part
 * @param {Record<string, unknown>} [props]
 * @param {...(Node | string)} children
 * @returns {any}
 */
function made(tag, part, props, ...children) {
  const node = Object.assign(document.createElement(tag), { part, className: part, ...props });
  node.append(...children);
  return node;
}

/**
 * One job's bar.
 * @param {boolean} named
 * @param {() => Promise<unknown> | undefined} [cancel]
 */
function rowFor(named, cancel) {
  /** @type {unknown[]} */ let drawn = [];
  const [name, stage, message, pace, error] = ["name", "stage", "message", "pace", "error"].map((part) => made("bdi", part));
  const [reached, state] = ["percent", "state"].map((part) => made("span", part));
  const fill = made("div", "fill");
  const bar = made("div", "bar", { role: "progressbar" }, fill);
  const button = made("button", "cancel", {
    async onclick() {
      button.disabled = true;
      button.disabled = await cancel?.();
    },
  });
  const node = made(
    "div",
    "job",
    {},
    made("div", "row", {}, name, bar, reached, button),
    made("div", "about", {}, state, stage, message, pace),
    error,
  );

  const row = {
    node,
    said: "",
    /**
     * @param {Job & {waiting_reason?: string | null}} job
     * @param {boolean} live whether it is known to go on like this
     */
    draw(job, live) {
      if (job === drawn[0] && live === drawn[1]) return;
      drawn = [job, live];
      const running = isLive(job);
      const { stage: at, message: saying } = (running && job.progress) || {};
      const fraction = shownFraction(job);
      const text = percent(fraction);
      const called = plain(job.labels?.name ?? job.type, 100);
      const again = job.attempt > 1 ? `, attempt ${job.attempt} of ${job.max_attempts}` : "";
      const why = job.state === "queued" && job.waiting_reason ? `: ${plain(job.waiting_reason, 200)}` : "";
      node.className = `job ${job.state}${text ? "" : " unknown"}${running && !live ? " stale" : ""}`;
      // Through the CSSOM, which a policy without 'unsafe-inline' allows.
      fill.style.inlineSize = text && `${Number(fraction) * 100}%`;
      bar.ariaValueNow = text ? parseInt(text) : null;
      bar.ariaValueText = row.said = job.state + again + why + (text && `, ${text}`);
      bar.ariaLabel = called;
      button.ariaLabel = `Cancel ${called}`;
      button.disabled = job.cancel_requested;
      show(button, running && cancel ? (job.cancel_requested ? "Canceling…" : "Cancel") : "");
      show(name, named ? called : "");
      show(reached, text);
      show(state, job.state + again + why);
      show(stage, at ? plain(at.name, 100) + (at.count > 1 ? ` (${at.index}/${at.count})` : "") : "");
      show(message, plain(saying ?? "", 300));
      show(pace, job.state === "running" ? paceText(job, live) : "");
      show(error, job.state === "failed" && job.error ? plain(`${job.error.code}: ${job.error.message}`) : "");
    },
  };
  return row;
}

/**
 * @param {Job} job
 * @param {boolean} live
 */
function paceText({ progress }, live) {
  const { current, total, unit, rate: pace, eta_s: eta } = progress ?? {};
  const of = total == null ? "" : ` of ${quantity(total, unit)}`;
  const parts = [current != null && quantity(current, of && unit !== "bytes" ? "" : unit) + of];
  if (live) parts.push(pace && rate(pace, unit), eta != null && `${duration(eta)} left`);
  return plain(parts.filter(Boolean).join(" · "));
}

/**
 * Dispatches `change` (bubbles; detail: {id, job}) for every new state of a job, and `problem`
 * (detail: Error) when a cancellation was refused.
 */
export class JobProgress extends HTMLElement {
  static observedAttributes = ["job", "jobs", "group", "base", "token", "log", "readonly"];
  /** @type {Client | undefined} The client to use. Set before it is in the page. */
  client;

  /** @type {import("./job-feed.js").JobFeed | undefined} */ #feed;
  /** @type {string[]} */ #ids = [];
  /** @type {Map<string, ReturnType<typeof rowFor>>} */ #rows = new Map();
  #watching = new AbortController();
  #opening = 0;
  #frame = 0;
  #gone = "";
  #said = "";
  #saidAt = 0;
  #list = made("div", "list");
  #note = made("bdi", "note");
  #again = made("button", "again", { onclick: () => this.#feed?.again() }, "Try again");
  #announcement = made("p", "said", { ariaLive: "polite" });

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [style];
    root.append(this.#list, made("div", "connection", { className: "about" }, this.#note, this.#again), this.#announcement);
  }

  connectedCallback() {
    this.attributeChangedCallback();
  }

  disconnectedCallback() {
    this.attributeChangedCallback();
  }

  /** Several attributes that change at a time are one change, and a move in the page is none to its end. */
  attributeChangedCallback() {
    clearTimeout(this.#opening);
    this.#opening = setTimeout(() => this.#watch());
  }

  #watch() {
    this.#watching.abort();
    const { signal } = (this.#watching = new AbortController());
    this.#rows.clear();
    this.#list.replaceChildren();
    this.#gone = "";
    const [job, jobs, group, base, token] = JobProgress.observedAttributes.map((name) => this.getAttribute(name) ?? undefined);
    this.#ids = (job ?? jobs ?? "").split(/\s+/).filter(Boolean);
    const many = this.#ids.length === 0;
    if (!this.isConnected || (many && !group)) return;
    this.client ??= new Client({ base: base ?? new URL("..", import.meta.url), token });
    const feed = (this.#feed = this.client.watch(many ? { group } : { jobs: this.#ids }));
    feed.addEventListener("change", (event) => {
      const { detail } = /** @type {CustomEvent} */ (event);
      if (!detail.job) this.#gone = `There is no job ${plain(detail.id, 60)} (any more).`;
      this.#soon();
      this.dispatchEvent(new CustomEvent("change", { bubbles: true, detail }));
    });
    feed.addEventListener("status", () => this.#soon());
    // Also words that change as time passes, and pages that nobody sees: those have no frames.
    const clock = setInterval(() => this.#draw(), 1000);
    signal.onabort = () => {
      clearInterval(clock);
      feed.stop();
    };
    this.#draw();
  }

  /** Fifty events of one job in one frame are one drawing. */
  #soon() {
    cancelAnimationFrame(this.#frame);
    this.#frame = requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    const feed = /** @type {import("./job-feed.js").JobFeed} */ (this.#feed);
    const rows = this.#rows;
    for (const [id, { node }] of rows) {
      if (feed.jobs.has(id)) continue;
      node.remove();
      rows.delete(id);
    }
    let alive = feed.jobs.size === 0;
    let ended = 0;
    for (const [id, job] of feed.jobs) {
      if (!rows.has(id)) rows.set(id, this.#rowFor(job));
      rows.get(id)?.draw(job, feed.status === "live");
      if (isLive(job)) alive = true;
      else ended += 1;
    }
    show(this.#note, (alive && connectionText(feed)) || this.#gone);
    this.#again.hidden = feed.status !== "gave-up";
    const text = rows.size > 3 ? `${ended} of ${rows.size} jobs have ended` : [...rows.values()].map((row) => row.said).join("; ");
    const now = Date.now();
    // In the end the last state, since this is looked at every second.
    if (text === this.#said || now - this.#saidAt < ANNOUNCE_MS) return;
    this.#saidAt = now;
    this.#announcement.textContent = this.#said = text;
  }

  /**
   * In the place where it belongs: as they were listed, of a group as they came.
   * @param {Job} job
   */
  #rowFor({ id, created_at: at }) {
    const feed = this.#feed;
    const cancel = async () => {
      try {
        feed?.put(await /** @type {Client} */ (this.client).cancel(id));
        return true;
      } catch (detail) {
        return !this.dispatchEvent(new CustomEvent("problem", { detail }));
      }
    };
    const row = rowFor(!this.hasAttribute("job"), this.hasAttribute("readonly") ? undefined : cancel);
    if (this.hasAttribute("log")) this.#addLog(row.node, { client: this.client, feed, id, signal: this.#watching.signal, plain });
    const place = (row.node.place = this.#ids.indexOf(id) + 1 || Date.parse(at));
    this.#list.insertBefore(row.node, [...this.#list.children].find((/** @type {any} */ node) => node.place > place));
    return row;
  }

  async #addLog(/** @type {HTMLElement} */ node, /** @type {any} */ of) {
    const { logFor } = await import("./job-progress-log.js");
    node.append(logFor(this.shadowRoot, of));
  }
}

/** @param {{status: import("./event-stream.js").Status, since: number}} connection */
function connectionText({ status, since }) {
  if (status === "connecting") return "Connecting…";
  const how = { reconnecting: "Reconnecting, out of date", stale: "Out of date", "gave-up": "Not connected" }[/** @type {string} */ (status)];
  return how ? `${how} since ${duration(Math.floor((Date.now() - since) / 1000))}` : "";
}

if (!customElements.get("job-progress")) customElements.define("job-progress", JobProgress);
