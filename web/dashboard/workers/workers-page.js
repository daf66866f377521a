/**
 * `<workers-page>`: the workers, their jobs, the queues and the types, and what takes no jobs. Polled while it is shown.
 */

import { isOff, switchOff } from "../buttons.js";
import { element, show } from "../../element/dom.js";
import { duration } from "../../element/format.js";
import { pauseNote, switchButton } from "./pauses.js";
import { queueElement, typeElement } from "./tables.js";
import { workerElement } from "./worker-card.js";

/**
 * @typedef {import("./pauses.js").Pause} Pause
 * @typedef {import("./tables.js").Queue} Queue
 * @typedef {import("./worker-card.js").Worker} Worker
 * @typedef {import("../../jobs.js").Counts} Counts
 * @typedef {import("../../jobs.js").JobType} JobType
 */

const EVERY_MS = 2000;

export class WorkersPage extends HTMLElement {
  #client;
  #heading = element("h2", { tabIndex: -1 }, "Workers");
  #note = element("p", { className: "note", role: "status" }, "Loading…");
  #problem = element("p", { className: "problem foreign", role: "alert", hidden: true });
  #workers = element("div", { className: "workers", role: "list", ariaLabel: "Workers" });
  #elsewhere = element("tbody");
  #queues = element("tbody");
  #types = element("tbody");
  #tables = [
    table("elsewhere", "Draining workers over HTTP", ["Worker", ""], this.#elsewhere),
    table("queues", "Queues", ["Queue", "Waiting", "Workers", ""], this.#queues),
    table("types", "Types", ["Type", "Jobs", ""], this.#types),
  ];
  #readAt = 0;
  /** @type {Map<string, {seen: string, at: number}>} The last `seen_at` of each worker, and when it arrived here. */
  #heard = new Map();
  #asking = false;
  /** @type {ReturnType<typeof setInterval> | undefined} */ #timer;

  /** @param {import("../../client/client.js").Client & import("../../jobs.js").Headway} client */
  constructor(client) {
    super();
    this.#client = client;
    this.addEventListener("click", (event) => {
      const pressed = /** @type {HTMLElement} */ (event.target).closest("button.switch");
      if (pressed) this.#switch(/** @type {HTMLButtonElement} */ (pressed));
    });
  }

  connectedCallback() {
    this.append(this.#heading, this.#note, this.#problem, this.#workers, ...this.#tables);
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
      const [{ items, queues, paused }, counts, types] = await Promise.all([
        this.#client.ask("GET", "/workers"),
        this.#client.counts(),
        this.#client.types(),
      ]);
      this.#readAt = Date.now();
      this.classList.remove("out-of-date");
      this.#draw(items, queues, typesOf(counts, types, paused), paused);
    } catch {
      this.classList.add("out-of-date");
      const ago = duration(Math.floor((Date.now() - this.#readAt) / 1000));
      show(this.#note, this.#readAt ? `Out of date for ${ago}.` : "The service cannot be reached.");
    } finally {
      this.#asking = false;
    }
  }

  /** @param {HTMLButtonElement} pressed */
  async #switch(pressed) {
    if (isOff(pressed)) return;
    switchOff(pressed, true);
    show(this.#problem);
    try {
      await this.#client.ask("POST", pressed.value);
    } catch (error) {
      show(this.#problem, `${pressed.ariaLabel}: ${/** @type {Error} */ (error).message}`);
      switchOff(pressed, false);
    }
    await this.#look();
  }

  /**
   * @param {Worker[]} workers
   * @param {Queue[]} queues
   * @param {import("./tables.js").Type[]} types
   * @param {Pause[]} paused
   */
  #draw(workers, queues, types, paused) {
    const slots = workers.reduce((sum, { concurrency }) => sum + concurrency, 0);
    const busy = workers.reduce((sum, { jobs }) => sum + jobs.length, 0);
    const count = workers.length === 1 ? "1 worker" : `${workers.length} workers`;
    show(
      this.#note,
      workers.length === 0 ? "No worker is running: jobs wait until one starts." : `${count}, ${busy} of ${slots} slots busy`,
    );
    const pauseOf = (/** @type {string} */ kind, /** @type {string} */ name) =>
      paused.find((pause) => pause.kind === kind && pause.name === name);
    redraw(this.#workers, workers, (worker) => workerElement(worker, this.#silence(worker), pauseOf("worker", worker.name)));
    for (const name of this.#heard.keys()) {
      if (!workers.some((worker) => worker.name === name)) this.#heard.delete(name);
    }
    // Workers over HTTP are not listed; one that drains could not be resumed otherwise.
    const elsewhere = paused.filter(({ kind, name }) => kind === "worker" && !workers.some((worker) => worker.name === name));
    redraw(this.#elsewhere, elsewhere, drainElement);
    redraw(this.#queues, queues, (queue) => queueElement(queue, pauseOf("queue", queue.name)));
    redraw(this.#types, types, (type) => typeElement(type, pauseOf("type", type.name)));
    for (const one of this.#tables) one.hidden = one.querySelectorAll("tbody tr").length === 0;
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
 * @param {string} name
 * @param {string} title
 * @param {string[]} heads
 * @param {HTMLElement} body
 */
function table(name, title, heads, body) {
  // The buttons' column needs no name: each of them has one.
  const cells = heads.map((head) => (head ? element("th", { scope: "col" }, head) : element("td")));
  return element("section", { className: name, hidden: true }, element("h3", {}, title), element("table", {}, element("thead", {}, element("tr", {}, ...cells)), body));
}

/** @param {Pause} drain */
function drainElement(drain) {
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, element("span", { className: "foreign clamped" }, drain.name), pauseNote(drain)),
    element("td", { className: "switches" }, switchButton("worker", drain.name, drain)),
  );
}

/**
 * All types that there are jobs of, or may be.
 * @param {Counts} counts
 * @param {JobType[]} types
 * @param {Pause[]} paused
 */
function typesOf(counts, types, paused) {
  const known = new Map(types.map((type) => [type.name, type]));
  const held = paused.flatMap(({ kind, name }) => (kind === "type" ? [name] : []));
  const names = new Set([...known.keys(), ...Object.keys(counts.types), ...held]);
  return [...names].sort().map((name) => {
    const type = known.get(name);
    return { name, counts: counts.types[name] ?? {}, known: type !== undefined, alive: type?.alive ?? false };
  });
}

/**
 * Redraw only items that changed; a link or a button keeps the focus.
 * @template {{name: string}} Item
 * @param {HTMLElement} list
 * @param {Item[]} items
 * @param {(item: Item) => HTMLElement} draw
 */
function redraw(list, items, draw) {
  const targets = (/** @type {HTMLElement} */ node) => /** @type {HTMLElement[]} */ ([...node.querySelectorAll("a, button")]);
  const nameOf = (/** @type {Element | null} */ target) =>
    target?.getAttribute("href") ?? target?.getAttribute("value")?.replace(/[^/]*$/, "");
  items.forEach((item, at) => {
    const made = draw(item);
    const key = made.textContent ?? "";
    const held = /** @type {HTMLElement | undefined} */ (list.children[at]);
    if (held?.dataset.key === key) {
      // Whatever was pressed has been answered.
      for (const button of held.querySelectorAll("button")) switchOff(button, false);
      return;
    }
    made.dataset.key = key;
    if (!held) {
      list.append(made);
      return;
    }
    const focused = held.contains(document.activeElement) && nameOf(document.activeElement);
    held.replaceWith(made);
    if (focused) targets(made).find((one) => nameOf(one) === focused)?.focus({ preventScroll: true });
  });
  while (list.childElementCount > items.length) list.lastElementChild?.remove();
}

customElements.define("workers-page", WorkersPage);
