/** Composables for Vue, and `<job-progress>` in templates: types of `vue.js`. */

import type { ComputedRef, DefineComponent, MaybeRefOrGetter } from "vue";

import type { JobProgress, JobProgressAttributes } from "./job-progress.js";
import type { Headway, Job, LiveGroup, LiveJob, LiveJobs } from "./jobs.js";

type Refs<Value> = { readonly [Name in keyof Value]: Value[Name] extends () => void ? Value[Name] : ComputedRef<Value[Name]> };

/** One job, by its id or its document, which is shown at once, also by a server. Without one, nothing is watched. */
export function useJob(headway: Headway, job: MaybeRefOrGetter<string | Job | null | undefined>): Refs<LiveJob>;

/** These jobs, in this order; by default all of the caller's, newest first. */
export function useJobs(headway: Headway, ids?: MaybeRefOrGetter<Iterable<string> | undefined>): Refs<LiveJobs>;

/** A group, and all its jobs, oldest first, including later ones. Without a group, nothing is watched. */
export function useGroup(headway: Headway, group: MaybeRefOrGetter<string | null | undefined>): Refs<LiveGroup>;

declare module "vue" {
  interface GlobalComponents {
    "job-progress": DefineComponent<JobProgressAttributes & { client?: JobProgress["client"] }>;
  }
}
