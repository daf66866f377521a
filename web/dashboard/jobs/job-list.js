/**
 * `<job-list>`: many jobs, of which only those in view have elements.
 *
 * All cards have the same height, so the position of a job is known without drawing it. What is in view does not
 * move when jobs are added above it. Dispatches `near-end` when the user has scrolled nearly to the end, or to where
 * jobs may be missing.
 */

import { JobCard } from "./job-card.js";

/** @typedef {import("../../jobs.js").Job} Job */

/** Cards above and below those in view, so that a quick scroll shows no holes. */
const AROUND = 6;
const GAP_PX = 8;

export class JobList extends HTMLElement {
  /** @type {readonly Job[]} */ #jobs = [];
  /** @type {Map<string, JobCard>} */ #cards = new Map();
  /** From the top of one card to the top of the next. */
  #pitch = 96;
  #drawing = false;
  #connected = new AbortController();
  /** How many were in view or above it when the list was last visible. */
  seen = 0;
  /** None is missing among the first so many. */
  complete = Infinity;
  /** Whether what is shown is current. */
  fresh = true;
  /** @type {(job: Job) => string} Why a job waits; empty if unknown. */
  reasonFor = () => "";

  connectedCallback() {
    this.setAttribute("role", "list");
    const { signal } = (this.#connected = new AbortController());
    for (const type of ["scroll", "resize"]) addEventListener(type, () => this.#soon(), { passive: true, signal });
  }

  disconnectedCallback() {
    this.#connected.abort();
  }

  get jobs() {
    return this.#jobs;
  }

  set jobs(jobs) {
    if (jobs === this.#jobs) return;
    const top = this.#top();
    const first = top > 0 ? Math.floor(top / this.#pitch) : -1;
    const held = this.#jobs[first]?.id;
    this.#jobs = jobs;
    // What is in view stays in view.
    const now = held && jobs[first]?.id !== held ? jobs.findIndex((job) => job.id === held) : first;
    this.#stretch();
    if (now > first && first >= 0) globalThis.scrollBy({ top: (now - first) * this.#pitch, behavior: "instant" });
    this.draw();
  }

  /** The jobs that have cards. */
  get inSight() {
    return [...this.#cards.values()].flatMap((card) => card.job ?? []);
  }

  /** @param {string} id */
  card(id) {
    return this.#cards.get(id);
  }

  /**
   * Move the focus to the next card, or to the one before.
   * @param {1 | -1} by
   */
  step(by) {
    const focused = /** @type {JobCard | null} */ (document.activeElement?.closest("job-card"));
    const from = this.#jobs.findIndex((job) => job.id === focused?.dataset.id);
    const seen = Math.ceil(Math.max(0, this.#top()) / this.#pitch);
    const to = Math.min(this.#jobs.length - 1, Math.max(0, from < 0 ? seen : from + by));
    if (!this.#jobs[to]) return;
    this.draw(to);
    this.#cards.get(this.#jobs[to].id)?.focus();
  }

  /**
   * Move the focus to the card of a job, if it is in the list, without scrolling.
   * @param {string} id
   * @returns {boolean} whether it is
   */
  goTo(id) {
    const at = this.#jobs.findIndex((job) => job.id === id);
    if (at >= 0) this.draw(at);
    this.#cards.get(id)?.focus({ preventScroll: true });
    return at >= 0;
  }

  /** Redraw what changes as time passes. */
  tick() {
    for (const card of this.#cards.values()) card.tick();
  }

  #soon() {
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => this.draw());
  }

  /** How much of it is above the window. */
  #top() {
    return -this.getBoundingClientRect().top;
  }

  #stretch() {
    this.style.height = `${this.#jobs.length * this.#pitch}px`;
  }

  /**
   * Make cards for the jobs in view, and keep the one that has the focus.
   * @param {number} [also] the position of one more
   */
  draw(also = -1) {
    this.#drawing = false;
    const shown = this.getClientRects().length > 0;
    const top = shown ? this.#top() : 0;
    const first = Math.max(0, Math.floor(top / this.#pitch) - AROUND);
    const end = shown ? Math.ceil((top + globalThis.innerHeight) / this.#pitch) + AROUND : 0;
    const last = Math.min(this.#jobs.length, Math.max(first, end));
    /** @type {Map<string, number>} */
    const places = new Map();
    const focused = /** @type {HTMLElement | null} */ (this.querySelector(":scope > :focus-within"));
    const kept = focused ? this.#jobs.findIndex((job) => job.id === focused.dataset.id) : -1;
    const wanted = shown ? [kept, also].filter((at) => at >= 0 && (at < first || at >= last)) : [];
    for (let at = first; at < last; at += 1) wanted.push(at);
    for (const at of wanted.sort((a, b) => a - b)) places.set(this.#jobs[at].id, at);
    for (const [id, card] of this.#cards) {
      if (places.has(id)) continue;
      card.remove();
      this.#cards.delete(id);
    }
    // In the document, cards have the order of the list: the Tab key follows it.
    let next = this.firstElementChild;
    for (const [id, at] of places) {
      let card = this.#cards.get(id);
      if (card && card === next) next = next.nextElementSibling;
      if (!card) {
        card = new JobCard();
        this.#cards.set(id, card);
        this.insertBefore(card, next);
      }
      card.reason = this.reasonFor(this.#jobs[at]);
      card.fresh = this.fresh;
      card.job = this.#jobs[at];
      card.ariaPosInSet = String(at + 1);
      card.ariaSetSize = String(this.#jobs.length);
      card.style.transform = `translateY(${at * this.#pitch}px)`;
    }
    if (shown) this.seen = last;
    if (this.#measure()) this.draw();
    else if (shown && last >= Math.min(this.complete, this.#jobs.length) - AROUND) this.dispatchEvent(new Event("near-end"));
  }

  /** @returns {boolean} whether the cards have another height than was assumed */
  #measure() {
    const card = /** @type {HTMLElement | null} */ (this.firstElementChild);
    if (!card) return false;
    const pitch = card.offsetHeight + GAP_PX;
    if (pitch === this.#pitch || pitch === GAP_PX) return false;
    this.#pitch = pitch;
    this.#stretch();
    return true;
  }
}

customElements.define("job-list", JobList);
