/** One build for all pages. React is its development form, in which StrictMode mounts everything twice. */

import { svelte } from "@sveltejs/vite-plugin-svelte";
import vue from "@vitejs/plugin-vue";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [svelte(), vue()],
  build: {
    minify: false,
    reportCompressedSize: false,
    target: "esnext",
    rollupOptions: { input: ["react.html", "vue.html", "svelte.html"] },
  },
});
