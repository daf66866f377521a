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
import { newKey, post } from "./client/submission.js";
import { upload } from "./client/upload.js";

export { Problem } from "./client/problem.js";
export { newKey };

/**
 * @typedef {import("./jobs.js").Job} Job
 * @typedef {import("./jobs.js").Upload} Upload
 * @typedef {import("./jobs.js").JobType} JobType
 */

/** Most jobs of one request, and most bytes of them: the service takes 2 MiB in all. */
const BATCH = 1000;
const BATCH_BYTES = 2_000_000;

/** @param {Iterable<import("./jobs.js").Submission>} jobs in portions that one request may have */
function batches(jobs) {
  const encoder = new TextEncoder();
  /** @type {import("./jobs.js").Submission[][]} */
  const all = [];
  let size = Infinity;
  for (const job of jobs) {
    const length = encoder.encode(JSON.stringify(job)).length + 1;
    if (size + length > BATCH_BYTES || all[all.length - 1].length === BATCH) {
      all.push([]);
      size = 0;
    }
    all[all.length - 1].push(job);
    size += length;
  }
  return all;
}

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
   * Upload a file. Jobs take it as the input `upload:<id>`. What breaks off goes on where it was, for as long as five
   * minutes without a byte; after that, and after a reload of the page, when it is called with the same file again.
   * @param {Blob} file
   * @param {{onProgress?: (fraction: number) => void, signal?: AbortSignal}} [options]
   * @returns {Promise<Upload>} Rejects with a Problem, or with the signal's reason.
   */
  upload(file, options = {}) {
    return upload(this, file, options);
  }

  /**
   * Submit many jobs, up to 1,000 and 2 MB per request. Those of one request are all made, or none of them.
   * @param {Iterable<import("./jobs.js").Submission>} jobs
   * @param {{idempotencyKey?: string, signal?: AbortSignal}} [options] with the same key nothing is made twice
   * @returns {Promise<import("./jobs.js").Submitted[]>} in the order of `jobs`
   */
  async submitMany(jobs, { idempotencyKey = newKey(), signal } = {}) {
    const made = [];
    for (const [number, batch] of batches(jobs).entries()) {
      const options = { idempotencyKey: `${idempotencyKey}.${number}`, signal };
      made.push(...(await post(this, "/jobs:batch", { jobs: batch }, options)).items);
    }
    return made;
  }

  /**
   * Jobs, newest first.
   * @param {Parameters<import("./jobs.js").Headway["list"]>[0]} [query]
   * @returns {ReturnType<import("./jobs.js").Headway["list"]>}
   */
  list({ labels = {}, ...query } = {}) {
    const wanted = Object.entries(labels).map(([name, value]) => ["label", `${name.replace(/[\\:]/g, "\\$&")}:${value}`]);
    return this.ask("GET", `/jobs?${new URLSearchParams(wanted)}`, { query });
  }

  /**
   * How many jobs are in which state: all, and those of each type.
   * @returns {Promise<import("./jobs.js").Counts>}
   */
  counts() {
    return this.ask("GET", "/jobs:counts");
  }

  /**
   * Cancel all live jobs that match. With `dry_run` they are only counted.
   * @param {import("./jobs.js").Selection} which
   * @param {{idempotencyKey?: string, signal?: AbortSignal}} [options]
   * @returns {Promise<Job>} the job that does it; its result says how many there were
   */
  cancelMany(which, options = {}) {
    return post(this, "/jobs:cancel", which, options);
  }

  /**
   * Submit all failed and canceled jobs that match again, or those of a state that is given.
   * @param {import("./jobs.js").Selection} which
   * @param {{idempotencyKey?: string, signal?: AbortSignal}} [options]
   * @returns {Promise<Job>} the job that does it
   */
  retryMany(which, options = {}) {
    return post(this, "/jobs:retry", which, options);
  }

  /**
   * Remove all ended jobs that match, with their files.
   * @param {import("./jobs.js").Selection} which
   * @param {{idempotencyKey?: string, signal?: AbortSignal}} [options]
   * @returns {Promise<Job>} the job that does it
   */
  deleteMany(which, options = {}) {
    return post(this, "/jobs:delete", which, options);
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
