/**
 * One job, followed to its end.
 */

import { compareIds } from "./event-id.js";
import { isLive } from "./reducer.js";
import { JobFeed } from "./job-feed.js";
import { Problem } from "./problem.js";

/**
 * @typedef {import("./reducer.js").Job} Job
 * @typedef {import("./reducer.js").JobEvent} JobEvent
 */

/**
 * Dispatches each event of the job under its own name (detail: its data), and as `event` (detail:
 * JobEvent); `change` (detail: {job}) when `state` is another; `gap` when events were missed and
 * `state` was read again; `status`. `end` comes exactly once, unless this was made of the document of an ended job. It
 * is watched from the first listener on, until its end or `close`.
 * As an async iterable it yields JobEvents until the end.
 */
export class JobHandle extends EventTarget {
  /** @type {Job | undefined} The job as the events made it; undefined until it was first read. */
  state;

  #client;
  /** @type {JobFeed} */ #feed;
  /** @type {PromiseWithResolvers<Job> | undefined} */ #ending;
  #closed = false;
  /** @type {string | null} The last event that was dispatched, or need not be. */ #told = null;
  /** Whether `end` was dispatched, or need not be. */ #sealed = false;

  /**
   * @param {import("../jobs.js").Headway} client
   * @param {string | Job} job
   */
  constructor(client, job) {
    super();
    this.#client = client;
    this.id = typeof job === "string" ? job : job.id;
    this.#feed = new JobFeed(client, { jobs: [this.id] });
    this.#feed.addEventListener("change", (event) => this.#changed(/** @type {CustomEvent} */ (event).detail.job));
    this.#feed.addEventListener("event", (event) => this.#happened(/** @type {CustomEvent} */ (event).detail));
    this.#feed.addEventListener("status", () => this.#emit("status"));
    this.#feed.addEventListener("gap", () => this.#missed());
    this.#feed.owed = (job) => this.#owed(job);
    if (typeof job !== "string") this.#feed.put(job);
    this.#sealed = this.state !== undefined && !isLive(this.state);
  }

  /** @type {import("./event-stream.js").Status} Whether `state` is what is: only if it is `live`, or the job has ended. */
  get status() {
    return this.#feed.status;
  }

  /** Since when, ms: for any status but `live`, when the service was last heard. */
  get since() {
    return this.#feed.since;
  }

  /** @returns {Promise<Job>} The job once it has ended, however it did. Rejects with a Problem if there is no such job. */
  get done() {
    if (!this.#ending) {
      const ending = (this.#ending = withResolvers());
      // Whoever waits is told; whoever does not wait has no unhandled rejection.
      ending.promise.catch(() => {});
      if (this.state && !isLive(this.state)) ending.resolve(this.state);
      else this.open();
    }
    return this.#ending.promise;
  }

  /** Watch, if it is not watched yet; listening does this by itself. */
  open() {
    if (!this.#closed) this.#feed.start();
  }

  /** Watch no longer. What `done` promised is rejected with an AbortError. */
  close() {
    this.#closed = true;
    this.#feed.stop();
    this.#ending?.reject(new DOMException("The job is not watched any more.", "AbortError"));
    this.#emit("close");
  }

  /** Try again, after the connection gave up. */
  again() {
    this.#feed.again();
  }

  /** Ask for its end. It may still end otherwise. */
  async cancel() {
    this.#feed.put(await this.#client.cancel(this.id));
  }

  /** @returns {Promise<JobHandle>} a new job that does the same again */
  async retry() {
    return new JobHandle(this.#client, await this.#client.retry(this.id));
  }

  /** @type {EventTarget["addEventListener"]} */
  addEventListener(...listener) {
    super.addEventListener(...listener);
    this.open();
  }

  /** @returns {AsyncGenerator<JobEvent, void>} */
  async *[Symbol.asyncIterator]() {
    /** @type {JobEvent[]} */ const events = [];
    let ended = this.#sealed;
    let wake = () => {};
    const stop = new AbortController();
    const { signal } = stop;
    this.addEventListener("event", (event) => (events.push(/** @type {CustomEvent} */ (event).detail), wake()), { signal });
    const end = () => ((ended = true), wake());
    for (const type of ["end", "close"]) this.addEventListener(type, end, { signal });
    this.done.catch(end);
    try {
      for (;;) {
        while (events.length > 0) yield /** @type {JobEvent} */ (events.shift());
        if (ended) break;
        await new Promise((resolve) => (wake = () => resolve(null)));
      }
      await this.done;
    } finally {
      stop.abort();
    }
  }

  /** @param {Job | undefined} job */
  #changed(job) {
    this.state = job;
    // A document says what was; what comes from here on is told, each event once, though a newer document may
    // be ahead of it.
    if (job) this.#told ??= this.#resumed ?? job.last_event_id;
    this.#emit("change", { job });
    if (!job) {
      this.#ending?.reject(new Problem(404, { title: "There is no such job.", detail: `There is no job ${this.id}.` }));
      this.#feed.stop();
    } else if (!isLive(job)) {
      this.#ending?.resolve(job);
      this.#finish(job);
    }
  }

  /** What the page was told of before it was loaded, if that is remembered. */
  get #resumed() {
    return /** @type {{resumed?: string | null}} */ (this.#feed.stream).resumed;
  }

  /**
   * Whether the stream has yet to tell what led to the job's end.
   * @param {Job} job
   */
  #owed({ last_event_id: last }) {
    const { cursor } = this.#feed.stream;
    const behind = (/** @type {string} */ id) => compareIds(id, last) < 0;
    return cursor !== null && behind(cursor) && behind(this.#told ?? this.#resumed ?? last);
  }

  #missed() {
    this.#emit("gap");
    if (!this.state || isLive(this.state)) return;
    // What was still to come does not.
    this.#feed.topics.clear();
    this.#finish(this.state);
  }

  /** @param {Job} job that has ended; the stream may have yet to tell how it came to that */
  #finish(job) {
    if (this.#feed.topics.size > 0) return;
    this.#feed.stop();
    // A document may have told it sooner than the stream, which is not waited for any more.
    queueMicrotask(() => {
      if (!this.#sealed && !this.#closed) this.#happened({ id: job.last_event_id, event: "end", data: job });
    });
  }

  /** @param {JobEvent} event */
  #happened(event) {
    const { id, event: type } = event;
    if (type === "end" ? this.#sealed : type !== "snapshot" && type !== "reset" && compareIds(id, this.#told) <= 0) return;
    this.#told = id;
    if (type === "end") this.#sealed = true;
    this.#emit("event", event);
    this.#emit(event.event, event.data);
  }

  /**
   * @param {string} type
   * @param {any} [detail]
   */
  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** `Promise.withResolvers`, which not all browsers have yet. */
function withResolvers() {
  /** @type {any} */ const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}
