/**
 * Jobs, kept in step with the service: events from the shared stream, documents for what came before them.
 *
 * Documents are requested after the stream has begun, and each is compared with what the events made of the
 * job meanwhile (`newer`), so it does not matter which of the two arrives first.
 */

import { LIVE, isLive, newer, reduce } from "./reducer.js";

/**
 * @typedef {import("../jobs.js").Job} Job
 * @typedef {import("../jobs.js").JobEvent} JobEvent
 * @typedef {object} Entry what is known about one job id, beside the job itself
 * @property {boolean} [notMine] the stream reports it, but it does not belong to this feed
 * @property {boolean} [stale] the job that is held must not be changed by events, nor kept against a document
 * @property {boolean} [unverified] it is stale and may have changed: until it is read, the feed is out of date
 * @property {number} [since] a document requested before this age does not settle `stale` or `held`
 * @property {JobEvent[]} [held] a document is needed first; the events that came meanwhile
 * @property {boolean} [urgent] the document is requested at once, even during a listing
 * @property {boolean} [fetching]
 * @property {number} [told] the age at which the stream last mentioned it
 */

const NEWEST = 50;
const PAGE = 500;
const FETCHES = 3;
const RETRY_MS = 2000;
/** After this long the stream has sent a snapshot of every live job that existed when it opened. */
const SETTLE_MS = 2000;

const pause = () => new Promise((resolve) => setTimeout(resolve, RETRY_MS));

/**
 * Dispatches `change` (detail: {id, job} of a job that is new, changed or gone), `event` (detail: JobEvent of
 * a job in the feed), `gap` (events were missed; what is held is read again), `status` and `problem`
 * (detail: Error).
 */
export class JobFeed extends EventTarget {
  /** @type {Map<string, Job>} */
  jobs = new Map();
  /** What it watches. [Reader] */
  topics;
  /** @type {import("./shared-stream.js").SharedStream | undefined} Undefined until `start`. */
  stream;
  /** @type {((job: Job) => boolean) | undefined} Whether to keep listening to a job that has ended; default: no. */
  expectsMore;

  #client;
  #group;
  /** @type {ReadonlySet<string> | null} */ #only;
  #started = false;
  /** @type {Map<string, Entry>} */ #entries = new Map();
  /** Counts how often the held jobs were put in doubt. */ #age = 0;
  /** Jobs that are unverified, and since when this feed has a status that is not its stream's. */
  #unverified = 0;
  #since = Date.now();
  /** What the next listing reads: 0 nothing, 1 the newest jobs, 2 all live ones, too. */ #toList = 0;
  #listing = false;
  #fetches = 0;
  #onStatus = () => this.dispatchEvent(new Event("status"));
  #onRefused = () => this.#only?.forEach((id) => this.topics.has(`job:${id}`) && this.want(id));

  /**
   * @param {import("./client.js").Client} client
   * @param {{jobs?: Iterable<string>, group?: string}} [of] default: all jobs of the caller
   */
  constructor(client, { jobs, group } = {}) {
    super();
    this.#client = client;
    this.#group = group;
    this.#only = jobs ? new Set(jobs) : null;
    this.topics = new Set(this.#only ? [...this.#only].map((id) => `job:${id}`) : [group ? `group:${group}` : "mine"]);
  }

  /** @type {import("../jobs.js").Status} */
  get status() {
    const status = this.#started ? this.stream?.status : "closed";
    return status === "live" && this.#unverified > 0 ? "stale" : (status ?? "closed");
  }

  get since() {
    return this.stream?.status === this.status ? this.stream.since : this.#since;
  }

  /** Whether it holds back events until it has read their jobs. [Reader] */
  get holding() {
    return [...this.#entries.values()].some(({ held }) => held?.length);
  }

  /** Does nothing if it has started. Call `stop` in the end. */
  start() {
    if (this.#started) return this;
    this.#started = true;
    this.stream = this.#client.stream();
    this.stream.addEventListener("status", this.#onStatus);
    this.stream.addEventListener("refused", this.#onRefused);
    this.stream.join(this);
    return this;
  }

  stop() {
    if (!this.#started) return;
    this.#started = false;
    this.#since = Date.now();
    this.stream?.removeEventListener("status", this.#onStatus);
    this.stream?.removeEventListener("refused", this.#onRefused);
    this.stream?.leave(this);
    this.#onStatus();
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
    this.#need(id).urgent = true;
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
    if (gap) {
      this.#doubt([]);
      this.dispatchEvent(new Event("gap"));
    } else if (!fresh) {
      // Events must not be added to what was held before: something may be missing in between.
      this.#suspect(() => true);
    }
    if (this.#only) {
      // The snapshots of a fresh stream cover each.
      if (!fresh) topics.forEach((topic) => this.want(topic.slice(4)));
      return;
    }
    this.#list(fresh ? 1 : 2);
    if (!fresh) return;
    const began = this.#age;
    // A job that was listed as live and ended before the stream took its snapshots is in neither.
    setTimeout(() => {
      if (this.#age !== began || !this.#started) return;
      this.#age += 1;
      this.#suspect((id) => !(Number(this.#entries.get(id)?.told) >= began));
      this.#list(0);
    }, SETTLE_MS);
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
      this.#doubt((data.jobs ?? [data.job]).filter((/** @type {Job} */ job) => this.#holds(job)));
      // Jobs that were created and ended meanwhile are in no list of live ones.
      if (!this.#only) this.#list(1);
      this.dispatchEvent(new CustomEvent("event", { detail: event }));
      return;
    }
    const whole = type === "snapshot" || type === "end";
    const id = whole ? data.id : data.job;
    if (this.#only && !this.#only.has(id)) return;
    const entry = this.#entry(id);
    if (entry.notMine || (whole && !this.#holds(data))) {
      entry.notMine = true;
      if (type === "end") this.#entries.delete(id);
      return;
    }
    entry.told = this.#age;
    const held = entry.stale ? undefined : this.jobs.get(id);
    if (held || whole) this.#apply(held, id, event);
    else {
      this.#need(id).held?.push(event);
      this.#fetch();
    }
  }

  /** @param {Job} job */
  #holds(job) {
    return this.#only ? this.#only.has(job.id) : !this.#group || job.group === this.#group;
  }

  /** @param {string} id */
  #entry(id) {
    let entry = this.#entries.get(id);
    if (!entry) this.#entries.set(id, (entry = {}));
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
    // Even if a document was ahead of this event.
    this.dispatchEvent(new CustomEvent("event", { detail: event }));
  }

  /**
   * Anything that is held may be wrong, and ids may have started over: believe what the service says now, and
   * read everything else again.
   * @param {Job[]} jobs
   */
  #doubt(jobs) {
    for (const id of this.jobs.keys()) Object.assign(this.#entry(id), { stale: true, since: this.#age });
    for (const job of jobs) this.#keep(job.id, job);
    this.#suspect((id) => Boolean(this.#entry(id).stale));
    if (this.#only) this.#fetch();
  }

  /** @param {(id: string) => boolean} which of the live jobs have to be read again */
  #suspect(which) {
    for (const [id, job] of this.jobs) {
      if (!isLive(job) || !which(id)) continue;
      const entry = this.#need(id);
      entry.stale = true;
      entry.since = this.#age;
      if (entry.unverified) continue;
      entry.unverified = true;
      this.#unverified += 1;
      if (this.#unverified > 1) continue;
      this.#since = Date.now();
      this.#onStatus();
    }
  }

  /**
   * Compare a document with what is held.
   * @param {Job} job
   * @param {number} age at which it was requested
   */
  #found(job, age) {
    const { id } = job;
    const entry = this.#entry(id);
    if (!this.#holds(job)) {
      Object.assign(entry, { notMine: true, held: undefined });
      return;
    }
    if ((entry.stale || entry.held) && age < Number(entry.since)) return;
    this.#keep(id, entry.stale ? job : newer(this.jobs.get(id), job));
  }

  /**
   * @param {string} id
   * @param {Job | undefined} job
   */
  #keep(id, job) {
    const entry = this.#entry(id);
    const held = entry.held ?? [];
    const verified = entry.unverified;
    Object.assign(entry, { stale: false, unverified: false, urgent: false, held: undefined });
    if (!job) this.#entries.delete(id);
    // Nothing comes after the end, so there is no need to listen.
    if (!(job && (isLive(job) || this.expectsMore?.(job))) && this.topics.delete(`job:${id}`)) this.stream?.changed();
    if (!job || job !== this.jobs.get(id)) {
      if (job) this.jobs.set(id, job);
      else this.jobs.delete(id);
      this.dispatchEvent(new CustomEvent("change", { detail: { id, job } }));
    }
    if (verified) {
      this.#unverified -= 1;
      if (this.#unverified === 0) this.#onStatus();
    }
    if (!job) return;
    for (const event of held) this.#apply(this.jobs.get(id), id, event);
    this.stream?.heard();
  }

  /**
   * List jobs, page by page, and settle what is in doubt.
   * @param {number} what see #toList
   */
  async #list(what) {
    this.#toList = Math.max(this.#toList, what);
    if (this.#listing) return;
    this.#listing = true;
    do {
      const now = this.#toList;
      this.#toList = 0;
      try {
        if (now > 0) await this.#page({ limit: NEWEST });
        for (const state of now > 1 ? LIVE : []) {
          for (let cursor; cursor !== null; ) cursor = await this.#page({ state, cursor });
        }
        // What is still in doubt has probably ended. The last few are cheaper one by one.
        let cursor;
        for (let before = Infinity; cursor !== null && this.#unverified > FETCHES && this.#unverified < before; ) {
          before = this.#unverified - FETCHES;
          cursor = await this.#page({ cursor });
        }
      } catch (error) {
        this.#toList = Math.max(this.#toList, now, 1);
        this.dispatchEvent(new CustomEvent("problem", { detail: error }));
        await pause();
      }
    } while (this.#started && this.#toList > 0);
    this.#listing = false;
    this.#fetch();
  }

  /**
   * @param {{limit?: number, state?: import("../jobs.js").State, cursor?: string}} query
   * @returns {Promise<any>} the cursor of the next page; null after the last
   */
  async #page(query) {
    const age = this.#age;
    const { items, next } = await this.#client.list({ limit: PAGE, group: this.#group, ...query });
    for (const job of items) this.#found(job, age);
    return next;
  }

  /** A few at a time: a browser has six connections to a host, and streams use some of them. */
  #fetch() {
    for (const [id, entry] of this.#entries) {
      if (this.#fetches >= FETCHES) return;
      if (entry.held && !entry.fetching && (entry.urgent || !this.#listing)) this.#fetchOne(id, entry);
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
      const status = /** @type {{status?: number}} */ (error).status ?? 0;
      if (status >= 400 && status < 500 && status !== 429) this.#keep(id, undefined);
      else await pause();
    }
    entry.fetching = false;
    this.#fetches -= 1;
    if (this.#started) this.#fetch();
  }
}
