/**
 * `<message-form>`: sends messages to a job.
 */

import { element, show } from "../../element/dom.js";

export class MessageForm extends HTMLElement {
  #name = element("input", { value: "message", required: true, maxLength: 128, ariaLabel: "Name" });
  #data = element("input", { required: true, ariaLabel: "Message", placeholder: "Text, or JSON" });
  #problem = element("p", { className: "problem foreign", role: "alert", hidden: true });
  #form = element("form", {}, this.#name, this.#data, element("button", {}, "Send"));
  #sending = false;

  /** @param {(name: string, data: unknown) => Promise<unknown>} send */
  constructor(send) {
    super();
    this.#form.addEventListener("submit", async (event) => {
      event.preventDefault();
      if (this.#sending) return;
      this.#sending = true;
      try {
        await send(this.#name.value, valueOf(this.#data.value));
        this.#data.value = "";
        show(this.#problem);
      } catch (error) {
        show(this.#problem, `The message was not sent: ${/** @type {Error} */ (error).message}`);
      }
      this.#sending = false;
    });
  }

  connectedCallback() {
    this.replaceChildren(element("details", {}, element("summary", {}, "Send a message"), this.#form, this.#problem));
  }
}

/**
 * The value of a text that is JSON, else the text.
 * @param {string} text
 * @returns {unknown}
 */
function valueOf(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

customElements.define("message-form", MessageForm);
