import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, mock, test } from "node:test";

import { JobFeed } from "../../web/client/job-feed.js";

const { base } = JSON.parse(readFileSync(new URL("cases/reduce.json", import.meta.url), "utf8"));
const job = (id, last, more = {}) => ({ ...base, id, last_event_id: last, ...more });
const ended = (id, last) => job(id, last, { state: "succeeded", finished_at: base.updated_at });
const progress = (id, fraction) => ({ job: id, attempt: 1, at: base.updated_at, fraction });

/** A service whose answers the test gives. */
class Client {
  shared = new (class extends EventTarget {
    status = "live";
    changes = 0;
    join(reader) {
      this.reader = reader;
    }
    leave() {}
    heard() {}
    changed() {
      this.changes += 1;
    }
  })();
  asked = [];
  #waiting = [];

  stream() {
    return this.shared;
  }

  #ask(what) {
    this.asked.push(what);
    return new Promise((resolve, reject) => this.#waiting.push({ what, resolve, reject }));
  }

  list({ state }) {
    return this.#ask(state ? `list ${state}` : "list newest");
  }

  get(id) {
    return this.#ask(`get ${id}`);
  }

  async answers(what, value) {
    const index = this.#waiting.findIndex((one) => one.what === what);
    assert.notEqual(index, -1, `nobody asked ${what}, but ${this.asked}`);
    const [{ resolve, reject }] = this.#waiting.splice(index, 1);
    if (value instanceof Error) reject(value);
    else resolve(value);
    await settled();
  }

  /** After a gap: the newest, which are these, and no others that live. */
  async lists(...items) {
    for (const state of ["running", "waiting", "retrying", "queued"]) await this.answers(`list ${state}`, page());
    await this.answers("list newest", page(...items));
  }

  begins(how = {}) {
    const { reader } = this.shared;
    reader.begin({ topics: [...reader.topics], fresh: true, gap: false, ...how });
  }

  says(event, data, id) {
    this.shared.reader.receive({ id, event, data });
  }
}

const settled = async () => {
  for (let i = 0; i < 10; i += 1) await Promise.resolve();
};
const page = (...items) => ({ items, next: null });
const notFound = () => Object.assign(new Error("gone"), { status: 404 });
let client, feed;

beforeEach(() => {
  mock.timers.enable({ apis: ["setTimeout"] });
  client = new Client();
  feed = new JobFeed(client);
  feed.start();
  client.begins();
});

afterEach(() => {
  feed.stop();
  mock.timers.reset();
});

const fraction = (id) => feed.jobs.get(id)?.progress.fraction;

test("a listing that is older than the events does not overwrite them", async () => {
  client.says("snapshot", job("a", "10-0"), "10-0");
  client.says("progress", progress("a", 0.9), "12-0");
  await client.answers("list newest", page(job("a", "11-0", { progress: { fraction: 0.6 } })));
  assert.equal(fraction("a"), 0.9);
});

test("a listing that is newer than the events counts, and the events it holds are not applied again", async () => {
  client.says("snapshot", job("a", "10-0"), "10-0");
  await client.answers("list newest", page(job("a", "20-0", { progress: { fraction: 0.9 } })));
  client.says("progress", progress("a", 0.7), "15-0");
  assert.equal(fraction("a"), 0.9);
  client.says("progress", progress("a", 0.95), "21-0");
  assert.equal(fraction("a"), 0.95);
});

test("an event of a job that nobody knows has it fetched, and what happens meanwhile is not lost", async () => {
  await client.answers("list newest", page());
  client.says("state", { ...progress("new", 0), state: "queued" }, "30-0");
  client.says("progress", progress("new", 0.2), "31-0");
  client.says("progress", progress("new", 0.4), "32-0");
  assert.equal(feed.jobs.has("new"), false);
  await client.answers("get new", job("new", "31-0", { progress: { fraction: 0.2 } }));
  assert.equal(fraction("new"), 0.4);
  assert.equal(client.asked.filter((what) => what === "get new").length, 1);
});

test("lists are read once the snapshots have come: what is listed before may have ended before them", async () => {
  client.shared.status = "connecting";
  feed.stop();
  feed = new JobFeed(client).start();
  client.asked = [];
  client.begins();
  client.says("snapshot", job("a", "9-0"), "9-0");
  assert.deepEqual(client.asked, []);
  client.shared.status = "live";
  client.shared.dispatchEvent(new Event("status"));
  assert.deepEqual(client.asked, ["list newest"]);
});

test("what was held when a stream begins with snapshots counts once they, or a document, confirm it", async () => {
  await client.answers("list newest", page(job("told", "9-0"), job("missed", "8-0")));
  client.begins();
  assert.equal(feed.status, "stale");
  client.says("snapshot", job("told", "9-0"), "9-0");
  await client.answers("list newest", page());
  await client.answers("get missed", ended("missed", "9-5"));
  assert.equal(feed.jobs.get("missed").state, "succeeded");
  assert.equal(feed.status, "live");
});

test("a reset replaces what is held, even by ids that are older, and asks about what it does not name", async () => {
  await client.answers("list newest", page());
  for (const id of ["kept", "dropped", "swept"]) client.says("snapshot", job(id, "50-0"), "50-0");
  client.says("end", ended("over", "51-0"), "51-0");
  client.says(
    "reset",
    { reason: "cursor_ahead", jobs: [job("kept", "5-0", { progress: { fraction: 0.1 } })] },
    "5-0",
  );
  assert.equal(fraction("kept"), 0.1);
  client.says("progress", progress("kept", 0.2), "6-0");
  assert.equal(fraction("kept"), 0.2);
  await client.answers("list newest", page(ended("meanwhile", "3-0")));
  await client.answers("get dropped", ended("dropped", "4-0"));
  assert.equal(feed.jobs.get("dropped").state, "succeeded");
  await client.answers("get swept", notFound());
  assert.equal(feed.jobs.has("swept"), false);
  assert.deepEqual([...feed.jobs.keys()].sort(), ["dropped", "kept", "meanwhile", "over"]);
});

test("on a stream that others had opened already, all that lives is listed", async () => {
  await client.answers("list newest", page());
  client.begins({ fresh: false });
  for (const state of ["running", "waiting", "retrying"]) await client.answers(`list ${state}`, page());
  await client.answers("list queued", page(job("old", "6-0", { state: "queued" })));
  await client.answers("list newest", page(job("new", "60-0")));
  assert.deepEqual([...feed.jobs.keys()], ["old", "new"]);
});

test("after a gap nothing that is held counts until it was read again", async () => {
  let gaps = 0;
  feed.addEventListener("gap", () => (gaps += 1));
  await client.answers("list newest", page(job("a", "50-0", { progress: { fraction: 0.5 } })));
  client.begins({ fresh: false, gap: true });
  client.says("progress", progress("a", 0.9), "80-0");
  assert.equal(fraction("a"), 0.5);
  await client.lists(job("a", "70-0", { progress: { fraction: 0.8 } }));
  assert.equal(fraction("a"), 0.9);
  assert.equal(gaps, 1);
});

test("what is read again is not shown as fresh until it was", async () => {
  const statuses = [];
  feed.addEventListener("status", () => statuses.push(feed.status));
  await client.answers("list newest", page(job("a", "50-0"), job("b", "51-0"), ended("c", "52-0")));
  client.begins({ fresh: false, gap: true });
  assert.equal(feed.status, "stale");
  await client.lists();
  await client.answers("get a", Object.assign(new Error("no"), { status: 503 }));
  await client.answers("get b", ended("b", "60-0"));
  assert.equal(feed.status, "stale");
  mock.timers.tick(2000);
  await settled();
  await client.answers("get a", job("a", "61-0"));
  assert.equal(feed.status, "live");
  assert.deepEqual(statuses, ["stale", "live"]);
});

test("a job of which the stream tells during a listing is fetched only if the listing does not have it", async () => {
  client.says("state", { ...progress("new", 0), state: "running" }, "31-0");
  client.says("state", { ...progress("other", 0), state: "running" }, "32-0");
  await client.answers("list newest", page(job("new", "30-0", { state: "queued", progress: null })));
  client.says("progress", progress("new", 0.2), "33-0");
  assert.equal(feed.jobs.get("new").state, "running");
  assert.equal(fraction("new"), 0.2);
  assert.deepEqual(client.asked, ["list newest", "get other"]);
});

test("a document from elsewhere that is older than the stream does not settle what is needed", async () => {
  await client.answers("list newest", page());
  client.says("progress", progress("a", 0.2), "32-0");
  feed.put(job("a", "20-0", { state: "queued", progress: null }));
  assert.equal(feed.jobs.get("a").state, "queued", "it is shown until then");
  await client.answers("get a", job("a", "31-0"));
  assert.equal(feed.jobs.get("a").state, "running");
});

/** A service with these jobs, which answers at once. */
function service(jobs) {
  const asked = [];
  const list = async ({ state, limit, cursor }) => {
    asked.push(`list ${state ?? "all"}`);
    const found = jobs().filter((one) => !state || one.state === state);
    const from = Number(cursor ?? 0);
    return { items: found.slice(from, from + limit), next: from + limit < found.length ? String(from + limit) : null };
  };
  const get = async (id) => {
    asked.push(`get ${id}`);
    return jobs().find((one) => one.id === id);
  };
  return { asked, list, get, stream: () => client.shared };
}

for (const [what, after, most] of [
  ["live jobs", (n) => job(`j${n}`, "90-0"), 15],
  ["jobs that all ended meanwhile", (n) => ended(`j${n}`, "90-0"), 17],
  ["jobs of which a few ended meanwhile", (n) => (n % 2500 ? job : ended)(`j${n}`, "90-0"), 17],
]) {
  test(`after a gap, thousands of ${what} are settled by a few requests`, async () => {
    const make = (how) => Array.from({ length: 5000 }, (_, n) => how(n));
    let jobs = make((n) => job(`j${n}`, "50-0"));
    const far = service(() => jobs);
    feed.stop();
    feed = new JobFeed(far).start();
    client.begins({ fresh: false });
    for (let i = 0; i < 200; i += 1) await settled();
    assert.equal(feed.jobs.size, 5000);
    jobs = make(after);
    far.asked.length = 0;
    client.begins({ fresh: false, gap: true });
    for (let n = 0; n < 5000; n += 1) client.says("progress", progress(`j${n}`, 0.7), "60-0");
    assert.equal(feed.status, "stale");
    for (let i = 0; i < 200; i += 1) await settled();
    assert.equal(feed.status, "live");
    assert.ok([...feed.jobs.values()].every((one) => one.last_event_id === "90-0"));
    assert.ok(far.asked.length <= most, `${far.asked.length}: ${far.asked.slice(0, 30)}`);
  });
}

test("a tab that opens beside others lists thousands of busy jobs, and fetches none by itself", async () => {
  const jobs = Array.from({ length: 5000 }, (_, n) => job(`j${n}`, "50-0"));
  const far = service(() => jobs);
  feed.stop();
  feed = new JobFeed(far).start();
  client.begins({ fresh: false });
  for (let n = 0; n < 5000; n += 1) client.says("progress", progress(`j${n}`, 0.7), "60-0");
  for (let i = 0; i < 200; i += 1) await settled();
  assert.equal(feed.jobs.size, 5000);
  assert.equal(fraction("j4999"), 0.7);
  assert.ok(far.asked.length <= 15, `${far.asked.length}`);
});

test("of other groups' jobs a feed keeps nothing once they have ended", async () => {
  await client.answers("list newest", page());
  feed = new JobFeed(client, { group: "g" }).start();
  client.asked = [];
  client.begins();
  client.says("snapshot", job("other", "5-0"), "5-0");
  client.says("progress", progress("other", 0.1), "6-0");
  await client.answers("list newest", page());
  assert.deepEqual(client.asked, ["list newest"], "its snapshot has said whose it is");
  client.says("end", ended("other", "7-0"), "7-0");
  assert.equal(feed.jobs.size, 0);
});

test("what is held from before the stream began is read before anything is added to it", async () => {
  feed = new JobFeed(client, { jobs: ["a"] });
  feed.put(job("a", "30-0", { state: "queued" }));
  feed.start();
  client.begins({ fresh: false });
  client.says("progress", progress("a", 0.2), "32-0");
  assert.equal(feed.status, "stale");
  await client.answers("get a", job("a", "31-0"));
  assert.equal(feed.jobs.get("a").state, "running");
  assert.equal(fraction("a"), 0.2);
  assert.equal(feed.status, "live");
});

test("what was asked for before a gap says nothing of what came in it", async () => {
  feed = new JobFeed(client, { jobs: ["a"] }).start();
  client.asked = [];
  client.begins();
  client.says("snapshot", job("a", "50-0"), "50-0");
  feed.want("a");
  client.begins({ fresh: false, gap: true });
  await client.answers("get a", job("a", "50-0"));
  assert.equal(feed.status, "stale");
  await client.answers("get a", ended("a", "60-0"));
  assert.equal(feed.jobs.get("a").state, "succeeded");
  assert.deepEqual(client.asked, ["get a", "get a"]);
});

test("a list of jobs reads those that no snapshot tells of, and takes no others", async () => {
  feed = new JobFeed(client, { jobs: ["a", "b"] }).start();
  client.asked = [];
  client.begins();
  client.says("snapshot", job("a", "5-0"), "5-0");
  client.says("snapshot", job("x", "6-0"), "6-0");
  assert.deepEqual(client.asked, []);
  client.begins({ topics: ["job=b"], fresh: false });
  await client.answers("get b", job("b", "4-0"));
  assert.deepEqual([...feed.jobs.keys()], ["a", "b"]);
});

test("a job that has ended, or is gone, is not listened for any more", async () => {
  feed = new JobFeed(client, { jobs: ["a", "b", "c"] }).start();
  client.begins();
  client.says("end", ended("a", "5-0"), "5-0");
  client.shared.dispatchEvent(new Event("refused"));
  await client.answers("get b", notFound());
  assert.deepEqual([...feed.topics], ["job=c"]);
  assert.equal(client.shared.changes, 2);
});

test("after a refusal nothing is current before what is held back has been shown", async () => {
  feed = new JobFeed(client, { jobs: ["a"] }).start();
  client.begins();
  client.says("snapshot", job("a", "1-0"), "1-0");
  assert.equal(feed.status, "live");
  client.shared.dispatchEvent(new Event("refused"));
  client.says("progress", progress("a", 0.5), "2-0");
  assert.equal(feed.jobs.get("a").last_event_id, "1-0", "the event waits for the document");
  assert.equal(feed.status, "stale");
  await client.answers("get a", job("a", "1-0"));
  assert.equal(feed.jobs.get("a").last_event_id, "2-0");
  assert.equal(feed.status, "live");
});

test("of a group nothing else is taken, though the stream tells of all", async () => {
  await client.answers("list newest", page());
  feed = new JobFeed(client, { group: "g" }).start();
  client.begins();
  await client.answers("list newest", page());
  client.says("snapshot", job("other", "5-0"), "5-0");
  client.says("snapshot", job("ours", "6-0", { group: "g" }), "6-0");
  client.says("state", { ...progress("late", 0), state: "running" }, "7-0");
  client.says("state", { ...progress("theirs", 0), state: "running" }, "8-0");
  await client.answers("get late", job("late", "7-0", { group: "g" }));
  await client.answers("get theirs", job("theirs", "8-0"));
  assert.deepEqual([...feed.jobs.keys()], ["ours", "late"]);
  const asked = client.asked.length;
  client.says("progress", progress("theirs", 0.5), "9-0");
  assert.equal(client.asked.length, asked);
});

test("a listing that failed is asked for again", async () => {
  const problems = [];
  feed.addEventListener("problem", ({ detail }) => problems.push(detail.message));
  await client.answers("list newest", new Error("no"));
  assert.deepEqual(problems, ["no"]);
  mock.timers.tick(2000);
  await settled();
  await client.answers("list newest", page(job("a", "1-0")));
  assert.equal(feed.jobs.has("a"), true);
});

test("a fetch that failed is tried again, one that found nothing is not", async () => {
  await client.answers("list newest", page());
  feed.want("a");
  feed.want("b");
  await client.answers("get a", Object.assign(new Error("cut"), { status: 0 }));
  await client.answers("get b", notFound());
  mock.timers.tick(2000);
  await settled();
  await client.answers("get a", job("a", "1-0"));
  assert.deepEqual(client.asked, ["list newest", "get a", "get b", "get a"]);
  assert.deepEqual([...feed.jobs.keys()], ["a"]);
});

test("at most three jobs are fetched at a time", async () => {
  await client.answers("list newest", page());
  for (const id of ["a", "b", "c", "d"]) feed.want(id);
  assert.deepEqual(client.asked, ["list newest", "get a", "get b", "get c"]);
  await client.answers("get a", job("a", "1-0"));
  assert.equal(client.asked.at(-1), "get d");
});

test("what is told whole is not fetched as well", async () => {
  await client.answers("list newest", page());
  for (const id of ["a", "b", "c", "d"]) client.says("state", { ...progress(id, 0), state: "queued" }, "5-0");
  client.says("end", ended("d", "6-0"), "6-0");
  for (const id of ["a", "b", "c"]) await client.answers(`get ${id}`, job(id, "5-0"));
  assert.deepEqual([...feed.jobs.keys()].sort(), ["a", "b", "c", "d"]);
  assert.equal(client.asked.includes("get d"), false);
});

test("a job that is forgotten is gone, and comes back when it is put in again", async () => {
  const changes = [];
  await client.answers("list newest", page(ended("a", "1-0")));
  feed.addEventListener("change", ({ detail: { id, job } }) => changes.push([id, job?.state]));
  feed.forget("a");
  assert.equal(feed.jobs.size, 0);
  feed.put(ended("a", "1-0"));
  assert.deepEqual(changes, [
    ["a", undefined],
    ["a", "succeeded"],
  ]);
});
