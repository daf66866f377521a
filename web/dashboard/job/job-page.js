/**
 * `<job-page>`: everything about one job.
 *
 * Dispatches `cancel-job` and `retry-job` (bubbles; detail: {id}) when their buttons are pressed.
 */

import { ArtifactList } from "./artifact-list.js";
import { isOff, switchOff } from "../buttons.js";
import { element, show } from "../../element/dom.js";
import { attemptOf, attemptText, duration, shortId } from "../../element/format.js";
import { JobAttempts } from "./job-attempts.js";
import { Bar } from "../../element/bar.js";
import { JobEvents } from "../../client/job-events.js";
import { LogView } from "../../element/log.js";
import { MessageForm } from "./message-form.js";
import { JobStages } from "./job-stages.js";
import { JobStory } from "./job-story.js";
import { JobTags } from "../job-tags.js";
import { JobTimeline } from "./job-timeline.js";
import { RateChart } from "./rate-chart.js";
import { isLive } from "../../client/reducer.js";

/** @typedef {import("../../jobs.js").Job} Job */

export class JobPage extends HTMLElement {
  #feed;
  #id;
  #events;
  #story = new JobStory();
  #drawing = false;
  #back = element("a", { className: "back" }, "‹ Jobs");
  #type = element("bdi", { className: "type foreign clamped" });
  #heading = element("h2", { tabIndex: -1 }, this.#type);
  #state = element("span", { className: "state" });
  #attempt = element("span", { className: "attempt" });
  #tags = new JobTags();
  #cancel = button("cancel", "Cancel");
  #again = button("again", "Run again");
  #change = element("a", { className: "button change" }, "Edit and run again");
  #reason = element("p", { className: "waiting foreign", role: "status" });
  #children = element("a", { className: "children", hidden: true }, "Its children");
  #bar = new Bar();
  #error = element("p", { className: "error foreign", tabIndex: 0, role: "group", ariaLabel: "Error" });
  #problem = element("p", { className: "problem foreign", role: "alert", hidden: true });
  #facts = element("dl", { className: "facts" });
  #stages = new JobStages();
  #pace = new RateChart();
  #log = new LogView(document);
  #message;
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
   * @param {import("../../client/client.js").Client & import("../../jobs.js").Headway} client
   * @param {import("../../client/job-feed.js").JobFeed} feed
   * @param {string} id
   * @param {string} back the address of the list, as it was left
   */
  constructor(client, feed, id, back) {
    super();
    this.#feed = feed;
    this.#id = id;
    this.#back.href = back;
    this.#events = new JobEvents(client, feed, id);
    this.#events.addEventListener("clear", () => {
      this.#story = new JobStory();
      this.#log.clear();
      this.#soon();
    });
    this.#events.addEventListener("events", (event) => {
      for (const one of /** @type {CustomEvent} */ (event).detail) {
        this.#story.receive(one);
        this.#log.receive(one);
      }
      this.#soon();
    });
    this.#events.addEventListener("read", () => this.#log.loaded());
    this.#cancel.addEventListener("click", () => this.#ask("cancel-job", this.#cancel));
    this.#again.addEventListener("click", () => this.#ask("retry-job", this.#again));
    this.#message = new MessageForm((name, data) => client.send(id, name, data));
  }

  connectedCallback() {
    this.dataset.id = this.#id;
    this.#children.href = `#/?group=${encodeURIComponent(this.#id)}`;
    this.#change.href = `#/new?from=${encodeURIComponent(this.#id)}`;
    const { stages, pace, artifacts, result, attempts } = this.#parts;
    this.append(
      this.#back,
      element(
        "header",
        { className: "job-head" },
        this.#heading,
        this.#state,
        this.#attempt,
        this.#tags,
        this.#children,
        element("span", { className: "actions" }, this.#cancel, this.#again, this.#change),
      ),
      this.#problem,
      this.#reason,
      this.#bar.node,
      this.#error,
      element(
        "div",
        { className: "columns" },
        element("div", { className: "column" }, stages, pace, artifacts, section("Log", this.#log.node, this.#message), result),
        element(
          "div",
          { className: "column" },
          section("Details", this.#facts),
          attempts,
          section("Timeline", this.#timeline),
          section("Parameters", this.#params),
        ),
      ),
    );
    for (const part of Object.values(this.#parts)) part.hidden = true;
    this.#events.open();
  }

  disconnectedCallback() {
    this.#events.close();
  }

  /** Why the job waits; empty if unknown. */
  set reason(/** @type {string} */ text) {
    show(this.#reason, text);
  }

  /** Whether its task has submitted others. They are the group of its id. */
  set hasChildren(/** @type {boolean} */ has) {
    this.#children.hidden = !has;
  }

  /** @param {string} text what went wrong; empty: nothing */
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
    show(this.#attempt, attemptText(job));
    this.#tags.job = job;
    const canceling = live && job.cancel_requested;
    // The service refuses to repeat a job that has not ended.
    this.#again.hidden = live;
    this.#message.hidden = !live;
    if (!live && document.activeElement === this.#cancel) this.#again.focus();
    show(this.#cancel, live ? (canceling ? "Canceling…" : "Cancel") : "");
    switchOff(this.#cancel, canceling);
    this.#bar.draw(job, this.#feed.status === "live");
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
        const isJob = name === "Retry of" || name === "Child of";
        const id = name === "Id" || isJob ? element("code", {}, text) : text;
        const value = isJob ? element("a", { href: `#/jobs/${encodeURIComponent(text)}` }, id) : id;
        return element("div", {}, element("dt", {}, name), element("dd", { className: "foreign" }, value));
      }),
    );
  }

  /** Many events in one frame are drawn once. */
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
      if (!story.whole) this.#log.truncated();
    });
  }

  /**
   * @param {string} type
   * @param {HTMLButtonElement} pressed
   */
  #ask(type, pressed) {
    if (isOff(pressed)) return;
    // At once; the answer says whether it was accepted.
    switchOff(pressed, true);
    this.dispatchEvent(new CustomEvent(type, { bubbles: true, detail: { id: this.#id } }));
  }
}

/**
 * @param {string} title
 * @param {...Node} children
 */
function section(title, ...children) {
  return element("section", { className: `${title.toLowerCase()}-section` }, element("h3", {}, title), ...children);
}

/**
 * @param {string} name
 * @param {string} text
 */
function button(name, text) {
  return element("button", { type: "button", className: name }, text);
}

/** @param {string} name */
function json(name) {
  return element("pre", { className: "json foreign", tabIndex: 0, role: "group", ariaLabel: name });
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
    ["Attempts", attemptOf(job)],
    ["Priority", job.priority === null ? null : String(job.priority)],
    ["Not before", at(job.run_at)],
    ["Expires", from ? null : at(job.expires_at)],
    ["Unique key", job.unique && `${job.unique.key}, until it ${job.unique.while === "queued" ? "begins" : "has ended"}`],
    ["Time limit", job.timeout_s ? duration(job.timeout_s) : null],
    ["Retry of", job.retry_of],
    ["Child of", job.parent],
  ];
  return /** @type {[string, string][]} */ (facts.filter(([, text]) => text));
}

/** @param {string | null} time */
function at(time) {
  return time ? new Date(time).toLocaleString() : null;
}

/** The title of the page while this job is open. */
export function titleOf(/** @type {Job} */ job, /** @type {string} */ percent) {
  return [isLive(job) ? percent : job.state, job.type, shortId(job.id)].filter(Boolean).join(" ");
}

customElements.define("job-page", JobPage);
