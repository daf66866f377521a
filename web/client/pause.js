/**
 * A wait that ends when its signal says so, and when the network is back.
 */

/**
 * @param {number} ms
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>} Rejects with the signal's reason.
 */
export function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const done = new AbortController();
    const end = () => {
      clearTimeout(timer);
      done.abort();
      if (signal?.aborted) reject(signal.reason);
      else resolve();
    };
    const timer = setTimeout(end, ms);
    signal?.addEventListener("abort", end, { signal: done.signal });
    globalThis.addEventListener?.("online", end, { signal: done.signal });
    if (signal?.aborted) end();
  });
}
