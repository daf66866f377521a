/**
 * Buttons that do nothing for now. Unlike one that is `disabled`, such a button keeps the focus.
 */

/**
 * @param {HTMLButtonElement} button
 * @param {boolean} off
 */
export function switchOff(button, off) {
  button.ariaDisabled = String(off);
}

/** @param {HTMLButtonElement} button */
export function isOff(button) {
  return button.ariaDisabled === "true";
}
