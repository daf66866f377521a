/**
 * The jobs that are known, newest first, and those of them that are shown.
 */

import { JobFilter } from "./job-filter.js";
import { isLive } from "../../client/reducer.js";

/** @typedef {import("../../jobs.js").Job} Job */

export class JobCatalog {
  /** @type {Map<string, Job>} */ #byId = new Map();
  /** @type {Job[]} */ #jobs = [];
  /** @type {Job[] | null} null: not known. */ #shown = null;
  #filter = new JobFilter();
  /** @type {string | null} */ #edge = null;
  /** How many there are of each. */
  states = new Tally();
  types = new Tally();
  groups = new Tally();

  get size() {
    return this.#jobs.length;
  }

  get filter() {
    return this.#filter;
  }

  set filter(filter) {
    this.#filter = filter;
    this.#shown = null;
  }

  /** How far back nothing is missing (see JobPast); null: that is not known. */
  get edge() {
    return this.#edge;
  }

  set edge(edge) {
    if (edge === this.#edge) return;
    this.#edge = edge;
    this.#shown = null;
  }

  /**
   * What the filter lets through. Of what ended beyond the edge only that in which words were found: in a
   * list it would look like the next that happened, and between the two may have been a thousand others.
   * @returns {readonly Job[]} newest first; another array whenever anything changed
   */
  get shown() {
    const edge = this.#filter.words.length > 0 ? "" : (this.#edge ?? "");
    this.#shown ??= this.#jobs.filter(
      (job) => (job.created_at >= edge || isLive(job)) && this.#filter.matches(job),
    );
    return this.#shown;
  }

  /** @returns {number} how many of those that are shown are not beyond the edge */
  get whole() {
    const { shown } = this;
    const edge = this.#edge;
    if (edge === null) return 0;
    const beyond = shown.findIndex((job) => job.created_at < edge);
    return beyond < 0 ? shown.length : beyond;
  }

  /** How many have ended. */
  get ended() {
    const { states } = this;
    return states.of("succeeded") + states.of("failed") + states.of("canceled");
  }

  /**
   * @param {string} id
   * @param {Job | undefined} job undefined: it is gone
   * @returns {Job | undefined} what was known of it before
   */
  put(id, job) {
    const before = this.#byId.get(id);
    const at = before ?? job;
    if (!at) return undefined;
    this.#jobs.splice(this.#placeOf(at), before ? 1 : 0, ...(job ? [job] : []));
    if (job) this.#byId.set(id, job);
    else this.#byId.delete(id);
    this.#count(before, -1);
    this.#count(job, 1);
    this.#shown = null;
    return before;
  }

  /** @param {Job} job */
  #placeOf(job) {
    let low = 0;
    let high = this.#jobs.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const other = this.#jobs[middle];
      const before =
        other.created_at > job.created_at || (other.created_at === job.created_at && other.id > job.id);
      if (before) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /**
   * @param {Job | undefined} job
   * @param {1 | -1} by
   */
  #count(job, by) {
    if (!job) return;
    this.states.add(job.state, by);
    this.types.add(job.type, by);
    if (job.group !== null) this.groups.add(job.group, by);
  }
}

/** How often each name occurs. */
class Tally {
  /** @type {Map<string, number>} */ #counts = new Map();

  /**
   * @param {string} name
   * @param {number} by
   */
  add(name, by) {
    const count = this.of(name) + by;
    if (count > 0) this.#counts.set(name, count);
    else this.#counts.delete(name);
  }

  /** @param {string} name */
  of(name) {
    return this.#counts.get(name) ?? 0;
  }

  /** @returns {string[]} those that occur, in order */
  get names() {
    return [...this.#counts.keys()].sort();
  }
}
