/**
 * The form that submits a job: its type, its parameters, and the options of any job.
 *
 * Dispatches `submitted` on its element (detail: {job}).
 */

import { element, show } from "../../element/dom.js";
import { shortId } from "../../element/format.js";
import { newKey } from "../../jobs.js";
import { SchemaForm } from "./schema-form.js";
import { UniqueField } from "./unique-field.js";

/** @typedef {import("../../jobs.js").JobType} JobType */

const RETRY_MS = 3000;

/** The options of a submission, as a JSON Schema. */
const OPTIONS = {
  properties: {
    group: {
      type: "string",
      title: "Group",
      maxLength: 128,
      description: "Jobs of a group can be listed and watched together.",
    },
    labels: {
      type: "object",
      title: "Labels",
      description: 'As JSON, for example {"customer": "42"}. The list can be filtered by them.',
    },
    priority: {
      type: "integer",
      title: "Priority",
      minimum: 0,
      maximum: 9,
      description: "Which of your jobs is next: 9 before 0. Without one it has 4.",
    },
    run_at: {
      type: "string",
      format: "date-time",
      title: "Not before",
      description: "It waits until then, by the clock of this place.",
    },
    expires_s: {
      type: "number",
      title: "Expires (s)",
      minimum: 0,
      description: "It fails if it has not begun so long after that time, or after now.",
    },
    unique: {
      type: "object",
      title: "Unique key",
      description: "While a job of yours holds this key, no second one is made: you get that one.",
    },
    max_attempts: { type: "integer", title: "Maximum attempts", minimum: 1, maximum: 100 },
    timeout_s: { type: "number", title: "Time limit (s)", minimum: 0 },
  },
};

export class SubmitForm {
  #client;
  /** @type {Map<string, JobType & {params: any}>} */ #types = new Map();
  #drawn = "";
  /** @type {ReturnType<typeof setTimeout> | undefined} */ #retrying;
  /** @type {import("../../jobs.js").Job | null} To be filled in as soon as its type is known. */ #like = null;
  /** @type {File | null} The same for a file, and any type that takes one. */ #file = null;
  /** The last submission without an answer, and its key. */
  #unanswered = { text: "", key: "" };
  /** @type {SchemaForm} */ #params = new SchemaForm({}, { pointer: "/params" });
  #options = new SchemaForm(OPTIONS, { pointer: "", own: { unique: UniqueField } });
  #optionsPart;
  #select;
  #fields;
  #button;
  #problem;
  #done;
  #typeNote;

  /**
   * @param {HTMLFormElement} form
   * @param {import("../../client/client.js").Client & import("../../jobs.js").Headway} client
   */
  constructor(form, client) {
    this.#client = client;
    this.element = form;
    const part = (/** @type {string} */ name) =>
      /** @type {any} */ (form.querySelector(`[data-part=${name}]`));
    this.#select = /** @type {HTMLSelectElement} */ (part("type"));
    this.#fields = /** @type {HTMLElement} */ (part("params"));
    this.#button = /** @type {HTMLButtonElement} */ (part("submit"));
    this.#problem = /** @type {HTMLElement} */ (part("problem"));
    this.#done = /** @type {HTMLElement} */ (part("done"));
    this.#typeNote = /** @type {HTMLElement} */ (part("type-note"));
    this.#optionsPart = /** @type {HTMLDetailsElement} */ (part("options"));
    this.#optionsPart.append(this.#options.element);
    this.#select.addEventListener("change", () => this.#drawType());
    // Workers come and go: load the types again before the user chooses.
    this.#select.addEventListener("focus", () => this.refresh());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
  }

  /** Load the job types again. Until there are any, it keeps trying. */
  async refresh() {
    clearTimeout(this.#retrying);
    try {
      const types = await this.#client.types();
      this.#types = new Map(types.map((type) => [type.name, type]));
    } catch {
      // The connection's state says why; known types stay.
    }
    this.#drawTypes();
    if (this.#types.size === 0) this.#retrying = setTimeout(() => this.refresh(), RETRY_MS);
  }

  /**
   * Fill in everything as it was for this job.
   * @param {import("../../jobs.js").Job} job
   */
  fill(job) {
    this.#like = job;
    this.#fillIn();
  }

  /**
   * Fill in a file to be uploaded, with a type that takes one.
   * @param {File} file
   */
  takeFile(file) {
    this.#file = file;
    this.#fillIn();
  }

  #fillIn() {
    if (this.#types.size === 0) return;
    if (this.#like) this.#fillLike(this.#like);
    this.#like = null;
    const names = [this.#select.value, ...[...this.#types.keys()].sort()];
    const name = names.find((one) => this.#types.get(one)?.params.properties?.input);
    if (!this.#file || !name) return;
    this.#select.value = name;
    this.#drawType();
    this.#params.takeFile(this.#file);
    this.#file = null;
  }

  /** @param {import("../../jobs.js").Job} job */
  #fillLike({ type, params, group, labels, max_attempts, timeout_s, priority, unique }) {
    if (!this.#types.has(type)) {
      show(this.#problem, `No worker has registered the job type ${type}.`);
      return;
    }
    this.#select.value = type;
    // Discard what was entered for another job.
    this.#drawn = "";
    this.#drawType();
    this.#params.fill(params);
    const labelled = Object.keys(labels ?? {}).length > 0;
    const more = { max_attempts, timeout_s, priority: priority ?? null, unique };
    // Its time has most often passed: it would not be for the new one.
    this.#options.fill({ group: group ?? "", labels: labelled ? labels : null, run_at: null, expires_s: null, ...more });
    this.#optionsPart.open = true;
  }

  #drawTypes() {
    const chosen = this.#select.value;
    const names = [...this.#types.keys()].sort();
    const shown = [...this.#select.options].map((option) => option.value);
    if (names.join(" ") !== shown.join(" ")) {
      this.#select.replaceChildren(...names.map((name) => element("option", { value: name }, name)));
      if (names.includes(chosen)) this.#select.value = chosen;
    }
    this.#drawType();
    this.#fillIn();
  }

  #drawType() {
    const type = this.#types.get(this.#select.value);
    this.#button.disabled = !type;
    if (!type) {
      show(this.#typeNote, "No worker has registered a job type yet.");
      return;
    }
    const note = type.alive
      ? type.title
      : `${type.title}. No worker for this type is running: the job will wait.`;
    show(this.#typeNote, note);
    // Fields are replaced only if they differ, so that what was entered stays.
    const key = JSON.stringify([type.name, type.params]);
    if (key === this.#drawn) return;
    this.#drawn = key;
    this.#params = new SchemaForm(type.params, {
      pointer: "/params",
      upload: (file, options) => this.#client.upload(file, options),
    });
    this.#fields.replaceChildren(this.#params.element);
    show(this.#problem, "");
  }

  async #submit() {
    this.#button.disabled = true;
    show(this.#problem, "");
    show(this.#done, "");
    this.#showErrors([]);
    try {
      const type = this.#select.value;
      const params = await this.#params.value();
      const options = await this.#options.value();
      const job = await this.#send(type, params, options);
      const link = element("a", { href: `#/jobs/${encodeURIComponent(job.id)}` }, shortId(job.id));
      this.#done.replaceChildren("Submitted as ", link, ".");
      this.#done.hidden = false;
      this.element.dispatchEvent(new CustomEvent("submitted", { detail: { job } }));
    } catch (error) {
      const { message, errors } = /** @type {{message: string, errors?: any[]}} */ (error);
      const rest = this.#showErrors(errors ?? []);
      const lines = errors?.length ? rest.map(({ pointer, detail }) => `${pointer}: ${detail}`) : [message];
      show(this.#problem, lines.join("\n"));
    } finally {
      this.#button.disabled = false;
    }
  }

  /**
   * If the last answer was lost, the same submission is repeated with the same key: it makes one job.
   * @param {string} type
   * @param {Record<string, unknown>} params
   * @param {Record<string, unknown>} options
   */
  async #send(type, params, options) {
    const text = JSON.stringify([type, params, options]);
    const key = this.#unanswered.text === text ? this.#unanswered.key : newKey();
    try {
      const job = await this.#client.submit(type, params, { idempotencyKey: key, ...options });
      this.#unanswered = { text: "", key: "" };
      return job;
    } catch (error) {
      const lost = /** @type {{status?: number}} */ (error).status === 0;
      this.#unanswered = lost ? { text, key } : { text: "", key: "" };
      throw error;
    }
  }

  /** @param {{pointer: string, detail: string}[]} errors */
  #showErrors(errors) {
    return this.#options.showErrors(this.#params.showErrors(errors));
  }
}
