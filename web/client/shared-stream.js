/**
 * One connection for all that watch: of a page, and of all pages of a browser.
 *
 * A browser has six connections to a host on HTTP/1.1, so the seventh page would hang. The pages elect
 * one, and another when that page is gone (election.js). It holds the connection and says on a
 * BroadcastChannel what it hears. A page that is frozen hands it over before; from one that stands still
 * without a word it is taken. (A SharedWorker would be simpler, but not all phones have it, and it must come
 * from the page's own origin.) Where there are no locks (plain HTTP), each page has its own connection.
 *
 * Every page keeps the cursor and knows of each event which id came before it, so whoever is elected
 * next continues at its own cursor: the others drop what they know, and see if something is missing.
 */

import { Election, hold } from "./leader-election.js";
import { compareIds } from "./event-id.js";
import { EventStream } from "./event-stream.js";

/**
 * What a reader watches: "mine" for all of the caller's jobs, `group:<name>`, `job:<id>`.
 * @typedef {string} Topic
 * @typedef {object} Reader
 * @property {Map<string, any[]>} [wanted] events that it holds back; calls `heard` after them
 * @property {Set<Topic>} topics after a change call `changed`
 * @property {(how: {topics: Topic[], fresh: boolean, gap: boolean}) => void} begin from here on nothing
 *   about these topics is missed, so what is read now will be complete. `fresh`: a snapshot of what
 *   lives comes as well. `gap`: something was missed
 * @property {(event: import("./reducer.js").JobEvent) => void} take may be of any job, watched or not
 */

/** A longer list makes an address that proxies refuse: more are watched as all of the caller's. */
const MAX_JOBS = 200;
const CHECK_MS = 1000;
/** A page that holds the connection and does not answer for so long stands still, and is relieved of it. */
const ANSWER_MS = 1000;

/**
 * @param {Iterable<Topic>} topics
 * @returns {{job?: string[], group?: string}} the query of /events that covers them all
 */
export function queryFor(topics) {
  const all = [...topics].sort();
  const job = all.filter((topic) => topic.startsWith("job:")).map((topic) => topic.slice(4));
  if (job.length === all.length && job.length <= MAX_JOBS) return { job };
  return all.length === 1 && all[0].startsWith("group:") ? { group: all[0].slice(6) } : {};
}

/** Dispatches `status`, and `refused` when the service answered with an error (a job may be gone). */
export class SharedStream extends EventTarget {
  /** @type {import("./event-stream.js").Status} */
  status = "closed";
  /** When this status began to be true: for any but `live`, when the service was last heard. */
  since = Date.now();
  /** @type {string | null} The last id that was heard. */
  cursor = null;
  /** Whether this page holds the connection. */
  leads = false;

  #name;
  #urlFor;
  #options;
  #id = Math.random();
  /** @type {Map<Reader, Set<Topic>>} with the topics that it was told to begin with */ #readers = new Map();
  /** @type {Map<number, Topic[]>} what other pages watch */ #others = new Map();
  /** @type {Set<Topic>} */ #covered = new Set();
  #cursorTopic = "";
  /** Whether the connection was refused, maybe for what nobody watches any more. */ #narrow = false;
  /** @type {EventStream | null} Of the page that leads. */ #stream = null;
  /** @type {BroadcastChannel | null} */ #channel = null;
  #election;
  /** @type {AbortController | null} Ends what else this page has and waits for of locks. */ #locks = null;
  /** Of the leader that is heard: larger than of those before it. */ #term = 0;
  #running = false;
  #changing = false;
  #allowedMs = 0;
  /** When the service was last heard, by whichever page. */ #heardAt = 0;
  #toldAt = 0;
  #askedAt = 0;

  /**
   * @param {string} name the same for all pages that may share: the service, and who asks
   * @param {(query: {job?: string[], group?: string}) => URL} urlFor the address of such a stream
   * @param {{share?: boolean, attempts?: number}} [options]
   */
  constructor(name, urlFor, options = {}) {
    super();
    this.#name = `headway ${name}`;
    this.#urlFor = urlFor;
    this.#options = options;
    this.#election = new Election(this.#name, () => this.#lead(), () => this.#resign());
    // A page that is kept for the way back would keep its connection, of the six that there are to a host.
    addEventListener("pagehide", () => this.#stop());
    addEventListener("pageshow", () => this.#start());
  }

  /** @param {Reader} reader */
  join(reader) {
    this.#readers.set(reader, new Set());
    this.#start();
    this.changed();
  }

  /** @param {Reader} reader */
  leave(reader) {
    if (this.#readers.delete(reader)) this.changed();
  }

  /** The topics of a reader have changed. Several changes at a time are one. */
  changed() {
    if (this.#changing) return;
    this.#changing = true;
    queueMicrotask(() => {
      this.#changing = false;
      if (!this.#running) return;
      if (this.#readers.size === 0) this.#stop();
      else this.#want();
    });
  }

  /** Try again, after it gave up. */
  again() {
    this.#say({ again: true });
  }

  /** Called when readers were told of what the cursor stands for. */
  heard() {}

  #start() {
    if (this.#running || this.#readers.size === 0) return;
    this.#running = true;
    const { share = true } = this.#options;
    this.#locks = new AbortController();
    this.#heardAt = this.#toldAt = Date.now();
    this.#become("connecting", this.#heardAt);
    if (!share || !navigator.locks) {
      this.#lead();
      return;
    }
    const { signal } = this.#locks;
    const watchdog = setInterval(() => this.#check(), CHECK_MS);
    signal.addEventListener("abort", () => clearInterval(watchdog));
    const on = (/** @type {string} */ type, /** @type {() => void} */ then) =>
      document.addEventListener(type, then, { signal });
    on("visibilitychange", () => this.#check());
    // A frozen page says nothing, also if it is elected; what is said meanwhile waits for it.
    on("freeze", () => {
      this.#election.withdraw();
      this.#resign();
      if (this.status === "live") this.#become("stale", this.#heardAt);
    });
    on("resume", () => {
      this.#election.stand();
      this.#say({ ask: true });
    });
    // Others see by this lock that the page is gone: they must not hear of it before it has it.
    hold(`${this.#name} ${this.#id}`, signal, () => {
      this.#channel = new BroadcastChannel(this.#name);
      this.#channel.onmessage = ({ data }) => this.#hear(data);
      this.#say({ who: true });
      this.#want();
    });
    this.#election.stand();
  }

  #stop() {
    if (!this.#running) return;
    this.#running = false;
    // Nobody keeps in step with what comes from here on.
    if (this.#readers.size === 0) this.cursor = null;
    this.#say({ bye: true });
    this.#resign();
    this.#election.withdraw();
    this.#locks?.abort();
    this.#channel?.close();
    this.#channel = null;
    this.#others.clear();
    this.#become("closed", Date.now());
  }

  #lead() {
    this.leads = true;
    this.#term = Math.max(this.#term + 1, Date.now());
    for (const id of this.#others.keys()) this.#mourn(id);
    this.#connect();
  }

  #open() {
    const stream = new EventStream(this.#urlFor({}), { ...this.#options, cursor: this.cursor });
    const told = (/** @type {any} */ event) => this.#stream === stream && this.#tell(event.detail);
    for (const type of ["status", "beat", "event"]) stream.addEventListener(type, told);
    stream.addEventListener("open", () => {
      this.#narrow = false;
      // It began anew, with snapshots.
      if (stream.cursor === null) this.#rule({ covered: [...this.#covered], fresh: true });
      this.#connect();
    });
    stream.addEventListener("refused", () => {
      // The list may name a job that is gone: readers ask about theirs, and it is made anew.
      this.#narrow = true;
      this.#cursorTopic = "";
      this.#rule({ refused: true });
    });
    return stream;
  }

  #resign() {
    this.leads = false;
    const stream = this.#stream;
    this.#stream = null;
    stream?.close();
  }

  /** Of the leader: have a connection that covers what is wanted. A wider one than that may stay. */
  #connect() {
    if (!this.leads) return;
    const wanted = new Set([...this.#wanted(), ...[...this.#others.values()].flat()]);
    if (wanted.size === 0) {
      // All have ended. Who watches something later begins anew, not with what came between.
      this.#stream?.close();
      this.#stream = null;
      this.#rule({ idle: true });
      return;
    }
    this.#stream ??= this.#open();
    const stream = this.#stream;
    // One that is under way is awaited: pages that open at once do not each begin anew.
    if (stream.connecting) return;
    const covers = [...wanted].every((topic) => this.#covered.has(topic));
    if (stream.status === "closed" || !covers || (this.#narrow && wanted.size < this.#covered.size)) {
      // The job of the last event stays in the list, or the cursor would be of no job in it.
      if (this.#cursorTopic && queryFor(wanted).job) wanted.add(this.#cursorTopic);
      this.#covered = wanted;
      stream.move(this.#urlFor(queryFor(wanted)));
    }
    if (this.cursor !== null || stream.opened) this.#rule({ covered: [...this.#covered], fresh: false });
    this.#tell();
  }

  /** Say how things are, and what happened. */
  #tell(/** @type {any} */ event = undefined) {
    if (!this.#stream) return;
    const { status, since, heardAt, allowedMs, cursor } = this.#stream;
    this.#rule({ status, since, heardAt, allowedMs, prev: this.cursor, cursor, event });
  }

  #wanted() {
    return [...this.#readers.keys()].flatMap((reader) => [...reader.topics]);
  }

  #want() {
    this.#say({ want: [...new Set(this.#wanted())] });
  }

  /** @param {any} message of the leader */
  #rule(message) {
    this.#say({ term: this.#term, ...message });
  }

  /** @param {any} message to all pages, this one too */
  #say(message) {
    this.#channel?.postMessage({ from: this.#id, ...message });
    this.#hear({ from: this.#id, ...message });
  }

  /** @param {any} message */
  #hear(message) {
    const { from } = message;
    if (message.term < this.#term) return;
    if (message.term > this.#term) {
      this.#term = message.term;
      this.#resign();
    }
    if (message.who) this.#want();
    if (message.want) {
      if (from !== this.#id) {
        if (this.leads && !this.#others.has(from)) this.#mourn(from);
        this.#others.set(from, message.want);
      }
      this.#connect();
    }
    if (message.bye) this.#others.delete(from);
    if (message.again && this.#stream?.status === "gave-up") this.#stream.open();
    if (message.ask && this.#stream) {
      // What timers were too slow for, in a page that nobody sees.
      this.#stream.look();
      this.#tell();
    }
    if (message.idle) {
      this.cursor = null;
      this.#cursorTopic = "";
      this.#covered.clear();
      this.#become("closed", Date.now());
    }
    if (message.refused) this.dispatchEvent(new Event("refused"));
    if (message.covered) this.#begin(message.covered, message.fresh);
    if (message.status) this.#told(message);
  }

  /**
   * @param {Topic[]} covered
   * @param {boolean} fresh
   */
  #begin(covered, fresh, gap = false) {
    this.#covered = new Set(covered);
    for (const [reader, begun] of this.#readers) {
      if (fresh || gap) begun.clear();
      const topics = [...reader.topics].filter((topic) => this.#covered.has(topic) && !begun.has(topic));
      if (topics.length === 0) continue;
      this.#readers.set(reader, new Set([...begun, ...topics]));
      reader.begin({ topics, fresh, gap });
    }
  }

  /** @param {any} message of the leader */
  #told({ status, since, heardAt, allowedMs, prev, cursor, event }) {
    this.#heardAt = heardAt;
    this.#toldAt = Date.now();
    this.#askedAt = 0;
    this.#allowedMs = allowedMs;
    const known = event?.event !== "reset" && this.cursor !== null && compareIds(cursor, this.cursor) <= 0;
    if (cursor !== null && !known) {
      const gap = this.cursor !== null && prev !== null && compareIds(prev, this.cursor) > 0;
      this.cursor = cursor;
      if (gap) this.#begin([...this.#covered], false, true);
    }
    if (event && !known) {
      const id = event.data.job?.id ?? event.data.job ?? event.data.id;
      if (id) this.#cursorTopic = `job:${id}`;
      for (const reader of [...this.#readers.keys()]) reader.take(event);
      this.heard();
    }
    // What waited for a page that stood still was said long ago.
    if (status === "live" && this.#silent(heardAt)) this.#become("stale", heardAt);
    else this.#become(status, since);
  }

  /** @param {number} since */
  #silent(since) {
    return Date.now() - since > this.#allowedMs + 2 * CHECK_MS;
  }

  /** Of a page that does not lead: hear whether the one that does is still there. */
  #check() {
    if (this.leads || !this.#running) return;
    if (this.status === "live" && this.#silent(this.#heardAt)) this.#become("stale", this.#heardAt);
    if (!this.#silent(this.#toldAt)) return;
    const now = Date.now();
    if (this.#askedAt === 0) {
      this.#askedAt = now;
      this.#say({ ask: true });
    } else if (now - this.#askedAt >= ANSWER_MS) {
      this.#toldAt = now;
      this.#askedAt = 0;
      this.#election.take();
    }
  }

  /**
   * When that page is gone, what it watched is not watched any more.
   * @param {number} id
   */
  #mourn(id) {
    const { signal } = /** @type {AbortController} */ (this.#locks);
    navigator.locks
      .request(`${this.#name} ${id}`, { signal }, () => {
        this.#others.delete(id);
        this.#connect();
      })
      .catch(() => {});
  }

  /**
   * @param {import("./event-stream.js").Status} status
   * @param {number} since
   */
  #become(status, since) {
    if (this.status === status && this.since === since) return;
    this.status = status;
    this.since = since;
    this.dispatchEvent(new Event("status"));
  }
}
