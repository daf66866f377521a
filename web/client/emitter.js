/**
 * What dispatches events of its own.
 */

/** @typedef {import("../jobs.js").Status} Status */

export class Emitter extends EventTarget {
  /**
   * @param {string} type
   * @param {any} [detail]
   */
  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** Dispatches `status`. */
export class Connection extends Emitter {
  /** @type {Status} */
  status = "closed";
  /** When this status began; for any but `live`, when the service was last heard. */
  since = Date.now();

  /**
   * @param {Status} status
   * @param {number} [since]
   */
  setStatus(status, since = Date.now()) {
    if (this.status === status && this.since === since) return;
    this.status = status;
    this.since = since;
    this.emit("status");
  }
}
