/**
 * `<workers-page>`: the workers, their jobs, and the queues. Polled while it is shown.
 */

import { element, show } from "../../element/dom.js";
import { duration, shortId } from "../../element/format.js";

/**
 * @typedef {{id: string, type: string, attempt: number, since: string}} Held
 * @typedef {{name: string, host: string, pid: number, concurrency: number, types: string[],
 *   queues: string[], started_at: string, seen_at: string, jobs: Held[]}} Worker
 * @typedef {{name: string, waiting: number, workers: number}} Queue
 */

const EVERY_MS = 2000;
/** A worker sends a heartbeat every 3 s. One that does not may be dead, and soon is no longer listed. */
const SILENT_MS = 5000;

export class WorkersPage extends HTMLElement {
  #client;
  #heading = element("h2", { tabIndex: -1 }, "Workers");
  #note = element("p", { className: "note", role: "status" }, "Loading…");
  #workers = element("div", { className: "workers", role: "list", ariaLabel: "Workers" });
  #queues = element("tbody");
  #table = element("section", { hidden: true });
  #readAt = 0;
  /** @type {Map<string, {seen: string, at: number}>} The last `seen_at` of each worker, and when it arrived here. */
  #heard = new Map();
  #asking = false;
  /** @type {ReturnType<typeof setInterval> | undefined} */ #timer;

  /** @param {import("../../client/client.js").Client & import("../../jobs.js").Headway} client */
  constructor(client) {
    super();
    this.#client = client;
    const heads = ["Queue", "Waiting", "Workers"].map((head) => element("th", { scope: "col" }, head));
    this.#table.append(
      element("h3", {}, "Queues"),
      element("table", {}, element("thead", {}, element("tr", {}, ...heads)), this.#queues),
    );
  }

  connectedCallback() {
    this.append(this.#heading, this.#note, this.#workers, this.#table);
    this.#look();
    this.#timer = setInterval(() => this.#look(), EVERY_MS);
  }

  disconnectedCallback() {
    clearInterval(this.#timer);
  }

  focus() {
    this.#heading.focus({ preventScroll: true });
  }

  async #look() {
    if (this.#asking || document.hidden) return;
    this.#asking = true;
    try {
      const { items, queues } = await this.#client.ask("GET", "/workers");
      this.#readAt = Date.now();
      this.classList.remove("out-of-date");
      this.#draw(items, queues);
    } catch (error) {
      this.#missed(/** @type {{status?: number}} */ (error).status ?? 0);
    } finally {
      this.#asking = false;
    }
  }

  /** @param {number} status */
  #missed(status) {
    if (status === 404) {
      clearInterval(this.#timer);
      show(this.#note, "This service has no list of workers.");
      return;
    }
    this.classList.add("out-of-date");
    const ago = duration(Math.floor((Date.now() - this.#readAt) / 1000));
    show(this.#note, this.#readAt ? `Out of date for ${ago}.` : "The service cannot be reached.");
  }

  /**
   * @param {Worker[]} workers
   * @param {Queue[]} queues
   */
  #draw(workers, queues) {
    const slots = workers.reduce((sum, { concurrency }) => sum + concurrency, 0);
    const busy = workers.reduce((sum, { jobs }) => sum + jobs.length, 0);
    const count = workers.length === 1 ? "1 worker" : `${workers.length} workers`;
    show(
      this.#note,
      workers.length === 0 ? "No worker is running: jobs wait until one starts." : `${count}, ${busy} of ${slots} slots busy`,
    );
    redraw(this.#workers, workers, (worker) => workerElement(worker, this.#silence(worker)));
    for (const name of this.#heard.keys()) {
      if (!workers.some((worker) => worker.name === name)) this.#heard.delete(name);
    }
    redraw(this.#queues, queues, queueElement);
    this.#table.hidden = queues.length === 0;
  }

  /**
   * The time since its last heartbeat, by this page's clock: the service's may differ.
   * @param {Worker} worker
   * @returns {number} ms
   */
  #silence({ name, seen_at: seen }) {
    const held = this.#heard.get(name);
    if (held?.seen === seen) return Date.now() - held.at;
    this.#heard.set(name, { seen, at: Date.now() });
    return 0;
  }
}

/**
 * Redraw only items that changed; a link keeps the focus.
 * @template {{name: string}} Item
 * @param {HTMLElement} list
 * @param {Item[]} items
 * @param {(item: Item) => HTMLElement} draw
 */
function redraw(list, items, draw) {
  items.forEach((item, at) => {
    const made = draw(item);
    const key = made.textContent ?? "";
    const held = /** @type {HTMLElement | undefined} */ (list.children[at]);
    if (held?.dataset.key === key) return;
    made.dataset.key = key;
    if (!held) {
      list.append(made);
      return;
    }
    const focused = held.contains(document.activeElement) && document.activeElement?.getAttribute("href");
    held.replaceWith(made);
    if (!focused) return;
    const link = [...made.querySelectorAll("a")].find((one) => one.getAttribute("href") === focused);
    link?.focus({ preventScroll: true });
  });
  while (list.childElementCount > items.length) list.lastElementChild?.remove();
}

/**
 * @param {Worker} worker
 * @param {number} silent ms
 */
function workerElement({ name, host, pid, concurrency, types, queues, started_at: started, jobs }, silent) {
  const up = duration(Math.floor((Date.now() - Date.parse(started)) / 1000));
  const free = Math.max(0, concurrency - jobs.length);
  const tags = (/** @type {string[]} */ names) => names.map((one) => element("span", { className: "tag foreign" }, one));
  const quiet = silent > SILENT_MS;
  return element(
    "div",
    { className: quiet ? "worker silent" : "worker", role: "listitem" },
    element("h3", {}, element("bdi", { className: "foreign clamped", title: name.slice(0, 200) }, host), element("span", { className: "note" }, ` process ${pid}, up ${up}`)),
    quiet ? element("p", { className: "silence" }, `No heartbeat for ${duration(Math.floor(silent / 1000))}.`) : "",
    element(
      "ul",
      { className: "held" },
      ...jobs.map(heldElement),
      ...(free > 0 ? [element("li", { className: "free" }, free === 1 ? "1 slot free" : `${free} slots free`)] : []),
    ),
    element("p", { className: "serves" }, element("span", { className: "note" }, "serves "), ...tags(types)),
    element("p", { className: "serves" }, element("span", { className: "note" }, "takes from "), ...tags(queues)),
  );
}

/** @param {Held} job */
function heldElement({ id, type, attempt, since }) {
  const lasting = duration(Math.floor((Date.now() - Date.parse(since)) / 1000));
  return element(
    "li",
    {},
    element(
      "a",
      { href: `#/jobs/${encodeURIComponent(id)}` },
      element("bdi", { className: "foreign clamped" }, type),
      " ",
      element("code", {}, shortId(id)),
    ),
    element("span", { className: "note" }, `${attempt > 1 ? `attempt ${attempt}, ` : ""}for ${lasting}`),
  );
}

/** @param {Queue} queue */
function queueElement({ name, waiting, workers }) {
  const made = element(
    "tr",
    {},
    element("th", { scope: "row" }, element("span", { className: "foreign clamped" }, name)),
    element("td", {}, String(waiting)),
    element("td", {}, workers === 0 ? "none" : String(workers)),
  );
  made.classList.toggle("stuck", waiting > 0 && workers === 0);
  return made;
}

customElements.define("workers-page", WorkersPage);
