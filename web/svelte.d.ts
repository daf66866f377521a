/** Stores for Svelte, and `<job-progress>` in its markup: types of `svelte.js`. */

import type { Readable } from "svelte/store";
import type { HTMLAttributes } from "svelte/elements";

import type { JobProgress, JobProgressAttributes, JobProgressEvents } from "./job-progress.js";
import type { Headway, Job, LiveGroup, LiveJob, LiveJobs } from "./jobs.js";

/** One job, by its id or its document, which is shown at once, also by a server. Without one, nothing is watched. */
export function jobStore(headway: Headway, job: string | Job | null | undefined): Readable<LiveJob>;

/** These jobs, in this order; by default all of the caller's, newest first. */
export function jobsStore(headway: Headway, ids?: Iterable<string>): Readable<LiveJobs>;

/** A group, and all its jobs, oldest first, including later ones. Without a group, nothing is watched. */
export function groupStore(headway: Headway, group: string | null | undefined): Readable<LiveGroup>;

declare module "svelte/elements" {
  interface SvelteHTMLElements {
    "job-progress": HTMLAttributes<JobProgress> &
      JobProgressAttributes & {
        client?: JobProgress["client"];
        onchange?(event: JobProgressEvents["change"]): unknown;
        onproblem?(event: JobProgressEvents["problem"]): unknown;
      };
  }
}
