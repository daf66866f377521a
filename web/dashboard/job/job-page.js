/**
 * `<job-page>`: everything about one job.
 *
 * Dispatches `cancel-job` and `retry-job` (bubble; detail: {id}) when those buttons are pressed.
 */

import { ArtifactList } from "./artifact-list.js";
import { element, isOff, show, switchOff } from "../../element/dom.js";
import { duration, shortId } from "../../element/format.js";
import { JobAttempts } from "./job-attempts.js";
import { JobBar } from "../job-bar.js";
import { JobHistory } from "../../client/job-events.js";
import { JobLog } from "./job-log.js";
import { JobStages } from "./job-stages.js";
import { JobStory } from "./job-story.js";
import { JobTags } from "../job-tags.js";
import { JobTimeline } from "./job-timeline.js";
import { PacePlot } from "./rate-chart.js";
import { isLive } from "../../client/reducer.js";

/** @typedef {import("../../jobs.js").Job} Job */

export class JobPage extends HTMLElement {
  #feed;
  #id;
  #history;
  #story = new JobStory();
  #drawing = false;
  #back = element("a", { class: "back" }, "‹ Jobs");
  #type = element("bdi", { class: "type foreign clamped" });
  #heading = element("h2", { tabIndex: -1 }, this.#type);
  #state = element("span", { class: "state" });
  #attempt = element("span", { class: "attempt" });
  #tags = new JobTags();
  #cancel = button("cancel", "Cancel");
  #again = button("again", "Again");
  #change = element("a", { class: "button change" }, "Again with changes");
  #reason = element("p", { class: "waiting foreign", role: "status" });
  #bar = new JobBar();
  #error = element("p", { class: "error foreign", tabIndex: 0, role: "group", "aria-label": "Error" });
  #problem = element("p", { class: "problem foreign", role: "alert", hidden: true });
  #facts = element("dl", { class: "facts" });
  #stages = new JobStages();
  #pace = new PacePlot();
  #log = new JobLog();
  #timeline = new JobTimeline();
  #attempts = new JobAttempts();
  #artifacts = new ArtifactList();
  #params = json("Parameters");
  #result = json("Result");
  #parts = {
    stages: section("Stages", this.#stages),
    pace: section("Pace", this.#pace),
    artifacts: section("Artifacts", this.#artifacts),
    result: section("Result", this.#result),
    attempts: section("Attempts", this.#attempts),
  };

  /**
   * @param {import("../../jobs.js").Headway} client
   * @param {import("../../client/job-feed.js").JobFeed} feed
   * @param {string} id
   * @param {string} back the address of the list, as it was left
   */
  constructor(client, feed, id, back) {
    super();
    this.#feed = feed;
    this.#id = id;
    this.#back.href = back;
    this.#history = new JobHistory(client, feed, id);
    this.#history.addEventListener("clear", () => {
      this.#story = new JobStory();
      this.#log.clear();
      this.#soon();
    });
    this.#history.addEventListener("events", (event) => {
      for (const one of /** @type {CustomEvent} */ (event).detail) {
        this.#story.take(one);
        this.#log.take(one);
      }
      this.#soon();
    });
    this.#history.addEventListener("read", () => this.#log.read());
    this.#cancel.addEventListener("click", () => this.#ask("cancel-job", this.#cancel));
    this.#again.addEventListener("click", () => this.#ask("retry-job", this.#again));
  }

  connectedCallback() {
    this.dataset.id = this.#id;
    this.#change.href = `#/new?from=${encodeURIComponent(this.#id)}`;
    const { stages, pace, artifacts, result, attempts } = this.#parts;
    this.append(
      this.#back,
      element(
        "header",
        { class: "job-head" },
        this.#heading,
        this.#state,
        this.#attempt,
        this.#tags,
        element("span", { class: "actions" }, this.#cancel, this.#again, this.#change),
      ),
      this.#problem,
      this.#reason,
      this.#bar,
      this.#error,
      element(
        "div",
        { class: "columns" },
        element("div", { class: "column" }, stages, pace, artifacts, section("Log", this.#log), result),
        element(
          "div",
          { class: "column" },
          section("About", this.#facts),
          attempts,
          section("Timeline", this.#timeline),
          section("Parameters", this.#params),
        ),
      ),
    );
    for (const part of Object.values(this.#parts)) part.hidden = true;
    this.#history.open();
  }

  disconnectedCallback() {
    this.#history.close();
  }

  /** Why the job waits; empty if nobody knows. */
  set reason(/** @type {string} */ text) {
    show(this.#reason, text);
  }

  /** @param {string} text of what went wrong; empty: nothing */
  say(text) {
    show(this.#problem, text);
    const job = this.#feed.jobs.get(this.#id);
    switchOff(this.#again, false);
    switchOff(this.#cancel, Boolean(job?.cancel_requested));
  }

  focus() {
    this.#heading.focus({ preventScroll: true });
  }

  set job(/** @type {Job} */ job) {
    const live = isLive(job);
    this.dataset.state = job.state;
    show(this.#type, job.type);
    show(this.#state, job.state);
    show(this.#attempt, job.attempt > 1 ? `attempt ${job.attempt} of ${job.max_attempts}` : "");
    this.#tags.job = job;
    const canceling = live && job.cancel_requested;
    // The service refuses to do again what is still being done.
    this.#again.hidden = live;
    if (!live && document.activeElement === this.#cancel) this.#again.focus();
    show(this.#cancel, live ? (canceling ? "canceling…" : "Cancel") : "");
    switchOff(this.#cancel, canceling);
    this.#bar.job = job;
    const { error } = job;
    show(this.#error, error && error.code !== "canceled" ? `${error.code}: ${error.message}` : "");
    this.#drawFacts(job);
    show(this.#params, JSON.stringify(job.params, null, 2));
    show(this.#result, job.result === null ? "" : JSON.stringify(job.result, null, 2));
    this.#parts.result.hidden = job.result === null;
    this.#parts.artifacts.hidden = job.artifacts.length === 0;
    this.#artifacts.artifacts = job.artifacts;
  }

  /** @param {Job} job */
  #drawFacts(job) {
    const facts = factsOf(job);
    const key = JSON.stringify(facts);
    if (this.#facts.dataset.key === key) return;
    this.#facts.dataset.key = key;
    this.#facts.replaceChildren(
      ...facts.map(([name, text]) => {
        const id = name === "Id" || name === "Retry of" ? element("code", {}, text) : text;
        const value = name === "Retry of" ? element("a", { href: `#/jobs/${encodeURIComponent(text)}` }, id) : id;
        return element("div", {}, element("dt", {}, name), element("dd", { class: "foreign" }, value));
      }),
    );
  }

  /** Fifty events are one drawing. */
  #soon() {
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => {
      this.#drawing = false;
      const story = this.#story;
      for (const view of [this.#stages, this.#pace, this.#timeline, this.#attempts]) view.story = story;
      this.#parts.stages.hidden = this.#stages.hidden;
      this.#parts.pace.hidden = this.#pace.hidden;
      this.#parts.attempts.hidden = story.attempts.length === 0;
      if (!story.whole) this.#log.cut();
    });
  }

  /**
   * @param {string} type
   * @param {HTMLButtonElement} pressed
   */
  #ask(type, pressed) {
    if (isOff(pressed)) return;
    // Shown at once; the answer says whether it was heard.
    switchOff(pressed, true);
    this.dispatchEvent(new CustomEvent(type, { bubbles: true, detail: { id: this.#id } }));
  }
}

/**
 * @param {string} title
 * @param {...Node} children
 */
function section(title, ...children) {
  return element("section", { class: title.toLowerCase() }, element("h3", {}, title), ...children);
}

/**
 * @param {string} name
 * @param {string} text
 */
function button(name, text) {
  return element("button", { type: "button", class: name }, text);
}

/** @param {string} name */
function json(name) {
  return element("pre", { class: "json foreign", tabIndex: 0, role: "group", "aria-label": name });
}

/**
 * @param {Job} job
 * @returns {[string, string][]}
 */
function factsOf(job) {
  const { started_at: from, finished_at: to } = job;
  /** @type {[string, string | null][]} */
  const facts = [
    ["Id", job.id],
    ["Created", at(job.created_at)],
    ["Started", at(from)],
    ["Ended", at(to)],
    ["Took", from && to ? duration((Date.parse(to) - Date.parse(from)) / 1000) : null],
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

/** What the page is called while this job is open. */
export function titleOf(/** @type {Job} */ job, /** @type {string} */ percent) {
  return [isLive(job) ? percent : job.state, job.type, shortId(job.id)].filter(Boolean).join(" ");
}

customElements.define("job-page", JobPage);
