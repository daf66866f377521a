/**
 * One event stream that outlives its connections.
 *
 * It is read by fetch and not by an EventSource, which sends no credentials but cookies, does not tell why it was
 * refused, gives up after an HTTP error, cannot tell a silent connection from a dead one, never slows down, and starts
 * without the last id.
 */

import { Connection } from "./emitter.js";
import { decoder } from "./sse.js";

/** Silence longer than this means that the connection is dead. For heartbeats of 15 s, until one says otherwise. */
const DEFAULT_ALLOWED_MS = 22_500;
const CHECK_MS = 1000;
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
  /** Whether the connection is open. */
  opened = false;

  /** @type {string | URL} */ #url = "";
  #options;
  /** @type {AbortController | null} Ends the connection. */ #connection = null;
  #failures = 0;
  /** When to reconnect, at the earliest: `retry`, which the service sends first. */ #retryMs = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #reopening;
  /** When it is to reconnect; Infinity while it need not. */ #reopenAt = Infinity;
  #watching = new AbortController();

  /**
   * @param {object} options
   * @param {string | null} [options.cursor] last id that is known; "0" for everything that is kept;
   *   null (the default) to begin with snapshots
   * @param {number} [options.attempts] consecutive failures until it gives up; default: 30
   * @param {{fetch(url: URL, init: RequestInit): Promise<Response>}} options.client
   */
  constructor(options) {
    super();
    this.#options = options;
    this.cursor = options.cursor ?? null;
  }

  /** Whether it is connecting, and nothing has failed yet. */
  get pending() {
    return this.#failures === 0 && this.#connection && !this.opened;
  }

  /**
   * Connect, also if it gave up or is connected: to this address, from the cursor on. Call `close` in the end.
   * @param {string | URL} [url] absolute; default: the last one
   */
  open(url) {
    if (url) this.#url = url;
    if (this.status === "closed") {
      this.#startWatchdog();
      this.setStatus("connecting");
    }
    this.#connect();
  }

  /** Nothing is dispatched after this except the status. */
  close() {
    if (this.status === "closed") return;
    this.#watching.abort();
    this.#disconnect();
    this.setStatus("closed");
  }

  #startWatchdog() {
    this.heardAt = Date.now();
    const { signal } = (this.#watching = new AbortController());
    const watchdog = setInterval(() => this.checkSilence(), CHECK_MS);
    signal.addEventListener("abort", () => clearInterval(watchdog));
    // After sleep, or after time in the background, find out now and not at the next check.
    for (const type of globalThis.addEventListener !== undefined ? ["online", "visibilitychange"] : []) {
      addEventListener(type, () => this.#onResume(), { signal });
    }
  }

  async #connect() {
    this.#disconnect();
    if (this.status === "gave-up") {
      this.#failures = 0;
      this.setStatus("reconnecting");
    }
    // It begins anew, with snapshots.
    if (this.status === "live" && this.cursor === null) this.setStatus("connecting");
    // A new connection gets the full time to say something.
    if (this.status !== "live") this.heardAt = Date.now();
    const url = new URL(this.#url);
    url.searchParams.set("heartbeat", "event");
    if (this.cursor !== null) url.searchParams.set("last_event_id", this.cursor);
    const { signal } = (this.#connection = new AbortController());
    let refused = false;
    try {
      const { headers, body } = await this.#options.client.fetch(url, { signal, cache: "no-store" });
      // An error, 204 after the end of a job, or a proxy's page.
      refused = !/event-stream/.test(/** @type {string} */ (headers.get("content-type")));
      if (!refused && !signal.aborted) {
        // Not live yet: the service may have lost its store, or a proxy may have answered with a `retry` only.
        this.opened = true;
        this.emit("open");
        // A connection that was replaced must not touch its successor's state.
        const decode = decoder((frame) => signal.aborted || this.#onFrame(frame));
        const reader = /** @type {ReadableStream} */ (body).pipeThrough(new TextDecoderStream()).getReader();
        for (let piece; !(piece = await reader.read()).done; ) decode(piece.value);
      }
    } catch {
      // It was closed, or it broke.
    }
    if (!signal.aborted) this.#onClosed(refused);
  }

  #disconnect() {
    clearTimeout(this.#reopening);
    this.#reopenAt = Infinity;
    this.opened = false;
    this.#connection?.abort();
    this.#connection = null;
  }

  /** @param {import("./sse.js").Frame} frame */
  #onFrame({ event, data, id, retry }) {
    if (retry) this.#retryMs = +retry;
    // The service also sends an id by itself. It becomes the cursor with the next event.
    if (!data) return;
    // Events queued while the page was suspended are old, heartbeats included: reconnect instead of trusting them.
    if (this.#silent) {
      this.checkSilence();
      return;
    }
    const body = JSON.parse(data);
    // Before heardAt changes: out of date since the service was heard before this.
    if (body.behind) this.setStatus("stale");
    this.heardAt = Date.now();
    this.#failures = 0;
    if (id) this.cursor = id;
    if (event === "shutdown") this.setStatus("reconnecting");
    else if (event === "heartbeat") {
      // The first comes as soon as the stream is open. The interval says how long silence may last: one and a
      // half of it, and for short intervals, which are relatively later, 2 s more.
      this.allowedMs = 1000 * Math.max(1.5 * body.interval_s, body.interval_s + 2);
      if (!body.behind) this.setStatus("live");
      this.emit("beat");
    } else this.emit("event", { id, event, data: body });
  }

  /** @param {boolean} refused */
  #onClosed(refused) {
    if (this.status !== "connecting") this.setStatus("reconnecting");
    this.#disconnect();
    this.#failures += 1;
    if (this.#failures >= (this.#options.attempts ?? ATTEMPTS)) {
      this.setStatus("gave-up");
      return;
    }
    // Anywhere below the limit, so that clients of a restarted service do not return all at once.
    const wait = Math.random() * Math.min(BACKOFF_MAX_MS, BACKOFF_MS * 2 ** (this.#failures - 1));
    const delay = Math.max(wait, this.#retryMs);
    this.#reopening = setTimeout(() => this.#connect(), delay);
    this.#reopenAt = Date.now() + delay;
    if (refused) this.emit("refused");
  }

  get #silent() {
    return Date.now() - this.heardAt > this.allowedMs;
  }

  /** Reconnect if the silence has lasted too long, or if that is due and the timer late, as in a page that has been
   * hidden for minutes. This is also checked every second. */
  checkSilence() {
    if (Date.now() > this.#reopenAt) this.#connect();
    if (!this.#connection || !this.#silent) return;
    if (this.status !== "connecting") this.setStatus("stale");
    this.#connect();
  }

  /** The network or the page is back. Timers may have been suspended, and there is no reason to wait longer. */
  #onResume() {
    if (this.status === "live") this.checkSilence();
    else if (document.visibilityState !== "hidden") this.#connect();
  }

  /** @param {Status} status */
  setStatus(status) {
    // From one kind of silence to another, it is the same silence that goes on.
    const silent = this.status === "reconnecting" || this.status === "stale";
    if (this.status !== status) super.setStatus(status, status === "live" ? Date.now() : silent ? this.since : this.heardAt);
  }
}
