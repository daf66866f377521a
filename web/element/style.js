/**
 * How bars look, in `<job-progress>` and in the dashboard. A constructed sheet needs no permission from a
 * Content-Security-Policy.
 */

// Nor may an import need a browser: servers render pages, too.
export const style = /** @type {CSSStyleSheet} */ (globalThis.document && new CSSStyleSheet());
if (globalThis.document) style.replaceSync(`
:host {
  display: block;
  font: var(--job-font, inherit);
  font-variant-numeric: tabular-nums;
  overflow-wrap: anywhere;
}
.job + .job { margin-block-start: 1em; }
.row, .about { display: flex; flex-wrap: wrap; align-items: center; gap: 0 .75em; }
.about { color: var(--job-quiet, color-mix(in srgb, currentColor 75%, #0000)); font-size: .9em; }
.name { font-weight: 600; }
.bar {
  flex: 1 8em;
  overflow: hidden;
  block-size: var(--job-size, .5em);
  border-radius: var(--job-radius, .25em);
  background: var(--job-track, #8884);
  forced-color-adjust: none;
}
.fill {
  --fill: var(--job-bar, #2563eb);
  block-size: 100%;
  background: var(--fill);
  transition: .25s;
}
.percent { min-inline-size: 3.5em; text-align: end; }
.error { color: var(--job-bad, color-mix(in srgb, red 60%, currentColor)); }
.succeeded .fill { --fill: var(--job-good, #15803d); }
.failed .fill { --fill: var(--job-bad, #dc2626); }
.canceled .fill { --fill: #888; }
.retrying .fill { --fill: var(--job-warn, #b45309); }
.unknown .fill {
  background: linear-gradient(90deg, var(--fill) 50%, #0000 0) 0/1em;
  animation: unknown 1s linear infinite;
}
.stale .bar { opacity: .5; }
.stale .fill { animation: none; }
@keyframes unknown { to { background-position-x: 1em; } }
.said { position: fixed; clip-path: inset(50%); }
@media (prefers-reduced-motion) { .fill { animation: none !important; transition: none; } }
`);
