/**
 * Hooks for React. All hooks of a page share one connection; `react.d.ts` has the types.
 *
 *     const headway = new Headway(); // once, outside of components
 *     const { job, status } = useJob(headway, id);
 */

import { useState, useSyncExternalStore } from "react";

import { idOf, liveGroup, liveJob, liveJobs } from "./client/live-jobs.js";

/** @typedef {import("./client/client.js").Client} Client */

/**
 * @template {import("./client/live-jobs.js").LiveJobs<any>} Made
 * @param {Client} client
 * @param {string | undefined} key another one is other jobs
 * @param {(known: Iterable<import("./jobs.js").Job>) => Made} make `known`: what this client has found so far
 * @returns {Made["value"]}
 */
function useLive(client, key, make) {
  const [held, setHeld] = useState(() => ({ client, key, live: make([]) }));
  let { live } = held;
  if (held.client !== client || held.key !== key) {
    live = make(held.client === client ? live.jobs : []);
    setHeld({ client, key, live });
  }
  const now = () => live.value;
  return useSyncExternalStore(live.subscribe, now, now);
}

/**
 * @param {Client} headway
 * @param {string | import("./jobs.js").Job | null} [job]
 */
export function useJob(headway, job) {
  return useLive(headway, idOf(job), () => liveJob(headway, job));
}

/**
 * @param {Client} headway
 * @param {Iterable<string>} [ids]
 */
export function useJobs(headway, ids) {
  const wanted = ids && [...ids];
  return useLive(headway, wanted?.join(" "), (known) => liveJobs(headway, wanted, known));
}

/**
 * @param {Client} headway
 * @param {string | null} [group]
 */
export function useGroup(headway, group) {
  return useLive(headway, group ?? undefined, () => liveGroup(headway, group));
}
