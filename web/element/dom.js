/**
 * DOM elements, made in one expression. Text is always text: nothing here parses markup.
 */

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, unknown>} [props] properties of the element; `class` and names with a hyphen
 *   are set as attributes; null and undefined are left out
 * @param {...(Node | string | null | undefined)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined) continue;
    if (name === "class" || name === "role" || name === "for" || name.includes("-")) {
      made.setAttribute(name, String(value));
    } else {
      /** @type {any} */ (made)[name] = value;
    }
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/**
 * Set the text only where it changes: a screen reader and a selection notice every write.
 * An empty text hides the element.
 * @param {HTMLElement} node
 * @param {string} text
 */
export function show(node, text) {
  if (node.textContent !== text) node.textContent = text;
  node.hidden = text === "";
}

/**
 * A button that does nothing for now. Unlike one that is `disabled` it keeps the focus of who pressed it.
 * @param {HTMLButtonElement} button
 * @param {boolean} off
 */
export function switchOff(button, off) {
  button.setAttribute("aria-disabled", String(off));
}

/** @param {HTMLButtonElement} button */
export function isOff(button) {
  return button.getAttribute("aria-disabled") === "true";
}

let count = 0;

/** @returns {string} an id that no other element of the page has */
export function newId() {
  count += 1;
  return `e${count}`;
}
