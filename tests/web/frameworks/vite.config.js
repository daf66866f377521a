/**
 * One build for all pages, and for the server that renders them. React is its development form, in which StrictMode
 * mounts everything twice.
 */

import { svelte } from "@sveltejs/vite-plugin-svelte";
import vue from "@vitejs/plugin-vue";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [svelte(), vue()],
  build: {
    minify: false,
    reportCompressedSize: false,
    target: "esnext",
  },
  environments: {
    client: { build: { rollupOptions: { input: ["react.html", "vue.html", "svelte.html", "rendered.html"] } } },
    ssr: { build: { ssr: true, outDir: "dist-server", rollupOptions: { input: "src/render.js" } } },
  },
  builder: {},
});
