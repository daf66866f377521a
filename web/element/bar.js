/**
 * The bar of one job, with its stage, its message and its pace: what `<job-progress>` and the dashboard show.
 */

import { show } from "./dom.js";
import { attemptText, nameOf, paceText, percent, plain, shownFraction } from "./format.js";
import { isLive } from "../client/reducer.js";

/** @typedef {import("../jobs.js").Job} Job */

/**
 * An element that a page can style by its name.
 * @param {keyof HTMLElementTagNameMap} tag
 * @param {string} name
 * @param {Record<string, unknown>} [props]
 * @param {...(Node | string)} children
 * @returns {any}
 */
export function part(tag, name, props, ...children) {
  const node = Object.assign(document.createElement(tag), { part: name, className: name }, props);
  node.append(...children);
  return node;
}

export class Bar {
  /** The state, with the attempt if it is not the first. */
  stateText = "";
  /** All that it shows, for screen readers. */
  words = "";
  #fill = part("div", "fill");
  #bar = part("div", "bar", { role: "progressbar" }, this.#fill);
  #percent = part("bdi", "percent");
  #stage = part("bdi", "stage");
  #message = part("bdi", "message");
  #pace = part("bdi", "pace");

  /** @type {HTMLElement} */
  node = part(
    "div",
    "job",
    {},
    part("div", "row", {}, this.#bar, this.#percent),
    part("div", "about", {}, this.#stage, this.#message, this.#pace),
  );

  /**
   * @param {Job} job
   * @param {boolean} fresh whether it is known to be current
   */
  draw(job, fresh) {
    const live = isLive(job);
    const { stage, message } = (live && job.progress) || {};
    const fraction = shownFraction(job);
    const text = percent(fraction);
    const attempt = attemptText(job);
    this.stateText = job.state + (attempt && `, ${attempt}`);
    this.words = this.stateText + (text && `, ${text}`);
    this.node.className = `job ${job.state}${text ? "" : " unknown"}${live && !fresh ? " stale" : ""}`;
    // Through the CSSOM, which a policy without 'unsafe-inline' allows.
    this.#fill.style.inlineSize = text && `${/** @type {number} */ (fraction) * 100}%`;
    this.#bar.ariaValueNow = text ? parseInt(text) : null;
    this.#bar.ariaValueText = this.words;
    this.#bar.ariaLabel = nameOf(job);
    show(this.#percent, text);
    show(this.#stage, stage ? plain(stage.name) + (stage.count > 1 ? ` (${stage.index}/${stage.count})` : "") : "");
    show(this.#message, plain(message ?? ""));
    show(this.#pace, live ? plain(paceText(job, fresh)) : "");
  }
}
