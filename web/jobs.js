/**
 * The client of a Headway service. `jobs.d.ts` has the types.
 *
 *     const headway = new Headway();
 *     const job = headway.job(await headway.submit("simulate", {duration_s: 5}));
 *     job.addEventListener("progress", ({detail}) => console.log(detail.fraction));
 *     console.log((await job.done).state);
 */

import { Client, jobPath } from "./client.js";
import { EventStream } from "./event-stream.js";
import { JobHandle } from "./job-handle.js";

export { Problem } from "./problem.js";
export { newKey } from "./submission.js";

/**
 * @typedef {import("./reducer.js").Job} Job
 * @typedef {{name: string, title: string, queue: string, params: any, alive: boolean}} JobType
 */

export class Headway extends Client {
  /** @returns {Promise<JobType[]>} */
  async types() {
    return (await this.ask("GET", "/types")).items;
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

  /**
   * The stream of one job on a connection of its own, not opened yet: for what happened before, from
   * the cursor "0". Close it after `end`.
   * @param {string} id
   * @param {{cursor?: string | null, attempts?: number}} [options]
   */
  events(id, options = {}) {
    return new EventStream(this.streamUrl(jobPath(id, "/events")), options);
  }
}
