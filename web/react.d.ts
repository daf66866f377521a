/** Hooks for React, and `<job-progress>` in JSX: types of `react.js`. */

import type { DetailedHTMLProps, HTMLAttributes } from "react";

import type { JobProgress, JobProgressAttributes, JobProgressEvents } from "./job-progress.js";
import type { Headway, Job, LiveGroup, LiveJob, LiveJobs } from "./jobs.js";

/** One job, by its id or its document, which is shown at once, also by a server. Without one, nothing is watched. */
export function useJob(headway: Headway, job?: string | Job | null): LiveJob;

/** These jobs, in this order; by default all of the caller's, newest first. */
export function useJobs(headway: Headway, ids?: Iterable<string>): LiveJobs;

/** A group, and all its jobs, oldest first, including later ones. Without a group, nothing is watched. */
export function useGroup(headway: Headway, group?: string | null): LiveGroup;

type ElementProps = DetailedHTMLProps<HTMLAttributes<JobProgress>, JobProgress> &
  JobProgressAttributes & {
    client?: JobProgress["client"];
    onchange?(event: JobProgressEvents["change"]): unknown;
    onproblem?(event: JobProgressEvents["problem"]): unknown;
  };

declare module "react" {
  namespace JSX {
    interface IntrinsicElements {
      "job-progress": ElementProps;
    }
  }
}
