/**
 * Jobs, kept in step with the service: events from the shared stream, documents for what came before them.
 *
 * Documents are requested after the stream has begun, and each is compared with what the events made of the
 * job meanwhile (`newer`), so it does not matter which of the two arrives first.
 */

import { Emitter } from "./emitter.js";
import { LIVE, isLive, newer, reduce } from "./reducer.js";
import { jobTopic } from "./shared-stream.js";

/**
 * @typedef {import("../jobs.js").Job} Job
 * @typedef {import("../jobs.js").JobEvent} JobEvent
 * @typedef {object} Entry what is known about one job id, beside the job itself
 * @property {boolean} [notMine] the stream reports it, but it does not belong to this feed
 * @property {JobEvent[]} [held] a document is needed first; the events that came meanwhile
 * @property {number} [since] the document must have been requested at this age or later
 * @property {boolean} [unverified] the job may have changed: until it is read, the feed is out of date
 * @property {boolean} [fetching]
 */

const NEWEST = 50;
const PAGE = 500;
const FETCHES = 3;
const RETRY_MS = 2000;

const pause = () => new Promise((resolve) => setTimeout(resolve, RETRY_MS));

/**
 * Dispatches `change` (detail: {id, job} of a job that is new, changed or gone), `event` (detail: JobEvent of
 * a job in the feed), `gap` (events were missed; what is held is read again), `status` and `problem`
 * (detail: Error).
 */
export class JobFeed extends Emitter {
  /** @type {Map<string, Job>} */
  jobs = new Map();
  /** What it watches. [Reader] */
  topics;
  /** @type {Map<string, Entry>} [Reader] */
  records = new Map();
  /** @type {import("./shared-stream.js").SharedStream | undefined} Undefined until `start`. */
  stream;
  /** @type {((job: Job) => boolean) | undefined} Whether to keep listening to a job that has ended; default: no. */
  expectsMore;

  #client;
  #group;
  /** @type {ReadonlySet<string> | null} */ #only;
  /** @type {AbortController | null} */ #started = null;
  /** Counts how often the held jobs were put in doubt. */ #age = 0;
  /** Jobs that are unverified, and since when this feed has a status that is not its stream's. */
  #unverified = 0;
  #since = Date.now();
  /** What is to be listed: 0 nothing, 1 the newest jobs, 2 all live ones, too. */ #toList = 0;
  #listing = false;
  #fetches = 0;

  /**
   * @param {import("./client.js").Client} client
   * @param {{jobs?: Iterable<string>, group?: string}} [of] default: all jobs of the caller
   */
  constructor(client, { jobs, group } = {}) {
    super();
    this.#client = client;
    this.#group = group;
    this.#only = jobs ? new Set(jobs) : null;
    this.topics = new Set(this.#only ? [...this.#only].map(jobTopic) : [group ? `group=${encodeURIComponent(group)}` : ""]);
  }

  /** @type {import("../jobs.js").Status} */
  get status() {
    const status = (this.#started && this.stream?.status) || "closed";
    return status === "live" && this.#unverified > 0 ? "stale" : status;
  }

  get since() {
    return this.stream?.status === this.status ? this.stream.since : this.#since;
  }

  /** Does nothing if it has started. Call `stop` in the end. */
  start() {
    if (this.#started) return this;
    this.#started = new AbortController();
    this.stream = this.#client.stream();
    const { signal } = this.#started;
    this.stream.addEventListener("status", () => (this.emit("status"), this.#list(0)), { signal });
    this.stream.addEventListener("refused", () => this.#only && this.#wantOf(this.topics), { signal });
    this.stream.join(this);
    return this;
  }

  stop() {
    if (!this.#started) return;
    this.#started.abort();
    this.#started = null;
    this.#since = Date.now();
    this.stream?.leave(this);
    this.emit("status");
  }

  /** Try again, after the stream gave up. */
  again() {
    this.stream?.again();
  }

  /**
   * Add a document from elsewhere, such as the answer to a submission.
   * @param {Job} job
   */
  put(job) {
    this.#found(job, -1);
  }

  /**
   * Fetch a job and keep it. Its `change` is dispatched in any case, even if there is no such job.
   * @param {string} id
   */
  want(id) {
    this.#need(id);
    this.#fetch();
  }

  /**
   * Drop a job that has ended and is not shown. Nothing else in a feed grows over time.
   * @param {string} id
   */
  forget(id) {
    this.#keep(id, undefined);
  }

  /**
   * From here on the stream misses nothing; what came before is read now. [Reader]
   * @param {{topics: string[], fresh: boolean, gap: boolean}} how
   */
  begin({ topics, fresh, gap }) {
    this.#age += 1;
    // Events must not be added to what was held before: something may be missing in between.
    this.#suspect();
    if (gap) this.emit("gap");
    if (!this.#only) this.#list(fresh ? 1 : 2);
    else if (!fresh) this.#wantOf(topics);
  }

  /** @param {Iterable<string>} topics */
  #wantOf(topics) {
    for (const topic of topics) this.want(decodeURIComponent(topic.slice(4)));
  }

  /**
   * An event of the stream. [Reader]
   * @param {JobEvent} event
   */
  receive(event) {
    const { event: type } = event;
    const data = /** @type {any} */ (event.data);
    if (type === "reset") {
      this.#age += 1;
      this.#suspect();
      // Ids may have started over: any document is newer than what is held.
      for (const [id, job] of this.jobs) this.jobs.set(id, { ...job, last_event_id: "0" });
      for (const job of data.jobs ?? [data.job]) this.#found(job, this.#age);
      // Jobs that were created and ended meanwhile are in no list of live ones.
      if (this.#only) this.#fetch();
      else this.#list(1);
      this.emit("event", event);
      return;
    }
    const whole = type === "snapshot" || type === "end";
    const id = whole ? data.id : data.job;
    // It is about a group.
    if (!id) return this.emit("event", event);
    if (this.#only && !this.#only.has(id)) return;
    const entry = this.#entry(id);
    if (entry.notMine || (whole && !this.#holds(data))) {
      entry.notMine = true;
      if (type === "end") this.records.delete(id);
      return;
    }
    const held = this.jobs.get(id);
    if (whole || (held && !entry.held)) this.#apply(held, id, event);
    else {
      this.#need(id).held?.push(event);
      // What is shown lacks the event.
      if (held) this.#doubt(entry);
      this.#fetch();
    }
  }

  /** @param {Job} job */
  #holds(job) {
    return this.#only ? this.#only.has(job.id) : !this.#group || job.group === this.#group;
  }

  /** @param {string} id */
  #entry(id) {
    const entry = this.records.get(id) ?? {};
    this.records.set(id, entry);
    return entry;
  }

  /**
   * A document of the job is needed, and events wait for it.
   * @param {string} id
   */
  #need(id) {
    const entry = this.#entry(id);
    entry.since = entry.held ? entry.since : this.#age;
    entry.held ??= [];
    return entry;
  }

  /**
   * @param {Job | undefined} held
   * @param {string} id
   * @param {JobEvent} event
   */
  #apply(held, id, event) {
    const job = reduce(held, event);
    if (job && job !== held) this.#keep(id, job);
    // Even if a document was ahead of it.
    this.emit("event", event);
  }

  /** Live jobs have to be read again. */
  #suspect() {
    for (const [id, job] of this.jobs) {
      if (isLive(job)) {
        const entry = this.#need(id);
        entry.since = this.#age;
        this.#doubt(entry);
      }
    }
  }

  #doubt(/** @type {Entry} */ entry) {
    if (entry.unverified) return;
    entry.unverified = true;
    this.#count(1);
  }

  /** @param {number} by so many jobs more are unverified */
  #count(by) {
    this.#unverified += by;
    if (this.#unverified !== Math.max(0, by)) return;
    this.#since = Date.now();
    this.emit("status");
  }

  /**
   * A document, to be compared with what is held.
   * @param {Job} job
   * @param {number} age at which it was requested
   */
  #found(job, age) {
    const { id } = job;
    const entry = this.#entry(id);
    const held = this.jobs.get(id);
    if (!this.#holds(job)) {
      entry.notMine = true;
      entry.held = undefined;
    } else if (!entry.held || age >= /** @type {number} */ (entry.since)) this.#keep(id, newer(held, job));
    // Better than nothing, until the document comes that is needed.
    else if (!held) this.#set(id, job);
  }

  /**
   * @param {string} id
   * @param {Job | undefined} job
   */
  #set(id, job) {
    if (job) this.jobs.set(id, job);
    else this.jobs.delete(id);
    this.emit("change", { id, job });
  }

  /**
   * @param {string} id
   * @param {Job | undefined} job
   */
  #keep(id, job) {
    const { held = [], unverified } = this.#entry(id);
    this.records.delete(id);
    // Nothing comes after the end, so there is no need to listen.
    if (!(job && (isLive(job) || this.expectsMore?.(job))) && this.topics.delete(jobTopic(id))) this.stream?.changed();
    if (!job || job !== this.jobs.get(id)) this.#set(id, job);
    if (unverified) this.#count(-1);
    if (!job) return;
    for (const event of held) this.#apply(this.jobs.get(id), id, event);
    this.stream?.heard();
  }

  /**
   * List jobs, page by page, and settle what is in doubt.
   * @param {number} what to add to #toList
   */
  async #list(what) {
    this.#toList = Math.max(this.#toList, what);
    // A fresh stream is live once it has sent its snapshots: what is listed before may have ended before them.
    if (this.#listing || (this.#toList === 1 && this.stream?.status !== "live")) return;
    this.#listing = true;
    while (this.#started && this.#toList > 0) {
      const now = this.#toList;
      this.#toList = 0;
      try {
        /** @type {any} */ let cursor;
        for (const state of now > 1 ? LIVE : []) {
          do cursor = await this.#page({ state, cursor, limit: PAGE });
          while (cursor);
        }
        // What is then still in doubt has probably ended. The last few are cheaper one by one.
        let pages = 0;
        do cursor = await this.#page({ cursor, limit: cursor ? PAGE : NEWEST });
        while (cursor && this.#unverified > FETCHES * ++pages);
      } catch (error) {
        this.#toList = Math.max(this.#toList, now);
        this.emit("problem", error);
        await pause();
      }
    }
    this.#listing = false;
    this.#fetch();
  }

  /**
   * @param {NonNullable<Parameters<import("./client.js").Client["list"]>[0]>} query
   * @returns {Promise<string | null>} the cursor of the next page; null after the last
   */
  async #page(query) {
    const age = this.#age;
    const { items, next } = await this.#client.list({ group: this.#group, ...query });
    for (const job of items) this.#found(job, age);
    return next;
  }

  /** A few at a time: a browser has six connections to a host, and streams use some of them. */
  #fetch() {
    // A listing probably has them.
    if (this.#listing) return;
    for (const [id, entry] of this.records) {
      if (this.#fetches >= FETCHES) return;
      if (entry.held && !entry.fetching) this.#fetchOne(id, entry);
    }
  }

  /**
   * @param {string} id
   * @param {Entry} entry
   */
  async #fetchOne(id, entry) {
    entry.fetching = true;
    this.#fetches += 1;
    const age = this.#age;
    try {
      this.#found(await this.#client.get(id), age);
    } catch (error) {
      const { status } = /** @type {{status?: number}} */ (error);
      if (status === 404) this.#keep(id, undefined);
      else await pause();
    }
    entry.fetching = false;
    this.#fetches -= 1;
    if (this.#started) this.#fetch();
  }
}
