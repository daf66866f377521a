// The browser's side of render.js.
import "headway-progress/element";
import { createElement } from "react";
import { hydrateRoot } from "react-dom/client";
import { hydrate } from "svelte";
import { createSSRApp, h } from "vue";

import SvelteBar from "./Bar.svelte";
import VueBar from "./Bar.vue";
import { Rendered } from "./rendered-react";

const target = document.getElementById("app");
const job = JSON.parse(document.getElementById("job").textContent);
window.problems = [];
// What is taken over stays the same element.
document.querySelector("progress").rendered = true;
const take = {
  react: () => hydrateRoot(target, createElement(Rendered, { job }), { onRecoverableError: (error) => problems.push(String(error)) }),
  vue: () => createSSRApp({ render: () => h(VueBar, { id: job }) }).mount(target),
  svelte: () => hydrate(SvelteBar, { target, props: { id: job }, recover: false }),
};
take[new URLSearchParams(location.search).get("by")]();
window.taken = true;
