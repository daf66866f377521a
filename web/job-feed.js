/**
 * The caller's jobs, kept in step with the service: one stream for what happens, listings for what was.
 *
 * The stream is opened first and listed after, and every document is held against what the events
 * made of the job meanwhile (`newer`), so it does not matter which of the two is faster.
 */

import { isLive, newer, reduce } from "./reducer.js";

/**
 * @typedef {import("./reducer.js").Job} Job
 * @typedef {import("./reducer.js").JobEvent} JobEvent
 */

const PAGE = 50;
const FETCHES = 3;
const RETRY_MS = 2000;
/** After this long the stream has told about every live job that it knew when it opened. */
const SETTLE_MS = 2000;

/**
 * Dispatches `change` (detail: {id} of a job that is new, different or gone), `status` (see
 * `stream`), `page` (`hasMore` may have changed) and `problem` (detail: Error).
 */
export class JobFeed extends EventTarget {
  /** @type {Map<string, Job>} */
  jobs = new Map();
  hasMore = false;

  #client;
  /** @type {string | null} */ #next = null;
  #listing = false;
  #listAgain = false;
  #started = false;
  /** @type {Map<string, JobEvent[]>} Jobs to fetch, with what happened to them meanwhile. */ #wanted =
    new Map();
  #fetching = new Set();
  /** @type {Set<string>} Held, but not to be trusted against a document. */ #doubted = new Set();
  /** @type {Set<string>} The stream has spoken of them since it opened. */ #vouched = new Set();

  /** @param {import("./jobs.js").Headway} client */
  constructor(client) {
    super();
    this.#client = client;
    this.stream = client.watch();
    this.stream.addEventListener("open", (event) => {
      if (/** @type {CustomEvent} */ (event).detail.cursor === null) this.#begin();
      this.#fetch();
    });
    this.stream.addEventListener("event", (event) =>
      this.#apply(/** @type {CustomEvent} */ (event).detail),
    );
    this.stream.addEventListener("status", () => this.dispatchEvent(new CustomEvent("status")));
  }

  start() {
    this.#started = true;
    this.stream.open();
  }

  stop() {
    this.#started = false;
    this.stream.close();
  }

  /**
   * Take in a document from elsewhere, such as the answer to a submission.
   * @param {Job} job
   */
  put(job) {
    this.#keep(job.id, newer(this.jobs.get(job.id), job));
  }

  /**
   * Fetch a job and keep it; its `change` comes in any case, also if there is no such job.
   * @param {string} id
   */
  want(id) {
    if (!this.#wanted.has(id)) this.#wanted.set(id, []);
    this.#fetch();
  }

  /** The next page of the past. */
  async more() {
    if (this.#listing || !this.hasMore) return;
    await this.#list(this.#next);
  }

  /** The stream began without a cursor: the past is not in it, only what is live. */
  async #begin() {
    this.#vouched.clear();
    await this.#list(null);
    // A job that was listed as live and ended before the stream took its snapshots is in neither.
    setTimeout(() => {
      for (const job of this.jobs.values()) {
        if (isLive(job) && !this.#vouched.has(job.id)) this.want(job.id);
      }
    }, SETTLE_MS);
  }

  /** @param {string | null} cursor */
  async #list(cursor) {
    if (this.#listing) {
      this.#listAgain ||= cursor === null;
      return;
    }
    this.#listing = true;
    try {
      const page = await this.#client.list({ limit: PAGE, cursor });
      this.#next = page.next;
      this.hasMore = page.next !== null;
      for (const job of page.items) this.#found(job);
    } catch (error) {
      this.dispatchEvent(new CustomEvent("problem", { detail: error }));
      if (cursor === null) setTimeout(() => this.#started && this.#list(null), RETRY_MS);
    } finally {
      this.#listing = false;
      this.dispatchEvent(new CustomEvent("page"));
    }
    if (!this.#listAgain) return;
    this.#listAgain = false;
    await this.#list(null);
  }

  /** @param {JobEvent} event */
  #apply(event) {
    const { data } = event;
    if (event.event === "reset") {
      this.#reset(data.jobs ?? (data.job ? [data.job] : []));
      return;
    }
    const whole = event.event === "snapshot" || event.event === "end";
    const id = whole ? data.id : data.job;
    this.#vouched.add(id);
    const held = this.#doubted.has(id) ? undefined : this.jobs.get(id);
    if (!held && !whole) {
      const waiting = this.#wanted.get(id);
      if (waiting) waiting.push(event);
      else this.#wanted.set(id, [event]);
      this.#fetch();
      return;
    }
    const job = reduce(held, event);
    if (job) this.#keep(id, job);
  }

  /**
   * What is held may be wrong in any way, and ids may have begun anew: believe what the service says
   * now, and ask again about everything else.
   * @param {Job[]} jobs
   */
  #reset(jobs) {
    this.#doubted = new Set(this.jobs.keys());
    for (const job of jobs) this.#keep(job.id, job);
    for (const id of this.#doubted) {
      const held = this.jobs.get(id);
      if (held && isLive(held)) this.want(id);
    }
    // What came and ended in the meantime is in no one's list of live jobs.
    this.#list(null);
  }

  /**
   * A document that was asked for.
   * @param {Job} job
   */
  #found(job) {
    const held = this.#doubted.has(job.id) ? undefined : this.jobs.get(job.id);
    this.#keep(job.id, newer(held, job));
  }

  /**
   * @param {string} id
   * @param {Job | undefined} job
   */
  #keep(id, job) {
    this.#doubted.delete(id);
    if (job && job === this.jobs.get(id)) return;
    if (job) this.jobs.set(id, job);
    else this.jobs.delete(id);
    this.dispatchEvent(new CustomEvent("change", { detail: { id } }));
  }

  /** Few at a time: a browser has six connections to a host, and the streams hold some of them. */
  #fetch() {
    for (const id of this.#wanted.keys()) {
      if (this.#fetching.size >= FETCHES) return;
      if (!this.#fetching.has(id)) this.#fetchOne(id);
    }
  }

  /** @param {string} id */
  async #fetchOne(id) {
    this.#fetching.add(id);
    try {
      const found = await this.#client.get(id);
      this.#found(found);
      for (const event of this.#wanted.get(id) ?? []) this.#keep(id, reduce(this.jobs.get(id), event));
      this.#wanted.delete(id);
    } catch (error) {
      const status = /** @type {{status?: number}} */ (error).status ?? 0;
      if (status >= 400 && status < 500 && status !== 429) {
        this.#wanted.delete(id);
        this.#keep(id, undefined);
      } else {
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    } finally {
      this.#fetching.delete(id);
      if (this.#started) this.#fetch();
    }
  }
}
