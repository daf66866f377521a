/**
 * `<job-tags>`: the group and the labels of a job. Each leads to the jobs that have it, too.
 */

import { element } from "../element/dom.js";
import { JobFilter } from "./jobs/job-filter.js";

/** @typedef {import("../jobs.js").Job} Job */

export class JobTags extends HTMLElement {
  #key = "";
  #tabIndex;

  /** @param {number} [tabIndex] of each: -1 where the Tab key is not to stop at it */
  constructor(tabIndex = 0) {
    super();
    this.#tabIndex = tabIndex;
  }

  set job(/** @type {Job} */ { group, labels }) {
    const key = JSON.stringify([group, labels]);
    if (key === this.#key) return;
    this.#key = key;
    const named = Object.entries(labels ?? {}).map(([name, value]) => this.#tag("label", `${name}: ${value}`, { labels: { [name]: value } }));
    const grouped = group === null ? [] : [this.#tag("group", group, { group })];
    this.replaceChildren(...grouped, ...named);
  }

  /**
   * @param {string} kind
   * @param {string} text
   * @param {ConstructorParameters<typeof JobFilter>[0]} filter
   */
  #tag(kind, text, filter) {
    const href = `#/?${new JobFilter(filter).query}`;
    return element("a", { className: `tag ${kind} foreign`, title: text, href, tabIndex: this.#tabIndex }, text);
  }
}

customElements.define("job-tags", JobTags);
