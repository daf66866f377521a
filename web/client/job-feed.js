/**
 * Jobs, kept in step with the service: the shared stream for what happens, documents for what was.
 *
 * Documents are read after the stream has begun, and every one is held against what the events made of
 * the job meanwhile (`newer`), so it does not matter which of the two is faster.
 */

import { LIVE, isLive, newer, reduce } from "./reducer.js";

/**
 * @typedef {import("./reducer.js").Job} Job
 * @typedef {import("./reducer.js").JobEvent} JobEvent
 */

const PAGE = 50;
const LIVE_PAGE = 500;
const FETCHES = 3;
const RETRY_MS = 2000;
/** After this long the stream has told about every live job that it knew when it opened. */
const SETTLE_MS = 2000;

/**
 * Dispatches `change` (detail: {id, job} of a job that is new, different or gone), `event` (detail:
 * JobEvent, of a job in the feed), `gap` (events were missed: what is held is read again), `status` and
 * `problem` (detail: Error).
 */
export class JobFeed extends EventTarget {
  /** @type {Map<string, Job>} */
  jobs = new Map();
  /** What it watches, as topics of its stream. */
  topics;

  #client;
  #group;
  /** @type {ReadonlySet<string> | null} */ #only;
  #started = false;
  #listing = false;
  #listAgain = false;
  /** @type {Map<string, JobEvent[]>} Jobs to fetch, with what happened to them meanwhile. [Reader] */
  wanted = new Map();
  /** @type {((job: Job) => boolean) | undefined} Whether to go on listening for a job that has ended; default: no. */
  owed;
  #fetching = new Set();
  /** @type {Set<string>} Held, but not to be trusted against a document. */ #doubted = new Set();
  /** @type {Set<string>} Those of them that may still change: until they are read, all is out of date. */
  #unsure = new Set();
  #unsureSince = 0;
  /** How often something was doubted: documents that were asked for before do not settle it. */ #doubts = 0;
  /** @type {Set<string>} The stream has spoken of them since it opened. */ #vouched = new Set();
  /** @type {Set<string>} Not of this feed, though the stream tells of them. */ #foreign = new Set();
  #onStatus = () => this.dispatchEvent(new Event("status"));
  #onRefused = () => this.#only?.forEach((id) => this.topics.has(`job:${id}`) && this.want(id));

  /**
   * @param {import("../jobs.js").Headway} client
   * @param {{jobs?: Iterable<string>, group?: string, mine?: boolean}} [of] default: all of one's own
   */
  constructor(client, { jobs, group } = {}) {
    super();
    this.#client = client;
    this.#group = group;
    this.#only = jobs ? new Set(jobs) : null;
    this.topics = new Set(this.#only ? [...this.#only].map((id) => `job:${id}`) : [group ? `group:${group}` : "mine"]);
    this.stream = client.stream();
  }

  /** @type {import("./event-stream.js").Status} */
  get status() {
    const { status } = this.stream;
    return status === "live" && this.#unsure.size > 0 ? "stale" : status;
  }

  get since() {
    return this.stream.status === this.status ? this.stream.since : this.#unsureSince;
  }

  /** Does nothing if it has started. Whoever starts it stops it. */
  start() {
    if (this.#started) return this;
    this.#started = true;
    this.stream.addEventListener("status", this.#onStatus);
    this.stream.addEventListener("refused", this.#onRefused);
    this.stream.join(this);
    return this;
  }

  stop() {
    this.#started = false;
    this.stream.removeEventListener("status", this.#onStatus);
    this.stream.removeEventListener("refused", this.#onRefused);
    this.stream.leave(this);
  }

  /** Try again, after the stream gave up. */
  again() {
    this.stream.again();
  }

  /**
   * Take in a document from elsewhere, such as the answer to a submission.
   * @param {Job} job
   */
  put(job) {
    this.#found(job, -1);
  }

  /**
   * Fetch a job and keep it; its `change` comes in any case, also if there is no such job.
   * @param {string} id
   */
  want(id) {
    if (!this.wanted.has(id)) this.wanted.set(id, []);
    this.#fetch();
  }

  /**
   * Hold it no longer: it has ended, and nobody looks at it. Nothing else of a feed grows with the days.
   * @param {string} id
   */
  forget(id) {
    this.#vouched.delete(id);
    this.#keep(id, undefined);
  }

  /**
   * From here on the stream misses nothing; what was before is read now. [Reader]
   * @param {{topics: string[], fresh: boolean, gap: boolean}} how
   */
  async begin({ topics, fresh, gap }) {
    if (gap) {
      this.#doubt([]);
      this.dispatchEvent(new Event("gap"));
    } else if (!fresh) {
      // What happens now must not be added to what was held before: something may have come between.
      this.#doubts += 1;
      for (const job of this.jobs.values()) if (isLive(job)) this.#suspect(job.id);
    }
    if (this.#only) {
      // With its snapshots the stream tells of each.
      if (!fresh) topics.forEach((topic) => this.want(topic.slice(4)));
      return;
    }
    this.#vouched.clear();
    await this.#list();
    if (!fresh) {
      await this.#listLive();
      return;
    }
    // A job that was listed as live and ended before the stream took its snapshots is in neither.
    setTimeout(() => {
      this.#doubts += 1;
      for (const job of this.jobs.values()) {
        if (isLive(job) && !this.#vouched.has(job.id)) this.#suspect(job.id);
      }
    }, SETTLE_MS);
  }

  /**
   * An event of the stream. [Reader]
   * @param {JobEvent} event
   */
  take(event) {
    const { data } = event;
    if (event.event === "reset") {
      this.#doubt((data.jobs ?? [data.job]).filter((/** @type {Job} */ job) => this.#holds(job)));
      this.dispatchEvent(new CustomEvent("event", { detail: event }));
      return;
    }
    const whole = event.event === "snapshot" || event.event === "end";
    const id = whole ? data.id : data.job;
    if (this.#only ? !this.#only.has(id) : this.#foreign.has(id)) return;
    this.#vouched.add(id);
    const held = this.#doubted.has(id) ? undefined : this.jobs.get(id);
    // What is told whole need not be fetched.
    if (whole && !this.#fetching.has(id)) this.wanted.delete(id);
    if (held || (whole && this.#holds(data))) this.#apply(held, id, event);
    else if (!whole) {
      this.want(id);
      this.wanted.get(id)?.push(event);
    }
  }

  /** @param {Job} job */
  #holds(job) {
    return this.#only ? this.#only.has(job.id) : !this.#group || job.group === this.#group;
  }

  /**
   * @param {Job | undefined} held
   * @param {string} id
   * @param {JobEvent} event
   */
  #apply(held, id, event) {
    const job = reduce(held, event);
    if (job && job !== held) this.#keep(id, job);
    // Also what a document knew already: that may have been ahead of the events that led to it.
    this.dispatchEvent(new CustomEvent("event", { detail: event }));
  }

  /** The newest: who wants to see more of the past reads it, and puts it in. */
  async #list() {
    if (this.#listing) {
      this.#listAgain = true;
      return;
    }
    this.#listing = true;
    const doubts = this.#doubts;
    try {
      const page = await this.#client.list({ group: this.#group, limit: PAGE });
      for (const job of page.items) this.#found(job, doubts);
    } catch (error) {
      this.dispatchEvent(new CustomEvent("problem", { detail: error }));
      setTimeout(() => this.#started && this.#list(), RETRY_MS);
    } finally {
      this.#listing = false;
    }
    if (!this.#listAgain) return;
    this.#listAgain = false;
    await this.#list();
  }

  /** What lives, however old: a stream that was open already sends no snapshots. */
  async #listLive() {
    const doubts = this.#doubts;
    try {
      for (const state of LIVE) {
        for (let cursor; cursor !== null; ) {
          const page = await this.#client.list({ group: this.#group, state, limit: LIVE_PAGE, cursor });
          for (const job of page.items) this.#found(job, doubts);
          cursor = page.next;
        }
      }
    } catch {
      setTimeout(() => this.#started && this.#listLive(), RETRY_MS);
    }
  }

  /**
   * What is held may be wrong in any way, and ids may have begun anew: believe what the service says
   * now, and ask again about everything else.
   * @param {Job[]} jobs
   */
  #doubt(jobs) {
    this.#doubts += 1;
    this.#doubted = new Set(this.jobs.keys());
    for (const job of jobs) this.#keep(job.id, job);
    for (const id of this.#doubted) {
      const held = this.jobs.get(id);
      if (held && isLive(held)) this.#suspect(id);
    }
    // What came and ended in the meantime is in no one's list of live jobs.
    if (!this.#only) this.#list();
  }

  /** @param {string} id */
  #suspect(id) {
    this.#doubted.add(id);
    this.want(id);
    const first = this.#unsure.size === 0;
    this.#unsure.add(id);
    if (!first) return;
    this.#unsureSince = Date.now();
    this.#onStatus();
  }

  /**
   * A document that was asked for.
   * @param {Job} job
   * @param {number} doubts as they were when it was asked for
   */
  #found(job, doubts) {
    if (!this.#holds(job)) {
      this.#foreign.add(job.id);
      return;
    }
    if (doubts < this.#doubts && this.#doubted.has(job.id)) return;
    const held = this.#doubted.has(job.id) ? undefined : this.jobs.get(job.id);
    this.#keep(job.id, newer(held, job));
  }

  /**
   * @param {string} id
   * @param {Job | undefined} job
   */
  #keep(id, job) {
    this.#doubted.delete(id);
    // Nothing comes after the end, so that nobody need listen for it.
    if (!(job && (isLive(job) || this.owed?.(job))) && this.topics.delete(`job:${id}`)) this.stream.changed();
    if (!job || job !== this.jobs.get(id)) {
      if (job) this.jobs.set(id, job);
      else this.jobs.delete(id);
      this.dispatchEvent(new CustomEvent("change", { detail: { id, job } }));
    }
    if (this.#unsure.delete(id) && this.#unsure.size === 0) this.#onStatus();
    if (!job) return;
    for (const event of this.wanted.get(id)?.splice(0) ?? []) this.#apply(this.jobs.get(id), id, event);
    this.stream.heard();
  }

  /** Few at a time: a browser has six connections to a host, and the streams hold some of them. */
  #fetch() {
    for (const id of this.wanted.keys()) {
      if (this.#fetching.size >= FETCHES) return;
      if (!this.#fetching.has(id)) this.#fetchOne(id);
    }
  }

  /** @param {string} id */
  async #fetchOne(id) {
    this.#fetching.add(id);
    const doubts = this.#doubts;
    try {
      this.#found(await this.#client.get(id), doubts);
      if (!this.#doubted.has(id)) this.wanted.delete(id);
    } catch (error) {
      const status = /** @type {{status?: number}} */ (error).status ?? 0;
      if (status >= 400 && status < 500 && status !== 429) {
        this.wanted.delete(id);
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
