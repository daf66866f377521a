/**
 * The client of a Headway service.
 *
 *     const headway = new Headway();
 *     const job = await headway.submit("simulate", {duration_s: 5});
 *     const stream = headway.watch({jobs: [job.id]});
 *     stream.addEventListener("event", ({detail}) => console.log(detail.event, detail.data));
 *     stream.open();
 */

import { EventStream } from "./event-stream.js";

/**
 * @typedef {import("./reducer.js").Job} Job
 * @typedef {{items: Job[], next: string | null}} JobPage
 * @typedef {{name: string, title: string, queue: string, params: any, alive: boolean}} JobType
 * @typedef {{id: string, name: string, size: number, media_type: string}} Upload
 * @typedef {{pointer: string, detail: string}} PointerError
 */

const TIMEOUT_MS = 30_000;

/** The service, or the way to it, said no. `status` is 0 if it could not be reached. */
export class Problem extends Error {
  name = "Problem";

  /**
   * @param {number} status
   * @param {{title?: string, detail?: string, errors?: PointerError[]}} body of RFC 9457
   */
  constructor(status, body) {
    super(body.detail || body.title || `The service answered ${status}`);
    this.status = status;
    this.title = body.title ?? "";
    /** @type {PointerError[]} */
    this.errors = Array.isArray(body.errors) ? body.errors : [];
  }
}

/**
 * @param {number} status
 * @param {string} text
 * @param {string} statusText
 */
function problem(status, text, statusText) {
  try {
    const body = JSON.parse(text);
    if (body && typeof body === "object") return new Problem(status, body);
  } catch {
    // Not from the service itself, but from something in between.
  }
  return new Problem(status, { title: `${status} ${statusText}`.trim() });
}

export class Headway {
  #base;

  /**
   * @param {object} [options]
   * @param {string | URL} [options.base] where the service is; default: where the page came from
   */
  constructor(options = {}) {
    this.#base = new URL(options.base ?? globalThis.location?.origin ?? "http://127.0.0.1:8000");
  }

  /**
   * @param {string} path
   * @param {Record<string, string | number | string[] | null | undefined>} [query]
   */
  url(path, query = {}) {
    const url = new URL(path, this.#base);
    for (const [name, value] of Object.entries(query)) {
      for (const one of Array.isArray(value) ? value : [value]) {
        if (one !== null && one !== undefined) url.searchParams.append(name, String(one));
      }
    }
    return url;
  }

  /**
   * @param {string} method
   * @param {URL} url
   * @param {{body?: unknown, headers?: Record<string, string>}} [options]
   * @returns {Promise<any>} Rejects with a Problem.
   */
  async #ask(method, url, { body, headers = {} } = {}) {
    let response, text;
    try {
      response = await fetch(url, {
        method,
        headers: {
          accept: "application/json",
          ...(body === undefined ? {} : { "content-type": "application/json" }),
          ...headers,
        },
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      text = await response.text();
    } catch (cause) {
      throw new Problem(0, { title: "The service cannot be reached", detail: explain(cause) });
    }
    if (!response.ok) throw problem(response.status, text, response.statusText);
    return JSON.parse(text);
  }

  /** @returns {Promise<JobType[]>} */
  async types() {
    return (await this.#ask("GET", this.url("/types"))).items;
  }

  /**
   * Submit a job. Calling it again with the same key and arguments gives the same job, so a
   * submission whose answer was lost can be repeated.
   * @param {string} type
   * @param {Record<string, unknown>} params
   * @param {{idempotencyKey?: string, group?: string, labels?: Record<string, string>,
   *   max_attempts?: number, timeout_s?: number}} [options]
   * @returns {Promise<Job>}
   */
  submit(type, params, { idempotencyKey = newKey(), ...options } = {}) {
    return this.#ask("POST", this.url("/jobs"), {
      body: { type, params, ...options },
      headers: { "idempotency-key": idempotencyKey },
    });
  }

  /**
   * @param {string} id
   * @returns {Promise<Job>}
   */
  get(id) {
    return this.#ask("GET", this.url(`/jobs/${encodeURIComponent(id)}`));
  }

  /**
   * Jobs, newest first.
   * @param {{state?: string, type?: string, group?: string, limit?: number, cursor?: string | null}} [query]
   * @returns {Promise<JobPage>}
   */
  list(query = {}) {
    return this.#ask("GET", this.url("/jobs", query));
  }

  /**
   * Ask for the job's end. It may still end otherwise: the stream tells.
   * @param {string} id
   * @returns {Promise<Job>}
   */
  cancel(id) {
    return this.#ask("POST", this.url(`/jobs/${encodeURIComponent(id)}/cancel`));
  }

  /**
   * Upload a file, to be used as the input `upload:<id>`. By XMLHttpRequest, because fetch does not
   * tell how much was sent.
   * @param {File} file
   * @param {{onProgress?: (fraction: number) => void, signal?: AbortSignal}} [options]
   * @returns {Promise<Upload>} Rejects with a Problem, or with the signal's reason.
   */
  upload(file, { onProgress, signal } = {}) {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const request = new XMLHttpRequest();
      request.open("POST", this.url("/uploads", { name: file.name }));
      request.setRequestHeader("accept", "application/json");
      request.setRequestHeader("content-type", file.type || "application/octet-stream");
      request.upload.onprogress = ({ lengthComputable, loaded, total }) => {
        if (lengthComputable && total > 0) onProgress?.(loaded / total);
      };
      request.onload = () => {
        const { status, statusText, responseText } = request;
        if (status < 200 || status > 299) return reject(problem(status, responseText, statusText));
        return resolve(JSON.parse(responseText));
      };
      request.onerror = () =>
        reject(
          new Problem(0, { title: "Upload failed", detail: "The connection broke during the upload." }),
        );
      request.onabort = () => reject(signal?.reason);
      signal?.addEventListener("abort", () => request.abort(), { once: true });
      request.send(file);
    });
  }

  /**
   * A stream of many jobs, not opened yet: of these jobs, of a group, or (the default) of all one's own.
   * @param {{jobs?: string[], group?: string}} [of]
   * @param {{cursor?: string | null}} [options]
   */
  watch({ jobs, group } = {}, options = {}) {
    return new EventStream(this.url("/events", { job: jobs, group }), options);
  }

  /**
   * The stream of one job, not opened yet. Close it after `end`.
   * @param {string} id
   * @param {{cursor?: string | null, attempts?: number}} [options]
   */
  events(id, options = {}) {
    return new EventStream(this.url(`/jobs/${encodeURIComponent(id)}/events`), options);
  }
}

/** A random key for one submission. `crypto.randomUUID` is missing on plain HTTP. */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {unknown} cause */
function explain(cause) {
  if (cause instanceof DOMException && cause.name === "TimeoutError") {
    return `The service did not answer within ${TIMEOUT_MS / 1000} s.`;
  }
  return "The service cannot be reached.";
}
