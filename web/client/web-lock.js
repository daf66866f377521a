/**
 * Web Locks, which are held by at most one page of a browser.
 */

/**
 * Hold a lock until the signal, or until another page steals it.
 * @param {string} name
 * @param {AbortSignal} signal also ends the wait for it
 * @param {() => void} then
 * @param {boolean} [steal] it from the page that has it
 */
export async function hold(name, signal, then, steal) {
  try {
    // `steal` and `signal` exclude each other.
    await navigator.locks.request(name, steal ? { steal } : { signal }, () => {
      if (signal.aborted) return undefined;
      then();
      return new Promise((resolve) => signal.addEventListener("abort", resolve));
    });
  } catch {
    // Stolen, or the wait was aborted.
  }
}

/**
 * @param {string} one a lock that some page holds
 * @param {string} other
 * @returns {Promise<boolean>} whether the same page holds both
 */
export async function oneHolds(one, other) {
  const { held = [] } = await navigator.locks.query();
  const holder = (/** @type {string} */ name) => held.find((lock) => lock.name === name)?.clientId;
  return holder(one) === holder(other);
}
