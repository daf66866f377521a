/**
 * How `<job-progress>` looks. A constructed sheet needs no permission of a Content-Security-Policy.
 */

export const style = new CSSStyleSheet();
style.replaceSync(`
:host {
  display: block;
  font: var(--job-font, inherit);
  font-variant-numeric: tabular-nums;
  overflow-wrap: anywhere;
  --bar: var(--job-bar, #2563eb);
  --quiet: var(--job-quiet, light-dark(#59636e, #9aa5b1));
  --bad: var(--job-bad, light-dark(#b3261e, #ff8a80));
}
[hidden] { display: none !important; }
.job + .job { margin-block-start: 1em; }
.row, .about { display: flex; flex-wrap: wrap; align-items: center; gap: 0 .75em; }
.about { color: var(--quiet); font-size: .875em; }
.name { font-weight: 600; }
.bar {
  flex: 1 1 8em;
  overflow: hidden;
  block-size: var(--job-size, .5em);
  border-radius: var(--job-radius, .25em);
  background: var(--job-track, light-dark(#dfe3e8, #333b45));
  forced-color-adjust: none;
}
.fill {
  block-size: 100%;
  background: var(--bar);
  transition: inline-size .25s;
}
.percent { min-inline-size: 3em; text-align: end; }
.error { color: var(--bad); }
[data-state=succeeded] { --bar: var(--job-good, #15803d); }
[data-state=failed] { --bar: var(--bad); }
[data-state=canceled] { --bar: var(--quiet); }
[data-state=retrying] { --bar: var(--job-warn, #b45309); }
.unknown .fill {
  background: repeating-linear-gradient(-45deg, var(--bar) 0 .5em, #0000 .5em 1em) 0 0 / 1.414em;
  animation: unknown 1s linear infinite;
}
.stale .bar { opacity: .5; }
.stale .fill { animation: none; transition: none; }
@keyframes unknown { to { background-position-x: 1.414em; } }
button { font: inherit; color: inherit; background: none; border: 1px solid; border-radius: .25em; padding: 0 .5em; }
button:disabled { opacity: .7; }
.said { position: fixed; clip-path: inset(50%); }
@media (prefers-reduced-motion) { .fill { animation: none !important; transition: none; } }
`);
