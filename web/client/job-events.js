/**
 * All events of one job, from the first that is kept, and on as they happen.
 *
 * A job's page needs no connection of its own: what was is read page by page, what comes is in the feed
 * that the page has anyway. As on the service's side there are two states: live, when an event of the
 * feed is the next one; and behind, when the store is read until there is nothing more in it.
 */

import { compareIds } from "./event-id.js";

/** @typedef {import("../jobs.js").JobEvent} JobEvent */

const LIMIT = 500;
const RETRY_MS = 2000;

/**
 * Dispatches `events` (detail: JobEvent[], the next ones), `clear` (what was told is void, and is told
 * again) and `read` (all was told that there is).
 */
export class JobHistory extends EventTarget {
  #client;
  #feed;
  #id;
  #cursor = "0";
  /** Whether the store is being read, and whether something happened meanwhile. */
  #reading = false;
  #behind = false;
  #closed = new AbortController();

  /**
   * @param {import("../jobs.js").Headway} client
   * @param {import("./job-feed.js").JobFeed} feed that the job is in
   * @param {string} id
   */
  constructor(client, feed, id) {
    super();
    this.#client = client;
    this.#feed = feed;
    this.#id = id;
  }

  /** Whoever opens it closes it. */
  open() {
    const { signal } = this.#closed;
    this.#feed.addEventListener("event", (event) => this.#happened(/** @type {CustomEvent} */ (event).detail), {
      signal,
    });
    // A feed that was away leaves out superseded progress; the job's own stream has it.
    this.#feed.addEventListener("gap", () => this.#read(), { signal });
    this.#feed.addEventListener("status", () => this.#feed.status === "live" && this.#read(), { signal });
    this.#read();
  }

  close() {
    this.#closed.abort();
  }

  /** @param {JobEvent} event */
  #happened({ id, event, data }) {
    if (event === "reset") {
      this.#clear();
      return;
    }
    if ((data.job ?? data.id) !== this.#id) return;
    if (event === "snapshot" || this.#reading) {
      if (compareIds(id, this.#cursor) > 0) this.#read();
      return;
    }
    if (compareIds(id, this.#cursor) > 0) this.#tell([{ id, event, data }], id);
  }

  #clear() {
    this.#cursor = "0";
    this.dispatchEvent(new Event("clear"));
    this.#read();
  }

  /**
   * @param {JobEvent[]} events
   * @param {string} cursor
   */
  #tell(events, cursor) {
    this.#cursor = cursor;
    if (events.length > 0) this.dispatchEvent(new CustomEvent("events", { detail: events }));
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
          this.dispatchEvent(new Event("clear"));
          this.#behind = after !== "0";
          continue;
        }
        this.#tell(page.events, page.cursor);
        this.#behind ||= page.events.length === LIMIT;
        if (!this.#behind) this.dispatchEvent(new Event("read"));
      } catch (error) {
        // There is no such job: that does not change by asking again.
        if (signal.aborted || /** @type {{status?: number}} */ (error).status === 404) break;
        this.#behind = true;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
    this.#reading = false;
  }
}
