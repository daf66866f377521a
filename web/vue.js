/**
 * Composables for Vue. All of a page share one connection; `vue.d.ts` has the types.
 *
 *     const { job, status } = useJob(headway, () => props.id);
 */

import { computed, shallowRef, toValue, watch } from "vue";

import { idOf, liveGroup, liveJob, liveJobs } from "./client/live-jobs.js";

/** @typedef {import("./client/client.js").Client} Client */

/**
 * @param {string[]} what the value has: `job`, or `jobs`
 * @param {() => string | undefined} key another one is other jobs
 * @param {(known: Iterable<import("./jobs.js").Job>) => import("./client/live-jobs.js").LiveJobs<any>} make
 * @returns {any}
 */
function useLive(what, key, make) {
  const value = shallowRef();
  /** @type {import("./client/live-jobs.js").LiveJobs<any> | undefined} */ let live;
  watch(
    key,
    (now, before, onCleanup) => {
      live = make(live?.jobs ?? []);
      onCleanup(live.subscribe((found) => (value.value = found)));
    },
    { immediate: true },
  );
  return {
    ...Object.fromEntries(what.map((name) => [name, computed(() => value.value[name])])),
    status: computed(() => value.value.status),
    again: () => value.value.again(),
  };
}

/**
 * @param {Client} headway
 * @param {import("vue").MaybeRefOrGetter<string | import("./jobs.js").Job | null | undefined>} job
 */
export function useJob(headway, job) {
  return useLive(["job"], () => idOf(toValue(job)), () => liveJob(headway, toValue(job)));
}

/**
 * @param {Client} headway
 * @param {import("vue").MaybeRefOrGetter<Iterable<string> | undefined>} [ids]
 */
export function useJobs(headway, ids) {
  const wanted = () => ids && toValue(ids);
  const key = () => [...(wanted() ?? [])].join(" ");
  return useLive(["jobs"], key, (known) => liveJobs(headway, wanted(), known));
}

/**
 * @param {Client} headway
 * @param {import("vue").MaybeRefOrGetter<string | null | undefined>} group
 */
export function useGroup(headway, group) {
  return useLive(["group", "jobs"], () => toValue(group) ?? undefined, () => liveGroup(headway, toValue(group)));
}
