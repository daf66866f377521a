/**
 * Which of a browser's pages leads: the one that has the Web Lock of their common name.
 *
 * The browser passes the lock on as soon as a page is gone, for whatever reason, and never to a page that no longer
 * wants it.
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
 * Lead as soon as no other page does, until the signal.
 * @param {string} name
 * @param {AbortSignal} signal
 * @param {() => void} won
 * @param {() => void} lost another page has taken the lock, because this one did not answer
 * @param {boolean} [steal] lead now, even if another page does; only a page that stands already
 */
export async function elect(name, signal, won, lost, steal) {
  await hold(name, signal, won, steal);
  if (signal.aborted) return;
  lost();
  // A page that took it stands for election already.
  if (!steal) elect(name, signal, won, lost);
}
