import assert from "node:assert/strict";
import { test } from "node:test";

import { Connection } from "./connection.js";

const listeners = new Set();
// Of the window.
Object.assign(globalThis, {
  fetch: Connection.fetch,
  location: { href: "http://headway.test/" },
  sessionStorage: { getItem: () => null, setItem() {} },
  addEventListener: (type, listener) => listeners.add(listener),
  removeEventListener: (type, listener) => listeners.delete(listener),
});
const { Headway } = await import("../../web/jobs.js");
const settled = () => new Promise((resolve) => setTimeout(resolve, 5));
const connected = () => Connection.all.filter(({ url, closed }) => url.pathname === "/events" && !closed).length;

test("a stream goes with its last reader, and leaves nothing behind", async () => {
  const before = listeners.size;
  const clients = ["t1", "t2", "t3"].map((token) => new Headway({ token, share: false }));
  const streams = clients.map((client) => client.watch({ jobs: ["0-a"] })).map((feed) => (feed.stop(), feed.stream));
  await settled();
  assert.equal(connected(), 0);
  clients.forEach((client, n) => assert.notEqual(client.stream(), streams[n], "it was dropped"));
  const held = [...listeners].slice(before).filter((listener) => streams.includes(listener));
  assert.deepEqual(held, [], "the window holds it no more");
});

test("what stops and starts again, or starts while others watch, shares the stream", async () => {
  const client = new Headway({ share: false });
  const [first, second] = [client.watch({ jobs: ["0-a"] }), client.watch({ jobs: ["0-b"] })];
  await settled();
  first.stop();
  first.start();
  await settled();
  assert.equal(first.stream, second.stream);
  assert.equal(connected(), 1);
  for (const feed of [first, second]) feed.stop();
  assert.deepEqual([first.status, second.status], ["closed", "closed"]);
  await settled();
  assert.equal(connected(), 0);
});

test("one that remembers takes over the readers of one that does not: there is one connection", async () => {
  const plain = new Headway({ share: false }).watch({ jobs: ["0-a"] });
  await settled();
  const remembering = new Headway({ share: false, remember: true }).watch({ jobs: ["0-b"] });
  await settled();
  assert.equal(plain.stream, remembering.stream);
  assert.equal(connected(), 1);
  plain.stop();
  remembering.stop();
  await settled();
  assert.equal(connected(), 0);
});

test("many jobs go in as many requests as they need, in their order", async () => {
  const client = new Headway({ share: false });
  const asked = [];
  client.ask = async (_method, _path, { body, headers }) => {
    const { jobs } = JSON.parse(body);
    asked.push({ key: headers["idempotency-key"], jobs: jobs.length, bytes: new TextEncoder().encode(body).length });
    return { items: jobs.map(({ params }) => params.n) };
  };
  const sent = async (jobs) => (asked.splice(0), client.submitMany(jobs, { idempotencyKey: "mine" }));
  const small = Array.from({ length: 2001 }, (_, n) => ({ type: "t", params: { n } }));
  assert.deepEqual(await sent(small), [...small.keys()]);
  assert.deepEqual(asked.map(({ key, jobs }) => [key, jobs]), [["mine.0", 1000], ["mine.1", 1000], ["mine.2", 1]]);
  const large = Array.from({ length: 100 }, (_, n) => ({ type: "t", params: { n, text: "ü".repeat(30_000) } }));
  assert.deepEqual(await sent(large), [...large.keys()]);
  assert.equal(asked.length, 4);
  assert.ok(asked.every(({ bytes }) => bytes <= 2 * 2 ** 20));
  assert.deepEqual(await sent([]), []);
  assert.equal(asked.length, 0);
});
