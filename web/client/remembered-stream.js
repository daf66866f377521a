/**
 * A connection whose cursor outlives a reload of the page, so that what happens meanwhile is told after it.
 */

import { SharedStream } from "./shared-stream.js";

export class RememberedStream extends SharedStream {
  /** @type {string | null} The last id that the page had told of before it was loaded. */
  resumed;
  #key;
  /** @type {Set<import("./shared-stream.js").Reader>} */ #readers = new Set();

  /** @param {ConstructorParameters<typeof SharedStream>} of */
  constructor(...of) {
    super(...of);
    this.#key = `headway ${of[0]}`;
    this.resumed = this.cursor = sessionStorage.getItem(this.#key);
  }

  /** @param {import("./shared-stream.js").Reader} reader */
  join(reader) {
    this.#readers.add(reader);
    super.join(reader);
  }

  /** @param {import("./shared-stream.js").Reader} reader */
  leave(reader) {
    this.#readers.delete(reader);
    super.leave(reader);
  }

  /** What a reader holds back is not told yet, and would be lost if the page went now. */
  heard() {
    const waits = [...this.#readers].some(({ wanted }) => [...(wanted?.values() ?? [])].some((events) => events.length > 0));
    if (!waits && this.cursor !== null) sessionStorage.setItem(this.#key, this.cursor);
  }
}
