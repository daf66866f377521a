/**
 * `<job-stages>`: the stages of the newest attempt, and how long each took.
 */

import { element, show } from "../../element/dom.js";
import { duration, percent } from "../../element/format.js";

/** @typedef {import("./job-story.js").JobStory} JobStory */
/** @typedef {import("./job-story.js").Attempt} Attempt */

export class JobStages extends HTMLElement {
  #list = element("ol", { ariaLabel: "Stages" });
  #key = "";

  connectedCallback() {
    this.append(this.#list);
  }

  set story(/** @type {JobStory} */ { attempt }) {
    const rows = attempt ? rowsOf(attempt) : [];
    this.hidden = rows.length === 0;
    const key = rows.map((row) => `${row.name}\n${row.state}`).join("\n");
    if (key !== this.#key) {
      this.#key = key;
      this.#list.replaceChildren(...rows.map(rowElement));
    }
    rows.forEach(({ about, fraction }, at) => {
      const row = this.#list.children[at];
      show(/** @type {HTMLElement} */ (row.querySelector(".took")), about);
      /** @type {HTMLElement} */ (row.querySelector(".part")).style.transform = `scaleX(${fraction})`;
    });
  }
}

/** More rows than this are not readable. */
const MAX_ROWS = 50;

/**
 * The stages that were reported, and those whose names are unknown: earlier ones that were too short to be
 * reported, and those to come.
 * @param {Attempt} attempt
 */
function rowsOf({ stages: all, to, outcome }) {
  const stages = all.slice(-MAX_ROWS);
  const { index = 0, count = 0 } = stages.at(-1) ?? {};
  const before = all.length > MAX_ROWS ? 0 : (stages[0]?.index ?? 1) - 1;
  const over = Array.from({ length: Math.min(before, MAX_ROWS) }, (_, at) => ({
    ...{ name: `${at + 1} of ${count}`, state: "done", fraction: 1, about: "" },
  }));
  const rows = stages.map((stage, at) => {
    const last = at === stages.length - 1;
    const state = !last || outcome === "succeeded" ? "done" : to === null ? "now" : "stopped";
    const fraction = state === "done" ? 1 : (stage.fraction ?? 0);
    const seconds = stage.to === null ? "" : duration((stage.to - stage.from) / 1000);
    return { name: stage.name, state, fraction, about: seconds || percent(stage.fraction ?? null) };
  });
  for (let at = index; at < Math.min(count, MAX_ROWS); at += 1) {
    rows.push({ name: `${at + 1} of ${count}`, state: "to come", fraction: 0, about: "" });
  }
  return [...over, ...rows];
}

const MARKS = /** @type {Record<string, string>} */ ({ done: "✓", now: "▸", stopped: "✕", "to come": "·" });

/** @param {{name: string, state: string}} row */
function rowElement({ name, state }) {
  const made = element(
    "li",
    {},
    element("span", { className: "mark", ariaHidden: "true" }, MARKS[state]),
    element("span", { className: "stage foreign clamped" }, name),
    element("span", { className: "hidden-text" }, state),
    element("span", { className: "track" }, element("span", { className: "part" })),
    element("span", { className: "took" }),
  );
  made.dataset.state = state;
  return made;
}

customElements.define("job-stages", JobStages);
