/**
 * The loaded jobs, newest first, and those of them that are shown.
 */

import { JobFilter } from "./job-filter.js";
import { isLive } from "../../client/reducer.js";

/** @typedef {import("../../jobs.js").Job} Job */

export class JobIndex {
  /** @type {Map<string, Job>} */ #byId = new Map();
  /** @type {Job[]} */ #jobs = [];
  /** @type {Job[] | null} null: to be computed. */ #shown = null;
  #filter = new JobFilter();
  /** @type {string | null} */ #completeSince = null;
  /** The number of jobs by state, type and group. */
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

  /** None is missing that was created since then (see EndedJobs); null: unknown. */
  get completeSince() {
    return this.#completeSince;
  }

  set completeSince(edge) {
    if (edge === this.#completeSince) return;
    this.#completeSince = edge;
    this.#shown = null;
  }

  /**
   * The jobs that match the filter. Ended ones from before `completeSince` are shown only if they match a search: in
   * the list they would seem to be next, although thousands may be missing in between.
   * @returns {readonly Job[]} newest first; another array whenever anything changed
   */
  get shown() {
    const edge = this.#filter.words.length > 0 ? "" : (this.#completeSince ?? "");
    this.#shown ??= this.#jobs.filter(
      (job) => (job.created_at >= edge || isLive(job)) && this.#filter.matches(job),
    );
    return this.#shown;
  }

  /** @returns {number} how many of those that are shown are from `completeSince` or later */
  get complete() {
    const { shown } = this;
    const edge = this.#completeSince;
    if (edge === null) return 0;
    const beyond = shown.findIndex((job) => job.created_at < edge);
    return beyond < 0 ? shown.length : beyond;
  }

  /** The number of ended jobs. */
  get ended() {
    const { states } = this;
    return states.of("succeeded") + states.of("failed") + states.of("canceled");
  }

  /**
   * @param {string} id
   * @param {Job | undefined} job undefined: it is gone
   * @returns {Job | undefined} the previous one
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

/** Counts names. */
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

  /** @returns {string[]} sorted */
  get names() {
    return [...this.#counts.keys()].sort();
  }
}
