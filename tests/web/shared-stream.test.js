import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { SharedStream, queryFor } from "../../web/client/shared-stream.js";
import { Connection, settled } from "./connection.js";

/** Notes what it is told. */
class Reader {
  begun = [];
  taken = [];

  constructor(...topics) {
    this.topics = new Set(topics);
  }

  begin(how) {
    this.begun.push(how);
  }

  receive({ id }) {
    this.taken.push(id);
  }
}

const last = () => Connection.last;
// Of the window.
Object.assign(globalThis, { addEventListener() {}, removeEventListener() {} });
let stream;
let readers;

async function join(...topics) {
  const reader = new Reader(...topics);
  stream.join(reader);
  readers.push(reader);
  await settled();
  return reader;
}

beforeEach(() => {
  Connection.all = [];
  readers = [];
  const client = { url: (path) => new URL(path, "http://headway.test"), fetch: Connection.fetch };
  stream = new SharedStream("test", { share: false, client });
});

afterEach(async () => {
  for (const reader of readers) stream.leave(reader);
  await settled();
  assert.equal(stream.status, "closed");
  assert.equal(Connection.open, 0);
});

test("a few jobs are asked for as a list, one group as a group, all else as everything", () => {
  assert.equal(queryFor(["job=b", "job=a"]), "job=a&job=b");
  assert.equal(queryFor(["group=g%26h"]), "group=g%26h");
  for (const topics of [[""], ["", "job=a"], ["group=g", "group=h"], ["group=g", "job=a"]]) {
    assert.equal(queryFor(topics), "");
  }
  assert.equal(queryFor(Array.from({ length: 201 }, (_, n) => `job=${n}`)), "");
});

test("who comes later begins at the cursor of the connection, and who was there goes on", async () => {
  const first = await join("job=a");
  await last().opens();
  await last().says("snapshot", { id: "a" }, "5-0");
  const second = await join("job=b");
  assert.equal(last().query.getAll("job").join(), "a,b");
  assert.equal(last().query.get("last_event_id"), "5-0");
  assert.deepEqual(first.begun, [{ topics: ["job=a"], fresh: true, gap: false }]);
  assert.deepEqual(second.begun, [{ topics: ["job=b"], fresh: false, gap: false }]);
  await last().opens();
  await last().says("log", { job: "b" }, "6-0");
  assert.deepEqual(second.taken, ["6-0"]);
});

test("those who come while a connection is under way wait for it", async () => {
  await join("job=a");
  await join("job=b");
  await join("job=c");
  assert.equal(Connection.all.length, 1);
  await last().opens();
  assert.equal(Connection.all.length, 2);
  assert.equal(last().query.getAll("job").join(), "a,b,c");
});

test("an event that is known already is not told again", async () => {
  const reader = await join("");
  await last().opens();
  for (const id of ["5-0", "6-0", "5-0", "7-0"]) await last().says("log", { job: "a" }, id);
  assert.deepEqual(reader.taken, ["5-0", "6-0", "7-0"]);
});

test("after a reset ids may begin anew", async () => {
  const reader = await join("");
  await last().opens();
  await last().says("log", { job: "a" }, "50-0");
  await last().says("reset", { jobs: [] }, "5-0");
  await last().says("log", { job: "a" }, "6-0");
  assert.deepEqual(reader.taken, ["50-0", "5-0", "6-0"]);
  assert.equal(stream.cursor, "6-0");
});

test("a refusal has readers ask for their jobs, and the list is made without those that are gone", async () => {
  const reader = await join("job=a", "job=gone");
  stream.addEventListener("refused", () => {
    reader.topics.delete("job=gone");
    stream.changed();
  });
  await last().refuses();
  await settled();
  assert.equal(Connection.all.length, 2);
  assert.equal(last().query.get("job"), "a");
});

test("when all has ended the connection is closed, and later begins anew", async () => {
  const reader = await join("job=a");
  await last().opens();
  await last().says("end", { id: "a" }, "5-0");
  reader.topics.clear();
  stream.changed();
  await settled();
  assert.equal(stream.status, "closed");
  await join("job=b");
  assert.equal(last().query.get("job"), "b");
  assert.equal(last().query.has("last_event_id"), false);
});
