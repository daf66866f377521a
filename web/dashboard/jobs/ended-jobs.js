/**
 * The jobs that were, page by page, as far back as somebody looks, and no more of them than that: a page
 * that is open all day does not grow.
 *
 * State, type and group are the service's to look for. Words are not: for them more is read than is
 * shown, so that after `PAGES` pages somebody has to ask for more.
 */

import { isLive } from "../../client/reducer.js";

/** @typedef {import("./job-filter.js").JobFilter} JobFilter */
/** @typedef {import("../../jobs.js").Job} Job */

const LIMIT = 200;
const PAGES = 25;
/** So many that ended are held, and those down to where somebody looks. */
const KEPT = 1000;
/** So many more may be there before some go, which takes a look at all. */
const SLACK = 250;

/** Dispatches `change` when `state` or `edge` does, and `problem` (detail: Error). */
export class JobPast extends EventTarget {
  /**
   * paused: it was read far enough without being asked; failed: `again` tries once more.
   * @type {"more" | "reading" | "paused" | "failed" | "all"}
   */
  state = "more";
  /**
   * Of the jobs that were created since, none is missing. "": none at all; null: nothing was read yet.
   * @type {string | null}
   */
  edge = null;
  #client;
  #feed;
  /** @type {Record<string, string>} */ #query = {};
  /** @type {{edge: string, next: string | null}[]} The pages that were read, and what came after each. */ #pages = [];
  /** How many pages were read in a row. */
  #row = 0;
  /** Whether not all is held that was read. */
  #thinned = false;
  /** Changes whenever what is read is no longer what is wanted. */
  #turn = 0;

  /**
   * @param {import("../../jobs.js").Headway} client
   * @param {import("../../client/job-feed.js").JobFeed} feed takes the jobs in
   */
  constructor(client, feed) {
    super();
    this.#client = client;
    this.#feed = feed;
  }

  /**
   * Begin at the newest that the filter lets through, unless it asks the service for the same.
   * @param {JobFilter} filter
   */
  begin({ state, type, group }) {
    const said = Object.entries({ state, type, group }).filter(([, value]) => value !== "");
    const query = Object.fromEntries(said);
    if (JSON.stringify(query) === JSON.stringify(this.#query) && !this.#thinned) {
      this.#row = 0;
      if (this.state === "paused") this.#become("more");
      return;
    }
    this.#query = query;
    this.#thinned = false;
    this.edge = null;
    this.#restart();
    this.#become("more");
  }

  /** Somebody asked for more. */
  again() {
    this.#row = 0;
    if (this.state === "paused" || this.state === "failed") this.#become("more");
    this.more();
  }

  /** What was read was enough. */
  rest() {
    this.#row = 0;
  }

  /** Jobs may have come and ended that nobody told of: read again what was read. */
  reread() {
    if (this.edge === null) return;
    this.#restart();
    this.#become("more");
    this.more();
  }

  /** Read on beyond the edge, unless that is being done or there is nothing. */
  async more() {
    if (this.state !== "more") return;
    const turn = this.#turn;
    this.#become("reading");
    try {
      for (let beyond = false; !beyond; ) {
        const page = await this.#client.list({ ...this.#query, limit: LIMIT, cursor: this.#pages.at(-1)?.next });
        if (turn !== this.#turn) return;
        for (const job of page.items) {
          if (this.#feed.jobs.get(job.id)?.last_event_id !== job.last_event_id) this.#feed.put(job);
        }
        beyond = this.#reached(page);
      }
      this.#become(this.#pages.at(-1)?.next === null ? "all" : this.#row >= PAGES ? "paused" : "more");
    } catch (error) {
      if (turn !== this.#turn) return;
      this.#become("failed");
      this.dispatchEvent(new CustomEvent("problem", { detail: error }));
    }
  }

  /**
   * Let go of what ended, if there is too much of it: what is not shown first, then what is far below
   * what somebody looks at. It is read again when somebody comes there.
   * @param {import("./job-index.js").JobCatalog} catalog
   * @param {number} seen how many of those that it shows are in sight or above it
   * @param {string} open the job that is open
   */
  trim(catalog, seen, open) {
    const wanted = Math.max(KEPT, seen + LIMIT);
    if (catalog.ended <= wanted + SLACK) return;
    const kept = catalog.shown.filter((job) => !isLive(job)).slice(0, wanted);
    const ids = new Set([open, ...kept.map(({ id }) => id)]);
    for (const [id, job] of this.#feed.jobs) if (!isLive(job) && !ids.has(id)) this.#feed.forget(id);
    this.#thinned = true;
    const edge = kept[wanted - 1]?.created_at ?? "";
    if (edge <= (this.edge ?? "")) return;
    this.edge = edge;
    this.#turn += 1;
    this.#pages = this.#pages.filter((page) => page.edge >= edge);
    this.#become("more");
  }

  /**
   * @param {import("../../jobs.js").JobPage} page
   * @returns {boolean} whether something is known now that was not
   */
  #reached({ items, next }) {
    const last = next === null ? "" : (items.at(-1)?.created_at ?? "");
    this.#pages.push({ edge: last, next });
    this.#row += 1;
    const beyond = this.edge === null || last < this.edge || last === "" || this.#row >= PAGES;
    if (beyond) this.edge = last;
    return beyond;
  }

  #restart() {
    this.#pages = [];
    this.#row = 0;
    this.#turn += 1;
  }

  /** @param {JobPast["state"]} state */
  #become(state) {
    this.state = state;
    this.dispatchEvent(new Event("change"));
  }
}
