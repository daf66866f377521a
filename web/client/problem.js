/**
 * Errors of the service (problem+json, RFC 9457).
 */

/** @typedef {{pointer: string, detail: string}} PointerError */

/** The service refused a request, or could not be reached. `status` is 0 if there was no answer from it. */
export class Problem extends Error {
  name = "Problem";
  /** @type {number | null} When to try again, if the answer said so. */
  retryAfterMs = null;

  /**
   * @param {number} status
   * @param {{type?: string, title?: string, detail?: string, errors?: PointerError[]}} body
   */
  constructor(status, { type = "about:blank", title = "", detail, errors }) {
    super(detail || title || `The service answered ${status}`);
    this.status = status;
    this.type = type;
    this.title = title;
    /** @type {PointerError[]} */
    this.errors = Array.isArray(errors) ? errors : [];
  }
}

/**
 * @param {number} status 0 if there was no answer of the service
 * @param {string} text
 * @param {{status: number, statusText: string, headers?: Headers}} [response] that it came with
 */
export function problem(status, text, response) {
  const what = response && text ? `The answer (${response.status} ${response.statusText}) did not come from the service.` : "The service does not answer.";
  /** @type {object} */ let body = { title: what };
  try {
    body = Object(JSON.parse(text));
  } catch {
    // From something in between, such as a proxy.
  }
  const made = new Problem(status, body);
  made.retryAfterMs = parseInt(response?.headers?.get("retry-after") ?? "") * 1000 || null;
  return made;
}
