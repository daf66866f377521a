/**
 * A form for an object, from its JSON Schema.
 */

import { element } from "../../element/dom.js";
import { InputField } from "./input-field.js";
import { SchemaField } from "./schema-field.js";

/**
 * @typedef {{pointer: string, detail: string}} PointerError
 * @typedef {SchemaField | InputField | import("./unique-field.js").UniqueField} Field
 */

export class SchemaForm {
  #pointer;
  /** @type {Map<string, Field>} */ #fields = new Map();

  /**
   * @param {Record<string, any>} schema of an object
   * @param {object} options
   * @param {string} options.pointer where the object is in the request, such as `/params`
   * @param {import("./input-field.js").Uploader} [options.upload] with it, a property `input` gets a
   *   choice of where the input comes from
   * @param {Record<string, new (name: string, property: any) => Field>} [options.own] the fields of some properties
   */
  constructor(schema, { pointer, upload, own = {} }) {
    this.#pointer = pointer;
    for (const [name, property] of Object.entries(schema.properties ?? {})) {
      const Own = Object.hasOwn(own, name) && own[name];
      if (Own) this.#fields.set(name, new Own(name, property));
      else if (name === "input" && upload) this.#fields.set(name, new InputField(name, property, upload));
      else this.#fields.set(name, new SchemaField(name, property, schema));
    }
    this.element = element(
      "div",
      { className: "fields" },
      ...[...this.#fields.values()].map((field) => field.element),
    );
  }

  /**
   * The values that were entered; uploads files.
   * @returns {Promise<Record<string, unknown>>} Rejects with a FieldError, or with what an upload
   *   rejects with.
   */
  async value() {
    /** @type {Record<string, unknown>} */
    const values = {};
    for (const [name, field] of this.#fields) {
      try {
        const value = await field.value();
        if (value !== undefined) values[name] = value;
      } catch (error) {
        if (!(error instanceof SyntaxError)) throw error;
        throw new FieldError(`${this.#pointer}/${name}`, "This is not valid JSON.");
      }
    }
    return values;
  }

  /**
   * Fill in these values; fields without a value stay as they are.
   * @param {Record<string, unknown>} values
   */
  fill(values) {
    for (const [name, field] of this.#fields) if (values[name] !== undefined) field.fill(values[name]);
  }

  /**
   * Fill in a file to be uploaded.
   * @param {File} file
   * @returns {boolean} whether there is a field that takes one
   */
  takeFile(file) {
    const field = [...this.#fields.values()].find((one) => one instanceof InputField);
    field?.takeFile(file);
    return field !== undefined;
  }

  /**
   * Show each error beside its field.
   * @param {PointerError[]} errors
   * @returns {PointerError[]} those without a field here
   */
  showErrors(errors) {
    for (const field of this.#fields.values()) field.showError("");
    /** @type {Map<Field, string[]>} */
    const found = new Map();
    const rest = errors.filter(({ pointer, detail }) => {
      const field = this.#fieldOf(pointer);
      if (field) found.set(field, [...(found.get(field) ?? []), detail]);
      return !field;
    });
    for (const [field, details] of found) field.showError(details.join(" "));
    const first = found.keys().next().value;
    first?.element.closest("details")?.setAttribute("open", "");
    first?.focus();
    return rest;
  }

  /**
   * @param {string} pointer RFC 6901; it may lead into the field's value
   */
  #fieldOf(pointer) {
    if (!pointer.startsWith(`${this.#pointer}/`)) return undefined;
    const name = pointer.slice(this.#pointer.length + 1).split("/")[0];
    return this.#fields.get(name.replaceAll("~1", "/").replaceAll("~0", "~"));
  }
}

/** A value cannot be submitted. */
export class FieldError extends Error {
  name = "FieldError";

  /**
   * @param {string} pointer
   * @param {string} detail
   */
  constructor(pointer, detail) {
    super(detail);
    this.errors = [{ pointer, detail }];
  }
}
