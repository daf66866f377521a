/**
 * Applies events to jobs: values in, a value out.
 *
 * `tests/web/cases/*.json` specifies it, for every language that has such a reducer.
 */

import { compareIds } from "./event-id.js";

/**
 * @typedef {import("../jobs.js").Job} Job
 * @typedef {import("../jobs.js").JobEvent} JobEvent
 */

/** @type {ReadonlySet<import("../jobs.js").State>} */
export const LIVE = new Set(/** @type {const} */ (["running", "waiting", "retrying", "queued"]));

/**
 * Whether the job has not ended.
 * @param {Job} job
 */
export function isLive(job) {
  return LIVE.has(job.state);
}

/**
 * The newer of two documents of one job. A document that was read while events came in may be older than the
 * job that those events led to.
 * @param {Job | undefined} held
 * @param {Job} found
 * @returns {Job}
 */
export function newer(held, found) {
  return held && compareIds(found.last_event_id, held.last_event_id) < 0 ? held : found;
}

/**
 * The job after the event. Returns the same object if nothing changes: the event is known already, the job has
 * ended, or the event is of an unknown type.
 *
 * Without a job, only an event that carries a whole one (`snapshot`, `end`, `reset`) returns one.
 * @param {Job | undefined} job
 * @param {JobEvent} event
 * @returns {Job | undefined}
 */
export function reduce(job, { id, event, data }) {
  if (event === "snapshot" || event === "end") return newer(job, data);
  // The held job is out of date, even if its id says otherwise: the clock may have started over.
  if (event === "reset") return data.job ?? job;
  if (!job || !isLive(job) || compareIds(id, job.last_event_id) <= 0) return job;
  const change = CHANGES[event]?.(job, data);
  return change ? { ...job, ...change, last_event_id: id, updated_at: /** @type {any} */ (data).at } : job;
}

/** @type {Record<string, (job: Job, data: any) => Partial<Job>>} */
const CHANGES = {
  state(job, data) {
    const { state, attempt, at } = data;
    const begins = attempt > job.attempt;
    return {
      state,
      attempt,
      started_at: job.started_at ?? (state === "running" ? at : null),
      // Each attempt starts from nothing. The progress of the last one stays visible until then.
      progress: begins ? null : job.progress,
      // A second `running` in the same attempt means that cancellation was requested.
      cancel_requested: job.cancel_requested || (state === "running" && job.state === "running" && !begins),
    };
  },
  progress(_job, { job: _id, attempt, at: _at, ...progress }) {
    return { attempt, progress };
  },
  log: () => ({}),
  message: () => ({}),
  artifact(job, { job: _id, at: _at, ...artifact }) {
    const at = job.artifacts.findIndex((one) => one.name === artifact.name);
    return { artifacts: at < 0 ? [...job.artifacts, artifact] : job.artifacts.with(at, artifact) };
  },
};
