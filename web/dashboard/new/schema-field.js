/**
 * One field of a form, from one property of a JSON Schema as pydantic writes them.
 *
 * Every field has `element`, `value()` (a promise of the value; undefined: leave the parameter out)
 * and `showError(text)`.
 */

import { element, show } from "../../element/dom.js";

/**
 * @typedef {Record<string, any>} Schema
 * @typedef {{type: string, schema: Schema, nullable: boolean}} Kind
 */

/**
 * The kind of a property, with references and "or null" resolved.
 * @param {Schema} property
 * @param {Schema} root where `#/$defs/…` leads
 * @returns {Kind}
 */
export function kindOf(property, root) {
  let schema = property;
  let nullable = false;
  for (let depth = 0; depth < 10; depth += 1) {
    const options = schema.anyOf ?? schema.oneOf ?? (schema.allOf?.length === 1 ? schema.allOf : null);
    if (typeof schema.$ref === "string") {
      schema = { ...resolve(schema.$ref, root), ...without(schema, ["$ref"]) };
    } else if (options) {
      const others = options.filter((/** @type {Schema} */ one) => one.type !== "null");
      nullable ||= others.length < options.length;
      if (others.length !== 1) return { type: "json", schema, nullable };
      schema = { ...others[0], ...without(schema, ["anyOf", "oneOf", "allOf"]) };
    } else if (Array.isArray(schema.type)) {
      const types = schema.type.filter((/** @type {string} */ one) => one !== "null");
      nullable ||= types.length < schema.type.length;
      schema = { ...schema, type: types.length === 1 ? types[0] : "json" };
    } else {
      break;
    }
  }
  if ("const" in schema) schema = { ...schema, enum: [schema.const] };
  if (Array.isArray(schema.enum)) return { type: "enum", schema, nullable };
  const known = ["string", "integer", "number", "boolean"].includes(schema.type);
  return { type: known ? schema.type : "json", schema, nullable };
}

/**
 * @param {string} ref
 * @param {Schema} root
 * @returns {Schema}
 */
function resolve(ref, root) {
  if (!ref.startsWith("#/")) return {};
  const names = ref
    .slice(2)
    .split("/")
    .map((name) => name.replaceAll("~1", "/").replaceAll("~0", "~"));
  return names.reduce((/** @type {any} */ at, name) => at?.[name], root) ?? {};
}

/**
 * @param {Schema} schema
 * @param {string[]} names
 */
function without(schema, names) {
  return Object.fromEntries(Object.entries(schema).filter(([name]) => !names.includes(name)));
}

/**
 * The attributes of a number's input. HTML has no exclusive limits: those are left to the service.
 * @param {Kind} kind
 */
export function limitsOf({ type, schema }) {
  const step = type === "integer" ? 1 : 0;
  const { minimum, maximum, exclusiveMinimum: above, exclusiveMaximum: below } = schema;
  return {
    min: minimum ?? (above === undefined ? undefined : above + step),
    max: maximum ?? (below === undefined ? undefined : below - step),
    step: type === "integer" ? (schema.multipleOf ?? 1) : "any",
  };
}

/**
 * The label of a field. Titles that pydantic makes from names ("Duration S") read worse than the name itself, so
 * only other titles are used.
 * @param {string} name
 * @param {string | undefined} title
 */
export function titleOf(name, title) {
  const made = name
    .replace(/[a-z]+/gi, (word) => word[0].toUpperCase() + word.slice(1))
    .replaceAll("_", " ");
  if (title && title !== made) return title;
  const words = name.replace(/_s$/, " (s)").replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** @param {Kind} kind */
function isTime({ type, schema }) {
  return type === "string" && schema.format === "date-time";
}

/**
 * As an input of a local time takes it.
 * @param {Date} at
 */
function localTime(at) {
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

let count = 0;

/** @returns {string} an id that no other element of the page has */
export function newId() {
  count += 1;
  return `e${count}`;
}

export class SchemaField {
  #control;
  #error = element("p", { className: "field-error foreign", id: newId(), hidden: true });
  #kind;
  #required;

  /**
   * @param {string} name
   * @param {Schema} property
   * @param {Schema} root
   */
  constructor(name, property, root) {
    this.name = name;
    this.#kind = kindOf(property, root);
    this.#required = (root.required ?? []).includes(name);
    const { schema } = this.#kind;
    this.#control = this.#makeControl();
    this.#control.id = newId();
    this.#control.name = name;
    const hint = element("p", { className: "hint foreign", id: newId() });
    show(hint, schema.description ?? "");
    this.#control.setAttribute("aria-describedby", `${hint.id} ${this.#error.id}`);
    const title = titleOf(name, property.title);
    const label = element("label", { htmlFor: this.#control.id, className: "foreign clamped" }, title);
    if (this.#required) label.append(element("span", { className: "required" }, " required"));
    const checkbox = this.#control instanceof HTMLInputElement && this.#control.type === "checkbox";
    this.element = element(
      "div",
      { className: checkbox ? "field check" : "field" },
      ...(checkbox ? [this.#control, label] : [label, this.#control]),
      hint,
      this.#error,
    );
    this.element.dataset.field = name;
  }

  #makeControl() {
    const { type, schema, nullable } = this.#kind;
    const initial = schema.default;
    if (type === "enum" || (type === "boolean" && nullable)) {
      const values = type === "enum" ? schema.enum : [true, false];
      const select = element("select", { required: this.#required && !nullable });
      // Without a default nothing is preselected.
      if (nullable || !values.includes(initial)) select.append(element("option", { value: "" }, "—"));
      for (const value of values) {
        const selected = value === initial;
        select.append(element("option", { value: JSON.stringify(value), selected }, String(value)));
      }
      return select;
    }
    if (type === "boolean") return element("input", { type: "checkbox", checked: initial === true });
    if (type === "integer" || type === "number") {
      const { min, max, step } = limitsOf(this.#kind);
      return element("input", {
        type: "number",
        inputMode: type === "integer" ? "numeric" : "decimal",
        min: min?.toString() ?? "",
        max: max?.toString() ?? "",
        step: String(step),
        value: initial ?? "",
        required: this.#required,
      });
    }
    if (isTime(this.#kind)) return element("input", { type: "datetime-local", required: this.#required });
    if (type === "string") {
      return element("input", {
        type: "text",
        autocomplete: "off",
        spellcheck: false,
        value: initial ?? "",
        ...(schema.maxLength && { maxLength: schema.maxLength }),
        required: this.#required && schema.minLength !== 0,
      });
    }
    const text = initial === undefined || initial === null ? "" : JSON.stringify(initial, null, 2);
    return element("textarea", { rows: 3, value: text, required: this.#required, placeholder: "JSON" });
  }

  /**
   * Fill in a value, as `value()` would return it.
   * @param {unknown} value
   */
  fill(value) {
    const { type } = this.#kind;
    const control = this.#control;
    if (control instanceof HTMLInputElement && control.type === "checkbox") control.checked = value === true;
    else if (value === null) control.value = "";
    else if (isTime(this.#kind)) control.value = localTime(new Date(String(value)));
    else if (["string", "integer", "number"].includes(type)) control.value = String(value);
    else control.value = JSON.stringify(value, null, control instanceof HTMLTextAreaElement ? 2 : undefined);
  }

  /** @returns {Promise<unknown>} Rejects with a SyntaxError if JSON is invalid. */
  async value() {
    const { type, schema, nullable } = this.#kind;
    const control = this.#control;
    if (control instanceof HTMLInputElement && control.type === "checkbox") return control.checked;
    if (control.value === "") {
      if (type === "string" && this.#required) return "";
      // An emptied field means null if the default is something else.
      return nullable && (schema.default ?? null) !== null ? null : undefined;
    }
    // What is entered is a time of this place.
    if (isTime(this.#kind)) return new Date(control.value).toISOString();
    if (type === "string") return control.value;
    if (type === "integer" || type === "number") return Number(control.value);
    return JSON.parse(control.value);
  }

  /** @param {string} text empty: there is none */
  showError(text) {
    show(this.#error, text);
    this.#control.setAttribute("aria-invalid", String(text !== ""));
  }

  focus() {
    this.#control.focus();
  }
}
