/**
 * `<job-progress>`: progress bars for any page.
 *
 *     <script type="module" src="http://127.0.0.1:8000/web/job-progress.min.js"></script>
 *     <job-progress job="0-…"></job-progress>
 *
 * `job="…"`, `jobs="… …"` or `group="…"` select what it shows; `base` and `token` the service (default: the one
 * that this module came from); `log` offers the log; `readonly` removes the button. docs/frontends.md has the
 * parts and properties.
 *
 * `make bundle` makes the `.min.js` from this file and its imports. It has to stay small: what few pages need is
 * loaded by `import()`.
 */

import { Client } from "./client/client.js";
import { Bar, part } from "./element/bar.js";
import { show } from "./element/dom.js";
import { connectionText, nameOf, plain } from "./element/format.js";
import { style } from "./element/style.js";
import { isLive } from "./client/reducer.js";

/** @typedef {import("./jobs.js").Job} Job */

export { Client };

/** @type {Record<string, Client>} Elements with the same `base`, `token` and ticket have one client. */
const clients = {};

const FRAME_MS = 16;
/** Screen readers are told this often, at most. */
const ANNOUNCE_MS = 5000;

/** A bar with a name, a state, an error and a button. */
class Row extends Bar {
  #name = part("bdi", "name");
  #state = part("bdi", "state");
  #error = part("bdi", "error");
  #cancel = part("button", "cancel");
  /** @type {Job | undefined} */ #job;
  /** @type {boolean | undefined} */ #fresh;

  /**
   * @param {boolean} named
   * @param {((button: any) => unknown) | null} onclick of the button; null: no button
   */
  constructor(named, onclick) {
    super();
    this.#cancel.onclick = onclick;
    const [row, about] = /** @type {any} */ (this.node.children);
    if (named) row.prepend(this.#name);
    if (onclick) row.append(this.#cancel);
    about.prepend(this.#state);
    this.node.append(this.#error);
  }

  /**
   * @param {Job} job
   * @param {boolean} fresh
   */
  draw(job, fresh) {
    if (job === this.#job && fresh === this.#fresh) return;
    this.#job = job;
    this.#fresh = fresh;
    super.draw(job, fresh);
    const name = nameOf(job);
    this.#cancel.ariaLabel = `Cancel ${name}`;
    this.#cancel.disabled = job.cancel_requested;
    show(this.#cancel, isLive(job) ? (job.cancel_requested ? "Canceling…" : "Cancel") : "");
    show(this.#name, name);
    show(this.#state, this.stateText);
    show(this.#error, job.state === "failed" && job.error ? plain(`${job.error.code}: ${job.error.message}`) : "");
  }
}

/** A server imports this too, and makes no elements. */
const Base = globalThis.document ? HTMLElement : /** @type {typeof HTMLElement} */ (/** @type {unknown} */ (Object));

/**
 * Dispatches `change` (bubbles; detail: {id, job}) whenever a job changes, and `problem` (detail: Error) when a
 * cancellation was refused.
 */
export class JobProgress extends Base {
  static observedAttributes = ["base", "token", "ticket", "ticket-url", "group", "job", "jobs", "log", "readonly"];
  /** @type {Client | undefined} The client to use; set it before the element is in the page. */
  client;

  /** @type {Client | undefined} */ #client;
  /** @type {import("./client/job-feed.js").JobFeed | undefined} */ #feed;
  /** @type {string[]} */ #ids = [];
  /** @type {Map<string, Row>} */ #rows = new Map();
  #watching = new AbortController();
  #opening = 0;
  #drawing = 0;
  #gone = "";
  #saidAt = 0;
  #list = part("div", "list");
  #note = part("bdi", "note");
  #again = part("button", "again", { hidden: true, onclick: () => this.#feed?.again() });
  #announcement = part("div", "said", { ariaLive: "polite" });

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [style];
    root.append(this.#list, part("div", "about connection", {}, this.#note, this.#again), this.#announcement);
  }

  connectedCallback() {
    this.attributeChangedCallback();
  }

  disconnectedCallback() {
    this.attributeChangedCallback();
  }

  /** Attributes that change together are one change; an element that is only moved goes on. */
  attributeChangedCallback() {
    clearTimeout(this.#opening);
    this.#opening = setTimeout(() => this.#watch());
  }

  #watch() {
    this.#watching.abort();
    const { signal } = (this.#watching = new AbortController());
    this.#drawing = 0;
    this.#rows.clear();
    this.#list.replaceChildren();
    this.#gone = "";
    /** @type {any[]} */
    const [base, token, given, address, group, job, jobs] = JobProgress.observedAttributes.map((name) => this.getAttribute(name));
    const ids = (this.#ids = (job ?? jobs ?? "").split(/\s+/).filter(Boolean));
    if (!this.isConnected || !(ids[0] || group)) return;
    const ticket = address ? new URL(address, location.href) : given;
    const key = `${[base, token, ticket]}`;
    // A bundler may have put this module anywhere: then it is as for any client, the page's origin.
    const home = import.meta.url.match(/.*(?=web\/job-p)/)?.[0];
    this.#client = this.client ?? (clients[key] ??= new Client({ base: base ?? home, token, ticket }));
    const feed = (this.#feed = this.#client.watch({ jobs: ids[0] && ids, group }));
    feed.addEventListener("change", (event) => {
      const { detail } = /** @type {CustomEvent} */ (event);
      if (!detail.job) {
        this.#gone = `No such job: ${plain(detail.id)}`;
        this.#rows.get(detail.id)?.node.remove();
        this.#rows.delete(detail.id);
      }
      this.#soon();
      this.dispatchEvent(new CustomEvent("change", { bubbles: true, detail }));
    }, { signal });
    feed.addEventListener("status", () => this.#soon(), { signal });
    // For words that change as time passes.
    const clock = setInterval(() => this.#draw(), 1000);
    signal.addEventListener("abort", () => {
      clearInterval(clock);
      clearTimeout(this.#drawing);
      feed.stop();
    });
    this.#draw();
  }

  /** Many events in one frame are drawn once. */
  #soon() {
    this.#drawing ||= setTimeout(() => this.#draw(), FRAME_MS);
  }

  #draw() {
    this.#drawing = 0;
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
    const text = rows.size > 1 ? `${ended} of ${rows.size} jobs ended` : ([...rows.values()][0]?.words ?? "");
    const now = Date.now();
    // Drawn every second, so the last state is announced in any case.
    if (text === this.#announcement.textContent || now - this.#saidAt < ANNOUNCE_MS) return;
    this.#saidAt = now;
    this.#announcement.textContent = text;
  }

  /**
   * A row in its place: in the order of the list, or of a group by age.
   * @param {Job} job
   */
  #rowFor({ id, created_at: at }) {
    const feed = this.#feed;
    const cancel = async (/** @type {any} */ { target }) => {
      target.disabled = true;
      try {
        feed?.put(await /** @type {Client} */ (this.#client).cancel(id));
      } catch (detail) {
        target.disabled = false;
        this.dispatchEvent(new CustomEvent("problem", { detail }));
      }
    };
    const row = new Row(!this.hasAttribute("job"), this.hasAttribute("readonly") ? null : cancel);
    if (this.hasAttribute("log")) {
      const of = { client: this.#client, feed, id, signal: this.#watching.signal };
      import("./element/log.js").then(({ logFor }) => row.node.append(logFor(/** @type {ShadowRoot} */ (this.shadowRoot), /** @type {any} */ (of))));
    }
    const place = (/** @type {any} */ (row.node).place = this.#ids.indexOf(id) + 1 || Date.parse(at));
    this.#list.insertBefore(row.node, [...this.#list.children].find((/** @type {any} */ node) => node.place > place));
    return row;
  }
}

if (globalThis.document && !customElements.get("job-progress")) customElements.define("job-progress", JobProgress);
