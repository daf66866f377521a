/**
 * The way to a service: its requests, and the connection that all share who watch.
 */

import { JobFeed } from "./job-feed.js";
import { SharedStream } from "./shared-stream.js";

/**
 * @typedef {import("./reducer.js").Job} Job
 * @typedef {{items: Job[], next: string | null}} JobPage
 */

const TIMEOUT_MS = 30_000;

/** @type {Map<string, SharedStream>} One for each service and caller, whoever in the page asks. */
const streams = new Map();

export const jobPath = (/** @type {string} */ id, what = "") => `/jobs/${encodeURIComponent(id)}${what}`;

/** All that `<job-progress>` needs. `Headway` (jobs.js) adds what programs need. */
export class Client {
  /** What connects it. */
  Stream = SharedStream;
  #base;
  #token;
  #options;

  /**
   * @param {object} [options]
   * @param {string | URL} [options.base] where the service is, with its path if it has one; default: the
   *   root of where the page came from
   * @param {string} [options.token] sent as a bearer token; with streams in the address, because an
   *   EventSource sends no headers: give one that does not live long
   * @param {boolean} [options.share] whether all tabs share one connection; default: true
   * @param {number} [options.attempts] failures in a row until a stream gives up; default: 30
   */
  constructor({ base = "/", token, ...options } = {}) {
    this.#base = new URL(String(base).replace(/\/?$/, "/"), location.href);
    this.#token = token;
    this.#options = options;
  }

  /**
   * @param {string} path from the service's root, `/jobs`
   * @param {Record<string, string | number | string[] | null | undefined>} [query]
   */
  url(path, query = {}) {
    const url = new URL(`.${path}`, this.#base);
    for (const [name, value] of Object.entries(query)) {
      for (const one of [value].flat()) if (one != null) url.searchParams.append(name, String(one));
    }
    return url;
  }

  /** @returns {Record<string, string>} what says who asks */
  headers() {
    return this.#token ? { authorization: `Bearer ${this.#token}` } : {};
  }

  /**
   * @param {string} method
   * @param {string} path of the service
   * @param {{query?: Parameters<Client["url"]>[1], body?: string, headers?: Record<string, string>,
   *   signal?: AbortSignal}} [options]
   * @returns {Promise<any>} Rejects with a Problem, or with the signal's reason.
   */
  async ask(method, path, { query, body, headers, signal } = {}) {
    const timeout = AbortSignal.timeout(TIMEOUT_MS);
    let response;
    let text = "";
    try {
      response = await fetch(this.url(path, query), {
        method,
        body,
        headers: { ...this.headers(), ...headers },
        signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
      });
      text = await response.text();
      if (response.ok) return JSON.parse(text);
    } catch {
      signal?.throwIfAborted();
    }
    // Without an answer, or with a proxy's page, maybe for a login, nothing is known of the service.
    const status = response && !response.ok ? response.status : 0;
    throw await import("./problem.js").then(
      ({ problem }) => problem(status, text, response),
      (error) => Object.assign(error, { status }),
    );
  }

  /**
   * Submit a job. A File or Blob among the parameters is uploaded first. If the answer is lost, the
   * submission is repeated under the same key, which makes one job of it; calling this again with the
   * same key and arguments does, too.
   * @param {string} type
   * @param {Record<string, unknown>} params
   * @param {{idempotencyKey?: string, group?: string, labels?: Record<string, string>,
   *   max_attempts?: number, timeout_s?: number, signal?: AbortSignal,
   *   onUpload?: (fraction: number, file: Blob) => void}} [options]
   * @returns {Promise<Job>} Rejects with a Problem, or with the signal's reason.
   */
  async submit(type, params, options = {}) {
    // Many pages only watch.
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
   * @param {{state?: string, type?: string, group?: string, limit?: number, cursor?: string | null}} [query]
   * @returns {Promise<JobPage>}
   */
  list(query = {}) {
    return this.ask("GET", "/jobs", { query });
  }

  /**
   * Ask for the job's end. It may still end otherwise: the stream tells.
   * @param {string} id
   * @returns {Promise<Job>}
   */
  cancel(id) {
    return this.ask("POST", jobPath(id, "/cancel"));
  }

  /**
   * Watch many jobs: these, those of a group, or all of one's own. Whoever calls this calls `stop`.
   * @param {{jobs?: Iterable<string>, group?: string, mine?: boolean}} [of]
   */
  watch(of) {
    return new JobFeed(this, of).start();
  }

  /** The connection that all share who watch at this service as this caller. */
  stream() {
    // The token is part of the name: pages of one origin have no secrets from each other.
    const name = `${this.#base} ${this.#token ?? ""}`;
    let stream = streams.get(name);
    if (!(stream instanceof this.Stream)) {
      const url = (/** @type {any} */ query) => this.url("/events", { ...query, access_token: this.#token });
      streams.set(name, (stream = new this.Stream(name, url, this.#options)));
    }
    return stream;
  }
}
