/**
 * Event ids, `<ms>-<n>`: one clock hands them out, so ids of all jobs compare, as pairs of numbers.
 * As text they do not: "99-0" comes before "100-0", and `n` may exceed what a Number holds exactly.
 */

const EVENT_ID = /^(\d{1,20})-(\d{1,20})$/;

/**
 * @param {string | null | undefined} id
 * @returns {[bigint, bigint]} [0, 0], the time before the first event, for what is no id
 */
function parts(id) {
  const match = EVENT_ID.exec(id ?? "");
  return match ? [BigInt(match[1]), BigInt(match[2])] : [0n, 0n];
}

/**
 * @param {string | null | undefined} a
 * @param {string | null | undefined} b
 * @returns {-1 | 0 | 1} whether a came before, is, or came after b
 */
export function compareIds(a, b) {
  if (a === b) return 0;
  const [aMs, aN] = parts(a);
  const [bMs, bN] = parts(b);
  if (aMs !== bMs) return aMs < bMs ? -1 : 1;
  if (aN !== bN) return aN < bN ? -1 : 1;
  return 0;
}
