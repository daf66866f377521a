/**
 * `<connection-state>`: whether the page is up to date.
 */

import { element, show } from "../element/dom.js";
import { connectionText } from "../element/format.js";

export class ConnectionState extends HTMLElement {
  /** @type {import("../client/job-feed.js").JobFeed | null} */ #feed = null;
  /** @type {ReturnType<typeof setInterval> | undefined} */ #clock;
  #text = element("span");
  #again = element("button", { type: "button", hidden: true, onclick: () => this.#feed?.again() }, "Try again");

  connectedCallback() {
    this.replaceChildren(this.#text, this.#again);
    this.#clock = setInterval(() => this.#draw(), 1000);
  }

  disconnectedCallback() {
    clearInterval(this.#clock);
  }

  set feed(/** @type {import("../client/job-feed.js").JobFeed} */ feed) {
    this.#feed = feed;
    feed.addEventListener("status", () => this.#draw());
    this.#draw();
  }

  #draw() {
    if (!this.#feed) return;
    const { status } = this.#feed;
    this.dataset.status = status;
    show(this.#text, status === "live" ? "Live" : connectionText(this.#feed) || "Not connected");
    this.#again.hidden = status !== "gave-up";
  }
}

customElements.define("connection-state", ConnectionState);
