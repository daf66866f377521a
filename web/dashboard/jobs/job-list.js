/**
 * `<job-list>`: many jobs, of which only those in sight are in the page.
 *
 * All cards are equally high, so that a job's place is known without drawing it. What is looked at stays
 * where it is when jobs come in above it. Dispatches `near-end` when somebody has nearly seen all, or all
 * down to where jobs may be missing.
 */

import { JobCard } from "./job-card.js";

/** @typedef {import("../../jobs.js").Job} Job */

/** So many cards above and below what is in sight, so that a quick scroll shows no holes. */
const AROUND = 6;
const GAP_PX = 8;

export class JobList extends HTMLElement {
  /** @type {readonly Job[]} */ #jobs = [];
  /** @type {Map<string, JobCard>} */ #cards = new Map();
  /** From one card's top to the next one's. */
  #pitch = 96;
  #drawing = false;
  /** How many were in sight or above it when it was last shown. */
  seen = 0;
  /** Among so many of them, from the first on, none is missing. */
  whole = Infinity;
  /** @type {(job: Job) => string} Why a job waits; empty if nobody knows. */
  reasonFor = () => "";

  connectedCallback() {
    this.setAttribute("role", "list");
    const again = () => this.#soon();
    globalThis.addEventListener("scroll", again, { passive: true });
    globalThis.addEventListener("resize", again);
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
    // Nobody loses the line they read.
    const now = held && jobs[first]?.id !== held ? jobs.findIndex((job) => job.id === held) : first;
    this.#stretch();
    if (now > first && first >= 0) globalThis.scrollBy({ top: (now - first) * this.#pitch, behavior: "instant" });
    this.draw();
  }

  /** The jobs whose cards are in the page. */
  get inSight() {
    return [...this.#cards.values()].flatMap((card) => card.job ?? []);
  }

  /** @param {string} id */
  card(id) {
    return this.#cards.get(id);
  }

  /**
   * Go to the next card, or the one before, with the focus.
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
   * Go to the card of a job, if it is in the list, without scrolling there.
   * @param {string} id
   * @returns {boolean} whether it is
   */
  goTo(id) {
    const at = this.#jobs.findIndex((job) => job.id === id);
    if (at >= 0) this.draw(at);
    this.#cards.get(id)?.focus({ preventScroll: true });
    return at >= 0;
  }

  /** Words that change as time passes. */
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
   * Have those cards in the page that are in sight, and the one that has the focus.
   * @param {number} [also] the place of one more
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
    // Whoever goes through it with the Tab key meets the cards in their order.
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
      card.job = this.#jobs[at];
      card.ariaPosInSet = String(at + 1);
      card.ariaSetSize = String(this.#jobs.length);
      card.style.transform = `translateY(${at * this.#pitch}px)`;
    }
    if (shown) this.seen = last;
    if (this.#measure()) this.draw();
    else if (shown && last >= Math.min(this.whole, this.#jobs.length) - AROUND) this.dispatchEvent(new Event("near-end"));
  }

  /** @returns {boolean} whether the cards are of another height than they were taken for */
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
