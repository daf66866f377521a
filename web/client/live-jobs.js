/**
 * Jobs as a store: a value that is replaced when something has changed. The hooks and stores for React, Vue and
 * Svelte are made from it.
 *
 * It has the contract of Svelte's stores, which the other frameworks can use as well: `subscribe` calls with the value
 * at once and after each change, and returns what unsubscribes. Jobs are watched from the first subscriber to the last.
 */

import { JobFeed } from "./job-feed.js";
import { isLive } from "./reducer.js";

/** @typedef {import("../jobs.js").Job} Job */

/** Many events in one frame are one change. */
const FRAME_MS = 16;
/** Of all jobs of a caller so many are kept, and those that are live, so that a page that stays open does not grow. */
const MOST = 200;

/** @template Value what subscribers get, with the connection's `status` and `again` */
export class LiveJobs {
  /** The present value. The first one is made from `known`, and is all that a server renders. */
  value;

  #feed;
  #pick;
  /** @type {import("../jobs.js").Status} Said before anything is watched. */ #before;
  /** Whether the service has no such job. */ #missing = false;
  /** @type {Set<{run: (value: any) => void}>} */ #subscribers = new Set();
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #waking;

  /**
   * @param {import("./client.js").Client} client
   * @param {{jobs?: Iterable<string>, group?: string} | null} of what to watch, as `watch` takes it; null: nothing
   * @param {Iterable<Job>} known documents from elsewhere, which are shown until newer ones are there
   * @param {(feed: JobFeed | null, missing: boolean) => Value} pick makes the value of what the feed has
   */
  constructor(client, of, known, pick) {
    this.#feed = of && new JobFeed(client, of);
    this.#pick = pick;
    for (const job of known) this.#feed?.put(job);
    this.#before = of ? "connecting" : "closed";
    this.value = this.#look(this.#before);
    this.#feed?.addEventListener("change", (event) => {
      this.#missing = !(/** @type {CustomEvent} */ (event).detail.job);
      this.#soon();
    });
    this.#feed?.addEventListener("status", () => this.#feed?.status !== this.value.status && this.#soon());
  }

  /** @returns {Iterable<Job>} the jobs that it has */
  get jobs() {
    return this.#feed?.jobs.values() ?? [];
  }

  /**
   * @param {(value: Value & import("../jobs.js").Live) => void} run is called at once, and after each change
   * @returns {() => void} unsubscribes
   */
  subscribe = (run) => {
    const subscriber = { run };
    // What a server renders is not watched: it is finished before anything could change.
    if (this.#subscribers.size === 0 && globalThis.document) this.#feed?.start();
    this.#subscribers.add(subscriber);
    run(this.value);
    return () => {
      if (!this.#subscribers.delete(subscriber) || this.#subscribers.size > 0) return;
      this.#feed?.stop();
      clearTimeout(this.#waking);
      this.#waking = undefined;
      // Whoever comes next must not be told that this is current.
      this.value = this.#look(this.#before);
    };
  };

  /** @param {import("../jobs.js").Status} status */
  #look(status) {
    return { ...this.#pick(this.#feed, this.#missing), status, again: this.#again };
  }

  #again = () => this.#feed?.again();

  #soon() {
    if (this.#subscribers.size === 0) return;
    this.#waking ??= setTimeout(() => {
      this.#waking = undefined;
      this.value = this.#look(this.#feed?.status ?? "closed");
      for (const { run } of [...this.#subscribers]) run(this.value);
    }, FRAME_MS);
  }
}

/** @param {string | Job | null | undefined} job */
export const idOf = (job) => (typeof job === "string" ? job : job?.id);

const created = (/** @type {Job} */ { created_at: at }) => Date.parse(at);

/**
 * @param {import("./client.js").Client} client
 * @param {string | Job | null | undefined} job its id or its document; without one, nothing is watched
 */
export function liveJob(client, job) {
  const id = idOf(job) ?? "";
  const known = job && typeof job === "object" ? [job] : [];
  return new LiveJobs(client, id ? { jobs: [id] } : null, known, (feed, missing) => ({
    job: feed?.jobs.get(id) ?? (missing ? null : undefined),
  }));
}

/**
 * @param {import("./client.js").Client} client
 * @param {Iterable<string>} [ids] default: all jobs of the caller, newest first
 * @param {Iterable<Job>} [known]
 */
export function liveJobs(client, ids, known = []) {
  const wanted = ids && [...ids];
  return new LiveJobs(client, { jobs: wanted }, known, (feed) => {
    const found = /** @type {JobFeed} */ (feed).jobs;
    if (wanted) return { jobs: wanted.flatMap((id) => found.get(id) ?? []) };
    const jobs = [...found.values()].sort((a, b) => created(b) - created(a));
    for (const job of jobs.slice(MOST)) if (!isLive(job)) feed?.forget(job.id);
    return { jobs: jobs.filter((job, index) => index < MOST || isLive(job)) };
  });
}

/**
 * @param {import("./client.js").Client} client
 * @param {string | null | undefined} group without one, nothing is watched
 */
export function liveGroup(client, group) {
  return new LiveJobs(client, group ? { group } : null, [], (feed) => ({
    jobs: [...(feed?.jobs.values() ?? [])].sort((a, b) => created(a) - created(b)),
  }));
}
