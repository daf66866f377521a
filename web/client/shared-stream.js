/**
 * One connection for everything that is watched: by a page, and by all pages of a browser.
 *
 * A browser has six connections to a host on HTTP/1.1, so the seventh page would hang. The page that has the Web Lock
 * of their common name leads: the browser passes the lock on as soon as that page is gone, for whatever reason, and
 * never to a page that no longer wants it. The leader holds the connection and repeats on a BroadcastChannel what it
 * hears. It resigns before it is frozen; if it stops responding, another page takes over.
 * (A SharedWorker would be simpler, but not all phones have it, and it must come from the page's own origin.)
 * Without Web Locks (plain HTTP), each page has its own connection.
 *
 * Every page keeps the cursor and knows which id preceded each event. So whoever is elected next continues at its
 * own cursor; the other pages drop the events they know, and notice if one is missing.
 */

import { Connection } from "./emitter.js";
import { hold, oneHolds } from "./web-lock.js";
import { compareIds } from "./event-id.js";
import { EventStream } from "./event-stream.js";

/**
 * @typedef {import("../jobs.js").Status} Status
 * @typedef {string} Topic a query of /events: `job=<id>`, `group=<name>`; empty for all jobs of the caller
 * @typedef {{status: Status, since: number, heardAt: number, allowedMs: number, prev: string | null,
 *   cursor: string | null, event?: any}} Report how the connection is, and what it has just received
 * @typedef {object} Reader
 * @property {Set<Topic>} topics after a change call `changed`
 * @property {Map<string, {held?: any[]}>} [records] with the events that it holds back; it calls `heard` afterwards
 * @property {(how: {topics: Topic[], fresh: boolean, gap: boolean}) => void} begin from here on nothing about
 *   these topics is missed, so documents read now will be complete. `fresh`: snapshots of live jobs follow.
 *   `gap`: events were missed
 * @property {(event: import("../jobs.js").JobEvent) => void} receive an event of any job, watched or not
 * @property {() => void} stop
 * @property {() => void} start
 */

/** A longer list makes an address that proxies refuse: then all jobs of the caller are watched. */
const MAX_JOBS = 200;
const CHECK_MS = 1000;
/** A leader that does not answer for this long has stopped responding, and is replaced. */
const ANSWER_MS = 1000;

/**
 * @param {string} id
 * @returns {Topic}
 */
export const jobTopic = (id) => `job=${encodeURIComponent(id)}`;

/**
 * @param {Iterable<Topic>} topics
 * @returns {string} the query of /events that covers them all
 */
export function queryFor(topics) {
  const all = [...topics].sort();
  const most = all.every((topic) => topic.startsWith("job=")) ? MAX_JOBS : 1;
  return all.length > most ? "" : all.join("&");
}

/** Dispatches `status`, and `refused` when the service answered with an error (a job may be gone). */
export class SharedStream extends Connection {
  /** @type {string | null} The last id that was received. */
  cursor = null;
  /** Whether this page holds the connection. */
  leads = false;

  #name;
  #options;
  #id = Math.random();
  /** @type {Map<Reader, Set<Topic>>} with the topics that it was told to begin with */ #readers = new Map();
  /** @type {Map<number, Topic[]>} what each page watches, this one too */ #pages = new Map();
  /** @type {Set<Topic>} */ #covered = new Set();
  #cursorTopic = "";
  /** Whether the connection was refused, maybe because of a job that nobody watches any more. */ #narrow = false;
  /** @type {EventStream | null} Of the leader. */ #stream = null;
  /** @type {BroadcastChannel | null} */ #channel = null;
  /** @type {AbortController | null} Ends the locks and listeners of a page that takes part. */ #running = null;
  /** Of the current leader: larger than those of its predecessors. */ #term = 0;
  /** Of the leader that readers began with: its events count until another says what it covers. */ #begun = 0;
  #changing = false;
  #alone = false;
  #candidacy = new AbortController();
  /** The last report of the leader, and when it arrived. */
  #last = { heardAt: 0, allowedMs: 0, at: 0 };
  #askedAt = 0;

  /**
   * @param {string} name the same for all pages that may share: the service and the caller
   * @param {{client: Pick<import("./client.js").Client, "url" | "fetch">, share?: boolean | string, attempts?: number,
   *   onUnused?: () => void, found?: SharedStream}} options
   *   `onUnused` is called when the last reader has left; `found` is the stream that this one replaces
   */
  constructor(name, options) {
    super();
    // The number is that of the messages: pages that a browser has kept may be of another version.
    this.#name = `headway 3 ${name}`;
    this.#options = options;
  }

  get readers() {
    return [...this.#readers.keys()];
  }

  /** @param {Reader} reader */
  join(reader) {
    this.#readers.set(reader, new Set());
    if (globalThis.addEventListener !== undefined) for (const type in this.#page) addEventListener(type, this, true);
    this.#start();
    this.changed();
  }

  /** @param {Reader} reader */
  leave(reader) {
    if (this.#readers.delete(reader)) this.changed();
  }

  /** The topics of a reader have changed. Several changes at a time are handled together. */
  async changed() {
    if (this.#changing) return;
    this.#changing = true;
    await null;
    this.#changing = false;
    if (this.#readers.size > 0) {
      if (this.#running) this.#want();
      return;
    }
    this.#stop();
    if (globalThis.addEventListener !== undefined) for (const type in this.#page) removeEventListener(type, this, true);
    this.#options.onUnused?.();
  }

  handleEvent(/** @type {Event} */ { type }) {
    this.#page[type]();
  }

  /** @type {Record<string, () => void>} What becomes of the page, by event. */
  #page = {
    // In the back/forward cache it would keep one of the six connections.
    pagehide: () => this.#stop(),
    pageshow: () => this.#start(),
    // A frozen page cannot send, even if it is elected; messages wait for it. It is out of date when it wakes.
    freeze: () => {
      if (this.#alone) return;
      this.#withdraw();
      if (this.status === "live") this.setStatus("stale", this.#last.heardAt);
    },
    resume: () => this.#alone || (this.#running && this.#elect()),
    visibilitychange: () => this.#check(),
  };

  /** Try again, after it gave up. */
  again() {
    this.#say("again");
  }

  /** Called when readers were told of everything up to the cursor. */
  heard() {}

  #start() {
    if (this.#running || this.#readers.size === 0) return;
    const { signal } = (this.#running = new AbortController());
    this.#last.heardAt = this.#last.at = Date.now();
    this.setStatus("connecting");
    this.#want();
    this.#alone = !this.#options.share || !(globalThis.navigator && navigator.locks);
    if (this.#alone) return this.#lead();
    const watchdog = setInterval(() => this.#check(), CHECK_MS);
    signal.addEventListener("abort", () => clearInterval(watchdog));
    // This lock tells the others when the page is gone: they must not hear of it before it has the lock.
    hold(`${this.#name} ${this.#id}`, signal, () => {
      this.#channel = new BroadcastChannel(this.#name);
      this.#channel.onmessage = ({ data }) => this.#onMessage(data);
      this.#say("who");
      this.#want();
    });
    this.#elect();
  }

  /**
   * Lead as soon as no other page does.
   * @param {boolean} [steal] lead now, even if another page does; only for a page that stands already
   */
  async #elect(steal) {
    const { signal } = steal ? this.#candidacy : (this.#candidacy = new AbortController());
    await hold(this.#name, signal, () => this.#lead(), steal);
    if (signal.aborted) return;
    // Another page has taken the lock, because this one did not answer. One that took it stands already.
    this.#resign();
    if (!steal) this.#elect();
  }

  #stop() {
    if (!this.#running) return;
    // Without readers nobody keeps in step with what comes from here on.
    if (this.#readers.size === 0) this.cursor = null;
    this.#say("bye");
    this.#withdraw();
    this.#running.abort();
    this.#running = null;
    this.#channel?.close();
    this.#channel = null;
    this.#pages.clear();
    this.setStatus("closed");
  }

  #lead() {
    this.leads = true;
    this.#term = Math.max(this.#term + 1, Date.now());
    for (const id of this.#pages.keys()) this.#watchForExit(id);
    this.#connect();
  }

  /** Another page leads, or thinks so: of two that took the lock at once, the first may have the later term. */
  async #onOverruled() {
    this.#resign();
    if ((await oneHolds(this.#name, `${this.#name} ${this.#id}`)) && this.#running && !this.leads) this.#lead();
  }

  /** Do not lead, and do not be elected. */
  #withdraw() {
    this.#candidacy.abort();
    this.#resign();
  }

  #resign(leads = false) {
    this.leads = leads;
    const stream = this.#stream;
    this.#stream = null;
    stream?.close();
  }

  #open() {
    const stream = new EventStream({ ...this.#options, cursor: this.cursor });
    const report = (/** @type {any} */ event) => this.#stream === stream && this.#report(event.detail);
    for (const type of ["status", "beat", "event"]) stream.addEventListener(type, report);
    stream.addEventListener("open", () => {
      this.#narrow = false;
      // Without a cursor it begins with snapshots.
      if (stream.cursor === null) this.#announce("covered", { topics: [...this.#covered], fresh: true });
      this.#connect();
    });
    stream.addEventListener("refused", () => {
      // The list may name a job that is gone: readers ask about theirs, and a new list is made.
      this.#narrow = true;
      this.#cursorTopic = "";
      this.#announce("refused");
    });
    return stream;
  }

  /** As the leader: have a connection that covers what is wanted. It may cover more than that. */
  #connect() {
    if (!this.leads) return;
    const wanted = new Set([...this.#pages.values()].flat());
    if (wanted.size === 0) {
      // All jobs have ended. What is watched later begins anew, not with the events in between.
      this.#resign(true);
      this.#announce("idle");
      return;
    }
    this.#stream ??= this.#open();
    const stream = this.#stream;
    // While it connects, wait: pages that open together do not each start it again.
    if (stream.pending) return;
    const covers = [...wanted].every((topic) => this.#covered.has(topic));
    if (stream.status === "closed" || !covers || (this.#narrow && wanted.size < this.#covered.size)) {
      // The job of the last event stays in the list, or the cursor would belong to no job in it.
      if (this.#cursorTopic && queryFor(wanted).startsWith("job")) wanted.add(this.#cursorTopic);
      this.#covered = wanted;
      stream.open(this.#options.client.url(`/events?${queryFor(wanted)}`));
    }
    if (this.cursor !== null || stream.opened) this.#announce("covered", { topics: [...this.#covered], fresh: false });
    this.#report();
  }

  #report(/** @type {any} */ event = undefined) {
    if (!this.#stream) return;
    const { status, since, heardAt, allowedMs, cursor } = this.#stream;
    this.#announce("report", { status, since, heardAt, allowedMs, prev: this.cursor, cursor, event });
  }

  #want() {
    this.#say("want", { topics: this.readers.flatMap((reader) => [...reader.topics]) });
  }

  /** As the leader: tell all pages. */
  #announce(/** @type {string} */ type, message = {}) {
    this.#say(type, { term: this.#term, ...message });
  }

  /** Tell all pages, this one too. `type` is one of #handlers. */
  #say(/** @type {string} */ type, message = {}) {
    const full = { type, from: this.#id, ...message };
    this.#channel?.postMessage(full);
    this.#onMessage(full);
  }

  #onMessage(/** @type {any} */ message) {
    if (message.term < (message.event ? this.#begun : this.#term)) return;
    if (message.term > this.#term) {
      this.#term = message.term;
      if (this.leads) this.#onOverruled();
    }
    this.#handlers[message.type]?.(message);
  }

  /** @type {Record<string, (message: any) => void>} The messages of pages; those with a term are the leader's. */
  #handlers = {
    who: () => this.#want(),
    want: ({ from, topics }) => {
      if (this.leads && !this.#pages.has(from)) this.#watchForExit(from);
      this.#pages.set(from, topics);
      this.#connect();
    },
    bye: ({ from }) => this.#pages.delete(from),
    again: () => this.#stream?.status === "gave-up" && this.#stream.open(),
    ask: () => {
      // Timers may have been too slow for this, in a page that is not visible.
      this.#stream?.checkSilence();
      this.#report();
    },
    idle: () => {
      this.cursor = null;
      this.#cursorTopic = "";
      this.#covered.clear();
      this.setStatus("closed");
    },
    refused: () => this.emit("refused"),
    covered: ({ topics, fresh }) => ((this.#begun = this.#term), this.#begin(topics, fresh)),
    report: (message) => this.#onReport(message),
  };

  /**
   * @param {Topic[]} covered
   * @param {boolean} fresh
   */
  #begin(covered, fresh, gap = false) {
    this.#covered = new Set(covered);
    for (const [reader, begun] of this.#readers) {
      if (fresh || gap) begun.clear();
      const topics = [...reader.topics].filter((topic) => this.#covered.has(topic) && !begun.has(topic));
      for (const topic of topics) begun.add(topic);
      if (topics.length > 0) reader.begin({ topics, fresh, gap });
    }
  }

  /** @param {Report} report */
  #onReport({ status, since, heardAt, allowedMs, prev, cursor, event }) {
    this.#last = { heardAt, allowedMs, at: Date.now() };
    this.#askedAt = 0;
    const known = event?.event !== "reset" && this.cursor !== null && compareIds(cursor, this.cursor) <= 0;
    if (cursor !== null && !known) {
      const gap = this.cursor !== null && prev !== null && compareIds(prev, this.cursor) > 0;
      this.cursor = cursor;
      if (gap) this.#begin([...this.#covered], false, true);
    }
    if (event && !known) {
      const id = event.data.job?.id ?? event.data.job ?? event.data.id;
      if (id) this.#cursorTopic = jobTopic(id);
      for (const reader of this.readers) reader.receive(event);
      this.heard();
    }
    // A message that waited while this page was suspended is old.
    if (status === "live" && this.#silent(heardAt)) this.setStatus("stale", heardAt);
    else this.setStatus(status, since);
  }

  #silent(/** @type {number} */ since) {
    return Date.now() - since > this.#last.allowedMs + 2 * CHECK_MS;
  }

  /** As a page that does not lead: check that the leader is still there. */
  #check() {
    if (this.leads || !this.#running) return;
    const { heardAt, at } = this.#last;
    if (this.status === "live" && this.#silent(heardAt)) this.setStatus("stale", heardAt);
    if (!this.#silent(at)) return;
    const now = Date.now();
    if (this.#askedAt === 0) {
      this.#askedAt = now;
      this.#say("ask");
    } else if (now - this.#askedAt >= ANSWER_MS) {
      this.#last.at = now;
      this.#askedAt = 0;
      this.#elect(true);
    }
  }

  /** When that page is gone, drop its topics. */
  #watchForExit(/** @type {number} */ id) {
    if (id === this.#id) return;
    const { signal } = /** @type {AbortController} */ (this.#running);
    navigator.locks
      .request(`${this.#name} ${id}`, { signal }, () => {
        this.#pages.delete(id);
        this.#connect();
      })
      .catch(() => {});
  }
}
