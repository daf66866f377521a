/**
 * Which of a browser's pages leads: the one that has the Web Lock of the name that they share.
 *
 * The browser passes the lock on as soon as a page is gone, whatever ended it, and to nobody who does
 * not want it any more.
 */

/**
 * Hold a lock until the signal, or until it is taken away.
 * @param {string} name
 * @param {AbortSignal} signal also ends the wait for it
 * @param {() => void} then
 * @param {boolean} [steal] from whoever has it
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
    // Taken away, or no longer waited for.
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
   * @param {() => void} lost another has taken it, because this page did not answer
   */
  constructor(name, won, lost) {
    this.#name = name;
    this.#won = won;
    this.#lost = lost;
  }

  /** To lead once nobody else does. */
  stand() {
    this.#candidacy = new AbortController();
    this.#elect(false);
  }

  /** To lead now, whoever does. Only for one that stands. */
  take() {
    this.#elect(true);
  }

  /** Not to lead, and not to be elected. */
  withdraw() {
    this.#candidacy.abort();
  }

  /** @param {boolean} steal */
  async #elect(steal) {
    const { signal } = this.#candidacy;
    await hold(this.#name, signal, this.#won, steal);
    if (signal.aborted) return;
    this.#lost();
    // One that had taken it still stands.
    if (!steal) this.stand();
  }
}
