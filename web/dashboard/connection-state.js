/**
 * `<connection-state>`: whether what the page shows is what is, in words.
 */

import { element, show } from "../element/dom.js";
import { duration } from "../element/format.js";

/**
 * @typedef {EventTarget & {status: import("../jobs.js").Status, since: number, again: () => void}} Watched
 */

export class ConnectionState extends HTMLElement {
  /** @type {Watched | null} */ #stream = null;
  #text = element("span");
  #again = element("button", { type: "button", hidden: true }, "Try again");

  constructor() {
    super();
    this.#again.addEventListener("click", () => this.#stream?.again());
  }

  connectedCallback() {
    this.append(this.#text, this.#again);
    setInterval(() => this.#draw(), 1000);
  }

  set stream(/** @type {Watched} */ stream) {
    this.#stream = stream;
    stream.addEventListener("status", () => this.#draw());
    this.#draw();
  }

  #draw() {
    if (!this.#stream) return;
    const { status, since } = this.#stream;
    this.dataset.status = status;
    const seconds = Math.floor((Date.now() - since) / 1000);
    const lasting = seconds < 1 ? "" : ` since ${seconds < 60 ? `${seconds} s` : duration(seconds)}`;
    const texts = {
      live: "Live",
      connecting: `Connecting${lasting}`,
      reconnecting: `Reconnecting${lasting}`,
      stale: `Out of date${lasting}`,
      "gave-up": `Not connected${lasting}`,
      closed: "Not connected",
    };
    show(this.#text, texts[status]);
    this.#again.hidden = status !== "gave-up";
  }
}

customElements.define("connection-state", ConnectionState);
