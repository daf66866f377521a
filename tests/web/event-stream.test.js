import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { EventStream } from "../../web/client/event-stream.js";

/** The part of EventSource that a stream uses, driven by the test. */
class Source extends EventTarget {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSED = 2;
  static all = [];
  readyState = Source.CONNECTING;

  constructor(url) {
    super();
    this.url = new URL(url);
    Source.all.push(this);
  }

  close() {
    this.readyState = Source.CLOSED;
  }

  opens() {
    this.readyState = Source.OPEN;
    this.dispatchEvent(new Event("open"));
  }

  /** As the service opens a stream that is caught up. */
  lives() {
    this.opens();
    this.says("heartbeat", { interval_s: 15 });
  }

  says(type, data, lastEventId = "") {
    this.dispatchEvent(new MessageEvent(type, { data: JSON.stringify(data), lastEventId }));
  }

  breaks(readyState = Source.CONNECTING) {
    this.readyState = readyState;
    this.dispatchEvent(new Event("error"));
  }
}

const last = () => Source.all.at(-1);
// Of the window.
Object.assign(globalThis, { EventSource: Source, addEventListener() {}, removeEventListener() {} });
let stream;

function opened(options = {}) {
  stream = new EventStream("http://headway.test/events", options);
  stream.open();
  return stream;
}

beforeEach(() => {
  Source.all = [];
  mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"], now: 1_000_000 });
});

afterEach(() => {
  stream.close();
  mock.timers.reset();
});

test("it asks for heartbeats that it can see, and for no cursor while it has none", () => {
  opened();
  assert.equal(last().url.searchParams.get("heartbeat"), "event");
  assert.equal(last().url.searchParams.has("last_event_id"), false);
});

test("events come with their id and their data", () => {
  const events = [];
  opened().addEventListener("event", ({ detail }) => events.push(detail));
  last().lives();
  last().says("progress", { job: "a", fraction: 0.5 }, "5-0");
  assert.deepEqual(events, [{ id: "5-0", event: "progress", data: { job: "a", fraction: 0.5 } }]);
  assert.equal(stream.cursor, "5-0");
  assert.equal(stream.status, "live");
});

test("silence for one and a half heartbeats is out of date, and a new connection continues", () => {
  opened();
  last().opens();
  last().says("heartbeat", { interval_s: 4 }, "7-1");
  const statuses = [];
  stream.addEventListener("status", () => statuses.push(stream.status));
  mock.timers.tick(6000);
  assert.equal(Source.all.length, 1);
  mock.timers.tick(1000);
  assert.equal(Source.all.length, 2);
  assert.deepEqual(statuses, ["stale"]);
  assert.equal(stream.since, 1_000_000, "out of date since it was last heard");
  assert.equal(Source.all[0].readyState, Source.CLOSED);
  assert.equal(last().url.searchParams.get("last_event_id"), "7-1");
  last().lives();
  assert.equal(stream.status, "live");
});

test("what came is what is only once a heartbeat says so", () => {
  opened();
  last().opens();
  last().says("snapshot", { id: "a" }, "5-0");
  assert.equal(stream.status, "connecting");
  last().says("heartbeat", { interval_s: 15, behind: true });
  assert.equal(stream.status, "stale");
  last().says("log", { job: "a" }, "6-0");
  assert.equal(stream.status, "stale", "there may be more that it has not caught up with");
  last().says("heartbeat", { interval_s: 15 });
  assert.equal(stream.status, "live");
});

test("a proxy that answers for a service that is away, and only says when to come back, is not live", () => {
  const statuses = [];
  opened().addEventListener("status", () => statuses.push(stream.status));
  last().lives();
  last().breaks();
  for (let retry = 0; retry < 20; retry += 1) {
    mock.timers.tick(15_000);
    last().opens();
    last().breaks();
  }
  assert.deepEqual(statuses, ["live", "reconnecting"]);
  assert.equal(stream.since, 1_000_000, "when the service was last heard");
});

test("a machine that slept finds out when it wakes, and not before it was told is it live again", () => {
  opened();
  last().lives();
  mock.timers.setTime(1_000_000 + 30_000_000);
  mock.timers.tick(1000);
  assert.equal(stream.status, "stale");
  assert.equal(stream.since, 1_000_000);
  assert.equal(Source.all.length, 2);
  last().opens();
  assert.equal(stream.status, "stale");
  last().says("heartbeat", { interval_s: 15 });
  assert.equal(stream.status, "live");
});

test("what waited for a page that stood still is not taken for news", () => {
  opened();
  last().lives();
  last().says("log", {}, "5-0");
  const [before] = Source.all;
  const heard = [];
  stream.addEventListener("event", ({ detail }) => heard.push(detail.id));
  mock.timers.setTime(1_000_000 + 30_000);
  before.says("log", {}, "6-0");
  assert.equal(stream.status, "stale");
  before.says("heartbeat", { interval_s: 15 });
  assert.equal(stream.status, "stale");
  assert.deepEqual(heard, []);
  assert.equal(last().url.searchParams.get("last_event_id"), "5-0");
  last().opens();
  last().says("log", {}, "6-0");
  last().says("heartbeat", { interval_s: 15 });
  assert.deepEqual([heard, stream.status], [["6-0"], "live"]);
});

test("a move does not make what is known any fresher", () => {
  opened();
  last().lives();
  last().says("log", {}, "5-0");
  mock.timers.tick(15_000);
  stream.move("http://headway.test/events?job=b");
  last().opens();
  assert.equal(stream.status, "live");
  mock.timers.tick(8_000);
  assert.equal(stream.status, "stale");
  assert.equal(stream.since, 1_000_000);
});

test("how long silence may last is what the heartbeats say", () => {
  opened();
  last().opens();
  last().says("heartbeat", { interval_s: 60 });
  mock.timers.tick(90_000);
  assert.equal(Source.all.length, 1);
  last().says("heartbeat", { interval_s: 2 });
  mock.timers.tick(4000);
  assert.equal(Source.all.length, 1);
  mock.timers.tick(1000);
  assert.equal(Source.all.length, 2);
});

test("the browser reconnects by itself after a broken connection, and the status says since when", () => {
  opened();
  last().lives();
  mock.timers.tick(3000);
  last().says("log", {}, "5-0");
  mock.timers.tick(2000);
  last().breaks();
  assert.equal(stream.status, "reconnecting");
  assert.equal(stream.since, 1_003_000);
  mock.timers.tick(5000);
  last().breaks();
  assert.equal(stream.since, 1_003_000, "the same silence goes on");
  assert.equal(Source.all.length, 1);
  last().lives();
  assert.equal(stream.status, "live");
});

test("after a refusal, which ends an EventSource for good, it comes back with its cursor, ever slower", () => {
  mock.method(Math, "random", () => 1);
  opened();
  last().opens();
  last().says("log", {}, "5-0");
  last().breaks(Source.CLOSED);
  for (const wait of [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]) {
    const before = Source.all.length;
    mock.timers.tick(wait - 1);
    assert.equal(Source.all.length, before, `not before ${wait} ms`);
    mock.timers.tick(1);
    assert.equal(Source.all.length, before + 1, `after ${wait} ms`);
    assert.equal(last().url.searchParams.get("last_event_id"), "5-0");
    last().breaks(Source.CLOSED);
  }
  mock.restoreAll();
});

test("it gives up after as many failures as it was told, and tries again when it is asked to", () => {
  opened({ attempts: 2 });
  last().breaks(Source.CLOSED);
  mock.timers.tick(1000);
  last().breaks(Source.CLOSED);
  assert.equal(stream.status, "gave-up");
  mock.timers.tick(120_000);
  assert.equal(Source.all.length, 2);
  stream.open();
  assert.equal(Source.all.length, 3);
  last().lives();
  assert.equal(stream.status, "live");
});

test("what the browser tries for ever at one pace is tried ever slower", () => {
  mock.method(Math, "random", () => 1);
  opened();
  for (let retry = 0; retry < 5; retry += 1) last().breaks();
  assert.equal(Source.all.length, 1);
  last().breaks();
  assert.equal(last().readyState, Source.CLOSED);
  mock.timers.tick(29_999);
  assert.equal(Source.all.length, 1);
  mock.timers.tick(1);
  assert.equal(Source.all.length, 2);
  mock.restoreAll();
});

test("a service that is behind says so, and what it last knew is not shown as fresh", () => {
  opened();
  last().opens();
  mock.timers.tick(3000);
  last().says("heartbeat", { interval_s: 4, behind: true });
  assert.equal(stream.status, "stale");
  assert.equal(stream.since, 1_000_000);
  last().says("heartbeat", { interval_s: 4 });
  assert.equal(stream.status, "live");
});

test("at another address it continues from its cursor", () => {
  opened();
  last().opens();
  last().says("log", {}, "5-0");
  stream.move("http://headway.test/events?job=b");
  assert.equal(Source.all[0].readyState, Source.CLOSED);
  assert.equal(last().url.searchParams.get("job"), "b");
  assert.equal(last().url.searchParams.get("last_event_id"), "5-0");
});

test("a service that says it is going is reconnecting before the connection breaks", () => {
  opened();
  last().opens();
  last().says("shutdown", { retry_ms: 10 });
  assert.equal(stream.status, "reconnecting");
});

test("a source that was replaced is not heard any more", () => {
  const events = [];
  opened().addEventListener("event", ({ detail }) => events.push(detail));
  last().opens();
  const old = last();
  mock.timers.tick(60_000);
  assert.notEqual(last(), old);
  old.says("log", {}, "9-0");
  assert.deepEqual(events, []);
  assert.equal(stream.cursor, null);
});

test("an id that came alone is the cursor as soon as a heartbeat carries it", () => {
  opened();
  last().opens();
  last().says("heartbeat", {}, "8-0");
  assert.equal(stream.cursor, "8-0");
});

test("after close nothing happens", () => {
  opened();
  last().opens();
  stream.close();
  mock.timers.tick(600_000);
  assert.equal(Source.all.length, 1);
  assert.equal(last().readyState, Source.CLOSED);
});
