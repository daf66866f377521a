/**
 * `<job-details>`: everything about one job: times, parameters, result, artifacts, log.
 */

import { ArtifactList } from "./artifact-list.js";
import { element, show } from "./element.js";
import { duration } from "./figures.js";
import { JobLog } from "./job-log.js";

/** @typedef {import("./reducer.js").Job} Job */

export class JobDetails extends HTMLElement {
  /** @type {Job | undefined} */ #job;
  #facts = element("dl", { class: "facts" });
  #params = element("pre", { class: "json foreign", tabIndex: 0 });
  #result = element("pre", { class: "json foreign", tabIndex: 0 });
  #artifacts = new ArtifactList();
  #log = new JobLog();
  #resultPart = element("section", {}, element("h3", {}, "Result"), this.#result);
  #artifactPart = element("section", {}, element("h3", {}, "Artifacts"), this.#artifacts);

  connectedCallback() {
    if (this.#log.isConnected) return;
    this.append(
      this.#facts,
      this.#artifactPart,
      this.#resultPart,
      element("section", {}, element("h3", {}, "Parameters"), this.#params),
      element("section", {}, element("h3", {}, "Log"), this.#log),
    );
  }

  get job() {
    return this.#job;
  }

  set job(job) {
    if (!job) return;
    this.#job = job;
    const facts = Object.fromEntries(factsOf(job));
    const key = JSON.stringify(facts);
    if (this.#facts.dataset.key !== key) {
      this.#facts.dataset.key = key;
      this.#facts.replaceChildren(
        ...Object.entries(facts).map(([name, text]) =>
          element("div", {}, element("dt", {}, name), element("dd", { class: "foreign" }, text)),
        ),
      );
    }
    show(this.#params, JSON.stringify(job.params, null, 2));
    const result =
      job.result === null || job.result === undefined ? "" : JSON.stringify(job.result, null, 2);
    show(this.#result, result);
    this.#resultPart.hidden = result === "";
    this.#artifactPart.hidden = job.artifacts.length === 0;
    this.#artifacts.artifacts = job.artifacts;
    this.#log.job = job.id;
  }
}

/**
 * @param {Job} job
 * @returns {[string, string][]}
 */
function factsOf(job) {
  /** @type {[string, string | null][]} */
  const facts = [
    ["Id", job.id],
    ["Created", at(job.created_at)],
    ["Started", at(job.started_at)],
    ["Ended", at(job.finished_at)],
    ["Took", took(job)],
    ["Attempts", `${job.attempt} of at most ${job.max_attempts}`],
    ["Time limit", job.timeout_s ? duration(job.timeout_s) : null],
    ["Retry of", job.retry_of],
  ];
  return /** @type {[string, string][]} */ (facts.filter(([, text]) => text));
}

/** @param {string | null} time */
function at(time) {
  return time ? new Date(time).toLocaleString() : null;
}

/** @param {Job} job */
function took({ started_at: from, finished_at: to }) {
  return from && to ? duration((Date.parse(to) - Date.parse(from)) / 1000) : null;
}

customElements.define("job-details", JobDetails);
