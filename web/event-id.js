/**
 * Event ids, `<ms>-<n>`: one clock hands them out, so ids of all jobs compare, as pairs of numbers.
 * As text they do not: "99-0" comes before "100-0", and `n` may exceed what a Number holds exactly.
 */

/** As text that sorts as the id does. What is no id is the time before the first event. */
function sortable(/** @type {string | null | undefined} */ id) {
  return (/^\d{1,20}-\d{1,20}$/.test(id ?? "") ? String(id) : "0-0").split("-").map((part) => part.padStart(20, "0")).join();
}

/**
 * @param {string | null | undefined} a
 * @param {string | null | undefined} b
 * @returns {-1 | 0 | 1} whether a came before, is, or came after b
 */
export function compareIds(a, b) {
  const [before, after] = [sortable(a), sortable(b)];
  return before < after ? -1 : before > after ? 1 : 0;
}
