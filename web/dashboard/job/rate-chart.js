/**
 * `<rate-chart>`: a job's rate over time, and frames per second where it encodes.
 *
 * Each curve is an SVG stretched to its box; text stands beside it, where it is not stretched.
 */

import { element, show } from "../../element/dom.js";
import { duration, number, rate } from "../../element/format.js";

/** @typedef {import("./job-story.js").Sample} Sample */
/** @typedef {{at: number, attempt: number, value: number}} Point */
/** @typedef {{from: number, span: number}} Times ms */

const WIDTH = 600;
const HEIGHT = 100;
const SVG = "http://www.w3.org/2000/svg";

export class RateChart extends HTMLElement {
  /** @type {Map<string, Curve>} */ #curves = new Map();

  set story(/** @type {import("./job-story.js").JobStory} */ { samples }) {
    const unit = samples.at(-1)?.unit ?? null;
    const rates = points(samples, "rate");
    const frames = points(samples, "fps");
    // Both over the same time span, so that they can be compared.
    const from = samples[0]?.at ?? 0;
    const times = { from, span: Math.max(1, (samples.at(-1)?.at ?? 0) - from) };
    this.#draw("Rate", rates, times, (value) => rate(value, unit));
    this.#draw("Frames per second", frames, times, (value) => `${number(value)} fps`);
    this.hidden = rates.length < 2 && frames.length < 2;
  }

  /**
   * @param {string} title
   * @param {Point[]} held
   * @param {Times} times
   * @param {(value: number) => string} words
   */
  #draw(title, held, times, words) {
    let curve = this.#curves.get(title);
    if (held.length < 2) {
      curve?.element.remove();
      this.#curves.delete(title);
      return;
    }
    if (!curve) {
      curve = new Curve(title);
      this.#curves.set(title, curve);
      this.append(curve.element);
    }
    curve.draw(held, times, words);
  }
}

class Curve {
  /** @type {Point[]} */ #points = [];
  /** @type {Times} */ #times = { from: 0, span: 1 };
  /** @type {(value: number) => string} */ #words = String;
  #now = element("strong");
  #about = element("span", { className: "note" });
  #line = svg("path", { class: "curve" });
  #attempts = svg("path", { class: "attempts" });
  #pointer = svg("path", { class: "pointer" });
  #svg = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
  #end = element("span");

  /** @param {string} title */
  constructor(title) {
    this.title = title;
    this.#svg.append(this.#attempts, this.#line, this.#pointer);
    this.element = element(
      "figure",
      {},
      element("figcaption", {}, `${title} `, this.#now, " ", this.#about),
      element("div", { className: "plot" }, this.#svg),
      element("div", { className: "axis", ariaHidden: "true" }, element("span", {}, "0 s"), this.#end),
    );
    this.#svg.addEventListener("pointermove", (event) => this.#point(event.offsetX / this.#svg.clientWidth));
    this.#svg.addEventListener("pointerleave", () => {
      this.#pointer.setAttribute("d", "");
      this.#say(/** @type {Point} */ (this.#points.at(-1)), "");
    });
  }

  /**
   * @param {Point[]} points two at least
   * @param {Times} times
   * @param {(value: number) => string} words
   */
  draw(points, times, words) {
    this.#points = points;
    this.#times = times;
    this.#words = words;
    const high = Math.max(...points.map(({ value }) => value)) || 1;
    const { from, span } = times;
    let line = "";
    let attempts = "";
    points.forEach(({ at, attempt, value }, index) => {
      const x = round(((at - from) / span) * WIDTH);
      const begins = index === 0 || points[index - 1].attempt !== attempt;
      if (begins && index > 0) attempts += `M${x} 0V${HEIGHT}`;
      line += `${begins ? "M" : "L"}${x} ${round(HEIGHT - (Math.max(0, value) / high) * (HEIGHT - 4))}`;
    });
    this.#line.setAttribute("d", line);
    this.#attempts.setAttribute("d", attempts);
    show(this.#end, duration(span / 1000));
    const mean = points.reduce((sum, { value }) => sum + value, 0) / points.length;
    const about = `mean ${words(mean)}, maximum ${words(high)}`;
    const last = /** @type {Point} */ (points.at(-1));
    this.#svg.setAttribute("aria-label", `${this.title}: ${words(last.value)}, ${about}`);
    this.#say(last, about);
  }

  /** @param {number} share of the width */
  #point(share) {
    const { from, span } = this.#times;
    const time = from + share * span;
    const near = this.#points.reduce((a, b) => (Math.abs(b.at - time) < Math.abs(a.at - time) ? b : a));
    const x = round(((near.at - from) / span) * WIDTH);
    this.#pointer.setAttribute("d", `M${x} 0V${HEIGHT}`);
    this.#say(near, `after ${duration((near.at - from) / 1000)}`);
  }

  /**
   * @param {Point} point
   * @param {string} about
   */
  #say({ value }, about) {
    show(this.#now, this.#words(value));
    show(this.#about, about);
  }
}

/**
 * @param {Sample[]} samples
 * @param {"rate" | "fps"} name
 * @returns {Point[]}
 */
function points(samples, name) {
  return samples.flatMap(({ at, attempt, [name]: value }) => (value === null ? [] : [{ at, attempt, value }]));
}

/** @param {number} value */
function round(value) {
  return Math.round(value * 10) / 10;
}

/**
 * @param {string} tag
 * @param {Record<string, string>} attributes
 * @returns {SVGElement}
 */
function svg(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

customElements.define("rate-chart", RateChart);
