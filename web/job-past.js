/**
 * The jobs that were, page by page, as far back as somebody looks.
 *
 * State, type and group are the service's to look for. Words are not: for them more is read than is
 * shown, so that after `PAGES` pages somebody has to ask for more.
 */

/** @typedef {import("./job-filter.js").JobFilter} JobFilter */

const LIMIT = 200;
const PAGES = 10;

/** Dispatches `change` when `state` does, and `problem` (detail: Error). */
export class JobPast extends EventTarget {
  /** @type {"more" | "reading" | "paused" | "all"} paused: it was read far enough without being asked */
  state = "more";
  #client;
  #feed;
  /** @type {Record<string, string>} */ #query = {};
  /** @type {string | null} */ #next = null;
  #pages = 0;
  /** Changes whenever what is read is no longer what is wanted. */
  #turn = 0;

  /**
   * @param {import("./jobs.js").Headway} client
   * @param {import("./job-feed.js").JobFeed} feed takes the jobs in
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
  begin({ state, type, group, words }) {
    const said = Object.entries({ state, type, group }).filter(([, value]) => value !== "");
    const query = Object.fromEntries(said);
    this.#pages = words.length > 0 ? 0 : -Infinity;
    if (JSON.stringify(query) === JSON.stringify(this.#query)) {
      if (this.state === "paused") this.#become("more");
      return;
    }
    this.#query = query;
    this.#next = null;
    this.#turn += 1;
    this.#become("more");
  }

  /** Somebody asked for more. */
  again() {
    this.#pages = 0;
    if (this.state === "paused") this.#become("more");
    this.more();
  }

  /** Read the next page, unless one is being read or there is none. */
  async more() {
    if (this.state !== "more") return;
    const turn = this.#turn;
    this.#become("reading");
    try {
      const page = await this.#client.list({ ...this.#query, limit: LIMIT, cursor: this.#next });
      for (const job of page.items) this.#feed.put(job);
      if (turn !== this.#turn) return;
      this.#next = page.next;
      this.#pages += 1;
      this.#become(page.next === null ? "all" : this.#pages >= PAGES ? "paused" : "more");
    } catch (error) {
      if (turn !== this.#turn) return;
      this.#become("paused");
      this.dispatchEvent(new CustomEvent("problem", { detail: error }));
    }
  }

  /** @param {JobPast["state"]} state */
  #become(state) {
    this.state = state;
    this.dispatchEvent(new Event("change"));
  }
}
