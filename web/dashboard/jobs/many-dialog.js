/**
 * The dialog that cancels, repeats or deletes all jobs that the list's filter matches: first they are counted, then it
 * is done. Each is a job itself, whose bar is shown.
 */

import { isOff, switchOff } from "../buttons.js";
import { Bar } from "../../element/bar.js";
import { element, show } from "../../element/dom.js";
import { number } from "../../element/format.js";

/**
 * @typedef {import("../../jobs.js").Job} Job
 * @typedef {import("../../jobs.js").Headway} Headway
 * @typedef {"cancel" | "retry" | "delete"} Action
 */

/** @type {Record<Action, {act: (jobs: string) => string, kind: string, done: string}>} */
const WORDS = {
  cancel: { act: (jobs) => `Cancel ${jobs}`, kind: "live", done: "canceled" },
  retry: { act: (jobs) => `Run ${jobs} again`, kind: "failed or canceled", done: "submitted again" },
  delete: { act: (jobs) => `Delete ${jobs}`, kind: "ended", done: "deleted" },
};
const HOUR_S = 3600;

export class ManyDialog {
  #client;
  #dialog;
  #form;
  #which;
  #hours;
  #said;
  #problem;
  #act;
  #close;
  #bar = new Bar();
  /** @type {Record<string, any>} What the list's filter matches. */ #asked = {};
  /** How many there are; null: they were not counted. @type {number | null} */ #matched = null;
  /** @type {import("../../jobs.js").JobHandle | null} */ #handle = null;

  /**
   * @param {HTMLDialogElement} dialog
   * @param {Headway} client
   */
  constructor(dialog, client) {
    this.#client = client;
    this.#dialog = dialog;
    const part = (/** @type {string} */ name) => /** @type {any} */ (dialog.querySelector(`[data-part=${name}]`));
    this.#form = /** @type {HTMLFormElement} */ (dialog.querySelector("form"));
    this.#which = /** @type {HTMLElement} */ (part("which"));
    this.#hours = /** @type {HTMLInputElement} */ (part("hours"));
    this.#said = /** @type {HTMLElement} */ (part("said"));
    this.#problem = /** @type {HTMLElement} */ (part("problem"));
    this.#act = /** @type {HTMLButtonElement} */ (part("act"));
    this.#close = /** @type {HTMLButtonElement} */ (part("close"));
    part("bar").replaceWith(this.#bar.node);
    this.#form.addEventListener("input", () => this.#reset());
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (!isOff(this.#act)) this.#go();
    });
    this.#close.addEventListener("click", () => dialog.close());
    // What was begun goes on; its page shows it.
    dialog.addEventListener("close", () => this.#handle?.close());
  }

  /** @param {import("./job-filter.js").JobFilter} filter */
  open(filter) {
    this.#asked = filter.asked;
    show(this.#which, sentence(filter));
    this.#form.reset();
    const allowed = (document.body.dataset.roles ?? "").split(" ");
    for (const radio of this.#radios) {
      radio.disabled = !allowed.includes(/** @type {string} */ (radio.dataset.role));
    }
    for (const radio of this.#radios.filter((one) => !one.disabled).slice(0, 1)) radio.checked = true;
    this.#reset();
    this.#dialog.showModal();
  }

  get #radios() {
    return /** @type {HTMLInputElement[]} */ ([...this.#form.querySelectorAll("input[type=radio]")]);
  }

  get #action() {
    return /** @type {Action} */ (this.#radios.find((radio) => radio.checked)?.value);
  }

  /** Another choice: what was counted does not count any more. */
  #reset() {
    this.#matched = null;
    this.#bar.node.hidden = true;
    show(this.#said);
    show(this.#problem);
    this.#draw();
  }

  #draw() {
    const count = this.#matched;
    const jobs = count === 1 ? "1 job" : `${number(count ?? 0)} jobs`;
    this.#act.textContent = count === null ? "Count them" : WORDS[this.#action].act(jobs);
    this.#act.classList.toggle("danger", count !== null && this.#action !== "retry");
  }

  async #go() {
    const action = this.#action;
    const { kind, done } = WORDS[action];
    const counts = this.#matched === null;
    this.#busy(true);
    show(this.#problem);
    show(this.#said, counts ? "Counting…" : "");
    try {
      const ended = await this.#run(action, counts);
      if (ended.state !== "succeeded") throw new Error(ended.error?.message ?? `It was ${ended.state}.`);
      const { matched, done: count, skipped } = /** @type {any} */ (ended.result);
      if (counts) {
        this.#matched = matched || null;
        show(this.#said, matched ? `${number(matched)} ${kind} ${matched === 1 ? "job matches" : "jobs match"}.` : `No ${kind} job matches.`);
      } else {
        this.#matched = null;
        const left = skipped ? ` ${number(skipped)} ${skipped === 1 ? "was" : "were"} left as ${skipped === 1 ? "it is" : "they are"}.` : "";
        show(this.#said, `${number(count)} ${done}.${left}`);
      }
    } catch (error) {
      if (/** @type {Error} */ (error).name !== "AbortError") {
        show(this.#said);
        show(this.#problem, /** @type {Error} */ (error).message);
      }
    }
    this.#busy(false);
    this.#draw();
  }

  /**
   * @param {Action} action
   * @param {boolean} counts without doing it
   * @returns {Promise<Job>} its job, ended
   */
  async #run(action, counts) {
    const hours = this.#hours.value;
    const older = hours ? { older_s: Number(hours) * HOUR_S } : {};
    const which = { ...this.#asked, ...older };
    // Something must be said, even if it is all jobs.
    const body = { ...(Object.keys(which).length > 0 ? which : { older_s: 0 }), ...(counts && { dry_run: true }) };
    const job = await this.#client[`${action}Many`](body);
    const handle = (this.#handle = this.#client.job(job));
    handle.addEventListener("change", ({ detail }) => {
      if (!counts && detail.job) this.#drawBar(detail.job);
    });
    if (!counts) this.#drawBar(job);
    return handle.done;
  }

  /** @param {Job} job */
  #drawBar(job) {
    this.#bar.node.hidden = false;
    this.#bar.draw(job, true);
  }

  /** @param {boolean} busy */
  #busy(busy) {
    switchOff(this.#act, busy);
    for (const control of [...this.#radios, this.#hours]) {
      control.toggleAttribute("inert", busy);
    }
  }
}

/** @param {import("./job-filter.js").JobFilter} filter */
function sentence({ state, type, group, labels }) {
  const named = Object.entries(labels).map(([name, value]) => `with the label ${name}: ${value}`);
  const parts = [state && `that are ${state}`, type && `of the type ${type}`, group && `of the group ${group}`, ...named];
  const said = parts.filter(Boolean).join(", ");
  return said ? `All jobs ${said}, also those that are not loaded.` : "All jobs, also those that are not loaded.";
}
