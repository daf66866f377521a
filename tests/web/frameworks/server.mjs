// What a server does with the package: imports it without a browser's globals, and renders with all three frameworks.
import assert from "node:assert";

import { Headway, Problem } from "headway-progress";
import { JobProgress } from "headway-progress/element";
import * as hooks from "headway-progress/react";
import * as stores from "headway-progress/svelte";
import * as composables from "headway-progress/vue";
import { createElement, StrictMode } from "react";
import { renderToString } from "react-dom/server";
import { get } from "svelte/store";
import { createSSRApp, h } from "vue";
import { renderToString as renderVue } from "vue/server-renderer";

const [, , base, id] = process.argv;

for (const name of ["window", "document", "location", "HTMLElement", "customElements"]) assert(!(name in globalThis), name);
assert.equal(typeof JobProgress, "function");

const headway = new Headway({ base, token: process.env.HEADWAY_TOKEN });
const document = await headway.get(id);

const asked = globalThis.fetch;
globalThis.fetch = () => assert.fail("a server asks for nothing");
const shown = ({ job, jobs, status }) => `${status}: ${job?.progress?.fraction ?? job ?? jobs?.length}`;
const say = (use, ...given) => {
  const Page = () => createElement("p", null, shown(use(headway, ...given)));
  return renderToString(createElement(StrictMode, null, createElement(Page)));
};
assert.equal(say(hooks.useJob, document), "<p>connecting: 0.25</p>");
assert.equal(say(hooks.useJob, id), "<p>connecting: undefined</p>");
assert.equal(say(hooks.useJob, null), "<p>closed: undefined</p>");
assert.equal(say(hooks.useJobs, [id]), "<p>connecting: 0</p>");
assert.equal(say(hooks.useGroup, "g"), "<p>connecting: 0</p>");

const page = createSSRApp({
  setup() {
    const { job, status } = composables.useJob(headway, () => document);
    const { jobs } = composables.useGroup(headway, "g");
    return () => h("p", `${status.value}: ${job.value.progress.fraction}, ${jobs.value.length}`);
  },
});
assert.equal(await renderVue(page), "<p>connecting: 0.25, 0</p>");
assert.equal(shown(get(stores.jobStore(headway, document))), "connecting: 0.25");
await new Promise((resolve) => setTimeout(resolve, 50));
globalThis.fetch = asked;

// Without a page an address needs its host, and the client says so when it is used, not before.
const nowhere = new Headway();
await assert.rejects(nowhere.get(id), { name: "TypeError", code: "ERR_INVALID_URL" });
await assert.rejects(headway.get("0-nothing"), (error) => error instanceof Problem && error.status === 404);

// And it works, not only in browsers.
console.log("rendered");
const job = headway.job(id);
job.addEventListener("progress", ({ detail }) => console.log(detail.fraction));
console.log((await job.done).state);
