/**
 * Submissions: files are uploaded first, and the request is repeated until there is an answer.
 */

import { pause } from "./pause.js";

/**
 * @typedef {import("./client.js").Client} Client
 * @typedef {import("./problem.js").Problem} Problem
 */

const ATTEMPTS = 5;
const BACKOFF_MS = 1000;
/** A longer wait is left to the caller. */
const PATIENCE_MS = 30_000;
/** Answers that come from a proxy, or ask to try again. */
const PASSING = new Set([0, 429, 502, 503, 504]);

/**
 * @param {Client} client
 * @param {string} type
 * @param {Record<string, unknown>} params
 * @param {any} options see Headway.submit
 */
export async function submit(client, type, params, { idempotencyKey, signal, onUpload, ...more }) {
  const body = { type, params: await withUploads(client, params, { signal, onUpload }), ...more };
  return post(client, "/jobs", body, { idempotencyKey, signal });
}

/**
 * POST, repeated under the same key until there is an answer.
 * @param {Client} client
 * @param {string} path
 * @param {object} what
 * @param {{idempotencyKey?: string, signal?: AbortSignal}} options
 */
export async function post(client, path, what, { idempotencyKey = newKey(), signal }) {
  const body = JSON.stringify(what);
  const headers = { "content-type": "application/json", "idempotency-key": idempotencyKey };
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await client.ask("POST", path, { body, headers, signal });
    } catch (error) {
      const { status, retryAfterMs } = /** @type {Problem} */ (error);
      if (!PASSING.has(status) || attempt === ATTEMPTS) throw error;
      const wait = retryAfterMs ?? Math.random() * BACKOFF_MS * 2 ** attempt;
      if (wait > PATIENCE_MS) throw error;
      await pause(wait, signal);
    }
  }
}

/**
 * The same value with each Blob in it uploaded and replaced by its reference.
 * @param {Client} client
 * @param {any} value
 * @param {{signal?: AbortSignal, onUpload?: (fraction: number, file: Blob) => void}} options
 * @returns {Promise<any>}
 */
async function withUploads(client, value, { signal, onUpload }) {
  if (value instanceof Blob) {
    const onProgress = onUpload && ((/** @type {number} */ fraction) => onUpload(fraction, value));
    // Most submissions have no file.
    const { upload } = await import("./upload.js");
    return `upload:${(await upload(client, value, { signal, onProgress })).id}`;
  }
  if (value === null || typeof value !== "object") return value;
  const made = /** @type {any} */ (Array.isArray(value) ? [] : {});
  for (const [name, one] of Object.entries(value)) {
    made[name] = await withUploads(client, one, { signal, onUpload });
  }
  return made;
}

/** A random key for one submission. `crypto.randomUUID` is missing on plain HTTP. */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
