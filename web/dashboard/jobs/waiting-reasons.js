/**
 * Why jobs wait. Only documents that are asked for say so, and events do not tell when it changes: so it
 * is asked for again and again, while somebody looks at a job that waits.
 */

import { withLocalTimes } from "../../element/format.js";

/** @typedef {import("../../jobs.js").Job & {waiting_reason?: string | null}} Job */

const EVERY_MS = 2000;
const LIMIT = 100;

/** @param {Job} job */
export function waits({ state }) {
  return state === "queued" || state === "retrying";
}

/** Dispatches `change`. */
export class WaitingReasons extends EventTarget {
  #client;
  /** @type {Map<string, {state: string, attempt: number, reason: string}>} */ #known = new Map();
  #asking = false;

  /** @param {import("../../jobs.js").Headway} client */
  constructor(client) {
    super();
    this.#client = client;
  }

  /**
   * Ask for ever.
   * @param {() => Job[]} seen the jobs that somebody looks at
   */
  start(seen) {
    setInterval(() => this.#look(seen().filter(waits)), EVERY_MS);
  }

  /**
   * @param {Job} job
   * @returns {string} empty if nobody knows, or if nothing is in its way
   */
  for(job) {
    const known = this.#known.get(job.id);
    return known && known.state === job.state && known.attempt === job.attempt ? known.reason : "";
  }

  /** @param {Job[]} jobs */
  async #look(jobs) {
    if (jobs.length === 0 || this.#asking || document.hidden) return;
    this.#asking = true;
    try {
      const found = jobs.length === 1 ? [await this.#client.get(jobs[0].id)] : await this.#list(jobs);
      this.#take(found);
    } catch {
      // The connection's state says why. What is not known to be true is not shown.
      this.#take([]);
    } finally {
      this.#asking = false;
    }
  }

  /** @param {Job[]} jobs */
  async #list(jobs) {
    const states = [...new Set(jobs.map(({ state }) => state))];
    const pages = await Promise.all(states.map((state) => this.#client.list({ state, limit: LIMIT })));
    return pages.flatMap((page) => page.items);
  }

  /** @param {Job[]} found */
  #take(found) {
    const known = found
      .filter((job) => job.waiting_reason)
      .map(({ id, state, attempt, waiting_reason: reason }) => /** @type {const} */ ([
        id,
        { state, attempt, reason: withLocalTimes(/** @type {string} */ (reason)) },
      ]));
    const same = known.length === this.#known.size && known.every(([id, { reason }]) => this.#known.get(id)?.reason === reason);
    this.#known = new Map(known);
    if (!same) this.dispatchEvent(new Event("change"));
  }
}
