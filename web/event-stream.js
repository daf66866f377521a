/**
 * One stream of events that survives its connections.
 *
 * The browser's EventSource reconnects by itself after a dropped connection. It does not after an HTTP
 * error, it cannot tell a silent connection from a dead one, and a new one starts without the last id:
 * that is what this adds.
 */

const TYPES = ["snapshot", "state", "progress", "log", "artifact", "end", "reset", "shutdown"];
const DEFAULT_HEARTBEAT_MS = 15_000;
/** Silence that lasts this many heartbeats means that the connection is dead. */
const MISSED = 2.5;
const CHECK_MS = 1000;
const BACKOFF_MS = 1000;
const BACKOFF_MAX_MS = 30_000;

/**
 * `connecting`: never connected yet; `live`; `reconnecting`: the connection is known to be lost;
 * `stale`: nothing was heard for too long; `closed`: by us, or given up.
 * @typedef {"connecting" | "live" | "reconnecting" | "stale" | "closed"} Status
 */

/**
 * Dispatches `open` (detail: {cursor}, the id from which it continues, or null if it begins with
 * snapshots), `event` (detail: JobEvent) and `status`.
 */
export class EventStream extends EventTarget {
  /** @type {Status} */
  status = "closed";
  /** When this status began to be true: for any but `live`, when the service was last heard. */
  since = Date.now();

  /** @type {URL} */ #url;
  /** @type {string | null} */ #cursor;
  /** @type {EventSource | null} */ #source = null;
  /** @type {number} */ #attempts;
  #EventSource;
  #failures = 0;
  #heardAt = 0;
  /** @type {number[]} How long it was silent before the latest beats, ms. */ #silences = [];
  #allowedMs = MISSED * DEFAULT_HEARTBEAT_MS;
  #learnt = false;
  /** @type {ReturnType<typeof setInterval> | undefined} */ #watchdog;
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #reopening;
  #onReturn = () => this.#returned();
  #onHide = () => this.#hidden();
  #onShow = (/** @type {any} */ event) => event.persisted && this.#connect();

  /**
   * @param {string | URL} url absolute
   * @param {object} [options]
   * @param {string | null} [options.cursor] last id that is known; "0" for everything that is kept;
   *   null (the default) to begin with snapshots
   * @param {number} [options.attempts] how many refusals in a row until it gives up; default: never
   * @param {typeof EventSource} [options.EventSource]
   */
  constructor(url, options = {}) {
    super();
    this.#url = new URL(url);
    this.#cursor = options.cursor ?? null;
    this.#attempts = options.attempts ?? Infinity;
    this.#EventSource = options.EventSource ?? globalThis.EventSource;
  }

  /** The id of the last event, from which it continues. */
  get cursor() {
    return this.#cursor;
  }

  /** Does nothing if it is open. Whoever opens it closes it. */
  open() {
    if (this.status !== "closed") return;
    this.#heardAt = Date.now();
    this.#become("connecting");
    this.#watchdog = setInterval(() => this.#look(), CHECK_MS);
    // A machine that slept, or a page that was in the background, finds out now, not at the next check.
    globalThis.addEventListener?.("online", this.#onReturn);
    globalThis.document?.addEventListener("visibilitychange", this.#onReturn);
    // A page that is kept for the way back would keep its connection, of the six that there are to a host.
    globalThis.addEventListener?.("pagehide", this.#onHide);
    globalThis.addEventListener?.("pageshow", this.#onShow);
    this.#connect();
  }

  /** Nothing is dispatched after this, except the status. */
  close() {
    if (this.status === "closed") return;
    clearInterval(this.#watchdog);
    clearTimeout(this.#reopening);
    globalThis.removeEventListener?.("online", this.#onReturn);
    globalThis.document?.removeEventListener("visibilitychange", this.#onReturn);
    globalThis.removeEventListener?.("pagehide", this.#onHide);
    globalThis.removeEventListener?.("pageshow", this.#onShow);
    this.#disconnect();
    this.#become("closed");
  }

  #connect() {
    clearTimeout(this.#reopening);
    this.#reopening = undefined;
    this.#disconnect();
    const url = new URL(this.#url);
    url.searchParams.set("heartbeat", "event");
    if (this.#cursor !== null) url.searchParams.set("last_event_id", this.#cursor);
    const source = new this.#EventSource(url.href);
    this.#source = source;
    // A listener of a source that was replaced meanwhile must not touch its successor's state.
    const current = (/** @type {(message: any) => void} */ listener) => (/** @type {any} */ message) => {
      if (this.#source === source) listener(message);
    };
    source.addEventListener(
      "open",
      current(() => this.#opened()),
    );
    source.addEventListener(
      "error",
      current(() => this.#failed(source)),
    );
    source.addEventListener(
      "heartbeat",
      current((message) => this.#beat(message)),
    );
    for (const type of TYPES)
      source.addEventListener(
        type,
        current((message) => this.#received(message)),
      );
  }

  #disconnect() {
    this.#source?.close();
    this.#source = null;
  }

  #opened() {
    this.#heard();
    this.#become("live");
    this.dispatchEvent(new CustomEvent("open", { detail: { cursor: this.#cursor } }));
  }

  /** @param {MessageEvent} message */
  #received(message) {
    this.#heard(message);
    const data = JSON.parse(message.data);
    if (message.type === "shutdown") {
      this.#become("reconnecting");
      return;
    }
    this.#become("live");
    const detail = { id: message.lastEventId, event: message.type, data };
    this.dispatchEvent(new CustomEvent("event", { detail }));
  }

  /**
   * How long silence may last is learnt from the beats: from what they say, else from how long it was
   * silent before them.
   * @param {MessageEvent} message
   */
  #beat(message) {
    this.#silences = [...this.#silences.slice(-4), Date.now() - this.#heardAt];
    this.#heard(message);
    this.#become("live");
    const interval = intervalMs(message.data) || Math.max(...this.#silences);
    this.#allowedMs = MISSED * Math.max(interval, CHECK_MS);
    this.#learnt = true;
  }

  /**
   * The last id may come with a message that has none of its own: the service also sends ids alone,
   * which dispatch nothing.
   * @param {MessageEvent} [message]
   */
  #heard(message) {
    this.#heardAt = Date.now();
    this.#failures = 0;
    if (message?.lastEventId) this.#cursor = message.lastEventId;
  }

  /** @param {EventSource} source */
  #failed(source) {
    this.#become(this.status === "connecting" ? "connecting" : "reconnecting");
    if (source.readyState !== this.#EventSource.CLOSED) return;
    this.#failures += 1;
    if (this.#failures >= this.#attempts) {
      this.close();
      return;
    }
    const limit = Math.min(BACKOFF_MAX_MS, BACKOFF_MS * 2 ** (this.#failures - 1));
    // Not all at once when a service comes back: anywhere below the limit.
    this.#reopening = setTimeout(() => this.#connect(), Math.random() * limit);
  }

  #look() {
    const now = Date.now();
    if (now - this.#heardAt <= this.#allowedMs || this.#reopening !== undefined) return;
    // A service whose beat is slower than we think must not be cut off for ever.
    if (!this.#learnt && this.#source?.readyState === this.#EventSource.OPEN) {
      this.#allowedMs = Math.min(2 * this.#allowedMs, 3_600_000);
    }
    if (this.status !== "connecting") this.#become("stale");
    this.#heardAt = now;
    this.#connect();
  }

  #hidden() {
    clearTimeout(this.#reopening);
    this.#reopening = undefined;
    this.#disconnect();
    if (this.status === "live") this.#become("reconnecting");
  }

  /** The network or the page is back. Timers may have stood still, and waiting longer is no use. */
  #returned() {
    if (this.status === "live") this.#look();
    else if (globalThis.document?.visibilityState !== "hidden") this.#connect();
  }

  /** @param {Status} status */
  #become(status) {
    if (this.status === status) return;
    // From one kind of not hearing to another, it is the same silence that goes on.
    const silent = this.status === "reconnecting" || this.status === "stale";
    if (!silent || status === "live") this.since = status === "live" ? Date.now() : this.#heardAt;
    this.status = status;
    this.dispatchEvent(new CustomEvent("status"));
  }
}

/**
 * @param {string} text
 * @returns {number} the interval that a heartbeat names, in ms; 0 if it names none
 */
function intervalMs(text) {
  try {
    return Number(JSON.parse(text)?.interval_s ?? 0) * 1000;
  } catch {
    return 0;
  }
}
