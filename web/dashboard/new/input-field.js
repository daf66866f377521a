/**
 * The field of a job's `input`: a generated sample, a file to upload, or a reference.
 *
 * `value()` uploads the file, once: a second submission of the same file refers to the first upload.
 */

import { element, show } from "../../element/dom.js";
import { percent, size } from "../../element/format.js";
import { newId, titleOf } from "./schema-field.js";

/** @typedef {(file: File, options: {onProgress: (fraction: number) => void, signal: AbortSignal}) =>
 *   Promise<{id: string}>} Uploader */

const CHOICES = /** @type {const} */ ([
  ["sample", "Sample"],
  ["upload", "Upload"],
  ["reference", "Reference"],
]);

export class InputField {
  #upload;
  #choice = "sample";
  /** @type {WeakMap<File, string>} */ #uploaded = new WeakMap();
  #seconds = element("input", {
    type: "number",
    min: "1",
    max: "3600",
    step: "any",
    value: "5",
    id: newId(),
  });
  #file = element("input", { type: "file", id: newId() });
  #reference = element("input", {
    type: "text",
    id: newId(),
    autocomplete: "off",
    spellcheck: false,
    placeholder: "artifact:<job id>/<name>",
  });
  #progress = element("progress", { max: 1, value: 0, ariaLabel: "Upload" });
  #sent = element("span", { className: "note" });
  #stop = element("button", { type: "button" }, "Stop upload");
  #sending = element("div", { className: "upload", hidden: true }, this.#progress, this.#sent, this.#stop);
  #error = element("p", { className: "field-error foreign", id: newId(), hidden: true });
  /** @type {Record<string, HTMLElement>} */ #parts;
  /** @type {Map<string, HTMLInputElement>} */ #radios = new Map();

  /**
   * @param {string} name
   * @param {Record<string, any>} schema
   * @param {Uploader} upload
   */
  constructor(name, schema, upload) {
    this.name = name;
    this.#upload = upload;
    this.#parts = {
      sample: part("Length of the test video (s)", this.#seconds),
      upload: part("File (or drop one anywhere on this page)", this.#file),
      reference: part("upload:…, artifact:…, sample:… or file:…", this.#reference),
    };
    for (const control of [this.#seconds, this.#file, this.#reference]) {
      control.setAttribute("aria-describedby", this.#error.id);
    }
    const group = newId();
    const radios = CHOICES.map(([value, title]) => {
      const radio = element("input", {
        type: "radio",
        name: group,
        value,
        checked: value === this.#choice,
      });
      radio.addEventListener("change", () => this.#choose(value));
      this.#radios.set(value, radio);
      return element("label", {}, radio, element("span", {}, title));
    });
    this.element = element(
      "fieldset",
      { className: "field input-field" },
      element("legend", { className: "foreign" }, titleOf(name, schema.title)),
      element("div", { className: "choices" }, ...radios),
      ...Object.values(this.#parts),
      this.#sending,
      this.#error,
    );
    this.element.dataset.field = name;
    this.#choose(this.#choice);
  }

  /** @param {string} choice */
  #choose(choice) {
    this.#choice = choice;
    for (const [name, radio] of this.#radios) radio.checked = name === choice;
    for (const [name, one] of Object.entries(this.#parts)) one.hidden = name !== choice;
    // A hidden required control would block the form without a visible message.
    this.#seconds.required = choice === "sample";
    this.#seconds.disabled = choice !== "sample";
    this.#file.required = choice === "upload";
    this.#reference.required = choice === "reference";
    this.showError("");
  }

  /** @param {unknown} value as `value()` returns it */
  fill(value) {
    const seconds = /^sample:(.+)$/.exec(String(value))?.[1];
    if (seconds) this.#seconds.value = seconds;
    else this.#reference.value = String(value);
    this.#choose(seconds ? "sample" : "reference");
  }

  /** @param {File} file to upload */
  takeFile(file) {
    // The only way to put a file into an input.
    const held = new DataTransfer();
    held.items.add(file);
    this.#file.files = held.files;
    this.#choose("upload");
    this.focus();
  }

  /** @returns {Promise<string>} Rejects with what the upload rejects with. */
  async value() {
    if (this.#choice === "sample") return `sample:${Number(this.#seconds.value)}`;
    if (this.#choice === "reference") return this.#reference.value.trim();
    const file = /** @type {File} */ (this.#file.files?.[0]);
    const known = this.#uploaded.get(file);
    if (known) return `upload:${known}`;
    const id = (await this.#send(file)).id;
    this.#uploaded.set(file, id);
    return `upload:${id}`;
  }

  /** @param {File} file */
  async #send(file) {
    const abort = new AbortController();
    const stop = () => abort.abort(new DOMException("The upload was stopped.", "AbortError"));
    const draw = (/** @type {number} */ fraction) => {
      this.#progress.value = fraction;
      show(this.#sent, `${percent(fraction)} of ${size(file.size)}`);
    };
    draw(0);
    this.#stop.addEventListener("click", stop);
    this.#sending.hidden = false;
    try {
      return await this.#upload(file, { onProgress: draw, signal: abort.signal });
    } finally {
      this.#stop.removeEventListener("click", stop);
      this.#sending.hidden = true;
    }
  }

  /** @param {string} text empty: there is none */
  showError(text) {
    show(this.#error, text);
    this.#control().setAttribute("aria-invalid", String(text !== ""));
  }

  focus() {
    this.#control().focus();
  }

  #control() {
    const of = { sample: this.#seconds, upload: this.#file, reference: this.#reference };
    return of[/** @type {keyof typeof of} */ (this.#choice)];
  }
}

/**
 * @param {string} title
 * @param {HTMLInputElement} control
 */
function part(title, control) {
  return element("div", { className: "part" }, element("label", { htmlFor: control.id }, title), control);
}
