/**
 * What a caller shows the service: a token or a ticket, asked for again when it is refused.
 */

/**
 * @typedef {object} Caller
 * @property {import("../jobs.js").Credential | null} [token] sent as a header
 * @property {import("../jobs.js").Credential | URL | null} [ticket] sent in the address
 * @property {Promise<string | undefined>} [said] the last answer of whoever was asked
 */

/**
 * The token or ticket to send.
 * @param {Caller} caller
 * @param {string} [refused] the one that the service no longer accepts
 */
export async function credential(caller, refused) {
  const { said } = caller;
  const known = await said?.catch(() => undefined);
  // Of several requests that were refused together, one asks.
  if (refused === known && said === caller.said) caller.said = ask(caller, refused);
  return caller.said;
}

/**
 * @param {Caller} caller
 * @param {string} [refused]
 */
async function ask({ token, ticket }, refused) {
  const given = token ?? ticket;
  if (!(given instanceof URL)) return typeof given === "function" ? given(refused) : given;
  const response = await fetch(given, { cache: "no-store" });
  if (!response.ok) throw new Error(`There is no ticket: ${given} answered ${response.status}.`);
  return (await response.json()).ticket;
}

/**
 * As the global `fetch`, with the caller's credential, and without the page's cookies, which may be another caller's.
 * @param {Caller} caller
 * @param {URL} url
 * @param {RequestInit} init
 */
export async function fetchAs(url, init, caller) {
  for (let refused; ; ) {
    const shown = await credential(caller, refused);
    const headers = new Headers(init.headers);
    if (caller.token) headers.set("authorization", `Bearer ${shown}`);
    else url.searchParams.set("ticket", shown ?? "");
    const response = await fetch(url, { ...init, headers, credentials: "omit" });
    if (response.status !== 401 || refused) return response;
    refused = shown;
    // What cannot change is not sent again.
    if ((await credential(caller, refused)) === refused) return response;
  }
}
