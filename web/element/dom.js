/**
 * DOM elements, made in one expression. Text is always text: nothing here parses markup.
 */

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, unknown>} [props] properties of the element
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function element(tag, props = {}, ...children) {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children);
  return node;
}

/**
 * Set the text only where it changes, since screen readers and selections notice every write.
 * An empty text hides the element.
 * @param {HTMLElement} node
 */
export function show(node, text = "") {
  if (node.textContent !== text) node.textContent = text;
  node.hidden = !text;
}
