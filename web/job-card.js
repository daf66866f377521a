/**
 * `<job-card>`: one job in the list, and its details when it is open.
 *
 * Dispatches `cancel-job` (bubbles; detail: {id}) when its button is pressed.
 */

import { element, show } from "./element.js";
import { ago, shortId } from "./figures.js";
import { JobDetails } from "./job-details.js";
import { JobBar } from "./job-bar.js";
import { isLive } from "./reducer.js";

/** @typedef {import("./reducer.js").Job} Job */

export class JobCard extends HTMLElement {
  /** @type {Job | undefined} */ #job;
  /** @type {JobDetails | null} */ #details = null;
  #type = element("span", { class: "type foreign" });
  #id = element("code", { class: "id" });
  #link = element("a", { class: "title" }, this.#type, " ", this.#id);
  #state = element("span", { class: "state" });
  #attempt = element("span", { class: "attempt" });
  #group = element("span", { class: "tag group foreign" });
  #labels = element("span", { class: "labels" });
  #created = element("time", { class: "created" });
  #cancel = element("button", { type: "button", class: "cancel" });
  #bar = new JobBar();
  #error = element("p", { class: "error foreign" });

  constructor() {
    super();
    this.#cancel.addEventListener("click", () => {
      // Shown at once; the next document says whether it was heard.
      this.#cancel.disabled = true;
      const detail = { id: this.#job?.id };
      this.dispatchEvent(new CustomEvent("cancel-job", { bubbles: true, detail }));
    });
  }

  connectedCallback() {
    if (this.#bar.isConnected) return;
    this.setAttribute("role", "listitem");
    this.append(
      element(
        "div",
        { class: "head" },
        this.#link,
        this.#state,
        this.#attempt,
        this.#group,
        this.#labels,
        element("span", { class: "end" }, this.#created, this.#cancel),
      ),
      this.#bar,
      this.#error,
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

  get open() {
    return this.#details !== null;
  }

  set open(open) {
    if (open === this.open || !this.#job) return;
    this.toggleAttribute("open", open);
    if (open) {
      this.#details = new JobDetails();
      this.append(this.#details);
      this.#details.job = this.#job;
    } else {
      this.#details?.remove();
      this.#details = null;
    }
    this.#drawLink(this.#job);
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
    this.dataset.id = job.id;
    this.dataset.state = job.state;
    if (before?.id !== job.id) {
      show(this.#type, job.type);
      show(this.#id, shortId(job.id));
      this.#id.title = job.id;
      this.#drawLink(job);
      show(this.#group, job.group ?? "");
      this.#labels.replaceChildren(
        ...Object.entries(job.labels ?? {}).map(([name, value]) =>
          element("span", { class: "tag foreign" }, `${name}: ${value}`),
        ),
      );
      this.#created.dateTime = job.created_at;
      this.#created.title = new Date(job.created_at).toLocaleString();
      this.tick();
    }
    const live = isLive(job);
    show(this.#state, job.state);
    show(this.#attempt, job.attempt > 1 ? `attempt ${job.attempt} of ${job.max_attempts}` : "");
    const canceling = live && job.cancel_requested;
    show(this.#cancel, live ? (canceling ? "canceling…" : "Cancel") : "");
    this.#cancel.disabled = canceling;
    this.#cancel.setAttribute("aria-label", `Cancel ${job.type} ${shortId(job.id)}`);
    this.#bar.job = job;
    // That a canceled job was canceled is its state; the error would only say it twice.
    const { error } = job;
    show(this.#error, error && error.code !== "canceled" ? `${error.code}: ${error.message}` : "");
    if (this.#details) this.#details.job = job;
  }

  /** The refusal of a cancellation: the button can be pressed again. */
  cancelRefused() {
    if (this.#job) this.#cancel.disabled = this.#job.cancel_requested;
  }

  /** @param {Job} job */
  #drawLink(job) {
    this.#link.href = this.open ? "#/" : `#/jobs/${encodeURIComponent(job.id)}`;
    this.#link.setAttribute("aria-expanded", String(this.open));
  }
}

customElements.define("job-card", JobCard);
