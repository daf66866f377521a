import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { EventStream } from "../../web/client/event-stream.js";
import { Connection, settled } from "./connection.js";

const last = () => Connection.last;
// Of the window.
Object.assign(globalThis, { addEventListener() {}, removeEventListener() {} });
let stream;

function opened(options = {}) {
  stream = new EventStream({ client: Connection, ...options });
  stream.open("http://headway.test/events");
  return stream;
}

async function tick(ms) {
  mock.timers.tick(ms);
  await settled();
}

beforeEach(() => {
  Connection.all = [];
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: 1_000_000 });
});

afterEach(() => {
  stream.close();
  mock.timers.reset();
});

test("it asks for heartbeats that it can see, and for no cursor while it has none", async () => {
  opened();
  assert.equal(last().query.get("heartbeat"), "event");
  assert.equal(last().query.has("last_event_id"), false);
});

test("events come with their id and their data", async () => {
  const events = [];
  opened().addEventListener("event", ({ detail }) => events.push(detail));
  await last().lives();
  await last().says("progress", { job: "a", fraction: 0.5 }, "5-0");
  assert.deepEqual(events, [{ id: "5-0", event: "progress", data: { job: "a", fraction: 0.5 } }]);
  assert.equal(stream.cursor, "5-0");
  assert.equal(stream.status, "live");
});

test("silence for one and a half heartbeats is out of date, and a new connection continues", async () => {
  opened();
  await last().opens();
  await last().says("heartbeat", { interval_s: 4 }, "7-1");
  const statuses = [];
  stream.addEventListener("status", () => statuses.push(stream.status));
  await tick(6000);
  assert.equal(Connection.all.length, 1);
  await tick(1000);
  assert.equal(Connection.all.length, 2);
  assert.deepEqual(statuses, ["stale"]);
  assert.equal(stream.since, 1_000_000, "out of date since it was last heard");
  assert.equal(Connection.all[0].closed, true);
  assert.equal(last().query.get("last_event_id"), "7-1");
  await last().lives();
  assert.equal(stream.status, "live");
});

test("what came is what is only once a heartbeat says so", async () => {
  opened();
  await last().opens();
  await last().says("snapshot", { id: "a" }, "5-0");
  assert.equal(stream.status, "connecting");
  await last().says("heartbeat", { interval_s: 15, behind: true });
  assert.equal(stream.status, "stale");
  await last().says("log", { job: "a" }, "6-0");
  assert.equal(stream.status, "stale", "there may be more that it has not caught up with");
  await last().says("heartbeat", { interval_s: 15 });
  assert.equal(stream.status, "live");
});

test("a proxy that answers for a service that is away, and only says when to come back, is not live", async () => {
  const statuses = [];
  opened().addEventListener("status", () => statuses.push(stream.status));
  await last().lives();
  await last().breaks();
  for (let retry = 0; retry < 20; retry += 1) {
    await tick(30_000);
    await last().opens();
    await last().breaks();
  }
  assert.deepEqual(statuses, ["live", "reconnecting"]);
  assert.equal(stream.since, 1_000_000, "when the service was last heard");
});

test("a machine that slept finds out when it wakes, and not before it was told is it live again", async () => {
  opened();
  await last().lives();
  mock.timers.setTime(1_000_000 + 30_000_000);
  await tick(1000);
  assert.equal(stream.status, "stale");
  assert.equal(stream.since, 1_000_000);
  assert.equal(Connection.all.length, 2);
  await last().opens();
  assert.equal(stream.status, "stale");
  await last().says("heartbeat", { interval_s: 15 });
  assert.equal(stream.status, "live");
});

test("what waited for a page that stood still is not taken for news", async () => {
  opened();
  await last().lives();
  await last().says("log", {}, "5-0");
  const [before] = Connection.all;
  const heard = [];
  stream.addEventListener("event", ({ detail }) => heard.push(detail.id));
  mock.timers.setTime(1_000_000 + 30_000);
  await before.says("log", {}, "6-0");
  assert.equal(stream.status, "stale");
  await before.says("heartbeat", { interval_s: 15 });
  assert.equal(stream.status, "stale");
  assert.deepEqual(heard, []);
  assert.equal(last().query.get("last_event_id"), "5-0");
  await last().opens();
  await last().says("log", {}, "6-0");
  await last().says("heartbeat", { interval_s: 15 });
  assert.deepEqual([heard, stream.status], [["6-0"], "live"]);
});

test("a move does not make what is known any fresher", async () => {
  opened();
  await last().lives();
  await last().says("log", {}, "5-0");
  await tick(15_000);
  stream.open("http://headway.test/events?job=b");
  await last().opens();
  assert.equal(stream.status, "live");
  await tick(8_000);
  assert.equal(stream.status, "stale");
  assert.equal(stream.since, 1_000_000);
});

test("how long silence may last is what the heartbeats say", async () => {
  opened();
  await last().opens();
  await last().says("heartbeat", { interval_s: 60 });
  await tick(90_000);
  assert.equal(Connection.all.length, 1);
  await last().says("heartbeat", { interval_s: 2 });
  await tick(4000);
  assert.equal(Connection.all.length, 1);
  await tick(1000);
  assert.equal(Connection.all.length, 2);
});

test("after a broken connection it waits as long as the service said, and the status says since when", async () => {
  opened();
  await last().opens();
  await last().sends("retry: 2000\n");
  await last().says("heartbeat", { interval_s: 15 });
  await tick(3000);
  await last().says("log", {}, "5-0");
  await tick(2000);
  await last().breaks();
  assert.equal(stream.status, "reconnecting");
  assert.equal(stream.since, 1_003_000);
  await tick(1999);
  assert.equal(Connection.all.length, 1);
  await tick(1);
  assert.equal(Connection.all.length, 2);
  await last().breaks();
  assert.equal(stream.since, 1_003_000, "the same silence goes on");
  await tick(2000);
  await last().lives();
  assert.equal(stream.status, "live");
});

test("a reconnection whose timer is late, in a page that is hidden, is made up for when another page asks", async () => {
  opened();
  await last().lives();
  await last().breaks();
  const { length } = Connection.all;
  stream.checkSilence();
  assert.equal(Connection.all.length, length, "it is not due yet");
  // Only the clock moves: no timer runs.
  mock.timers.setTime(1_000_000 + 60_000);
  stream.checkSilence();
  assert.equal(Connection.all.length, length + 1);
});

test("after errors of any kind it comes back with its cursor, ever slower", async () => {
  mock.method(Math, "random", () => 1);
  opened();
  let refusals = 0;
  stream.addEventListener("refused", () => (refusals += 1));
  await last().opens();
  await last().says("log", {}, "5-0");
  await last().breaks();
  const failures = [() => last().refuses(), () => last().refuses(204), () => last().breaks(), () => last().refuses(401)];
  for (const [at, wait] of [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000].entries()) {
    const before = Connection.all.length;
    await tick(wait - 1);
    assert.equal(Connection.all.length, before, `not before ${wait} ms`);
    await tick(1);
    assert.equal(Connection.all.length, before + 1, `after ${wait} ms`);
    assert.equal(last().query.get("last_event_id"), "5-0");
    await failures[at % failures.length]();
  }
  assert.equal(refusals, 5, "a broken connection is none");
  mock.restoreAll();
});

test("it gives up after as many failures as it was told, and tries again when it is asked to", async () => {
  opened({ attempts: 2 });
  await last().refuses();
  await tick(1000);
  await last().refuses();
  assert.equal(stream.status, "gave-up");
  await tick(120_000);
  assert.equal(Connection.all.length, 2);
  stream.open();
  assert.equal(Connection.all.length, 3);
  await last().lives();
  assert.equal(stream.status, "live");
});

test("a service that is behind says so, and what it last knew is not shown as fresh", async () => {
  opened();
  await last().opens();
  await tick(3000);
  await last().says("heartbeat", { interval_s: 4, behind: true });
  assert.equal(stream.status, "stale");
  assert.equal(stream.since, 1_000_000);
  await last().says("heartbeat", { interval_s: 4 });
  assert.equal(stream.status, "live");
});

test("at another address it continues from its cursor", async () => {
  opened();
  await last().opens();
  await last().says("log", {}, "5-0");
  stream.open("http://headway.test/events?job=b");
  assert.equal(Connection.all[0].closed, true);
  assert.equal(last().query.get("job"), "b");
  assert.equal(last().query.get("last_event_id"), "5-0");
});

test("a service that says it is going is reconnecting before the connection breaks", async () => {
  opened();
  await last().opens();
  await last().says("shutdown", { retry_ms: 10 });
  assert.equal(stream.status, "reconnecting");
});

test("a source that was replaced is not heard any more", async () => {
  const events = [];
  opened().addEventListener("event", ({ detail }) => events.push(detail));
  await last().opens();
  const old = last();
  await tick(60_000);
  assert.notEqual(last(), old);
  await old.says("log", {}, "9-0");
  assert.deepEqual(events, []);
  assert.equal(stream.cursor, null);
});

test("an id that came alone is the cursor as soon as a heartbeat carries it", async () => {
  opened();
  await last().opens();
  await last().says("heartbeat", {}, "8-0");
  assert.equal(stream.cursor, "8-0");
});

test("after close nothing happens", async () => {
  opened();
  await last().opens();
  stream.close();
  await tick(600_000);
  assert.equal(Connection.all.length, 1);
  assert.equal(last().closed, true);
});
