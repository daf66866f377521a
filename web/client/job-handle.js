/**
 * One job, watched until its end.
 */

import { Emitter } from "./emitter.js";
import { compareIds } from "./event-id.js";
import { isLive } from "./reducer.js";
import { JobFeed } from "./job-feed.js";
import { Problem } from "./problem.js";

/**
 * @typedef {import("../jobs.js").Job} Job
 * @typedef {import("../jobs.js").JobEvent} JobEvent
 */

/**
 * Dispatches each event of the job under its own name (detail: its data), and as `event` (detail: JobEvent);
 * `change` (detail: {job}) when `state` changes; `gap` when events were missed and `state` is read again;
 * `status`. `end` is dispatched exactly once, unless this was made from the document of an ended job. The job is
 * watched from the first listener on, until its end or `close`.
 * As an async iterable it yields JobEvents until the end.
 */
export class JobHandle extends Emitter {
  /** @type {Job | undefined} The job as of the last event; undefined until it was first read. */
  state;

  #client;
  /** @type {JobFeed} */ #feed;
  /** @type {ReturnType<typeof withResolvers> | undefined} */ #ending;
  #closed = false;
  /** @type {string | undefined} The last event that the first document included. */ #known;
  /** @type {string | undefined} The last event that was dispatched. */ #told;
  /** Whether `end` was dispatched, or need not be. */ #sealed = false;

  /**
   * @param {any} client a Headway
   * @param {string | Job} job
   */
  constructor(client, job) {
    super();
    this.#client = client;
    this.id = typeof job === "string" ? job : job.id;
    this.#feed = new JobFeed(client, { jobs: [this.id] });
    this.#feed.addEventListener("change", (event) => this.#onChange(/** @type {CustomEvent} */ (event).detail.job));
    this.#feed.addEventListener("event", (event) => this.#onEvent(/** @type {CustomEvent} */ (event).detail));
    this.#feed.addEventListener("status", () => this.emit("status"));
    this.#feed.addEventListener("gap", () => this.#onGap());
    this.#feed.expectsMore = (job) => this.#expectsMore(job);
    if (typeof job !== "string") this.#feed.put(job);
    this.#sealed = this.state !== undefined && !isLive(this.state);
  }

  /** @type {import("../jobs.js").Status} `state` is current only if this is `live`, or the job has ended. */
  get status() {
    return this.#feed.status;
  }

  /** When this status began, ms; for any but `live`, when the service was last heard. */
  get since() {
    return this.#feed.since;
  }

  /** @returns {Promise<Job>} The job once it has ended, in whatever way. Rejects with a Problem if there is no such job. */
  get done() {
    if (!this.#ending) {
      const ending = (this.#ending = withResolvers());
      // A rejection that nobody waits for must not be reported as unhandled.
      ending.promise.catch(() => {});
      if (this.state && !isLive(this.state)) ending.resolve(this.state);
      else this.open();
    }
    return this.#ending.promise;
  }

  /** Start watching. Adding a listener does this, too. */
  open() {
    if (!this.#closed) this.#feed.start();
  }

  /** Stop watching. `done` rejects with an AbortError. */
  close() {
    this.#closed = true;
    this.#feed.stop();
    this.#ending?.reject(new DOMException("The job is no longer watched.", "AbortError"));
    this.emit("close");
  }

  /** Try again, after the connection gave up. */
  again() {
    this.#feed.again();
  }

  /** Request cancellation. The job may still end in another way. */
  async cancel() {
    this.#feed.put(await this.#client.cancel(this.id));
  }

  /**
   * Send a message to the job.
   * @param {string} name
   * @param {unknown} [data] any JSON
   * @returns {Promise<void>}
   */
  async send(name, data) {
    await this.#client.send(this.id, name, data);
  }

  /** @returns {Promise<JobHandle>} a new job with the same type and parameters */
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
  #onChange(job) {
    this.state = job;
    // Events after the first document are dispatched, each once, even if a later document is ahead of them.
    this.#known ??= job?.last_event_id;
    this.emit("change", { job });
    if (!job) {
      this.#ending?.reject(new Problem(404, { title: "No such job", detail: `There is no job ${this.id}.` }));
      this.#feed.stop();
    } else if (!isLive(job)) {
      this.#ending?.resolve(job);
      this.#finish(job);
    }
  }

  /** @returns {string | undefined} after which id events are dispatched */
  get #after() {
    const { resumed } = /** @type {{resumed?: string | null}} */ ((this.#client.remember && this.#feed.stream) || {});
    return this.#told ?? resumed ?? this.#known;
  }

  /**
   * Whether the stream has yet to deliver the events that led to the job's end.
   * @param {Job} job
   */
  #expectsMore({ last_event_id: last }) {
    const cursor = this.#feed.stream?.cursor;
    const behind = (/** @type {string} */ id) => compareIds(id, last) < 0;
    return cursor != null && behind(cursor) && behind(this.#after ?? last);
  }

  #onGap() {
    this.emit("gap");
    if (!this.state || isLive(this.state)) return;
    // The missed events will not be delivered.
    this.#feed.topics.clear();
    this.#finish(this.state);
  }

  /** @param {Job} job that has ended; the stream may have yet to deliver its last events */
  #finish(job) {
    if (this.#feed.topics.size > 0) return;
    this.#feed.stop();
    // A document may have brought the end sooner than the stream, which is closed now.
    queueMicrotask(() => {
      if (!this.#sealed && !this.#closed) this.#onEvent({ id: job.last_event_id, event: "end", data: job });
    });
  }

  /** @param {JobEvent} event */
  #onEvent(event) {
    const { id, event: type } = event;
    if (type === "end" ? this.#sealed : type !== "snapshot" && type !== "reset" && compareIds(id, this.#after) <= 0) return;
    this.#told = id;
    if (type === "end") this.#sealed = true;
    this.emit("event", event);
    this.emit(event.event, event.data);
  }

}

/** `Promise.withResolvers`, which not all browsers have. */
function withResolvers() {
  /** @type {any} */ const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}
