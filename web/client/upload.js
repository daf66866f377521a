/**
 * A file to the service by tus 1.0 (docs/uploads.md), which goes on where it broke off: after a cut, at another web
 * process, and after a reload of the page when the same file is given again.
 */

import { credential } from "./credentials.js";
import { pause } from "./pause.js";
import { Problem, problem } from "./problem.js";
import { withPlace } from "./upload-place.js";

/**
 * @typedef {import("./client.js").Client} Client
 * @typedef {{onProgress?: (fraction: number) => void, signal?: AbortSignal}} Options
 */

const VERSION = { "tus-resumable": "1.0.0" };
const TIMEOUT_MS = 30_000;
/** A connection that has sent nothing for so long, and has no answer, is dead. */
const SILENCE_MS = 60_000;
/** When the service has not had a byte more for so long, the caller decides. */
const PATIENCE_MS = 300_000;
const BACKOFF_MS = 500;
const MAX_BACKOFF_MS = 15_000;
/** Answers of a proxy, those that ask to try again, and those that say that the service has more or less than was thought. */
const PASSING = new Set([0, 408, 409, 429, 502, 503, 504]);
const LOST = "The connection was lost during the upload.";

/**
 * @param {Client} client
 * @param {Blob} file
 * @param {Options} options see Headway.upload
 * @returns {Promise<import("../jobs.js").Upload>}
 */
export function upload(client, file, options) {
  return withPlace(client.url("/").href, file, (place) => send(client, file, options, place));
}

/**
 * @param {Client} client
 * @param {Blob} file
 * @param {Options} options
 * @param {import("./upload-place.js").Place} place
 */
async function send(client, file, { onProgress, signal }, place) {
  const patience = new Patience(file, signal);
  let resumes = place.id !== null;
  /** @type {number | null} How much the service has; null: it is asked. */
  let offset = null;
  for (;;) {
    try {
      if (place.id === null) {
        place.id = await begin(client, file, signal);
        offset = 0;
      }
      const path = `/uploads/${place.id}`;
      offset ??= offsetIn(await request(client, "HEAD", path, {}, signal));
      patience.gained(offset);
      if (offset < file.size) {
        onProgress?.(offset / file.size);
        /** @type {number} */ const start = offset;
        offset = null;
        offset = await patience.during(() => sendRest(client, path, file, start, { onProgress, signal }));
        continue;
      }
      const made = await client.ask("GET", path, { signal });
      place.id = null;
      onProgress?.(1);
      return made;
    } catch (error) {
      const { status } = /** @type {Problem} */ (error);
      const gone = status === 404 || status === 410;
      if (gone) place.id = null;
      // It has expired, or was another caller's.
      if (gone && resumes) resumes = false;
      else await patience.after(/** @type {Problem} */ (error));
    }
  }
}

/**
 * @param {Client} client
 * @param {Blob} file
 * @param {AbortSignal} [signal]
 * @returns {Promise<string>} the id of a new upload
 */
async function begin(client, file, signal) {
  const told = { filename: file instanceof File ? file.name : "upload", ...(file.type && { filetype: file.type }) };
  const metadata = Object.entries(told).map(([name, value]) => `${name} ${base64(value)}`).join(",");
  const headers = { "upload-length": String(file.size), "upload-metadata": metadata };
  const response = await request(client, "POST", "/uploads", headers, signal);
  const id = response.headers.get("location")?.split("/").pop();
  if (!id || !response.headers.has("tus-resumable")) {
    throw new Problem(0, { title: "The answer did not come from a service that takes uploads in parts." });
  }
  return id;
}

/**
 * A request without a body and with a short answer.
 * @param {Client} client
 * @param {string} method
 * @param {string} path
 * @param {Record<string, string>} headers
 * @param {AbortSignal} [signal]
 */
async function request(client, method, path, headers, signal) {
  const timeout = AbortSignal.timeout(TIMEOUT_MS);
  /** @type {Response | undefined} */ let response;
  try {
    response = await client.fetch(client.url(path), {
      method,
      headers: { ...VERSION, ...headers },
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    });
    if (response.ok) return response;
  } catch {
    signal?.throwIfAborted();
  }
  throw problem(response?.status ?? 0, (await response?.text()) ?? "", response);
}

/**
 * By XMLHttpRequest, because fetch does not report how much was sent.
 * @param {Client} client
 * @param {string} path
 * @param {Blob} file
 * @param {number} offset
 * @param {Options} options
 * @returns {Promise<number>} how much the service has then
 */
async function sendRest(client, path, file, offset, { onProgress, signal }) {
  const token = client.caller && (await credential(client.caller));
  signal?.throwIfAborted();
  const request = new XMLHttpRequest();
  const abort = () => request.abort();
  /** @type {ReturnType<typeof setTimeout> | undefined} */ let silence;
  const heard = () => {
    clearTimeout(silence);
    silence = setTimeout(abort, SILENCE_MS);
  };
  request.open("PATCH", client.url(path));
  const headers = { ...VERSION, "upload-offset": String(offset), "content-type": "application/offset+octet-stream" };
  for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
  if (token) request.setRequestHeader("authorization", `Bearer ${token}`);
  request.upload.onprogress = ({ loaded }) => {
    heard();
    onProgress?.((offset + loaded) / file.size);
  };
  signal?.addEventListener("abort", abort);
  heard();
  await new Promise((resolve) => {
    request.onloadend = resolve;
    request.send(file.slice(offset));
  });
  clearTimeout(silence);
  signal?.removeEventListener("abort", abort);
  signal?.throwIfAborted();
  const { status } = request;
  if (status === 204) return offsetIn({ headers: { get: (name) => request.getResponseHeader(name) } });
  if (status === 0) throw new Problem(0, { title: LOST });
  const headersOf = new Headers([["retry-after", request.getResponseHeader("retry-after") ?? ""]]);
  throw problem(status, request.responseText, { status, statusText: request.statusText, headers: headersOf });
}

/** @param {{headers: {get(name: string): string | null}}} response */
function offsetIn({ headers }) {
  const said = headers.get("upload-offset") ?? "";
  if (!/^\d+$/.test(said)) throw new Problem(0, { title: "The answer did not come from the service." });
  return Number(said);
}

/** Waits for what may pass, as long as it makes sense. */
class Patience {
  #file;
  #signal;
  #most = -1;
  #failures = 0;
  #refused = 0;
  /** @type {number | null} Counts from the first failure since the service had a byte more. */ #until = null;

  /**
   * @param {Blob} file
   * @param {AbortSignal} [signal]
   */
  constructor(file, signal) {
    this.#file = file;
    this.#signal = signal;
  }

  /** @param {number} offset what the service has */
  gained(offset) {
    if (offset <= this.#most) return;
    this.#most = offset;
    this.#failures = this.#refused = 0;
    this.#until = null;
  }

  /**
   * The time in which something is sent does not count: how much of it the service has is known only afterwards.
   * @template T
   * @param {() => Promise<T>} sending
   */
  async during(sending) {
    const began = Date.now();
    try {
      return await sending();
    } finally {
      if (this.#until !== null) this.#until += Date.now() - began;
    }
  }

  /**
   * @param {Problem} error
   * @returns {Promise<void>} when to try again. Rejects with what cannot pass, or has lasted too long.
   */
  async after(error) {
    // A token that has expired is renewed when the service is asked how much it has.
    if (error.status === 401 && (this.#refused += 1) === 1) return;
    if (!PASSING.has(error.status)) throw error;
    await this.#checkFile();
    const backoff = Math.min(MAX_BACKOFF_MS, BACKOFF_MS * 2 ** this.#failures);
    this.#failures += 1;
    const wait = error.retryAfterMs ?? Math.random() * backoff;
    this.#until ??= Date.now() + PATIENCE_MS;
    if (Date.now() + wait > this.#until) throw error;
    await pause(wait, this.#signal);
  }

  /** A file that was changed or removed meanwhile looks like a lost connection. */
  async #checkFile() {
    try {
      await this.#file.slice(0, 1).arrayBuffer();
    } catch {
      throw new Problem(0, { title: "The file was changed or removed while it was uploaded." });
    }
  }
}

/** @param {string} text */
function base64(text) {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}
