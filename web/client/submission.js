/**
 * Submissions: files are uploaded first, and the request is repeated until there is an answer.
 */

import { credential } from "./credentials.js";
import { Problem, problem } from "./problem.js";

/** @typedef {import("./client.js").Client} Client */

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
 * @param {Record<string, unknown>} what
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
    return `upload:${(await upload(client, value, { signal, onProgress })).id}`;
  }
  if (value === null || typeof value !== "object") return value;
  const made = /** @type {any} */ (Array.isArray(value) ? [] : {});
  for (const [name, one] of Object.entries(value)) {
    made[name] = await withUploads(client, one, { signal, onUpload });
  }
  return made;
}

/**
 * By XMLHttpRequest, because fetch does not report how much was sent.
 * @param {Client} client
 * @param {Blob} file
 * @param {{onProgress?: (fraction: number) => void, signal?: AbortSignal}} options
 * @param {string} [refused] the token that the service did not accept
 * @returns {Promise<import("../jobs.js").Upload>}
 */
export async function upload(client, file, options, refused) {
  const { onProgress, signal } = options;
  const token = client.caller && (await credential(client.caller, refused));
  signal?.throwIfAborted();
  const name = file instanceof File ? file.name : "upload";
  const request = new XMLHttpRequest();
  request.open("POST", client.url("/uploads", { name }));
  if (token) request.setRequestHeader("authorization", `Bearer ${token}`);
  request.setRequestHeader("content-type", file.type || "application/octet-stream");
  request.upload.onprogress = ({ lengthComputable, loaded, total }) => {
    if (lengthComputable && total > 0) onProgress?.(loaded / total);
  };
  const abort = () => request.abort();
  signal?.addEventListener("abort", abort);
  await new Promise((resolve) => {
    request.onloadend = resolve;
    request.send(file);
  });
  signal?.removeEventListener("abort", abort);
  signal?.throwIfAborted();
  const { status, responseText } = request;
  if (status === 0) throw new Problem(0, { title: "The connection was lost during the upload." });
  if (status === 401 && token && !refused) return upload(client, file, options, token);
  if (status < 200 || status > 299) throw problem(status, responseText, request);
  return JSON.parse(responseText);
}

/** A random key for one submission. `crypto.randomUUID` is missing on plain HTTP. */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * @param {number} ms
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, ms);
    signal?.addEventListener("abort", abort);
    if (signal?.aborted) abort();
  });
}
