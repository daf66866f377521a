/**
 * `<group-summary>`: how far the group is that the list shows, and what can be done to all of its jobs.
 *
 * No event of the page's stream, which has all jobs, is about a group: it is asked for while it is in view.
 */

import { isOff, switchOff } from "../buttons.js";
import { Bar } from "../../element/bar.js";
import { element, show } from "../../element/dom.js";

/**
 * @typedef {import("../../jobs.js").Group} Group
 * @typedef {import("../../jobs.js").Job} Job
 */

const EVERY_MS = 2000;
/** @type {import("../../jobs.js").State[]} */
const STATES = ["running", "waiting", "queued", "retrying", "succeeded", "failed", "canceled"];

export class GroupSummary extends HTMLElement {
  #client = /** @type {any} */ (undefined);
  #name = "";
  #asked = 0;
  #bar = new Bar();
  #title = element("h3", { className: "foreign" });
  #counts = element("p", { className: "note" });
  #cancel = element("button", { type: "button", className: "cancel", hidden: true }, "Cancel all");
  #again = element("button", { type: "button", className: "again", hidden: true }, "Run failed ones again");
  #problem = element("p", { className: "problem foreign", role: "alert", hidden: true });

  connectedCallback() {
    const actions = element("span", { className: "actions" }, this.#cancel, this.#again);
    this.replaceChildren(element("header", {}, this.#title, actions), this.#bar.node, this.#counts, this.#problem);
    this.#cancel.addEventListener("click", () => this.#all(this.#cancel, (name) => this.#client.cancelGroup(name)));
    this.#again.addEventListener("click", () => this.#all(this.#again, (name) => this.#client.retryGroup(name)));
  }

  /**
   * Show a group from now on.
   * @param {import("../../jobs.js").Headway} client
   * @param {() => {name: string, fresh: boolean}} what is in view: an empty name for no group
   */
  start(client, what) {
    this.#client = client;
    const look = () => !document.hidden && this.#look(what());
    setInterval(look, EVERY_MS);
    this.look = look;
  }

  look() {}

  /** @param {{name: string, fresh: boolean}} what */
  async #look({ name, fresh }) {
    if (name !== this.#name) {
      this.hidden = true;
      show(this.#problem);
    }
    this.#name = name;
    if (!name || !fresh) {
      this.#bar.node.classList.toggle("stale", !fresh);
      return;
    }
    const asked = (this.#asked += 1);
    try {
      const group = await this.#client.group(name);
      if (asked === this.#asked) this.#draw(group);
    } catch (error) {
      // None of its jobs is left. The connection's state tells of everything else.
      if (/** @type {{status?: number}} */ (error).status === 404 && asked === this.#asked) this.hidden = true;
    }
  }

  /** @param {Group} group */
  #draw({ group, title, counts, expected, fraction, eta_s, state }) {
    const live = counts.queued + counts.running + counts.retrying + counts.waiting;
    const lost = counts.failed + counts.canceled;
    const all = live + lost + counts.succeeded;
    const ended = state === "ended" ? (counts.failed ? "failed" : lost ? "canceled" : "succeeded") : live ? "running" : "queued";
    const progress = { fraction, eta_s, rate: null, message: null, stage: null };
    const shown = { state: ended, type: title ?? group, labels: {}, progress, attempt: 1, max_attempts: 1 };
    this.#bar.draw(/** @type {Job} */ (/** @type {unknown} */ (shown)), true);
    show(this.#title, title ?? group);
    const words = STATES.filter((one) => counts[one]).map((one) => `${counts[one]} ${one}`);
    show(this.#counts, `${all}${expected === null ? "" : ` of ${expected}`} jobs: ${words.join(", ") || "none yet"}`);
    this.#cancel.hidden = live === 0;
    this.#again.hidden = lost === 0;
    this.hidden = false;
  }

  /**
   * @param {HTMLButtonElement} pressed
   * @param {(name: string) => Promise<Group>} act
   */
  async #all(pressed, act) {
    if (isOff(pressed)) return;
    switchOff(pressed, true);
    const name = this.#name;
    try {
      const group = await act(name);
      if (name === this.#name) this.#draw(group);
      show(this.#problem);
    } catch (error) {
      show(this.#problem, `${pressed.textContent}: ${/** @type {Error} */ (error).message}`);
    }
    switchOff(pressed, false);
  }
}

customElements.define("group-summary", GroupSummary);
