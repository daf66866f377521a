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
import { newKey, upload } from "./client/submission.js";

export { Problem } from "./client/problem.js";
export { newKey };

/**
 * @typedef {import("./client/reducer.js").Job} Job
 * @typedef {{id: string, name: string, size: number, media_type: string}} Upload
 * @typedef {{name: string, title: string, queue: string, params: any, alive: boolean}} JobType
 */

export class Headway extends Client {
  /**
   * @param {ConstructorParameters<typeof Client>[0] & {remember?: boolean}} [options] those of Client, and whether
   *   a reload of the page continues at its last event (default: false)
   */
  constructor({ remember, ...options } = {}) {
    super(options);
    if (remember) this.Stream = RememberedStream;
  }

  /** @returns {Promise<JobType[]>} */
  async types() {
    return (await this.ask("GET", "/types")).items;
  }

  /**
   * Upload a file, to be used as the input `upload:<id>`.
   * @param {Blob} file
   * @param {{onProgress?: (fraction: number) => void, signal?: AbortSignal}} [options]
   * @returns {Promise<Upload>} Rejects with a Problem, or with the signal's reason.
   */
  upload(file, options = {}) {
    return upload(this, file, options);
  }

  /**
   * Do an ended job again.
   * @param {string} id
   * @returns {Promise<Job>} a new job, that names the old one in `retry_of`
   */
  retry(id) {
    return this.ask("POST", jobPath(id, "/retry"));
  }

  /**
   * One job. It is watched as soon as somebody listens to it or waits for it.
   * @param {string | Job} job its id, or a document of it
   */
  job(job) {
    return new JobHandle(this, job);
  }
}
