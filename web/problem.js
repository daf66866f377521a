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
  /** @type {any} */ let body;
  try {
    body = JSON.parse(text);
  } catch {
    // Not from the service itself, but from something in between.
  }
  const known = body && typeof body === "object" ? body : { title: `${status} ${statusText}`.trim() };
  const made = new Problem(status, known);
  const after = headers?.get("retry-after");
  if (after && /^\d+$/.test(after)) made.retryAfterMs = Number(after) * 1000;
  return made;
}
