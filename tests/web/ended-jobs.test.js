import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { JobCatalog } from "../../web/dashboard/jobs/job-index.js";
import { JobFeed } from "../../web/client/job-feed.js";
import { JobFilter } from "../../web/dashboard/jobs/job-filter.js";
import { JobPast } from "../../web/dashboard/jobs/ended-jobs.js";

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

let client, feed, past, catalog;
const shown = () => catalog.shown.map(({ id }) => id);
const names = (from, to) => Array.from({ length: from - to + 1 }, (_, i) => `j${from - i}`);

beforeEach(() => {
  client = new Client();
  feed = new JobFeed(client);
  past = new JobPast(client, feed);
  catalog = new JobCatalog();
  feed.addEventListener("change", ({ detail: { id, job } }) => catalog.put(id, job));
  past.addEventListener("change", () => (catalog.edge = past.edge));
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
  while (past.state === "more") {
    await past.more();
    sizes.push(catalog.shown.length);
  }
  assert.deepEqual(sizes, [200, 400, 450]);
  assert.equal(past.state, "all");
  assert.equal(catalog.whole, 450);
});

test("what ended beyond what was read is not shown as if nothing were between, what lives is", async () => {
  happen(1000, { heard: false });
  feed.put(job(3));
  feed.put(job(2, "running"));
  await past.more();
  assert.deepEqual(shown(), [...names(999, 800), "j2"]);
  assert.equal(catalog.whole, 200);
  catalog.filter = new JobFilter({ text: "j3" });
  assert.deepEqual(shown(), ["j3"], "what was searched for and is known is found");
});

test("whatever happens in a day, a thousand and a few that ended are held, the newest", async () => {
  happen(300);
  await past.more();
  for (let hour = 0; hour < 24; hour += 1) {
    happen(240);
    past.trim(catalog, 10, "");
    assert.ok(feed.jobs.size <= 1250, `${feed.jobs.size}`);
  }
  assert.deepEqual(shown().slice(0, 1000), names(6059, 5060));
  assert.equal(catalog.whole, shown().length);
});

test("what was let go of comes back when somebody scrolls there, and nothing is left out", async () => {
  happen(3000, { heard: false });
  while (past.state === "more") await past.more();
  past.trim(catalog, 10, "j5");
  assert.deepEqual(shown(), names(2999, 2000));
  assert.ok(feed.jobs.has("j5"), "the one that is open stays");
  happen(900);
  past.trim(catalog, 10, "");
  assert.deepEqual(shown(), names(3899, 2900));
  await past.more();
  assert.deepEqual(shown(), names(3899, 2700));
  past.trim(catalog, 1200, "");
  past.rest();
  while (past.state === "more") await past.more();
  assert.deepEqual(shown(), names(3899, 0));
});

test("those of a filter stay, and what it does not show goes first", async () => {
  catalog.filter = new JobFilter({ state: "failed" });
  past.begin(catalog.filter);
  client.held = Array.from({ length: 3000 }, (_, n) => job(n, n % 100 ? "succeeded" : "failed"));
  for (const one of client.held) feed.put(one);
  await past.more();
  past.trim(catalog, 10, "");
  assert.equal(feed.jobs.size, 30);
  assert.equal(catalog.shown.length, 30);
  // Without the filter it begins anew: what was let go of is not taken for read.
  catalog.filter = new JobFilter();
  past.begin(catalog.filter);
  await past.more();
  assert.deepEqual(shown(), names(2999, 2800));
});

test("after words, what they did not find is read again", async () => {
  happen(1300);
  await past.more();
  catalog.filter = new JobFilter({ text: "j1299" });
  past.begin(catalog.filter);
  past.trim(catalog, 1, "");
  assert.equal(feed.jobs.size, 1);
  catalog.filter = new JobFilter({ text: "j1200" });
  past.begin(catalog.filter);
  await past.more();
  assert.deepEqual(shown(), ["j1200"]);
});

test("jobs that came and ended unheard are read, down to where it was read before", async () => {
  happen(500);
  await past.more();
  happen(450, { heard: false });
  past.reread();
  while (past.state === "reading") await null;
  assert.deepEqual(shown(), names(949, 150));
});

test("somebody who asks is needed after 25 pages in a row, unless they were enough", async () => {
  happen(12_000, { heard: false });
  while (past.state === "more") await past.more();
  assert.equal(past.state, "paused");
  assert.equal(catalog.shown.length, 5000);
  await past.again();
  while (past.state === "reading") await null;
  assert.equal(past.state, "more");
  for (let i = 0; i < 40; i += 1) {
    past.rest();
    await past.more();
    if (past.state === "all") break;
  }
  assert.equal(past.state, "all");
});

test("a page that could not be read is read when it is asked for again", async () => {
  const problems = [];
  past.addEventListener("problem", ({ detail }) => problems.push(detail.message));
  happen(10, { heard: false });
  client.broken = true;
  await past.more();
  assert.deepEqual([past.state, problems], ["failed", ["away"]]);
  client.broken = false;
  past.again();
  while (past.state === "reading") await null;
  assert.deepEqual(shown(), names(9, 0));
});
