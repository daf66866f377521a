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
/** A stream of a group says within half of this how the group is; one of more than the group does not. */
const UNTOLD_MS = 1000;
/** Of all jobs of a caller so many are kept, and those that are live, so that a page that stays open does not grow. */
const MOST = 200;

/** @template Value what subscribers get, with the connection's `status` and `again` */
export class LiveJobs {
  /** The present value. The first one is made from `known`, and is all that a server renders. */
  value;

  #feed;
  #pick;
  #group;
  /** @type {import("../jobs.js").Status} Said before anything is watched. */ #before;
  /** Whether the service has no such job. */ #missing = false;
  /** @type {Set<{run: (value: any) => void}>} */ #subscribers = new Set();
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #waking;

  /**
   * @param {import("./client.js").Client} client
   * @param {{jobs?: Iterable<string>, group?: string} | null} of what to watch, as `watch` takes it; null: nothing
   * @param {Iterable<Job>} known documents from elsewhere, which are shown until newer ones are there
   * @param {(feed: JobFeed | null, missing: boolean) => Value} pick makes the value of what the feed has
   * @param {GroupDocument} [group] is told what the feed says, too
   */
  constructor(client, of, known, pick, group) {
    this.#feed = of && new JobFeed(client, of);
    this.#pick = pick;
    this.#group = group;
    for (const job of known) this.#feed?.put(job);
    this.#before = of ? "connecting" : "closed";
    this.value = this.#look(this.#before);
    this.#feed?.addEventListener("change", (event) => {
      this.#missing = !(/** @type {CustomEvent} */ (event).detail.job);
      this.#soon();
    });
    this.#feed?.addEventListener("status", () => {
      this.#follow();
      if (this.#feed?.status !== this.value.status) this.#soon();
    });
    if (group) group.changed = () => this.#soon();
    this.#feed?.addEventListener("event", (event) => group?.receive(/** @type {CustomEvent} */ (event).detail));
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
    this.#follow();
    run(this.value);
    return () => {
      if (!this.#subscribers.delete(subscriber) || this.#subscribers.size > 0) return;
      this.#feed?.stop();
      this.#group?.follow(false);
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

  #follow() {
    if (this.#subscribers.size === 0) return;
    this.#group?.follow(this.#feed?.stream?.status === "live");
  }

  #soon() {
    if (this.#subscribers.size === 0) return;
    this.#waking ??= setTimeout(() => {
      this.#waking = undefined;
      this.value = this.#look(this.#feed?.status ?? "closed");
      for (const { run } of [...this.#subscribers]) run(this.value);
    }, FRAME_MS);
  }
}

/** The document of a group, as the stream brings it; read when the stream does not. */
class GroupDocument {
  /** @type {import("../jobs.js").Group | null | undefined} Undefined until it was read; null if there is no such group. */
  value;
  /** Called when it was replaced. */
  changed = () => {};

  #client;
  #name;
  #live = false;
  #heard = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #reading;

  /**
   * @param {import("./client.js").Client} client
   * @param {string} name
   */
  constructor(client, name) {
    this.#client = client;
    this.#name = name;
  }

  /** @param {boolean} live whether the stream misses nothing from now on */
  follow(live) {
    const before = this.#live;
    this.#live = live;
    if (live && !before) this.#read();
    if (!live) this.#settle();
  }

  /** @param {import("./job-feed.js").JobEvent} event of the group's feed */
  receive({ event, data }) {
    if (event === "group" || event === "group-end") {
      if (data.group !== this.#name) return;
      this.#settle();
      this.#heard += 1;
      this.#is(data);
    } else if (event === "reset") this.#read();
    else this.#reading ??= setTimeout(() => this.#read(), UNTOLD_MS);
  }

  /** There is nothing to be read any more. */
  #settle() {
    clearTimeout(this.#reading);
    this.#reading = undefined;
  }

  async #read() {
    this.#settle();
    const heard = this.#heard;
    const found = await this.#client.ask("GET", `/groups/${encodeURIComponent(this.#name)}`).catch((error) => {
      // Unless it is not there, the next event or connection is another chance.
      return error.status === 404 ? null : undefined;
    });
    // What the stream has said meanwhile is newer, or more is to come.
    if (found !== undefined && heard === this.#heard) this.#is(found);
  }

  /** @param {import("../jobs.js").Group | null} value */
  #is(value) {
    this.value = value;
    this.changed();
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
  const document = group ? new GroupDocument(client, group) : undefined;
  const pick = (/** @type {JobFeed | null} */ feed) => ({
    group: document?.value,
    jobs: [...(feed?.jobs.values() ?? [])].sort((a, b) => created(a) - created(b)),
  });
  return new LiveJobs(client, group ? { group } : null, [], pick, document);
}
