import assert from "node:assert/strict";
import { test } from "node:test";

import { JobEvents } from "../../web/client/job-events.js";
import { JobStory } from "../../web/dashboard/job/job-story.js";

let n = 0;

function event(/** @type {string} */ event, /** @type {any} */ data) {
  n += 1;
  const at = new Date(1_800_000_000_000 + n * 1000).toISOString();
  return { id: `${n}-0`, event, data: { job: "j", attempt: 1, at, ...data } };
}

function told(/** @type {any[]} */ events) {
  const story = new JobStory();
  events.forEach((one) => story.receive(one));
  return story;
}

const queued = () => event("state", { state: "queued", attempt: 0 });
const running = (attempt = 1) => event("state", { state: "running", attempt });
const stage = (/** @type {string} */ name, index = 1, more = {}) =>
  event("progress", { fraction: 0.5, stage: { name, index, count: 2, fraction: 0.5 }, ...more });

test("attempts follow one another, each with how it ended and its stages", () => {
  const story = told([
    queued(),
    running(),
    stage("one"),
    stage("two", 2),
    event("state", { state: "retrying", reason: "it broke" }),
    running(2),
    stage("one", 1, { attempt: 2 }),
    event("end", { id: "j", state: "succeeded", error: null, finished_at: "2027-01-16T00:00:00Z" }),
  ]);
  assert.ok(story.whole);
  assert.deepEqual(
    story.attempts.map(({ number, outcome, reason }) => [number, outcome, reason]),
    [[1, "retrying", "it broke"], [2, "succeeded", ""]],
  );
  assert.deepEqual(
    story.attempts[0].stages.map(({ name, fraction }) => [name, fraction]),
    [["one", 1], ["two", 0.5]],
  );
  assert.equal(story.attempts[1].stages[0].fraction, 1);
  const kinds = story.milestones.map(({ kind }) => kind);
  assert.deepEqual(kinds, ["queued", "running", "stage", "stage", "retrying", "running", "stage", "succeeded"]);
});

test("an attempt that nobody ended is given up when the next one begins", () => {
  const { attempts } = told([queued(), running(1), running(2)]);
  assert.deepEqual(attempts.map(({ outcome }) => outcome), ["given up", "running"]);
});

test("the same attempt that is told to run once more was asked to stop", () => {
  const story = told([queued(), running(), running()]);
  assert.equal(story.attempts.length, 1);
  assert.equal(story.milestones.at(-1)?.kind, "canceling");
});

test("a story without its beginning says so", () => {
  assert.ok(!told([stage("one")]).whole);
  assert.equal(told([stage("one")]).attempts.length, 1);
});

test("however long a story is, it stays readable", () => {
  const story = told([queued(), running()]);
  for (let i = 0; i < 5000; i += 1) story.receive(stage(`s${i}`, i, { rate: i, unit: "x", data: { fps: i } }));
  assert.ok(story.samples.length <= 2000);
  assert.equal(story.samples.at(-1)?.rate, 4999);
  assert.ok(story.milestones.length <= 300);
  assert.equal(story.milestones[0].kind, "queued");
  for (let i = 0; i < 100; i += 1) story.receive(event("artifact", { name: `segment ${i}` }));
  assert.deepEqual([story.milestones.at(-1)?.text, story.milestones.at(-1)?.count], ["segment 99", 100]);
});

/** A service that has these events, and a feed that tells of them. */
function service(/** @type {any[]} */ events) {
  const feed = Object.assign(new EventTarget(), { status: "live" });
  const asked = /** @type {string[]} */ ([]);
  const client = {
    async ask(/** @type {string} */ _method, /** @type {string} */ _path, /** @type {any} */ { query: { after, limit } }) {
      asked.push(after);
      const since = Number.parseInt(after, 10);
      const page = events.filter(({ id }) => Number.parseInt(id, 10) > since).slice(0, limit);
      await new Promise((resolve) => setTimeout(resolve, 1));
      return { events: page, cursor: page.at(-1)?.id ?? after, reset: null };
    },
  };
  const tell = (/** @type {any} */ one) => feed.dispatchEvent(new CustomEvent("event", { detail: one }));
  return { feed, client, asked, tell };
}

/** @returns {Promise<void>} */
const settled = () => new Promise((resolve) => setTimeout(resolve, 40));

test("what was is read in pages, and what comes is taken from the feed, each once and in order", async () => {
  const events = [queued(), running(), ...Array.from({ length: 1200 }, () => event("log", { message: "x" }))];
  const { feed, client, asked, tell } = service(events);
  const history = new JobEvents(/** @type {any} */ (client), /** @type {any} */ (feed), "j");
  /** @type {string[]} */ const heard = [];
  history.addEventListener("events", (one) => heard.push(.../** @type {any} */ (one).detail.map((/** @type {any} */ e) => e.id)));
  history.open();
  // While it is being read, one comes that the page under way does not have.
  await new Promise((resolve) => setTimeout(resolve, 0));
  const meanwhile = event("log", { message: "meanwhile" });
  events.push(meanwhile);
  tell(meanwhile);
  await settled();
  tell(meanwhile);
  const next = event("log", { message: "next" });
  events.push(next);
  tell(next);
  tell(event("log", { job: "another" }));
  await settled();
  assert.deepEqual(heard, events.map(({ id }) => id));
  assert.equal(asked[0], "0");
  const before = asked.length;
  history.close();
  tell(event("log", {}));
  await settled();
  assert.equal(asked.length, before);
});

test("after a reset everything is told again", async () => {
  const events = [queued(), running()];
  const { feed, client, tell } = service(events);
  const history = new JobEvents(/** @type {any} */ (client), /** @type {any} */ (feed), "j");
  /** @type {string[]} */ let heard = [];
  history.addEventListener("clear", () => (heard = []));
  history.addEventListener("events", (one) => heard.push(.../** @type {any} */ (one).detail.map((/** @type {any} */ e) => e.id)));
  history.open();
  await settled();
  tell({ id: "9-0", event: "reset", data: { reason: "cursor_ahead", jobs: [] } });
  assert.deepEqual(heard, []);
  await settled();
  assert.deepEqual(heard, events.map(({ id }) => id));
  history.close();
});

test("an attempt that has waited goes on, and is one attempt", () => {
  const waits = [event("state", { state: "waiting" }), event("state", { state: "queued" })];
  const end = event("end", { id: "j", state: "succeeded", error: null, finished_at: "2027-01-16T00:00:00Z" });
  const story = told([queued(), running(), stage("one"), ...waits, running(), stage("two", 2), end]);
  assert.deepEqual(story.attempts.map(({ number, outcome }) => [number, outcome]), [[1, "succeeded"]]);
  const kinds = story.milestones.map(({ kind }) => kind);
  assert.deepEqual(kinds, ["queued", "running", "stage", "waiting", "queued", "running", "stage", "succeeded"]);
  const canceled = told([queued(), running(), ...waits, running(), running()]);
  assert.equal(canceled.milestones.at(-1)?.kind, "canceling");
  const lost = told([queued(), running(), ...waits, event("state", { state: "retrying" }), running(2)]);
  assert.deepEqual(lost.attempts.map(({ number, outcome }) => [number, outcome]), [[1, "retrying"], [2, "running"]]);
});
