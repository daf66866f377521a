/**
 * The field of a job's `unique`: a key of which there is one job, and for how long.
 */

import { element, show } from "../../element/dom.js";
import { newId } from "./schema-field.js";

export class UniqueField {
  #key = element("input", { type: "text", id: newId(), maxLength: 256, autocomplete: "off", spellcheck: false });
  #while = element(
    "select",
    { id: newId(), ariaLabel: "How long the key is held" },
    element("option", { value: "live" }, "until it has ended"),
    element("option", { value: "queued" }, "until it begins"),
  );
  #error = element("p", { className: "field-error foreign", id: newId(), hidden: true });

  /**
   * @param {string} name
   * @param {Record<string, any>} schema
   */
  constructor(name, schema) {
    this.name = name;
    const hint = element("p", { className: "hint", id: newId() }, schema.description);
    this.#key.setAttribute("aria-describedby", `${hint.id} ${this.#error.id}`);
    this.element = element(
      "div",
      { className: "field" },
      element("label", { htmlFor: this.#key.id }, schema.title),
      element("div", { className: "pair" }, this.#key, this.#while),
      hint,
      this.#error,
    );
    this.element.dataset.field = name;
  }

  /** @param {unknown} value */
  fill(value) {
    const { key = "", while: until = "live" } = /** @type {any} */ (value ?? {});
    this.#key.value = key;
    this.#while.value = until;
  }

  /** @returns {Promise<{key: string, while: string} | undefined>} */
  async value() {
    return this.#key.value ? { key: this.#key.value, while: this.#while.value } : undefined;
  }

  /** @param {string} text empty: there is none */
  showError(text) {
    show(this.#error, text);
    this.#key.setAttribute("aria-invalid", String(text !== ""));
  }

  focus() {
    this.#key.focus();
  }
}
