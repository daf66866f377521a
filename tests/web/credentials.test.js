import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { Connection, settled } from "./connection.js";

// Of the window.
Object.assign(globalThis, { location: { href: "http://page.test/" }, addEventListener() {}, removeEventListener() {} });
const { Client } = await import("../../web/client/client.js");
// Otherwise it is loaded with the first request.
await import("../../web/client/credentials.js");
const base = "http://headway.test/";
const last = () => Connection.last;
const bearer = ({ init }) => new Headers(init.headers).get("authorization");

beforeEach(() => {
  Connection.all = [];
  globalThis.fetch = Connection.fetch;
});

/** @type {any} */ let feed;

afterEach(() => feed?.stop());

/** A request under way. It may fail. */
async function asking(client, id = "0-a") {
  const answer = client.get(id).catch((error) => error);
  await settled();
  return answer;
}

test("a token is sent as a header, never in an address, and without the page's cookies", async () => {
  const client = new Client({ base, token: "secret", share: false });
  asking(client);
  await settled();
  feed = client.watch({ jobs: ["0-a"] });
  await settled();
  for (const one of Connection.all) {
    assert.equal(bearer(one), "Bearer secret");
    assert.ok(!one.url.href.includes("secret"));
    assert.equal(one.init.credentials, "omit");
  }
  assert.deepEqual(Connection.all.map(({ url }) => url.pathname), ["/jobs/0-a", "/events"]);
});

test("a ticket is part of the address, which no preflight has to ask for", async () => {
  asking(new Client({ base, ticket: "t1" }));
  await settled();
  assert.equal(last().query.get("ticket"), "t1");
  assert.deepEqual([...new Headers(last().init.headers)], []);
});

test("without either a request is as the page would make it", async () => {
  asking(new Client({ base }));
  await settled();
  assert.equal(last().init.credentials, undefined);
  assert.equal(bearer(last()), null);
});

test("a function is asked once for all, and again after a 401, once for all that were refused", async () => {
  const asked = [];
  const client = new Client({ base, token: async (refused) => (asked.push(refused), `t${asked.length}`) });
  const first = Promise.all([client.get("0-a"), client.get("0-b")]);
  await settled();
  assert.deepEqual(Connection.all.map(bearer), ["Bearer t1", "Bearer t1"]);
  for (const one of Connection.all.slice()) await one.refuses(401);
  assert.deepEqual(Connection.all.slice(2).map(bearer), ["Bearer t2", "Bearer t2"]);
  assert.deepEqual(asked, [undefined, "t1"]);
  for (const one of Connection.all.slice(2)) one.resolve(new Response('{"id": "0-x"}'));
  assert.equal((await first).length, 2);
});

test("a token that stays refused is a problem, and is not sent over and over", async () => {
  const fixed = new Client({ base, token: "old" }).get("0-a").catch((error) => error);
  await settled();
  await last().refuses(401);
  assert.equal((await fixed).status, 401);
  assert.equal(Connection.all.length, 1);
  const renewed = new Client({ base, token: () => `t${Math.random()}` }).get("0-a").catch((error) => error);
  await settled();
  await last().refuses(401);
  await last().refuses(401);
  assert.equal((await renewed).status, 401);
  assert.equal(Connection.all.length, 3);
});

test("a function that fails is asked again by the next request", async () => {
  let calls = 0;
  const client = new Client({ base, token: () => ((calls += 1) === 1 ? Promise.reject(new Error("offline")) : "t") });
  assert.equal((await asking(client)).status, 0);
  asking(client);
  await settled();
  assert.equal(bearer(last()), "Bearer t");
});

test("a stream whose ticket has expired comes back with another one, from its cursor", async () => {
  const tickets = ["old", "new"];
  const client = new Client({ base, ticket: () => tickets.shift(), share: false });
  feed = client.watch({ jobs: ["0-a"] });
  await settled();
  await last().lives();
  await last().says("log", { job: "0-a", at: "" }, "5-0");
  await last().says("shutdown", { retry_ms: 0 });
  const streams = () => Connection.all.filter(({ url }) => url.pathname === "/events");
  await streams().at(-1).breaks();
  while (streams().length < 2) await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(streams()[1].query.get("ticket"), "old");
  await streams()[1].refuses(401);
  assert.equal(streams()[2].query.get("ticket"), "new");
  assert.equal(streams()[2].query.get("last_event_id"), "5-0");
});

test("an address is asked for a ticket, and never cached", async () => {
  asking(new Client({ base, ticket: new URL("http://page.test/ticket") }));
  await settled();
  assert.equal(last().url.href, "http://page.test/ticket");
  assert.equal(last().init.cache, "no-store");
  last().resolve(new Response('{"ticket": "t1"}'));
  await settled();
  assert.equal(last().query.get("ticket"), "t1");
});

test("a stream is shared by those who show the same, or say that they are the same caller", async () => {
  const one = (options) => new Client({ base, share: false, ...options }).stream();
  const same = (a, b) => one(a) === one(b);
  assert.ok(same({}, { token: null, ticket: null }));
  assert.ok(same({ token: "t" }, { token: "t" }));
  assert.ok(!same({ token: "t" }, { token: "u" }));
  assert.ok(!same({ token: "t" }, {}));
  const ask = () => "t";
  assert.ok(!same({ token: ask }, { token: ask }), "the same function may say another token for another user");
  assert.ok(same({ token: ask, share: "user 7" }, { ticket: () => "u", share: "user 7" }));
  const client = new Client({ base, token: ask });
  assert.equal(client.stream(), client.stream());
});
