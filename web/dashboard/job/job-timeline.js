/**
 * `<job-timeline>`: what happened to a job, and how long after its beginning.
 */

import { element } from "../../element/dom.js";
import { duration } from "../../element/format.js";

/** @typedef {import("./job-story.js").JobStory} JobStory */
/** @typedef {import("./job-story.js").Milestone} Milestone */

export class JobTimeline extends HTMLElement {
  #list = element("ol", { "aria-label": "Timeline", tabIndex: 0 });

  connectedCallback() {
    this.append(this.#list);
  }

  set story(/** @type {JobStory} */ { milestones }) {
    const begin = milestones[0]?.at ?? 0;
    const follows = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < 24;
    milestones.forEach((milestone, index) => {
      const key = JSON.stringify(milestone);
      const held = /** @type {HTMLElement | undefined} */ (this.#list.children[index]);
      if (held?.dataset.key === key) return;
      const line = entry(milestone, begin);
      line.dataset.key = key;
      if (held) held.replaceWith(line);
      else this.#list.append(line);
    });
    while (this.#list.childElementCount > milestones.length) this.#list.lastElementChild?.remove();
    if (follows) this.#list.scrollTop = this.#list.scrollHeight;
  }
}

/**
 * @param {Milestone} milestone
 * @param {number} begin
 */
function entry({ at, kind, text, reason, count }, begin) {
  const named = kind === "stage" || kind === "artifact";
  const about = kind === "artifact" && count > 1 ? `${count} artifacts, the last one ` : `${kind} `;
  const line = element(
    "li",
    {},
    element("time", { dateTime: new Date(at).toISOString(), title: new Date(at).toLocaleString() }, `+${duration((at - begin) / 1000)}`),
    element(
      "span",
      { class: named ? "what clamped" : "what" },
      named ? element("span", { class: "kind" }, about) : null,
      element("bdi", { class: named ? "foreign" : "state" }, text),
      reason ? element("span", { class: "reason foreign clamped" }, reason) : null,
    ),
  );
  line.dataset.kind = kind;
  // In the colour of the state that begins here.
  line.dataset.state = kind === "canceling" ? "retrying" : kind;
  return line;
}

customElements.define("job-timeline", JobTimeline);
