/**
 * The controls of the list's filter: search, states, types and groups.
 *
 * Dispatches `filter` on its element (detail: JobFilter) when the choice changes.
 */

import { element, show } from "../../element/dom.js";
import { JobFilter } from "./job-filter.js";

const STATES = ["queued", "running", "retrying", "waiting", "succeeded", "failed", "canceled"];
/** Longer lists are not usable. */
const MAX_OPTIONS = 200;
/** All live jobs are known, so these are counted; of ended jobs only some are loaded. */
const COUNTED = new Set(["queued", "running", "retrying", "waiting"]);

export class FilterBar {
  #search;
  #type;
  #group;
  #state = "";
  /** @type {Map<string, {input: HTMLInputElement, count: HTMLElement}>} */ #states = new Map();

  /** @param {HTMLElement} bar */
  constructor(bar) {
    this.element = bar;
    const part = (/** @type {string} */ name) => /** @type {any} */ (bar.querySelector(`[data-part=${name}]`));
    this.#search = /** @type {HTMLInputElement} */ (part("search"));
    this.#type = /** @type {HTMLSelectElement} */ (part("type"));
    this.#group = /** @type {HTMLSelectElement} */ (part("group"));
    for (const state of ["", ...STATES]) part("states").append(this.#choice(state));
    const changed = () => this.#changed();
    this.#search.addEventListener("input", changed);
    this.#type.addEventListener("change", changed);
    this.#group.addEventListener("change", changed);
    bar.addEventListener("submit", (event) => event.preventDefault());
    this.#search.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      this.#search.value = "";
      this.#search.blur();
      changed();
    });
  }

  focus() {
    this.#search.focus();
    this.#search.select();
  }

  /** @param {JobFilter} filter */
  set filter({ state, type, group, text }) {
    this.#state = state;
    for (const [name, { input }] of this.#states) input.checked = name === state;
    // Writing the same value would move the text cursor.
    if (this.#search.value !== text) this.#search.value = text;
    for (const [select, value] of /** @type {const} */ ([[this.#type, type], [this.#group, group]])) {
      if (value && ![...select.options].some((option) => option.value === value)) select.append(option(value));
      select.value = value;
    }
  }

  /** @param {import("./job-index.js").JobIndex} index the choices */
  set index({ states, types, groups }) {
    for (const [name, { count }] of this.#states) {
      if (COUNTED.has(name)) show(count, states.of(name) ? String(states.of(name)) : "");
    }
    offer(this.#type, types.names);
    offer(this.#group, groups.names);
  }

  /** @param {string} state "" for all */
  #choice(state) {
    const input = element("input", { type: "radio", name: "state", value: state, checked: state === "" });
    const count = element("span", { className: "count", hidden: true });
    input.addEventListener("change", () => {
      this.#state = state;
      this.#changed();
    });
    this.#states.set(state, { input, count });
    const label = element("label", { className: "chip" }, input, element("span", {}, state || "all"), count);
    label.dataset.state = state;
    return label;
  }

  #changed() {
    const filter = new JobFilter({
      state: this.#state,
      type: this.#type.value,
      group: this.#group.value,
      text: this.#search.value,
    });
    this.element.dispatchEvent(new CustomEvent("filter", { detail: filter }));
  }
}

/** @param {string} value */
function option(value) {
  return element("option", { value }, value);
}

/**
 * While the list is open, options are only added, so that it does not jump.
 * @param {HTMLSelectElement} select
 * @param {string[]} names in order
 */
function offer(select, names) {
  const [any, ...options] = [...select.options].filter((one) => !one.disabled);
  const chosen = select.value;
  const wanted = new Set(names.slice(0, MAX_OPTIONS));
  if (chosen) wanted.add(chosen);
  if (select === document.activeElement) for (const { value } of options) wanted.add(value);
  if (wanted.size === options.length && options.every(({ value }) => wanted.has(value))) return;
  const more = names.length - MAX_OPTIONS;
  const rest = more > 0 ? [element("option", { disabled: true, value: "" }, `${more} more: use the search`)] : [];
  select.replaceChildren(any, ...[...wanted].sort().map(option), ...rest);
  select.value = chosen;
}
