/**
 * How `<job-progress>` looks. A constructed sheet needs no permission of a Content-Security-Policy.
 */

export const style = new CSSStyleSheet();
style.replaceSync(`
:host {
  display: block;
  color-scheme: inherit;
  font: var(--job-font, inherit);
  --bar: var(--job-bar, #2563eb);
  --quiet: var(--job-quiet, light-dark(#59636e, #9aa5b1));
  --bad: var(--job-bad, light-dark(#b3261e, #ff8a80));
}
:host([hidden]), [hidden] { display: none !important; }
.job + .job { margin-block-start: 1em; }
.row, .about { display: flex; flex-wrap: wrap; align-items: center; gap: 0 .75em; }
.about { color: var(--quiet); font-size: .875em; font-variant-numeric: tabular-nums; }
.name { font-weight: 600; }
.bar {
  flex: 1 1 8em;
  overflow: hidden;
  block-size: var(--job-size, .5em);
  border-radius: var(--job-radius, .25em);
  background: var(--job-track, light-dark(#dfe3e8, #333b45));
}
.fill {
  block-size: 100%;
  inline-size: 0;
  border-radius: inherit;
  background: var(--bar);
  transition: inline-size .25s linear;
}
.percent { min-inline-size: 3em; text-align: end; font-variant-numeric: tabular-nums; }
.message, .log { unicode-bidi: isolate; overflow-wrap: anywhere; }
.error { color: var(--bad); overflow-wrap: anywhere; }
.job[data-state=succeeded] { --bar: var(--job-good, #15803d); }
.job[data-state=failed] { --bar: var(--bad); }
.job[data-state=canceled] { --bar: var(--quiet); }
.job[data-state=retrying] { --bar: var(--job-warn, #b45309); }
.unknown .fill {
  inline-size: 100%;
  background: repeating-linear-gradient(-45deg, var(--bar) 0 .5em, color-mix(in srgb, var(--bar) 55%, #0000) .5em 1em);
  background-size: 1.414em 100%;
  animation: unknown 1s linear infinite;
}
.stale .bar { opacity: .5; }
.stale .fill { animation: none; transition: none; }
@keyframes unknown { to { background-position-x: 1.414em; } }
button { font: inherit; color: inherit; background: none; border: 1px solid; border-radius: .25em; padding: 0 .5em; cursor: pointer; }
button:disabled { opacity: .7; cursor: default; }
summary { cursor: pointer; }
.log { max-block-size: 12em; overflow: auto; margin: .25em 0; white-space: pre-wrap; font: .9em/1.4 ui-monospace, monospace; }
.said { position: absolute; inline-size: 1px; block-size: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
@media (prefers-reduced-motion: reduce) { .fill { animation: none !important; transition: none; } }
@media (forced-colors: active) { .bar { border: 1px solid; } .fill { background: Highlight !important; forced-color-adjust: none; } }
`);
