/**
 * `<job-tags>`: the group and the labels of a job.
 */

import { element } from "../element/dom.js";

/** @typedef {import("../jobs.js").Job} Job */

export class JobTags extends HTMLElement {
  #key = "";

  set job(/** @type {Job} */ { group, labels }) {
    const key = JSON.stringify([group, labels]);
    if (key === this.#key) return;
    this.#key = key;
    const named = Object.entries(labels ?? {}).map(([name, value]) => ["label", `${name}: ${value}`]);
    const all = group === null ? named : [["group", group], ...named];
    this.replaceChildren(
      ...all.map(([kind, text]) => element("span", { className: `tag ${kind} foreign`, title: text }, text)),
    );
  }
}

customElements.define("job-tags", JobTags);
