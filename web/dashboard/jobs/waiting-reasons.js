/**
 * Why jobs wait. Only answers to requests contain it, and no event announces a change, so it is polled while a
 * waiting job is in view.
 */

import { Emitter } from "../../client/emitter.js";
import { withLocalTimes } from "../../element/format.js";

/** @typedef {import("../../jobs.js").Job } Job */

const EVERY_MS = 2000;
const LIMIT = 100;

/** @param {Job} job */
export function waits({ state }) {
  return state === "queued" || state === "retrying" || state === "waiting";
}

/** Dispatches `change`. */
export class WaitingReasons extends Emitter {
  #client;
  /** @type {Map<string, {state: string, attempt: number, reason: string}>} */ #known = new Map();
  #asking = false;

  /** @param {import("../../client/client.js").Client & import("../../jobs.js").Headway} client */
  constructor(client) {
    super();
    this.#client = client;
  }

  /**
   * Poll from now on.
   * @param {() => Job[]} seen the jobs in view
   */
  start(seen) {
    setInterval(() => this.#look(seen().filter(waits)), EVERY_MS);
  }

  /**
   * @param {Job} job
   * @returns {string} empty if unknown
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
      // The connection's state says why. Nothing is shown that may be outdated.
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
    if (!same) this.emit("change");
  }
}
