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

export class Election {
  #name;
  #won;
  #lost;
  #candidacy = new AbortController();

  /**
   * @param {string} name
   * @param {() => void} won
   * @param {() => void} lost another page has taken the lock, because this one did not answer
   */
  constructor(name, won, lost) {
    this.#name = name;
    this.#won = won;
    this.#lost = lost;
  }

  /** Lead as soon as no other page does. */
  stand() {
    this.#candidacy = new AbortController();
    this.#elect(false);
  }

  /** Lead now, even if another page does. Only after `stand`. */
  take() {
    this.#elect(true);
  }

  /** Do not lead, and do not be elected. */
  withdraw() {
    this.#candidacy.abort();
  }

  /** @param {boolean} steal */
  async #elect(steal) {
    const { signal } = this.#candidacy;
    await hold(this.#name, signal, this.#won, steal);
    if (signal.aborted) return;
    this.#lost();
    // A page that took it stands for election already.
    if (!steal) this.stand();
  }
}
