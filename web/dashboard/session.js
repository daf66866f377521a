/**
 * Who uses the page: the sign-in, what is offered, and the way out.
 *
 * The browser keeps the session as a cookie that no script can read. Without authentication (AUTH=none) nothing of
 * this is shown.
 */

import { show } from "../element/dom.js";
import { Emitter } from "../client/emitter.js";
import { Headway } from "../jobs.js";
import { problem } from "../client/problem.js";

/** @typedef {{owner: string, roles: string[], kind: "none" | "key" | "jwt" | "session", expires_at: string | null}} Who */

/** A link may bring a key or a token. It must not stay in the address, nor in the history. */
const token = /^#token=(.+)/.exec(location.hash)?.[1];
if (token) history.replaceState(null, "", "#/");

/** The role that a view needs beside `read`. */
const NEEDS = /** @type {Record<string, string>} */ ({ new: "submit", workers: "ops" });

const nameOf = (/** @type {Who} */ { owner, roles }) => `${owner} ${roles}`;

/** Dispatches `change` when it is known who uses the page, and `back` after another sign-in as the same caller. */
export class Session extends Emitter {
  client = /** @type {Headway & import("../client/client.js").Client} */ (new Headway());
  /** @type {Who | null} Null until it is known. */
  who = null;
  #dialog;
  #other;
  #form;
  #problem;
  #key;
  /** Tells the browser's other tabs: they have the same cookie. */
  #tabs = new BroadcastChannel("headway session");

  /**
   * @param {HTMLDialogElement} dialog
   * @param {HTMLDialogElement} other asks before a link takes the place of a session
   * @param {HTMLElement} header where the caller's name and the way out are
   */
  constructor(dialog, other, header) {
    super();
    this.#dialog = dialog;
    this.#other = other;
    this.#form = /** @type {HTMLFormElement} */ (dialog.querySelector("form"));
    this.#problem = /** @type {HTMLElement} */ (dialog.querySelector(".problem"));
    this.#key = /** @type {HTMLInputElement} */ (dialog.querySelector("input"));
    this.header = header;
    this.#tabs.onmessage = ({ data }) => (data === "out" ? location.reload() : this.check());
    const { client } = this;
    const request = client.fetch.bind(client);
    client.fetch = async (url, init) => {
      const response = await request(url, init);
      if (response.status === 401) this.#ask();
      return response;
    };
    // There is nothing behind it.
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#signIn(this.#key.value.trim());
    });
    header.querySelector("button")?.addEventListener("click", () => this.#signOut());
  }

  /** Find out who uses the page. Resolves as soon as that is known, or cannot be known now. */
  async begin() {
    if (token && (await this.#mayReplace(decodeURIComponent(token)))) await this.#signIn(decodeURIComponent(token));
    else await this.check();
    if (this.#dialog.open) await new Promise((resolve) => this.addEventListener("change", resolve, { once: true }));
  }

  /**
   * The role that a view needs and that the caller does not have; empty if there is none.
   * @param {string} view
   */
  lacks(view) {
    const role = NEEDS[view];
    return role && this.who && !this.who.roles.includes(role) ? role : "";
  }

  /** Ask the service again. */
  async check() {
    try {
      const response = await this.client.fetch(this.client.url("/session"), { cache: "no-store" });
      if (response.ok) this.#is(await response.json());
    } catch {
      // Without an answer the page shows that it is not connected.
    }
  }

  /**
   * Whether the key of a link may take the place of the session that there is. Anybody can send somebody a link: nobody
   * is to work under another's name, where that other sees it, without having been asked.
   * @param {string} key
   */
  async #mayReplace(key) {
    const held = await this.#whoIs({});
    if (!held) return true;
    if (held.kind === "none") return false;
    const offered = await this.#whoIs({ credentials: "omit", headers: { authorization: `Bearer ${key}` } });
    if (offered?.owner === held.owner) return true;
    const [said, , change] = /** @type {any} */ (this.#other.querySelector("form")).children;
    show(
      said,
      offered
        ? `This link signs in as ${offered.owner}. You are signed in as ${held.owner}.`
        : `The key of this link is unknown, expired or revoked. You are signed in as ${held.owner}.`,
    );
    change.hidden = !offered;
    if (offered) change.textContent = `Sign in as ${offered.owner}`;
    this.#other.returnValue = "stay";
    this.#other.showModal();
    await new Promise((resolve) => this.#other.addEventListener("close", resolve, { once: true }));
    return this.#other.returnValue === "change";
  }

  /**
   * Who the credentials of such a request are; null if they are nobody's, or the service does not answer.
   * @param {RequestInit} init
   * @returns {Promise<Who | null>}
   */
  async #whoIs(init) {
    try {
      const response = await fetch(this.client.url("/session"), { ...init, cache: "no-store" });
      return response.ok ? await response.json() : null;
    } catch {
      return null;
    }
  }

  /** @param {Who} who */
  #is(who) {
    const before = this.who;
    this.who = who;
    // Nothing of another caller's may stay.
    if (before && nameOf(before) !== nameOf(who)) {
      location.reload();
      return;
    }
    document.body.dataset.roles = who.roles.join(" ");
    const [name, roles, out] = /** @type {any} */ (this.header.children);
    show(name, who.owner);
    show(roles, who.roles.join(", "));
    out.hidden = who.kind !== "session";
    this.header.hidden = who.kind === "none";
    const signedIn = this.#dialog.open;
    this.#dialog.close();
    this.emit("change");
    if (before && signedIn) this.emit("back");
  }

  #ask(text = this.who ? "The session has ended." : "") {
    show(this.#problem, text);
    if (!this.#dialog.open) this.#dialog.showModal();
  }

  /** @param {string} key */
  async #signIn(key) {
    const url = this.client.url("/session");
    try {
      // Two different credentials would be refused.
      await fetch(url, { method: "DELETE" });
      const response = await fetch(url, { method: "POST", headers: { authorization: `Bearer ${key}` } });
      if (!response.ok) throw problem(response.status, await response.text(), response);
    } catch (error) {
      const { message, status } = /** @type {any} */ (error);
      this.#ask(status === 401 ? "This key is unknown, expired or revoked." : status ? message : "The service does not answer.");
      return;
    }
    this.#form.reset();
    await this.check();
    if (!this.who) this.#ask("The browser has not kept the session's cookie. Allow cookies for this site.");
    this.#tabs.postMessage("in");
  }

  async #signOut() {
    try {
      await fetch(this.client.url("/session"), { method: "DELETE" });
      this.#tabs.postMessage("out");
    } finally {
      location.reload();
    }
  }
}
