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

import { Client } from "./client/client.js";
import { duration, percent, quantity, rate, shownFraction } from "./element/format.js";
import { style } from "./element/style.js";
import { isLive } from "./client/reducer.js";

/** @typedef {import("./jobs.js").Job} Job */

export { Client };

/** Whoever cannot see it is told this often, at most. */
const ANNOUNCE_MS = 5000;

/** Text from outside: what would reorder or break the text around it is shown as a sign. */
function plain(/** @type {string} */ text, most = 500) {
  const cut = text.length > most ? `${text.slice(0, most)}…` : text;
  return cut.replace(/(?!\t)[\p{Cc}\p{Bidi_C}]/gu, "\ufffd");
}

/** A screen reader and a selection notice every write. What is empty is not shown. */
function show(/** @type {HTMLElement} */ node, text = "") {
  if (node.textContent !== text) node.textContent = text;
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
  const [name, reached, state, stage, message, pace, error] = "name percent state stage message pace error"
    .split(" ")
    .map((part) => made("bdi", part));
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
     * @param {Job} job
     * @param {boolean} live whether it is known to go on like this
     */
    draw(job, live) {
      if (job === drawn[0] && live === drawn[1]) return;
      drawn = [job, live];
      const running = isLive(job);
      const { stage: at, message: saying } = (running && job.progress) || {};
      const fraction = shownFraction(job);
      const text = percent(fraction);
      const called = plain(job.labels.name ?? job.type);
      const again = job.attempt > 1 ? `, attempt ${job.attempt} of ${job.max_attempts}` : "";
      const words = job.state + again;
      node.className = `job ${job.state}${text ? "" : " unknown"}${running && !live ? " stale" : ""}`;
      // Through the CSSOM, which a policy without 'unsafe-inline' allows.
      fill.style.inlineSize = text && `${/** @type {number} */ (fraction) * 100}%`;
      bar.ariaValueNow = text ? parseInt(text) : null;
      bar.ariaValueText = row.said = words + (text && `, ${text}`);
      bar.ariaLabel = called;
      button.ariaLabel = `Cancel ${called}`;
      button.disabled = job.cancel_requested;
      show(button, running && cancel ? (job.cancel_requested ? "Canceling…" : "Cancel") : "");
      show(name, named ? called : "");
      show(reached, text);
      show(state, words);
      show(stage, at && plain(at.name) + (at.count > 1 ? ` (${at.index}/${at.count})` : ""));
      show(message, plain(saying ?? ""));
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

  /** @type {import("./client/job-feed.js").JobFeed | undefined} */ #feed;
  /** @type {string[]} */ #ids = [];
  /** @type {Map<string, ReturnType<typeof rowFor>>} */ #rows = new Map();
  #watching = new AbortController();
  #opening = 0;
  #frame = 0;
  #gone = "";
  #saidAt = 0;
  #list = made("div", "list");
  #note = made("bdi", "note");
  #again = made("button", "again", { onclick: () => this.#feed?.again() });
  #announcement = made("div", "said", { ariaLive: "polite" });

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [style];
    root.append(this.#list, made("div", "about connection", {}, this.#note, this.#again), this.#announcement);
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
    const [job, jobs, group, base, token] = JobProgress.observedAttributes.map((name) => this.getAttribute(name));
    const ids = (this.#ids = (job ?? jobs ?? "").split(/\s+/).filter(Boolean));
    if (!this.isConnected || !(ids[0] || group)) return;
    this.client ??= new Client({ base: base ?? new URL("..", import.meta.url), token });
    const feed = (this.#feed = this.client.watch({ jobs: ids[0] && ids, group }));
    feed.addEventListener("change", (event) => {
      const { detail } = /** @type {CustomEvent} */ (event);
      if (!detail.job) {
        this.#gone = `There is no job ${plain(detail.id)}.`;
        this.#rows.get(detail.id)?.node.remove();
        this.#rows.delete(detail.id);
      }
      this.#soon();
      this.dispatchEvent(new CustomEvent("change", { bubbles: true, detail }));
    }, { signal });
    feed.addEventListener("status", () => this.#soon(), { signal });
    // Also words that change as time passes, and pages that nobody sees: those have no frames.
    const clock = setInterval(() => this.#draw(), 1000);
    signal.onabort = () => {
      clearInterval(clock);
      cancelAnimationFrame(this.#frame);
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
    const feed = /** @type {import("./client/job-feed.js").JobFeed} */ (this.#feed);
    const rows = this.#rows;
    let ended = 0;
    for (const [id, job] of feed.jobs) {
      if (!rows.has(id)) rows.set(id, this.#rowFor(job));
      rows.get(id)?.draw(job, feed.status === "live");
      if (!isLive(job)) ended += 1;
    }
    show(this.#note, ((!ended || ended < rows.size) && connectionText(feed)) || this.#gone);
    show(this.#again, feed.status === "gave-up" ? "Try again" : "");
    const text = rows.size > 1 ? `${ended} of ${rows.size} jobs have ended` : [...rows.values()].map((row) => row.said).join();
    const now = Date.now();
    // In the end the last state, since this is looked at every second.
    if (text === this.#announcement.textContent || now - this.#saidAt < ANNOUNCE_MS) return;
    this.#saidAt = now;
    show(this.#announcement, text);
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
    if (this.hasAttribute("log")) {
      const of = { client: this.client, feed, id, signal: this.#watching.signal, plain };
      import("./element/log.js").then(({ logFor }) => row.node.append(logFor(this.shadowRoot, of)));
    }
    const place = (row.node.place = this.#ids.indexOf(id) + 1 || Date.parse(at));
    this.#list.insertBefore(row.node, [...this.#list.children].find((/** @type {any} */ node) => node.place > place));
    return row;
  }
}

/** @param {{status: import("./jobs.js").Status, since: number}} connection */
function connectionText({ status, since }) {
  const how = { connecting: "Connecting", reconnecting: "Reconnecting, out of date", stale: "Out of date", "gave-up": "Not connected" }[/** @type {string} */ (status)];
  return how ? `${how} since ${duration(Math.floor((Date.now() - since) / 1000))}` : "";
}

if (!customElements.get("job-progress")) customElements.define("job-progress", JobProgress);
