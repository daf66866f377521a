/**
 * System notifications when jobs end while the page is in the background, if the user asked for them.
 *
 * The permission is requested by the button, not at load. Many jobs that end together are one notification.
 */

import { shortId } from "../element/format.js";

/** @typedef {import("../jobs.js").Job} Job */

const WAIT_MS = 1000;
const SINGLE = 3;
const KEY = "headway notices";

export class Notifications {
  #button;
  /** @type {Job[]} */ #ended = [];

  /** @param {HTMLButtonElement} button shown where there are notifications */
  constructor(button) {
    this.#button = button;
    // Browsers offer them in secure contexts only.
    button.hidden = !("Notification" in globalThis) || !globalThis.isSecureContext;
    button.addEventListener("click", () => this.#toggle());
    this.#draw();
  }

  get on() {
    return !this.#button.hidden && Notification.permission === "granted" && localStorage.getItem(KEY) === "on";
  }

  /** @param {Job} job that has just ended */
  jobEnded(job) {
    if (!this.on || !document.hidden) return;
    this.#ended.push(job);
    if (this.#ended.length === 1) setTimeout(() => this.#notify(), WAIT_MS);
  }

  async #toggle() {
    const wanted = !this.on;
    localStorage.setItem(KEY, wanted ? "on" : "off");
    if (wanted && Notification.permission !== "granted") await Notification.requestPermission();
    this.#draw();
  }

  #draw() {
    if (this.#button.hidden) return;
    const denied = Notification.permission === "denied";
    this.#button.disabled = denied;
    this.#button.setAttribute("aria-pressed", String(this.on));
    this.#button.textContent = denied ? "Notifications blocked" : this.on ? "Notify me ✓" : "Notify me";
    this.#button.title = denied
      ? "The browser blocks notifications from this page."
      : "Notify me when a job ends while this page is in the background";
  }

  #notify() {
    const ended = this.#ended;
    this.#ended = [];
    if (ended.length <= SINGLE) {
      for (const job of ended) notify(`${job.type} ${job.state}`, job.error?.message ?? shortId(job.id), job.id);
      return;
    }
    const states = [...new Set(ended.map(({ state }) => state))];
    const counts = states.map((state) => `${ended.filter((job) => job.state === state).length} ${state}`);
    notify(`${ended.length} jobs ended`, counts.join(", "), "");
  }
}

/**
 * @param {string} title
 * @param {string} body
 * @param {string} id of the job; empty for several jobs
 */
function notify(title, body, id) {
  try {
    // The same tag in several tabs: the system shows it once.
    const notice = new Notification(title, { body, tag: `headway ${id || title}`, icon: "/web/icon.svg" });
    notice.onclick = () => {
      globalThis.focus();
      location.hash = id ? `#/jobs/${encodeURIComponent(id)}` : "#/";
      notice.close();
    };
  } catch {
    // Phones require a service worker; the page itself shows the end anyway.
  }
}
