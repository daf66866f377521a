/**
 * Stores for Svelte. All of a page share one connection; `svelte.d.ts` has the types.
 *
 *     const live = $derived(jobStore(headway, id)); // $live.job, $live.status
 */

export { liveGroup as groupStore, liveJob as jobStore, liveJobs as jobsStore } from "./client/live-jobs.js";
