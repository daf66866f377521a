/**
 * Ended jobs, loaded page by page, only as far back as the user scrolls: a page that stays open does not grow.
 *
 * The service filters by state, type, group and labels, but not by words. For those, more is read than is shown; after
 * `PAGES` pages the user has to ask for more.
 */

import { Emitter } from "../../client/emitter.js";
import { isLive } from "../../client/reducer.js";

/** @typedef {import("./job-filter.js").JobFilter} JobFilter */
/** @typedef {import("../../jobs.js").Job} Job */

const LIMIT = 200;
const PAGES = 25;
/** Ended jobs that are kept, besides those down to where the user has scrolled. */
const KEPT = 1000;
/** How many more there may be before some are dropped, since that goes through all of them. */
const SLACK = 250;

/** Dispatches `change` when `state` or `completeSince` changes, and `problem` (detail: Error). */
export class EndedJobs extends Emitter {
  /**
   * paused: enough was read without being asked; failed: `again` tries once more.
   * @type {"more" | "reading" | "paused" | "failed" | "all"}
   */
  state = "more";
  /**
   * None of the jobs that were created since then is missing. "": none at all; null: nothing was read yet.
   * @type {string | null}
   */
  completeSince = null;
  #client;
  #feed;
  /** @type {Record<string, any>} */ #query = {};
  /** @type {{edge: string, next: string | null}[]} The pages that were read: the last creation time, the next cursor. */ #pages = [];
  /** Pages that were read in a row. */
  #row = 0;
  /** Whether jobs that were read have been dropped. */
  #thinned = false;
  /** Changes when answers that are under way are no longer needed. */
  #turn = 0;

  /**
   * @param {import("../../client/client.js").Client & import("../../jobs.js").Headway} client
   * @param {import("../../client/job-feed.js").JobFeed} feed takes the jobs in
   */
  constructor(client, feed) {
    super();
    this.#client = client;
    this.#feed = feed;
  }

  /**
   * Begin with the newest jobs that match the filter, unless the query is the same.
   * @param {JobFilter} filter
   */
  begin({ asked: query }) {
    if (JSON.stringify(query) === JSON.stringify(this.#query) && !this.#thinned) {
      this.#row = 0;
      if (this.state === "paused") this.#setState("more");
      return;
    }
    this.#query = query;
    this.#thinned = false;
    this.completeSince = null;
    this.#restart();
    this.#setState("more");
  }

  /** The user asked for more. */
  again() {
    this.#row = 0;
    if (this.state === "paused" || this.state === "failed") this.#setState("more");
    this.more();
  }

  /** Enough was read for now. */
  rest() {
    this.#row = 0;
  }

  /** Jobs may have been created and ended unnoticed: read everything again. */
  reread() {
    if (this.completeSince === null) return;
    this.#restart();
    this.#setState("more");
    this.more();
  }

  /** Read the next page, unless one is being read or there is none. */
  async more() {
    if (this.state !== "more") return;
    const turn = this.#turn;
    this.#setState("reading");
    try {
      for (let beyond = false; !beyond; ) {
        const page = await this.#client.list({ ...this.#query, limit: LIMIT, cursor: this.#pages.at(-1)?.next });
        if (turn !== this.#turn) return;
        for (const job of page.items) {
          if (this.#feed.jobs.get(job.id)?.last_event_id !== job.last_event_id) this.#feed.put(job);
        }
        beyond = this.#reached(page);
      }
      this.#setState(this.#pages.at(-1)?.next === null ? "all" : this.#row >= PAGES ? "paused" : "more");
    } catch (error) {
      if (turn !== this.#turn) return;
      this.#setState("failed");
      this.emit("problem", error);
    }
  }

  /**
   * Drop ended jobs if there are too many: those that are not shown first, then those far below the view. They are
   * read again when the user scrolls there.
   * @param {import("./job-index.js").JobIndex} index
   * @param {number} seen how many of the shown jobs are in view or above
   * @param {string} open the id of the job whose page is open
   */
  trim(index, seen, open) {
    const wanted = Math.max(KEPT, seen + LIMIT);
    if (index.ended <= wanted + SLACK) return;
    const kept = index.shown.filter((job) => !isLive(job)).slice(0, wanted);
    const ids = new Set([open, ...kept.map(({ id }) => id)]);
    for (const [id, job] of this.#feed.jobs) if (!isLive(job) && !ids.has(id)) this.#feed.forget(id);
    this.#thinned = true;
    const edge = kept[wanted - 1]?.created_at ?? "";
    if (edge <= (this.completeSince ?? "")) return;
    this.completeSince = edge;
    this.#turn += 1;
    this.#pages = this.#pages.filter((page) => page.edge >= edge);
    this.#setState("more");
  }

  /**
   * @param {Awaited<ReturnType<import("../../jobs.js").Headway["list"]>>} page
   * @returns {boolean} whether this page reached further than before
   */
  #reached({ items, next }) {
    const last = next === null ? "" : (items.at(-1)?.created_at ?? "");
    this.#pages.push({ edge: last, next });
    this.#row += 1;
    const beyond = this.completeSince === null || last < this.completeSince || last === "" || this.#row >= PAGES;
    if (beyond) this.completeSince = last;
    return beyond;
  }

  #restart() {
    this.#pages = [];
    this.#row = 0;
    this.#turn += 1;
  }

  /** @param {EndedJobs["state"]} state */
  #setState(state) {
    this.state = state;
    this.emit("change");
  }
}
