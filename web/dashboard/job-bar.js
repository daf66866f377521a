/**
 * `<job-bar>`: the bar of one job, with what is known about its pace.
 *
 *     const bar = document.createElement("job-bar");
 *     bar.job = job;     // again with every new document of it
 *
 * It has no shadow root; its rules are in job-bar.css.
 */

import { element, show } from "../element/dom.js";
import { duration, percent, quantity, rate, shownFraction } from "../element/format.js";
import { isLive } from "../client/reducer.js";

/** @typedef {import("../jobs.js").Job} Job */

export class JobBar extends HTMLElement {
  /** @type {Job | undefined} */ #job;
  #fill = element("div", { class: "fill" });
  #bar = element(
    "div",
    { class: "bar", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100 },
    this.#fill,
  );
  #percent = element("span", { class: "percent" });
  #stage = element("span", { class: "stage foreign" });
  #message = element("span", { class: "message foreign" });
  /** Hidden by the page's style while nobody knows whether it goes on like this. */
  #moving = element("span", { class: "moving" });
  #amount = element("span", {});
  #pace = element("span", { class: "pace foreign" }, this.#moving, this.#amount);

  connectedCallback() {
    if (this.#bar.parentNode === this) return;
    this.append(
      element("div", { class: "row" }, this.#bar, this.#percent),
      element("div", { class: "about" }, this.#stage, this.#message, this.#pace),
    );
  }

  get job() {
    return this.#job;
  }

  set job(job) {
    this.#job = job;
    if (job) this.#draw(job);
  }

  /** @param {Job} job */
  #draw(job) {
    const fraction = shownFraction(job);
    const text = percent(fraction);
    this.dataset.state = job.state;
    this.toggleAttribute("indeterminate", fraction === null);
    // Through the CSSOM, which a policy without 'unsafe-inline' allows.
    this.#fill.style.setProperty("transform", `scaleX(${fraction ?? 1})`);
    this.#bar.setAttribute("aria-label", `Progress of ${job.type}`);
    if (fraction === null) this.#bar.removeAttribute("aria-valuenow");
    else this.#bar.setAttribute("aria-valuenow", String(Math.floor(fraction * 100 + 1e-9)));
    this.#bar.setAttribute("aria-valuetext", text ? `${text}, ${job.state}` : job.state);
    this.#percent.textContent = text;

    const live = isLive(job);
    const stage = live ? job.progress?.stage : null;
    show(this.#stage, stage ? stageText(stage) : "");
    show(this.#message, (live && job.progress?.message) || "");
    const moving = live && !job.cancel_requested ? movingText(job) : "";
    const amount = live ? amountText(job) : "";
    show(this.#moving, moving && amount ? `${moving} · ` : moving);
    show(this.#amount, amount);
    this.#pace.hidden = !moving && !amount;
  }
}

/** @param {import("../jobs.js").Stage} stage */
function stageText({ name, index, count }) {
  return count > 1 ? `${name} (${index}/${count})` : name;
}

/**
 * Where there is little room the end is cut off: what people ask first comes first.
 * @param {Job} job
 */
function movingText({ progress }) {
  const { unit, rate: pace, eta_s: eta } = progress ?? {};
  const parts = [];
  if (typeof eta === "number") parts.push(`${duration(eta)} left`);
  if (typeof pace === "number" && pace > 0) parts.push(rate(pace, unit));
  return parts.join(" · ");
}

/** @param {Job} job */
function amountText({ progress }) {
  const { current, total, unit } = progress ?? {};
  if (typeof current !== "number") return "";
  if (typeof total !== "number") return quantity(current, unit);
  return `${quantity(current, unit === "bytes" ? unit : null)} of ${quantity(total, unit)}`;
}

customElements.define("job-bar", JobBar);
