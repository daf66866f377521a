/**
 * Keyboard shortcuts: single keys, except while typing, with a modifier, or when they are switched off.
 */

const KEY = "headway keys";
const TYPED = "input:not([type=radio], [type=checkbox]), select, textarea, [contenteditable]";

/**
 * @param {Record<string, () => void>} keys what each does
 * @param {HTMLInputElement} checkbox switches them on and off
 */
export function listenForKeys(keys, checkbox) {
  checkbox.checked = localStorage.getItem(KEY) !== "off";
  checkbox.addEventListener("change", () => localStorage.setItem(KEY, checkbox.checked ? "on" : "off"));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || !checkbox.checked) return;
    const from = /** @type {Element} */ (event.target);
    if (from.closest?.(TYPED) || document.querySelector("dialog[open]")) return;
    const action = Object.hasOwn(keys, event.key) ? keys[event.key] : undefined;
    if (!action) return;
    event.preventDefault();
    action();
  });
}
