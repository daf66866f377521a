import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { JobIndex } from "../../web/dashboard/jobs/job-index.js";
import { JobFeed } from "../../web/client/job-feed.js";
import { JobFilter } from "../../web/dashboard/jobs/job-filter.js";
import { EndedJobs } from "../../web/dashboard/jobs/ended-jobs.js";

const at = (n) => new Date(Date.UTC(2026, 0, 1) + n * 1000).toISOString();
const job = (n, state = "succeeded") => ({
  ...{ id: `j${n}`, type: "t", state, group: null, labels: {}, progress: null, error: null },
  ...{ created_at: at(n), last_event_id: `${n + 1}-0` },
});

/** A service that holds jobs, the newest last. */
class Client {
  held = [];
  asked = 0;
  broken = false;

  stream() {
    return Object.assign(new EventTarget(), { heard() {} });
  }

  async list({ state, limit, cursor }) {
    this.asked += 1;
    if (this.broken) throw new Error("away");
    const found = this.held.filter((one) => !state || one.state === state).toReversed();
    const from = cursor ? found.findIndex((one) => one.created_at < cursor) : 0;
    const items = from < 0 ? [] : found.slice(from, from + limit);
    const more = from >= 0 && from + limit < found.length;
    return { items, next: more ? items.at(-1).created_at : null };
  }
}

let client, feed, ended, index;
const shown = () => index.shown.map(({ id }) => id);
const names = (from, to) => Array.from({ length: from - to + 1 }, (_, i) => `j${from - i}`);

beforeEach(() => {
  client = new Client();
  feed = new JobFeed(client);
  ended = new EndedJobs(client, feed);
  index = new JobIndex();
  feed.addEventListener("change", ({ detail: { id, job } }) => index.put(id, job));
  ended.addEventListener("change", () => (index.completeSince = ended.completeSince));
});

/** @param {number} count more of the service's jobs, which the page hears of */
function happen(count, { heard = true } = {}) {
  for (let i = 0; i < count; i += 1) {
    const made = job(client.held.length);
    client.held.push(made);
    if (heard) feed.put(made);
  }
}

test("it is read page by page until there is no more", async () => {
  happen(450, { heard: false });
  const sizes = [];
  while (ended.state === "more") {
    await ended.more();
    sizes.push(index.shown.length);
  }
  assert.deepEqual(sizes, [200, 400, 450]);
  assert.equal(ended.state, "all");
  assert.equal(index.complete, 450);
});

test("what ended beyond what was read is not shown as if nothing were between, what lives is", async () => {
  happen(1000, { heard: false });
  feed.put(job(3));
  feed.put(job(2, "running"));
  await ended.more();
  assert.deepEqual(shown(), [...names(999, 800), "j2"]);
  assert.equal(index.complete, 200);
  index.filter = new JobFilter({ text: "j3" });
  assert.deepEqual(shown(), ["j3"], "what was searched for and is known is found");
});

test("whatever happens in a day, a thousand and a few that ended are held, the newest", async () => {
  happen(300);
  await ended.more();
  for (let hour = 0; hour < 24; hour += 1) {
    happen(240);
    ended.trim(index, 10, "");
    assert.ok(feed.jobs.size <= 1250, `${feed.jobs.size}`);
  }
  assert.deepEqual(shown().slice(0, 1000), names(6059, 5060));
  assert.equal(index.complete, shown().length);
});

test("what was let go of comes back when somebody scrolls there, and nothing is left out", async () => {
  happen(3000, { heard: false });
  while (ended.state === "more") await ended.more();
  ended.trim(index, 10, "j5");
  assert.deepEqual(shown(), names(2999, 2000));
  assert.ok(feed.jobs.has("j5"), "the one that is open stays");
  happen(900);
  ended.trim(index, 10, "");
  assert.deepEqual(shown(), names(3899, 2900));
  await ended.more();
  assert.deepEqual(shown(), names(3899, 2700));
  ended.trim(index, 1200, "");
  ended.rest();
  while (ended.state === "more") await ended.more();
  assert.deepEqual(shown(), names(3899, 0));
});

test("those of a filter stay, and what it does not show goes first", async () => {
  index.filter = new JobFilter({ state: "failed" });
  ended.begin(index.filter);
  client.held = Array.from({ length: 3000 }, (_, n) => job(n, n % 100 ? "succeeded" : "failed"));
  for (const one of client.held) feed.put(one);
  await ended.more();
  ended.trim(index, 10, "");
  assert.equal(feed.jobs.size, 30);
  assert.equal(index.shown.length, 30);
  // Without the filter it begins anew: what was let go of is not taken for read.
  index.filter = new JobFilter();
  ended.begin(index.filter);
  await ended.more();
  assert.deepEqual(shown(), names(2999, 2800));
});

test("after words, what they did not find is read again", async () => {
  happen(1300);
  await ended.more();
  index.filter = new JobFilter({ text: "j1299" });
  ended.begin(index.filter);
  ended.trim(index, 1, "");
  assert.equal(feed.jobs.size, 1);
  index.filter = new JobFilter({ text: "j1200" });
  ended.begin(index.filter);
  await ended.more();
  assert.deepEqual(shown(), ["j1200"]);
});

test("jobs that came and ended unheard are read, down to where it was read before", async () => {
  happen(500);
  await ended.more();
  happen(450, { heard: false });
  ended.reread();
  while (ended.state === "reading") await null;
  assert.deepEqual(shown(), names(949, 150));
});

test("somebody who asks is needed after 25 pages in a row, unless they were enough", async () => {
  happen(12_000, { heard: false });
  while (ended.state === "more") await ended.more();
  assert.equal(ended.state, "paused");
  assert.equal(index.shown.length, 5000);
  await ended.again();
  while (ended.state === "reading") await null;
  assert.equal(ended.state, "more");
  for (let i = 0; i < 40; i += 1) {
    ended.rest();
    await ended.more();
    if (ended.state === "all") break;
  }
  assert.equal(ended.state, "all");
});

test("a page that could not be read is read when it is asked for again", async () => {
  const problems = [];
  ended.addEventListener("problem", ({ detail }) => problems.push(detail.message));
  happen(10, { heard: false });
  client.broken = true;
  await ended.more();
  assert.deepEqual([ended.state, problems], ["failed", ["away"]]);
  client.broken = false;
  ended.again();
  while (ended.state === "reading") await null;
  assert.deepEqual(shown(), names(9, 0));
});
