/**
 * `web/job-progress.min.js`: the element and the client as one file, made from their modules.
 *
 *     node bundle.js <file>
 *
 * What is imported by `import()` stays a module of its own, at its address.
 */

import { readFile, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";

import { build, transform } from "esbuild";
import { minify } from "terser";

const web = fileURLToPath(new URL("../../web/", import.meta.url));

const inOneFile = {
  name: "in one file",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /./ }, ({ kind, path, resolveDir }) =>
      kind === "dynamic-import" ? { path: `./${relative(web, join(resolveDir, path))}`, external: true } : undefined,
    );
    onLoad({ filter: /\/style\.js$/ }, async ({ path }) => {
      const [before, css, after] = (await readFile(path, "utf8")).split("`").slice(-3);
      const { code } = await transform(css, { loader: "css", minify: true });
      return { contents: `${before.slice(before.indexOf("export"))}\`${code.trim().replaceAll(/([,:]) /g, "$1")}\`${after}` };
    });
  },
};

/** Properties that only these modules use among themselves, and no other page or tab. */
const INTERNAL = /^(unverified|notMine|fetching|held|records|expectsMore|receive|heard|readers|onUnused|checkSilence|opened|withdraw|words|emit|found|setStatus|leave|changed|leads|stand|draw|take|begin|move|node|place|Stream|pending|stateText)$/;

const { outputFiles } = await build({
  entryPoints: [`${web}job-progress.js`],
  bundle: true,
  minify: true,
  mangleProps: INTERNAL,
  // The modules can be imported outside of pages, too; a page has all of these.
  define: Object.fromEntries(["addEventListener", "document", "location", "navigator"].map((name) => [`globalThis.${name}`, "true"])),
  format: "esm",
  target: "es2022",
  write: false,
  plugins: [inOneFile],
});
// esbuild renames private members, which terser does not; terser finds more to leave out.
const { code } = await minify(outputFiles[0].text, {
  module: true,
  ecma: 2020,
  compress: { passes: 3, unsafe: true, unsafe_arrows: true, unsafe_methods: true, sequences: false, keep_fargs: false, lhs_constants: false, booleans_as_integers: true },
  format: { wrap_func_args: false },
});
await writeFile(process.argv[2], `${code}\n`);
