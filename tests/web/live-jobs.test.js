import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, mock, test } from "node:test";

import { liveGroup, liveJob, liveJobs } from "../../web/client/live-jobs.js";

const { base } = JSON.parse(readFileSync(new URL("cases/reduce.json", import.meta.url), "utf8"));
const job = (id, last = "10-0", more = {}) => ({ ...base, id, last_event_id: last, ...more });
const at = (second) => new Date(1e12 + 1000 * second).toISOString();

/** A client with a stream that is open, and that counts its readers. */
class Client {
  found = new Map();
  stream = () => this.shared;
  get = async (id) => this.found.get(id) ?? Promise.reject(Object.assign(new Error(), { status: 404 }));
  list = async () => ({ items: [...this.found.values()], next: null });
  groups = new Map();
  asked = [];
  ask = async (_, path) => {
    this.asked.push(path);
    return this.groups.get(path) ?? Promise.reject(Object.assign(new Error(), { status: 404 }));
  };
  shared = Object.assign(new EventTarget(), {
    status: "live",
    readers: new Set(),
    heard() {},
    changed() {},
    join(reader) {
      this.readers.add(reader);
      reader.begin({ topics: [...reader.topics], fresh: false, gap: false });
    },
    leave(reader) {
      this.readers.delete(reader);
    },
  });

  says(id, event, data) {
    for (const reader of this.shared.readers) reader.receive({ id, event, data });
  }

  progress(last, id, fraction) {
    this.says(last, "progress", { job: id, attempt: 1, at: base.updated_at, fraction });
  }
}

let client, seen;
const see = (value) => seen.push(value);
const settled = async () => {
  for (let i = 0; i < 20; i += 1) await Promise.resolve();
};
/** What has happened in this frame is told. */
const frame = async () => {
  await settled();
  mock.timers.tick(16);
  await settled();
};

beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout"] });
  globalThis.document = {};
  client = new Client();
  seen = [];
});

afterEach(() => {
  delete globalThis.document;
  mock.timers.reset();
});

test("a subscriber is told the value at once, and that of each frame in which something changed", async () => {
  client.found.set("a", job("a"));
  const stop = liveJob(client, "a").subscribe(see);
  assert.deepEqual([seen.length, seen[0].job, seen[0].status], [1, undefined, "connecting"]);
  await frame();
  assert.deepEqual([seen.length, seen[1].job.id, seen[1].status], [2, "a", "live"]);
  client.progress("11-0", "a", 0.3);
  client.progress("12-0", "a", 0.4);
  await frame();
  assert.deepEqual([seen.length, seen[2].job.progress.fraction], [3, 0.4]);
  await frame();
  assert.equal(seen.length, 3);
  stop();
});

test("jobs are watched from the first subscriber to the last, and again", async () => {
  client.found.set("a", job("a"));
  const live = liveJob(client, "a");
  assert.equal(client.shared.readers.size, 0);
  const stops = [live.subscribe(see), live.subscribe(see)];
  assert.equal(client.shared.readers.size, 1);
  await frame();
  stops[0]();
  stops[0]();
  assert.equal(client.shared.readers.size, 1, "the same one leaves once");
  client.progress("11-0", "a", 0.5);
  stops[1]();
  assert.equal(client.shared.readers.size, 0);
  const told = seen.length;
  await frame();
  assert.equal(seen.length, told, "who has left is told nothing");
  client.found.set("a", job("a", "12-0", { progress: { fraction: 0.7 } }));
  const stop = live.subscribe(see);
  await frame();
  assert.equal(seen.at(-1).job.progress.fraction, 0.7);
  stop();
});

test("what was seen before is not said to be current to who comes later", async () => {
  client.found.set("a", job("a"));
  const live = liveJob(client, "a");
  const stop = live.subscribe(see);
  await frame();
  assert.equal(seen.at(-1).status, "live");
  stop();
  live.subscribe(see)();
  assert.deepEqual([seen.at(-1).job.id, seen.at(-1).status], ["a", "connecting"]);
  await frame();
  assert.equal(live.value.status, "connecting", "nor by an answer that comes when nobody waits for it");
});

test("the value is replaced, never changed", async () => {
  client.found.set("a", job("a"));
  const live = liveJobs(client, ["a"]);
  const stop = live.subscribe(see);
  await frame();
  const [, before] = seen;
  assert.equal(live.value, before);
  client.progress("11-0", "a", 0.5);
  assert.equal(live.value, before, "not before it is told");
  await frame();
  assert.notEqual(live.value, before);
  assert.notEqual(live.value.jobs, before.jobs);
  stop();
});

test("a job that does not exist is null, and without an id nothing is watched", async () => {
  const stop = liveJob(client, "a").subscribe(see);
  await frame();
  assert.equal(seen.at(-1).job, null);
  stop();
  for (const nothing of [null, undefined, ""]) {
    for (const live of [liveJob(client, nothing), liveGroup(client, nothing)]) {
      live.subscribe(see)();
      assert.equal(seen.at(-1).status, "closed");
      assert.equal(seen.at(-1).again(), undefined);
    }
  }
  assert.equal(client.shared.readers.size, 0);
});

test("a document is shown at once, until a newer one is there", async () => {
  client.found.set("a", job("a", "20-0", { progress: { fraction: 0.8 } }));
  const stop = liveJob(client, job("a", "10-0", { progress: { fraction: 0.2 } })).subscribe(see);
  assert.equal(seen[0].job.progress.fraction, 0.2);
  await frame();
  assert.equal(seen.at(-1).job.progress.fraction, 0.8);
  stop();
});

test("where there is no page, nothing is watched", () => {
  delete globalThis.document;
  const stop = liveJob(client, job("a")).subscribe(see);
  assert.equal(seen[0].job.id, "a");
  assert.equal(client.shared.readers.size, 0);
  stop();
});

test("jobs are in the order of their ids, or newest first, and those of a group oldest first", async () => {
  ["a", "b", "c"].forEach((id, second) => client.found.set(id, job(id, "10-0", { created_at: at(second), group: "g" })));
  const order = async (live) => {
    const stop = live.subscribe(see);
    await frame();
    stop();
    return seen.at(-1).jobs.map(({ id }) => id).join("");
  };
  assert.equal(await order(liveJobs(client, ["c", "a", "x", "b"])), "cab");
  assert.equal(await order(liveJobs(client)), "cba");
  assert.equal(await order(liveGroup(client, "g")), "abc");
});

test("of all jobs the newest are kept, and those that live", async () => {
  const old = job("old", "10-0", { created_at: at(-1), state: "succeeded" });
  const living = job("living", "10-0", { created_at: at(-2) });
  for (const one of [old, living]) client.found.set(one.id, one);
  for (let i = 0; i < 200; i += 1) client.found.set(`${i}`, job(`${i}`, "10-0", { created_at: at(i), state: "succeeded" }));
  const live = liveJobs(client);
  const stop = live.subscribe(see);
  await frame();
  await frame();
  assert.equal(seen.at(-1).jobs.length, 201);
  assert.equal(seen.at(-1).jobs.at(-1).id, "living");
  assert.deepEqual([[...live.jobs].length, [...live.jobs].includes(old)], [201, false]);
  stop();
});

test("a group is read when the stream is live, and then is what the stream says it is", async () => {
  const g = (fraction) => ({ group: "g/1", fraction });
  const live = liveGroup(client, "g/1");
  const stop = live.subscribe(see);
  assert.equal(seen[0].group, undefined, "nothing is known yet");
  await frame();
  assert.equal(seen.at(-1).group, null, "there is no such group");
  client.says("10-0", "group", g(0.1));
  client.says("11-0", "group", { group: "another", fraction: 0.9 });
  await frame();
  assert.deepEqual([seen.at(-1).group.fraction, client.asked], [0.1, ["/groups/g%2F1"]]);
  // The connection is lost and comes back: what was missed is read.
  client.groups.set("/groups/g%2F1", g(0.4));
  for (const status of ["reconnecting", "live"]) {
    client.shared.status = status;
    client.shared.dispatchEvent(new Event("status"));
  }
  await frame();
  assert.equal(seen.at(-1).group.fraction, 0.4);
  client.groups.set("/groups/g%2F1", g(0.5));
  client.says("12-0", "reset", { reason: "events_missed", jobs: [] });
  await frame();
  assert.equal(seen.at(-1).group.fraction, 0.5);
  client.says("13-0", "group-end", g(1));
  await frame();
  assert.equal(seen.at(-1).group.fraction, 1);
  stop();
});

test("an answer about a group that comes after an event is not taken for newer", async () => {
  let answer;
  client.ask = () => new Promise((resolve) => (answer = resolve));
  const stop = liveGroup(client, "g").subscribe(see);
  await frame();
  client.says("10-0", "group", { group: "g", fraction: 0.7 });
  answer({ group: "g", fraction: 0.2 });
  await frame();
  assert.equal(seen.at(-1).group.fraction, 0.7);
  stop();
});

test("a group whose stream does not tell how it is, as one of more than it, is read when its jobs change", async () => {
  const g = (fraction) => ({ group: "g", fraction });
  client.found.set("a", job("a", "10-0", { group: "g" }));
  client.groups.set("/groups/g", g(0.1));
  const stop = liveGroup(client, "g").subscribe(see);
  await frame();
  client.groups.set("/groups/g", g(0.3));
  client.progress("11-0", "a", 0.3);
  client.progress("12-0", "a", 0.4);
  await frame();
  assert.equal(seen.at(-1).group.fraction, 0.1);
  mock.timers.tick(1000);
  await frame();
  assert.deepEqual([seen.at(-1).group.fraction, client.asked.length], [0.3, 2]);
  client.progress("13-0", "a", 0.5);
  client.says("14-0", "group", g(0.5));
  await frame();
  mock.timers.tick(1000);
  await frame();
  assert.deepEqual([seen.at(-1).group.fraction, client.asked.length], [0.5, 2], "it was told");
  client.progress("15-0", "a", 0.6);
  stop();
  mock.timers.tick(1000);
  assert.equal(client.asked.length, 2, "nobody is there any more");
});
