/**
 * What a job becomes when an event happens to it: values in, a value out.
 *
 * `tests/web/cases/*.json` says what this must do, for every language that has such a reducer.
 */

import { compareIds } from "./event-id.js";

/**
 * @typedef {"queued" | "running" | "retrying" | "succeeded" | "failed" | "canceled"} State
 * @typedef {{name: string, index: number, count: number, fraction?: number | null}} Stage
 * @typedef {{fraction?: number | null, current?: number | null, total?: number | null,
 *   unit?: string | null, message?: string | null, stage?: Stage | null, rate?: number | null,
 *   eta_s?: number | null, data?: Record<string, unknown>}} Progress
 * @typedef {{name: string, media_type: string, size: number, url: string, attempt?: number}} Artifact
 * @typedef {{id: string, type: string, state: State, owner: string, group: string | null,
 *   labels: Record<string, string>, params: Record<string, unknown>, attempt: number,
 *   max_attempts: number, timeout_s: number | null, progress: Progress | null, result: unknown,
 *   error: {code: string, message: string} | null, artifacts: Artifact[], cancel_requested: boolean,
 *   retry_of: string | null, created_at: string, started_at: string | null,
 *   finished_at: string | null, updated_at: string, last_event_id: string,
 *   links: {self: string, events: string}}} Job
 * @typedef {{id: string, event: string, data: any}} JobEvent
 */

/** @type {ReadonlySet<string>} */
export const LIVE = new Set(["running", "retrying", "queued"]);

/**
 * Whether something may still happen to the job.
 * @param {Job} job
 */
export function isLive(job) {
  return LIVE.has(job.state);
}

/**
 * Of two documents of one job the one to keep. A document that was read while events came in may be
 * older than what those events made of the job.
 * @param {Job | undefined} held
 * @param {Job} found
 * @returns {Job}
 */
export function newer(held, found) {
  return held && compareIds(found.last_event_id, held.last_event_id) < 0 ? held : found;
}

/**
 * The job after the event; the very same object if the event changes nothing: it is known already,
 * the job has ended, or the event is of a kind that is not known here.
 *
 * Without a job only an event that carries a whole one (`snapshot`, `end`, `reset`) makes one.
 * @param {Job | undefined} job
 * @param {JobEvent} event
 * @returns {Job | undefined}
 */
export function reduce(job, { id, event, data }) {
  if (event === "snapshot" || event === "end") return newer(job, data);
  // What is held is out of date, even if its id says otherwise: the clock may have begun anew.
  if (event === "reset") return data.job ?? job;
  if (!job || !isLive(job) || compareIds(id, job.last_event_id) <= 0) return job;
  const change = CHANGES[event]?.(job, data);
  return change ? { ...job, ...change, last_event_id: id, updated_at: data.at } : job;
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
      // Each attempt starts from nothing. What the last one had reached stays visible until then.
      progress: begins ? null : job.progress,
      // A job that runs and is told again that it runs, in the same attempt, was asked to stop.
      cancel_requested: job.cancel_requested || (state === "running" && job.state === "running" && !begins),
    };
  },
  progress(_job, { job: _id, attempt, at: _at, ...progress }) {
    return { attempt, progress };
  },
  log() {
    return {};
  },
  artifact(job, { job: _id, at: _at, ...artifact }) {
    const at = job.artifacts.findIndex((one) => one.name === artifact.name);
    return { artifacts: at < 0 ? [...job.artifacts, artifact] : job.artifacts.with(at, artifact) };
  },
};
