/**
 * The controls of the list's filter: search, states, types, groups and labels.
 *
 * Dispatches `filter` on its element (detail: JobFilter) when the choice changes.
 */

import { element, show } from "../../element/dom.js";
import { number } from "../../element/format.js";
import { JobFilter } from "./job-filter.js";

const STATES = ["queued", "running", "retrying", "waiting", "succeeded", "failed", "canceled"];
/** Longer lists are not usable. */
const MAX_OPTIONS = 200;

export class FilterBar {
  #search;
  #type;
  #group;
  #state = "";
  /** @type {Record<string, string>} */ #labels = {};
  #labelsPart;
  /** @type {Map<string, {input: HTMLInputElement, count: HTMLElement}>} */ #states = new Map();

  /** @param {HTMLElement} bar */
  constructor(bar) {
    this.element = bar;
    const part = (/** @type {string} */ name) => /** @type {any} */ (bar.querySelector(`[data-part=${name}]`));
    this.#search = /** @type {HTMLInputElement} */ (part("search"));
    this.#type = /** @type {HTMLSelectElement} */ (part("type"));
    this.#group = /** @type {HTMLSelectElement} */ (part("group"));
    this.#labelsPart = /** @type {HTMLElement} */ (part("labels"));
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
  set filter({ state, type, group, labels, text }) {
    this.#state = state;
    this.#labels = labels;
    const chips = Object.entries(labels).map(([name, value]) => this.#labelChip(name, `${name}: ${value}`));
    this.#labelsPart.replaceChildren(...chips);
    this.#labelsPart.hidden = chips.length === 0;
    for (const [name, { input }] of this.#states) input.checked = name === state;
    // Writing the same value would move the text cursor.
    if (this.#search.value !== text) this.#search.value = text;
    for (const [select, value] of /** @type {const} */ ([[this.#type, type], [this.#group, group]])) {
      if (value && ![...select.options].some((option) => option.value === value)) select.append(option(value));
      select.value = value;
    }
  }

  /** @param {import("./job-index.js").JobIndex} index the choices */
  set index({ types, groups }) {
    offer(this.#type, types.names);
    offer(this.#group, groups.names);
  }

  /** @param {Record<string, number> | null} counts how many jobs there are in each state; null: not known */
  set counts(counts) {
    for (const [name, { count }] of this.#states) show(count, counts?.[name] ? number(counts[name]) : "");
  }

  /**
   * @param {string} name
   * @param {string} text
   */
  #labelChip(name, text) {
    const chip = element("button", { type: "button", className: "chip", ariaLabel: `Remove the label ${text}` });
    chip.append(element("span", { className: "foreign" }, text), element("span", { ariaHidden: "true" }, "×"));
    chip.addEventListener("click", () => {
      const { [name]: _, ...rest } = this.#labels;
      this.#labels = rest;
      this.#changed();
      this.#search.focus();
    });
    return chip;
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
      labels: this.#labels,
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
