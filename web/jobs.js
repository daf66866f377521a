/**
 * The client of a Headway service. `jobs.d.ts` has the types.
 *
 *     const headway = new Headway();
 *     const job = headway.job(await headway.submit("simulate", {duration_s: 5}));
 *     job.addEventListener("progress", ({detail}) => console.log(detail.fraction));
 *     console.log((await job.done).state);
 */

import { Client, jobPath } from "./client/client.js";
import { JobHandle } from "./client/job-handle.js";
import { RememberedStream } from "./client/remembered-stream.js";
import { newKey, post, upload } from "./client/submission.js";

export { Problem } from "./client/problem.js";
export { newKey };

/**
 * @typedef {import("./jobs.js").Job} Job
 * @typedef {import("./jobs.js").Upload} Upload
 * @typedef {import("./jobs.js").JobType} JobType
 */

const groupPath = (/** @type {string} */ name, what = "") => `/groups/${encodeURIComponent(name)}${what}`;

export class Headway extends Client {
  /** @param {import("./jobs.js").HeadwayOptions} [options] */
  constructor({ remember = false, ...options } = {}) {
    super(options);
    this.remember = remember;
    if (remember) this.Stream = RememberedStream;
  }

  /** @returns {Promise<JobType[]>} */
  async types() {
    return (await this.ask("GET", "/types")).items;
  }

  /**
   * Upload a file. Jobs take it as the input `upload:<id>`.
   * @param {Blob} file
   * @param {{onProgress?: (fraction: number) => void, signal?: AbortSignal}} [options]
   * @returns {Promise<Upload>} Rejects with a Problem, or with the signal's reason.
   */
  upload(file, options = {}) {
    return upload(this, file, options);
  }

  /**
   * Run an ended job again.
   * @param {string} id
   * @returns {Promise<Job>} a new job, which names the old one in `retry_of`
   */
  retry(id) {
    return this.ask("POST", jobPath(id, "/retry"));
  }

  /**
   * How far a group is.
   * @param {string} name
   * @returns {Promise<import("./jobs.js").Group>}
   */
  group(name) {
    return this.ask("GET", groupPath(name));
  }

  /**
   * Say how many jobs a group will have, and what it is called.
   * @param {string} name
   * @param {{expected?: number | null, title?: string | null}} settings
   * @returns {Promise<import("./jobs.js").Group>}
   */
  putGroup(name, settings) {
    const headers = { "content-type": "application/json" };
    return this.ask("PUT", groupPath(name), { body: JSON.stringify(settings), headers });
  }

  /**
   * Request cancellation of all live jobs of a group.
   * @param {string} name
   * @returns {Promise<import("./jobs.js").Group>}
   */
  cancelGroup(name) {
    return this.ask("POST", groupPath(name, "/cancel"));
  }

  /**
   * Submit all failed and canceled jobs of a group again, each in the place of the old one.
   * @param {string} name
   * @returns {Promise<import("./jobs.js").Group>}
   */
  retryGroup(name) {
    return this.ask("POST", groupPath(name, "/retry"));
  }

  /**
   * Send a message to a job. If the answer is lost, it is repeated with the same key.
   * @param {string} id
   * @param {string} name
   * @param {unknown} [data] any JSON
   * @param {{idempotencyKey?: string, signal?: AbortSignal}} [options]
   * @returns {ReturnType<import("./jobs.js").Headway["send"]>}
   */
  send(id, name, data = null, options = {}) {
    return post(this, jobPath(id, "/messages"), { name, data }, options);
  }

  /**
   * One job. It is watched as soon as it has a listener or `done` is read.
   * @param {string | Job} job its id or its document
   */
  job(job) {
    return new JobHandle(this, job);
  }
}
