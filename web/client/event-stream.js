/**
 * One event stream that outlives its connections.
 *
 * The browser's EventSource reconnects after a dropped connection, but not after an HTTP error; it cannot tell
 * a silent connection from a dead one; it never slows down; and a new one starts without the last id. This class
 * adds what is missing.
 */

import { Connection } from "./emitter.js";

const TYPES = ["open", "error", "heartbeat", "snapshot", "state", "progress", "log", "artifact", "end", "reset", "shutdown"];
/** Silence longer than this means that the connection is dead. For heartbeats of 15 s, until one says otherwise. */
const DEFAULT_ALLOWED_MS = 22_500;
/** The states of an EventSource. */
const CONNECTING = 0;
const OPEN = 1;
const CLOSED = 2;
const CHECK_MS = 1000;
/** How many times the browser may reconnect by itself, at the interval that the service set (`retry`). */
const NATIVE_RETRIES = 5;
/** Consecutive failures, the last ones 30 s apart, until it gives up. */
const ATTEMPTS = 30;
const BACKOFF_MS = 1000;
const BACKOFF_MAX_MS = 30_000;

/** @typedef {import("../jobs.js").Status} Status */

/**
 * Dispatches `open` (it continues after `cursor`, or begins with snapshots if that is null), `event`
 * (detail: JobEvent), `beat` on a heartbeat, `status`, and `refused` when the service, or a proxy before it,
 * answered with an error.
 */
export class EventStream extends Connection {
  /** When the service was last heard. */
  heardAt = 0;
  /** @type {string | null} The id of the last event, from which it continues. */
  cursor;
  /** How long silence may last, ms. */
  allowedMs = DEFAULT_ALLOWED_MS;

  /** @type {string | URL} */ #url;
  /** @type {EventSource | null} */ #source = null;
  /** @type {number} */ #attempts;
  #failures = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #reopening;
  #watching = new AbortController();

  /**
   * @param {string | URL} url absolute
   * @param {object} [options]
   * @param {string | null} [options.cursor] last id that is known; "0" for everything that is kept;
   *   null (the default) to begin with snapshots
   * @param {number} [options.attempts] consecutive failures until it gives up; default: 30
   */
  constructor(url, options = {}) {
    super();
    this.#url = url;
    this.cursor = options.cursor ?? null;
    this.#attempts = options.attempts ?? ATTEMPTS;
  }

  /** Whether the connection is open. */
  get opened() {
    return this.#source?.readyState === OPEN;
  }

  /** Whether it is connecting, and nothing has failed yet. */
  get pending() {
    return this.#failures === 0 && this.#source?.readyState === CONNECTING;
  }

  /** Does nothing if it is open; tries again if it gave up. Call `close` in the end. */
  open() {
    if (this.status === "gave-up") {
      this.#failures = 0;
      this.#setStatus("reconnecting");
      this.#connect();
    }
    if (this.status !== "closed") return;
    this.heardAt = Date.now();
    this.#setStatus("connecting");
    this.#startWatchdog();
    this.#connect();
  }

  /** Nothing is dispatched after this except the status. */
  close() {
    if (this.status === "closed") return;
    this.#watching.abort();
    this.#disconnect();
    this.#setStatus("closed");
  }

  /**
   * Continue at another address, from the same cursor.
   * @param {string | URL} url absolute
   */
  move(url) {
    this.#url = url;
    if (this.status === "closed") this.open();
    else this.#connect();
  }

  #startWatchdog() {
    const { signal } = (this.#watching = new AbortController());
    const watchdog = setInterval(() => this.checkSilence(), CHECK_MS);
    signal.addEventListener("abort", () => clearInterval(watchdog));
    // After sleep, or after time in the background, find out now and not at the next check.
    for (const type of ["online", "visibilitychange"]) {
      addEventListener(type, () => this.#onResume(), { signal });
    }
  }

  #connect() {
    this.#disconnect();
    // It begins anew, with snapshots.
    if (this.status === "live" && this.cursor === null) this.#setStatus("connecting");
    // A new connection gets the full time to say something.
    if (this.status !== "live") this.heardAt = Date.now();
    const url = new URL(this.#url);
    url.searchParams.set("heartbeat", "event");
    if (this.cursor !== null) url.searchParams.set("last_event_id", this.cursor);
    const source = (this.#source = new EventSource(url.href));
    for (const type of TYPES) {
      // A source that was replaced must not touch its successor's state.
      source.addEventListener(type, (message) => this.#source === source && this.#onMessage(/** @type {any} */ (message)));
    }
  }

  #disconnect() {
    clearTimeout(this.#reopening);
    this.#reopening = undefined;
    this.#source?.close();
    this.#source = null;
  }

  /**
   * The last id may come with a message that has none of its own: the service also sends an id by itself,
   * which dispatches nothing.
   * @param {MessageEvent} message
   */
  #onMessage({ type, data, lastEventId }) {
    if (type === "error") {
      this.#onError();
      return;
    }
    // Messages queued while the page was suspended are old, heartbeats included: reconnect instead of trusting them.
    if (Date.now() - this.heardAt > this.allowedMs) {
      this.checkSilence();
      return;
    }
    if (type === "open") {
      // Not live yet: the service may have lost its store, or a proxy may have answered with a `retry` only.
      if (this.status !== "live") this.heardAt = Date.now();
      this.emit("open");
      return;
    }
    const body = JSON.parse(data);
    // Before heardAt changes: out of date since the service was heard before this.
    if (body.behind) this.#setStatus("stale");
    this.heardAt = Date.now();
    this.#failures = 0;
    if (lastEventId) this.cursor = lastEventId;
    if (type === "shutdown") this.#setStatus("reconnecting");
    else if (type === "heartbeat") {
      // The first comes as soon as the stream is open. The interval says how long silence may last: one and a
      // half of it, and for short intervals, which are relatively later, 2 s more.
      this.allowedMs = 1000 * Math.max(1.5 * body.interval_s, body.interval_s + 2);
      if (!body.behind) this.#setStatus("live");
      this.emit("beat");
    } else this.emit("event", { id: lastEventId, event: type, data: body });
  }

  #onError() {
    this.#setStatus(this.status === "connecting" ? "connecting" : "reconnecting");
    this.#failures += 1;
    const closed = this.#source?.readyState === CLOSED;
    if (this.#failures >= this.#attempts) {
      this.#disconnect();
      this.#setStatus("gave-up");
      return;
    }
    if (!closed && this.#failures <= NATIVE_RETRIES) return;
    this.#disconnect();
    const limit = Math.min(BACKOFF_MAX_MS, BACKOFF_MS * 2 ** (this.#failures - 1));
    // Anywhere below the limit, so that clients of a restarted service do not return all at once.
    this.#reopening = setTimeout(() => this.#connect(), Math.random() * limit);
    if (closed) this.emit("refused");
  }

  /** Reconnect if the silence has lasted too long; this is also checked every second. */
  checkSilence() {
    const now = Date.now();
    const waiting = this.#reopening !== undefined || this.status === "gave-up";
    if (now - this.heardAt <= this.allowedMs || waiting) return;
    if (this.status !== "connecting") this.#setStatus("stale");
    this.#connect();
  }

  /** The network or the page is back. Timers may have been suspended, and there is no reason to wait longer. */
  #onResume() {
    if (this.status === "live") this.checkSilence();
    else if (document.visibilityState === "hidden") return;
    else if (this.status === "gave-up") this.open();
    else this.#connect();
  }

  /** @param {Status} status */
  #setStatus(status) {
    if (this.status === status) return;
    // From one kind of silence to another, it is the same silence that goes on.
    const silent = this.status === "reconnecting" || this.status === "stale";
    this.setStatus(status, status === "live" ? Date.now() : silent ? this.since : this.heardAt);
  }
}
