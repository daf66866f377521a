/**
 * Access to a service: its requests, and the connection that everything on a page shares.
 */

import { JobFeed } from "./job-feed.js";
import { SharedStream } from "./shared-stream.js";

/**
 * @typedef {import("../jobs.js").Job} Job
 * @typedef {import("../jobs.js").HeadwayOptions} Options
 */

const TIMEOUT_MS = 30_000;

/** @type {Map<string, SharedStream>} Those in use, one per service and caller. */
const streams = new Map();

export const jobPath = (/** @type {string} */ id, what = "") => `/jobs/${encodeURIComponent(id)}${what}`;

/** Everything that `<job-progress>` needs. `Headway` (jobs.js) adds what programs need. */
export class Client {
  /** The kind of stream to share. */
  Stream = SharedStream;
  #base;
  #options;
  /** The name of the stream: clients with the same name share it. */ #name;

  /** @param {Options} [options] */
  constructor({ base = "/", share = true, ...options } = {}) {
    const root = String(base).replace(/\/?$/, "/");
    // Without a page an address without a host is refused when it is used: a server renders with it, too.
    this.#base = globalThis.location ? new URL(root, location.href) : root;
    this.#options = { ...options, share };
    const credential = options.token ?? options.ticket;
    /** @type {import("./credentials.js").Caller | "" | null | undefined} None for a caller that shows only cookies. */
    this.caller = credential && options;
    // A token is part of the name: pages of one origin have no secrets from each other. A function or an address
    // does not tell which other client is the same caller.
    const own = typeof credential === "string" ? credential : credential && Math.random();
    this.#name = `${this.#base} ${typeof share === "string" ? share : own || ""}`;
  }

  /**
   * @param {string} path from the service's root, `/jobs`
   * @param {Record<string, string | number | null | undefined>} [query]
   */
  url(path, query = {}) {
    const url = new URL(`.${path}`, this.#base);
    for (const [name, value] of Object.entries(query)) if (value != null) url.searchParams.set(name, String(value));
    return url;
  }

  /**
   * As the global `fetch`, with the caller's credentials.
   * @param {URL} url
   * @param {RequestInit} init
   */
  async fetch(url, init) {
    return (this.caller ? (await import("./credentials.js")).fetchAs : fetch)(url, init, /** @type {any} */ (this.caller));
  }

  /**
   * @param {string} method
   * @param {string} path of the service
   * @param {{query?: Parameters<Client["url"]>[1], body?: string, headers?: Record<string, string>,
   *   signal?: AbortSignal}} [options]
   * @returns {Promise<any>} Rejects with a Problem, or with the signal's reason.
   */
  async ask(method, path, { query, body, headers, signal } = {}) {
    const url = this.url(path, query);
    const timeout = AbortSignal.timeout(TIMEOUT_MS);
    /** @type {Response | undefined} */ let response;
    let text = "";
    try {
      response = await this.fetch(url, {
        method,
        body,
        headers,
        signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
      });
      text = await response.text();
      if (response.ok) return JSON.parse(text);
    } catch {
      signal?.throwIfAborted();
    }
    // Without an answer, or with a proxy's page (a login, say), nothing is known about the service.
    const status = response && !response.ok ? response.status : 0;
    throw await import("./problem.js").then(
      ({ problem }) => problem(status, text, response),
      (error) => Object.assign(error, { status }),
    );
  }

  /**
   * Submit a job. A File or Blob among the parameters is uploaded first. If the answer is lost, the
   * submission is repeated under the same key, so it makes one job. Calling this again with the same key and
   * arguments returns the same job, too.
   * @param {string} type
   * @param {Record<string, unknown>} params
   * @param {import("../jobs.js").SubmitOptions} [options]
   * @returns {Promise<Job>} Rejects with a Problem, or with the signal's reason.
   */
  async submit(type, params, options = {}) {
    // Most pages only watch.
    return (await import("./submission.js")).submit(this, type, params, options);
  }

  /**
   * @param {string} id
   * @returns {Promise<Job>}
   */
  get(id) {
    return this.ask("GET", jobPath(id));
  }

  /**
   * Jobs, newest first.
   * @param {Parameters<Client["url"]>[1]} [query]
   * @returns {ReturnType<import("../jobs.js").Headway["list"]>}
   */
  list(query = {}) {
    return this.ask("GET", "/jobs", { query });
  }

  /**
   * Request cancellation. The job may still end in another way: its `end` event tells.
   * @param {string} id
   * @returns {Promise<Job>}
   */
  cancel(id) {
    return this.ask("POST", jobPath(id, "/cancel"));
  }

  /**
   * Watch many jobs: these, those of a group, or all of the caller's. Call `stop` in the end.
   * @param {{jobs?: Iterable<string>, group?: string}} [of]
   */
  watch(of) {
    return new JobFeed(this, of).start();
  }

  /** The connection that everything shares that watches this service as this caller. */
  stream() {
    const name = this.#name;
    const found = streams.get(name);
    if (found instanceof this.Stream) return found;
    const onUnused = () => streams.get(name) === stream && streams.delete(name);
    const stream = new this.Stream(name, { ...this.#options, client: this, onUnused, found });
    streams.set(name, stream);
    return stream;
  }
}
