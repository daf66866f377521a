// The server: the page's HTML by each framework, for the job whose document is read from the standard input.
import "headway-progress/element";
import { createElement } from "react";
import { renderToString } from "react-dom/server";
import { render } from "svelte/server";
import { createSSRApp, h } from "vue";
import { renderToString as renderVue } from "vue/server-renderer";

import SvelteBar from "./Bar.svelte";
import VueBar from "./Bar.vue";
import { Rendered } from "./rendered-react";

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const job = JSON.parse(Buffer.concat(chunks).toString());
const html = {
  react: renderToString(createElement(Rendered, { job })),
  vue: await renderVue(createSSRApp({ render: () => h(VueBar, { id: job }) })),
  svelte: render(SvelteBar, { props: { id: job } }).body,
};
console.log(JSON.stringify(html));
