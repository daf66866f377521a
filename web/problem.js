/**
 * What went wrong, as the service says it (problem+json, RFC 9457).
 */

/** @typedef {{pointer: string, detail: string}} PointerError */

/** The service, or the way to it, said no. `status` is 0 if there was no answer. */
export class Problem extends Error {
  name = "Problem";
  /** @type {number | null} After how long it is worth asking again, if the answer said so. */
  retryAfterMs = null;

  /**
   * @param {number} status
   * @param {{type?: string, title?: string, detail?: string, errors?: PointerError[]}} body
   */
  constructor(status, body) {
    super(body.detail || body.title || `The service answered ${status}`);
    this.status = status;
    this.type = body.type ?? "about:blank";
    this.title = body.title ?? "";
    /** @type {PointerError[]} */
    this.errors = Array.isArray(body.errors) ? body.errors : [];
  }
}

/**
 * @param {number} status
 * @param {string} text
 * @param {string} statusText
 * @param {Headers} [headers]
 */
export function problem(status, text, statusText, headers) {
  let body = { title: `${status} ${statusText}`.trim() };
  try {
    body = Object(JSON.parse(text));
  } catch {
    // Not from the service itself, but from something in between.
  }
  const made = new Problem(status, body);
  made.retryAfterMs = parseInt(headers?.get("retry-after") ?? "") * 1000 || null;
  return made;
}
