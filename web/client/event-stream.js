/**
 * One stream of events that survives its connections.
 *
 * The browser's EventSource reconnects by itself after a dropped connection. It does not after an HTTP
 * error, it cannot tell a silent connection from a dead one, it asks for ever at the same pace, and a
 * new one starts without the last id: that is what this adds.
 */

const TYPES = ["open", "error", "heartbeat", "snapshot", "state", "progress", "log", "artifact", "end", "reset", "shutdown"];
/** How long silence may last between heartbeats of 15 s: more means that the connection is dead. */
const DEFAULT_ALLOWED_MS = 22_500;
const CHECK_MS = 1000;
/** How often the browser may try by itself, at the pace that the service gave it (`retry`). */
const NATIVE_RETRIES = 5;
/** Failures in a row, at a pace of 30 s in the end, until it gives up. */
const ATTEMPTS = 30;
const BACKOFF_MS = 1000;
const BACKOFF_MAX_MS = 30_000;

/**
 * `connecting`: nothing was vouched for yet; `live`: a heartbeat has said that what came is what is;
 * `reconnecting`: the connection is known to be lost;
 * `stale`: nothing was heard for too long, or the service says that it is behind; `gave-up`: tried as
 * often as it was told; `closed`: by us.
 * @typedef {"connecting" | "live" | "reconnecting" | "stale" | "gave-up" | "closed"} Status
 */

/**
 * Dispatches `open` (it continues after `cursor`, or begins with snapshots if that is null), `event`
 * (detail: JobEvent), `beat`, `status`, and `refused` when the service, or what is before it, answered
 * with an error.
 */
export class EventStream extends EventTarget {
  /** @type {Status} */
  status = "closed";
  /** When this status began to be true: for any but `live`, when the service was last heard. */
  since = Date.now();
  /** While it is live, when the service was last heard. */
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
  #attention = new AbortController();

  /**
   * @param {string | URL} url absolute
   * @param {object} [options]
   * @param {string | null} [options.cursor] last id that is known; "0" for everything that is kept;
   *   null (the default) to begin with snapshots
   * @param {number} [options.attempts] how many failures in a row until it gives up; default: 30
   */
  constructor(url, options = {}) {
    super();
    this.#url = url;
    this.cursor = options.cursor ?? null;
    this.#attempts = options.attempts ?? ATTEMPTS;
  }

  /** Whether the connection stands. */
  get opened() {
    return this.#source?.readyState === EventSource.OPEN;
  }

  /** Whether a connection is under way, and nothing has failed yet. */
  get connecting() {
    return this.#failures === 0 && this.#source?.readyState === EventSource.CONNECTING;
  }

  /** Does nothing if it is open; tries again if it gave up. Whoever opens it closes it. */
  open() {
    if (this.status === "gave-up") {
      this.#failures = 0;
      this.#become("reconnecting");
      this.#connect();
    }
    if (this.status !== "closed") return;
    this.heardAt = Date.now();
    this.#become("connecting");
    this.#attend();
    this.#connect();
  }

  /** Nothing is dispatched after this, except the status. */
  close() {
    if (this.status === "closed") return;
    this.#attention.abort();
    this.#disconnect();
    this.#become("closed");
  }

  /**
   * Go on at another address, from the same cursor.
   * @param {string | URL} url absolute
   */
  move(url) {
    this.#url = url;
    if (this.status === "closed") this.open();
    else this.#connect();
  }

  #attend() {
    const { signal } = (this.#attention = new AbortController());
    const watchdog = setInterval(() => this.look(), CHECK_MS);
    signal.addEventListener("abort", () => clearInterval(watchdog));
    // A machine that slept, or a page that was in the background, finds out now, not at the next check.
    for (const type of ["online", "visibilitychange"]) {
      addEventListener(type, () => this.#returned(), { signal });
    }
  }

  #connect() {
    this.#disconnect();
    // A new connection has its own time to say something.
    if (this.status !== "live") this.heardAt = Date.now();
    const url = new URL(this.#url);
    url.searchParams.set("heartbeat", "event");
    if (this.cursor !== null) url.searchParams.set("last_event_id", this.cursor);
    const source = (this.#source = new EventSource(url.href));
    for (const type of TYPES) {
      // A source that was replaced meanwhile must not touch its successor's state.
      source.addEventListener(type, (message) => this.#source === source && this.#happened(/** @type {any} */ (message)));
    }
  }

  #disconnect() {
    clearTimeout(this.#reopening);
    this.#reopening = undefined;
    this.#source?.close();
    this.#source = null;
  }

  /**
   * The last id may come with a message that has none of its own: the service also sends ids alone,
   * which dispatch nothing.
   * @param {MessageEvent} message
   */
  #happened({ type, data, lastEventId }) {
    if (type === "error") {
      this.#failed();
      return;
    }
    // What waited for a page that stood still was said long ago, also that all is well: it is asked for anew.
    if (Date.now() - this.heardAt > this.allowedMs) {
      this.look();
      return;
    }
    if (type === "open") {
      // Not live yet: it may be a service that has lost its store, or a proxy that only says when to come back.
      if (this.status !== "live") this.heardAt = Date.now();
      this.dispatchEvent(new Event("open"));
      return;
    }
    const said = JSON.parse(data);
    // Out of date since what was heard before.
    if (said.behind) this.#become("stale");
    this.heardAt = Date.now();
    this.#failures = 0;
    if (lastEventId) this.cursor = lastEventId;
    if (type === "shutdown") this.#become("reconnecting");
    else if (type === "heartbeat") {
      // The first comes as soon as the stream stands. They say how long silence may last: until then what
      // is shown may be out of date, so that one which is late by half is not waited for. Short ones are
      // late by more.
      this.allowedMs = 1000 * Math.max(1.5 * said.interval_s, said.interval_s + 2);
      if (!said.behind) this.#become("live");
      this.dispatchEvent(new Event("beat"));
    } else this.dispatchEvent(new CustomEvent("event", { detail: { id: lastEventId, event: type, data: said } }));
  }

  #failed() {
    this.#become(this.status === "connecting" ? "connecting" : "reconnecting");
    this.#failures += 1;
    const closed = this.#source?.readyState === EventSource.CLOSED;
    if (this.#failures >= this.#attempts) {
      this.#disconnect();
      this.#become("gave-up");
      return;
    }
    if (!closed && this.#failures <= NATIVE_RETRIES) return;
    this.#disconnect();
    const limit = Math.min(BACKOFF_MAX_MS, BACKOFF_MS * 2 ** (this.#failures - 1));
    // Not all at once when a service comes back: anywhere below the limit.
    this.#reopening = setTimeout(() => this.#connect(), Math.random() * limit);
    if (closed) this.dispatchEvent(new Event("refused"));
  }

  /** Look whether the silence has lasted too long; it does so by itself every second. */
  look() {
    const now = Date.now();
    const waiting = this.#reopening !== undefined || this.status === "gave-up";
    if (now - this.heardAt <= this.allowedMs || waiting) return;
    if (this.status !== "connecting") this.#become("stale");
    this.#connect();
  }

  /** The network or the page is back. Timers may have stood still, and waiting longer is no use. */
  #returned() {
    if (this.status === "live") this.look();
    else if (document.visibilityState === "hidden") return;
    else if (this.status === "gave-up") this.open();
    else this.#connect();
  }

  /** @param {Status} status */
  #become(status) {
    if (this.status === status) return;
    // From one kind of not hearing to another, it is the same silence that goes on.
    const silent = this.status === "reconnecting" || this.status === "stale";
    if (!silent || status === "live") this.since = status === "live" ? Date.now() : this.heardAt;
    this.status = status;
    this.dispatchEvent(new Event("status"));
  }
}
