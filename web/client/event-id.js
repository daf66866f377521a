/**
 * Event ids, `<ms>-<n>`: one clock hands them out, so ids of all jobs compare, as pairs of numbers.
 * As text they do not: "99-0" comes before "100-0", and `n` may exceed what a Number holds exactly.
 */

const { compare } = new Intl.Collator("en", { numeric: true });

/** Also the cursor "0", and no cursor, are before the first. */
const whole = (/** @type {string | null | undefined} */ id) => (id?.[1] ? id : "0-0");

/**
 * @param {string | null | undefined} a
 * @param {string | null | undefined} b
 * @returns {number} below, at or above 0: whether a came before, is, or came after b
 */
export function compareIds(a, b) {
  return compare(whole(a), whole(b));
}
