/**
 * All events of one job, from the first that is kept.
 *
 * It needs no connection of its own: past events are read page by page, new ones are in the feed that the page has
 * anyway. As in the service there are two states: live, when an event of the feed is the next one; and behind, when
 * events are read until there are no more.
 */

import { Emitter } from "./emitter.js";
import { compareIds } from "./event-id.js";

/** @typedef {import("../jobs.js").JobEvent} JobEvent */

const LIMIT = 500;
const RETRY_MS = 2000;

/**
 * Dispatches `events` (detail: JobEvent[], the next ones), `clear` (discard all; they are dispatched again) and
 * `read` (there are no more for now).
 */
export class JobEvents extends Emitter {
  #client;
  #feed;
  #id;
  #cursor = "0";
  /** Whether events are being read, and whether more happened meanwhile. */
  #reading = false;
  #behind = false;
  #closed = new AbortController();

  /**
   * @param {import("./client.js").Client} client
   * @param {import("./job-feed.js").JobFeed} feed that the job is in
   * @param {string} id
   */
  constructor(client, feed, id) {
    super();
    this.#client = client;
    this.#feed = feed;
    this.#id = id;
  }

  /** Call `close` in the end. */
  open() {
    const { signal } = this.#closed;
    this.#feed.addEventListener("event", (event) => this.#onEvent(/** @type {CustomEvent} */ (event).detail), {
      signal,
    });
    // After an interruption a feed leaves out superseded progress; the job's own events have it.
    this.#feed.addEventListener("gap", () => this.#read(), { signal });
    this.#feed.addEventListener("status", () => this.#feed.status === "live" && this.#read(), { signal });
    this.#read();
  }

  close() {
    this.#closed.abort();
  }

  /** @param {JobEvent} happened */
  #onEvent(happened) {
    const { id, event } = happened;
    const data = /** @type {any} */ (happened.data);
    if (event === "reset") {
      this.#clear();
      return;
    }
    if ((data.job ?? data.id) !== this.#id) return;
    if (event === "snapshot" || this.#reading) {
      if (compareIds(id, this.#cursor) > 0) this.#read();
      return;
    }
    if (compareIds(id, this.#cursor) > 0) this.#tell([happened], id);
  }

  #clear() {
    this.#cursor = "0";
    this.emit("clear");
    this.#read();
  }

  /**
   * @param {JobEvent[]} events
   * @param {string} cursor
   */
  #tell(events, cursor) {
    this.#cursor = cursor;
    if (events.length > 0) this.emit("events", events);
  }

  async #read() {
    this.#behind = true;
    if (this.#reading) return;
    this.#reading = true;
    const { signal } = this.#closed;
    while (this.#behind && !signal.aborted) {
      this.#behind = false;
      const after = this.#cursor;
      const path = `/jobs/${encodeURIComponent(this.#id)}/events`;
      try {
        const page = await this.#client.ask("GET", path, {
          query: { after, limit: LIMIT },
          headers: { accept: "application/json" },
          signal,
        });
        if (this.#cursor !== after) continue;
        if (page.reset) {
          this.#cursor = "0";
          this.emit("clear");
          this.#behind = after !== "0";
          continue;
        }
        this.#tell(page.events, page.cursor);
        this.#behind ||= page.events.length === LIMIT;
        if (!this.#behind) this.emit("read");
      } catch (error) {
        // There is no such job.
        if (signal.aborted || /** @type {{status?: number}} */ (error).status === 404) break;
        this.#behind = true;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
    this.#reading = false;
  }
}
