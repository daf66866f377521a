// What the types of the entries allow, and what they do not.
import { JobProgress } from "headway-progress/element";
import { useGroup, useJob, useJobs } from "headway-progress/react";
import { groupStore, jobStore, jobsStore } from "headway-progress/svelte";
import * as vue from "headway-progress/vue";
import { ref } from "vue";
import { get } from "svelte/store";

import type { Job, Status } from "headway-progress";
import { headway } from "./headway";

export function hooks(document: Job) {
  const job: Job | null | undefined = useJob(headway, document).job;
  const jobs: Job[] = [...useJobs(headway).jobs, ...useJobs(headway, new Set(["0-x"])).jobs];
  const fraction: number | null | undefined = useGroup(headway, "g").group?.fraction;
  // @ts-expect-error a group is a name
  useGroup(headway, document);
  // @ts-expect-error a client first
  useJob("0-x");
  return [job, jobs, fraction];
}

export function composables() {
  const { job, status, again } = vue.useJob(headway, ref("0-x"));
  const jobs: Job[] = [...vue.useJobs(headway, () => ["0-x"]).jobs.value, ...vue.useGroup(headway, "g").jobs.value];
  const now: Status = status.value;
  again();
  return [job.value?.state, jobs, now, vue.useGroup(headway, "g").group.value?.counts.failed];
}

export function stores() {
  const jobs: Job[] = [...get(jobsStore(headway)).jobs, ...get(groupStore(headway, "g")).jobs];
  return [get(jobStore(headway, "0-x")).job?.state, jobs, get(groupStore(headway, "g")).group?.state];
}

export function element() {
  const made: JobProgress = document.createElement("job-progress");
  made.client = headway;
  made.addEventListener("change", ({ detail }) => detail.job?.state);
}
