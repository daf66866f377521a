/**
 * `<job-timeline>`: what happened to a job, and how long after its creation.
 */

import { element } from "../../element/dom.js";
import { duration } from "../../element/format.js";

/** @typedef {import("./job-story.js").JobStory} JobStory */
/** @typedef {import("./job-story.js").Milestone} Milestone */

export class JobTimeline extends HTMLElement {
  #list = element("ol", { ariaLabel: "Timeline", tabIndex: 0 });

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
  const about = kind === "artifact" && count > 1 ? `${count} artifacts, latest: ` : `${kind} `;
  const line = element(
    "li",
    {},
    element("time", { dateTime: new Date(at).toISOString(), title: new Date(at).toLocaleString() }, `+${duration((at - begin) / 1000)}`),
    element(
      "span",
      { className: named ? "what clamped" : "what" },
      named ? element("span", { className: "kind" }, about) : "",
      element("bdi", { className: named ? "foreign" : "state" }, text),
      reason ? element("span", { className: "reason foreign clamped" }, reason) : "",
    ),
  );
  line.dataset.kind = kind;
  // For the colour of the state that begins here.
  line.dataset.state = kind === "canceling" ? "retrying" : kind;
  return line;
}

customElements.define("job-timeline", JobTimeline);
