/**
 * `<job-card>`: one job in the list, in two lines and a bar.
 *
 * Dispatches `cancel-job` (bubbles; detail: {id}) when its button is pressed.
 */

import { element, isOff, show, switchOff } from "../../element/dom.js";
import { ago, shortId, took } from "../../element/format.js";
import { JobBar } from "../job-bar.js";
import { JobTags } from "../job-tags.js";
import { isLive } from "../../client/reducer.js";

/** @typedef {import("../../jobs.js").Job} Job */

export class JobCard extends HTMLElement {
  /** @type {Job | undefined} */ #job;
  /** Why the job waits; empty if nobody knows. To be set before the job. */
  reason = "";
  #type = element("span", { class: "type foreign" });
  #id = element("code", { class: "id" });
  #link = element("a", { class: "title" }, this.#type, " ", this.#id);
  #state = element("span", { class: "state" });
  #attempt = element("span", { class: "attempt" });
  #tags = new JobTags();
  #created = element("time", { class: "created" });
  #cancel = element("button", { type: "button", class: "cancel" });
  #bar = new JobBar();
  #note = element("p", { class: "about-job foreign" });

  constructor() {
    super();
    this.#cancel.addEventListener("click", () => {
      if (isOff(this.#cancel)) return;
      // Shown at once; the next document says whether it was heard.
      switchOff(this.#cancel, true);
      const detail = { id: this.#job?.id };
      this.dispatchEvent(new CustomEvent("cancel-job", { bubbles: true, detail }));
    });
  }

  connectedCallback() {
    if (this.#bar.isConnected) return;
    this.setAttribute("role", "listitem");
    this.append(
      element("div", { class: "head" }, this.#link, this.#state, this.#attempt, this.#tags, this.#created, this.#cancel),
      this.#bar,
      this.#note,
    );
  }

  get job() {
    return this.#job;
  }

  set job(job) {
    const before = this.#job;
    this.#job = job;
    if (job) this.#draw(job, before);
  }

  /**
   * The link to the job takes the focus.
   * @param {FocusOptions} [options]
   */
  focus(options) {
    this.#link.focus(options);
  }

  /** Words that change as time passes. */
  tick() {
    if (this.#job) show(this.#created, ago(this.#job.created_at, Date.now()));
  }

  /**
   * @param {Job} job
   * @param {Job | undefined} before
   */
  #draw(job, before) {
    this.#drawNote(job);
    if (job === before) return;
    this.dataset.id = job.id;
    this.dataset.state = job.state;
    if (before?.id !== job.id) {
      show(this.#type, job.type);
      show(this.#id, shortId(job.id));
      this.#id.title = job.id;
      this.#link.href = `#/jobs/${encodeURIComponent(job.id)}`;
      this.#created.dateTime = job.created_at;
      this.#created.title = new Date(job.created_at).toLocaleString();
      this.tick();
    }
    this.#tags.job = job;
    const live = isLive(job);
    show(this.#state, job.state);
    show(this.#attempt, job.attempt > 1 ? `attempt ${job.attempt} of ${job.max_attempts}` : "");
    const canceling = live && job.cancel_requested;
    // Whoever pressed it goes on from the card, not from the page's beginning.
    if (!live && document.activeElement === this.#cancel) this.focus();
    show(this.#cancel, live ? (canceling ? "canceling…" : "Cancel") : "");
    switchOff(this.#cancel, canceling);
    this.#cancel.setAttribute("aria-label", `${canceling ? "Canceling" : "Cancel"} ${job.type} ${shortId(job.id)}`);
    this.#bar.job = job;
  }

  /** @param {Job} job */
  #drawNote(job) {
    // That a canceled job was canceled is its state; the error would only say it twice.
    const error = job.error && job.error.code !== "canceled" ? `${job.error.code}: ${job.error.message}` : "";
    this.#note.classList.toggle("error", error !== "");
    show(this.#note, error || this.reason || took(job));
    this.#note.title = error || this.reason;
  }

  /** The refusal of a cancellation: the button can be pressed again. */
  cancelRefused() {
    if (this.#job) switchOff(this.#cancel, this.#job.cancel_requested);
  }
}

customElements.define("job-card", JobCard);
