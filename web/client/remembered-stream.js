/**
 * A stream whose cursor survives a reload of the page, so that events in between are delivered afterwards.
 */

import { SharedStream } from "./shared-stream.js";

/** The services whose cursors were taken up by this page: once per load. */
const resumed = new Set();

export class RememberedStream extends SharedStream {
  /** @type {string | null} The last id that was delivered before the page was loaded. */
  resumed = null;
  #key;

  /** @param {ConstructorParameters<typeof SharedStream>} options */
  constructor(...options) {
    super(...options);
    // One connection serves those that came before, too: they ask their clients for it again.
    queueMicrotask(() => {
      for (const reader of options[1].found?.readers ?? []) {
        reader.stop();
        reader.start();
      }
    });
    // Without the token: ids of a service compare, whoever asks, and a token is no name for storage.
    this.#key = `headway ${options[0].split(" ")[0]}`;
    if (resumed.has(this.#key)) return;
    resumed.add(this.#key);
    this.resumed = this.cursor = sessionStorage.getItem(this.#key);
  }

  /** Events that a reader holds back are not delivered yet, and would be lost if the page went away now. */
  heard() {
    const holding = this.readers.some(({ records }) => [...(records?.values() ?? [])].some(({ held }) => held?.length));
    if (this.cursor !== null && !holding) sessionStorage.setItem(this.#key, this.cursor);
  }
}
