/**
 * Where the upload of a file is at the service: what a later upload of the same file goes on with.
 */

const PREFIX = "headway upload ";
/** What nobody has come back to for so long is gone at the service, too. */
const KEPT_MS = 7 * 86_400_000;

/** @typedef {{id: string | null}} Place `id` of the upload that there is; null: none */

/** @type {WeakMap<Blob, string>} Those of files that only this page can recognize. */
const ofPage = new WeakMap();

/**
 * Run this with the place of a file, which nobody else has meanwhile: two that sent the same upload would take it from
 * each other for ever. Whoever comes second gets a place of its own, which is not kept.
 *
 * A File is recognized after a reload of the page, by its name, type, size and date; a Blob as long as the page has it.
 * @template Made
 * @param {string} service its address
 * @param {Blob} file
 * @param {(place: Place) => Promise<Made>} run
 * @returns {Promise<Made>}
 */
export async function withPlace(service, file, run) {
  // Without a secure context there are no locks.
  if (!(file instanceof File && navigator.locks)) return withPlaceInPage(file, run);
  const key = PREFIX + (await digest([service, file.name, file.type, file.size, file.lastModified]));
  return navigator.locks.request(key, { ifAvailable: true }, (lock) =>
    run(lock && storage() ? new StoredPlace(key) : { id: null }),
  );
}

/**
 * @template Made
 * @param {Blob} file
 * @param {(place: Place) => Promise<Made>} run
 */
async function withPlaceInPage(file, run) {
  const place = { id: ofPage.get(file) ?? null };
  ofPage.delete(file);
  try {
    return await run(place);
  } finally {
    if (place.id) ofPage.set(file, place.id);
  }
}

/** In the browser's storage, by a digest: the names of somebody's files are nobody else's business. */
class StoredPlace {
  #key;

  /** @param {string} key */
  constructor(key) {
    this.#key = key;
    const all = /** @type {Storage} */ (storage());
    for (const one of Object.keys(all)) {
      if (one.startsWith(PREFIX) && Date.now() - Number(all[one].split(" ")[1]) > KEPT_MS) all.removeItem(one);
    }
  }

  get id() {
    return storage()?.getItem(this.#key)?.split(" ")[0] ?? null;
  }

  set id(id) {
    try {
      if (id === null) storage()?.removeItem(this.#key);
      else storage()?.setItem(this.#key, `${id} ${Date.now()}`);
    } catch {
      // It is full: this upload does not survive a reload.
    }
  }
}

/** The browser's storage, or null where the user or a frame does not have it. */
function storage() {
  try {
    return localStorage;
  } catch {
    return null;
  }
}

/** @param {unknown} value */
async function digest(value) {
  const bytes = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(JSON.stringify(value)));
  return Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
