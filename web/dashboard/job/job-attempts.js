/**
 * `<job-attempts>`: every attempt at a job: when it started, how long it took, how far it came, how it ended.
 */

import { element } from "../../element/dom.js";
import { duration, percent } from "../../element/format.js";

/** @typedef {import("./job-story.js").JobStory} JobStory */
/** @typedef {import("./job-story.js").Attempt} Attempt */

export class JobAttempts extends HTMLElement {
  #key = "";
  #rows = element("tbody");

  connectedCallback() {
    const heads = ["Attempt", "Started", "Took", "Progress", "State"];
    this.append(
      element(
        "table",
        {},
        element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col", className: head === "Started" ? "began" : "" }, head)))),
        this.#rows,
      ),
    );
  }

  set story(/** @type {JobStory} */ { attempts }) {
    const cells = attempts.map(cellsOf);
    const key = JSON.stringify(cells);
    if (key === this.#key) return;
    this.#key = key;
    this.#rows.replaceChildren(...attempts.map((attempt, at) => row(attempt, cells[at])));
  }
}

/** @param {Attempt} attempt */
function cellsOf({ number, from, to, fraction, outcome }) {
  return [
    String(number),
    new Date(from).toLocaleTimeString("en-GB"),
    to === null ? "" : duration((to - from) / 1000),
    outcome === "succeeded" ? "100 %" : percent(fraction),
    outcome,
  ];
}

/**
 * @param {Attempt} attempt
 * @param {string[]} cells
 */
function row({ outcome, reason }, cells) {
  const [number, began, ...others] = cells;
  const made = element(
    "tr",
    {},
    element("th", { scope: "row" }, number),
    element("td", { className: "began" }, began),
    ...others.slice(0, -1).map((text) => element("td", {}, text)),
    element(
      "td",
      {},
      element("span", { className: "state" }, outcome),
      reason ? element("span", { className: "reason foreign clamped" }, reason) : "",
    ),
  );
  made.dataset.state = outcome;
  return made;
}

customElements.define("job-attempts", JobAttempts);
