/**
 * `<job-card>`: one job in the list: two lines and a bar.
 *
 * Dispatches `cancel-job` (bubbles; detail: {id}) when its button is pressed.
 */

import { isOff, switchOff } from "../buttons.js";
import { element, show } from "../../element/dom.js";
import { ago, attemptText, shortId, took } from "../../element/format.js";
import { Bar } from "../../element/bar.js";
import { JobTags } from "../job-tags.js";
import { isLive } from "../../client/reducer.js";

/** @typedef {import("../../jobs.js").Job} Job */

export class JobCard extends HTMLElement {
  /** @type {Job | undefined} */ #job;
  /** Why the job waits; empty if unknown. To be set before the job. */
  reason = "";
  #type = element("span", { className: "type foreign" });
  #id = element("code", { className: "id" });
  #link = element("a", { className: "title" }, this.#type, " ", this.#id);
  #state = element("span", { className: "state" });
  #attempt = element("span", { className: "attempt" });
  #tags = new JobTags(-1);
  #created = element("time", { className: "created" });
  #cancel = element("button", { type: "button", className: "cancel" });
  #bar = new Bar();
  /** Whether what it shows is current. To be set before the job. */
  fresh = true;
  #drawnFresh = true;
  #note = element("p", { className: "about-job foreign" });

  constructor() {
    super();
    this.#cancel.addEventListener("click", () => {
      if (isOff(this.#cancel)) return;
      // At once; the next document says whether it was accepted.
      switchOff(this.#cancel, true);
      const detail = { id: this.#job?.id };
      this.dispatchEvent(new CustomEvent("cancel-job", { bubbles: true, detail }));
    });
  }

  connectedCallback() {
    if (this.#bar.node.isConnected) return;
    this.setAttribute("role", "listitem");
    this.append(
      element("div", { className: "head" }, this.#link, this.#state, this.#attempt, this.#tags, this.#created, this.#cancel),
      this.#bar.node,
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

  /** Redraw what changes as time passes. */
  tick() {
    if (this.#job) show(this.#created, ago(this.#job.created_at, Date.now()));
  }

  /**
   * @param {Job} job
   * @param {Job | undefined} before
   */
  #draw(job, before) {
    this.#drawNote(job);
    if (job === before && this.fresh === this.#drawnFresh) return;
    this.#drawnFresh = this.fresh;
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
    show(this.#attempt, attemptText(job));
    const canceling = live && job.cancel_requested;
    // Keyboard users go on from the card, not from the top of the page.
    if (!live && document.activeElement === this.#cancel) this.focus();
    show(this.#cancel, live ? (canceling ? "Canceling…" : "Cancel") : "");
    switchOff(this.#cancel, canceling);
    this.#cancel.ariaLabel = `${canceling ? "Canceling" : "Cancel"} ${job.type} ${shortId(job.id)}`;
    this.#bar.draw(job, this.fresh);
  }

  /** @param {Job} job */
  #drawNote(job) {
    // The state says already that a job was canceled.
    const error = job.error && job.error.code !== "canceled" ? `${job.error.code}: ${job.error.message}` : "";
    this.#note.classList.toggle("error", error !== "");
    show(this.#note, error || this.reason || took(job));
    this.#note.title = error || this.reason;
  }

  /** The cancellation was refused: the button can be pressed again. */
  cancelRefused() {
    if (this.#job) switchOff(this.#cancel, this.#job.cancel_requested);
  }
}

customElements.define("job-card", JobCard);
