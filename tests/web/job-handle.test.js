import assert from "node:assert/strict";
import { test } from "node:test";

import { JobHandle } from "../../web/client/job-handle.js";

const job = { id: "0-a", type: "t", state: "running", attempt: 1, artifacts: [], progress: null, cancel_requested: false };
const document = (last_event_id, more = {}) => ({ ...job, last_event_id, ...more });
const log = (id) => ({ id, event: "log", data: { job: job.id, attempt: 1, at: "", level: "info", message: id } });
const end = (id) => ({ id, event: "end", data: document(id, { state: "succeeded" }) });
const settled = () => new Promise((resolve) => setTimeout(resolve));

/** A handle on a stream that was open before, at this cursor, and a service that answers with this document. */
function handle(cursor, found, resumed = undefined) {
  const stream = Object.assign(new EventTarget(), { status: "live", cursor, resumed, left: 0, heard() {}, changed() {} });
  stream.join = (reader) => {
    stream.reader = reader;
    reader.begin({ topics: [...reader.topics], fresh: false, gap: false });
  };
  stream.leave = () => (stream.left += 1);
  const made = new JobHandle({ stream: () => stream, get: async () => found, remember: true }, job.id);
  const told = [];
  made.addEventListener("event", ({ detail }) => told.push(`${detail.event} ${detail.id}`));
  stream.tell = (event) => {
    stream.cursor = event.id;
    stream.reader.receive(event);
  };
  return { made, told, stream };
}

test("what the first document knew is not told, and what comes after it is told once", async () => {
  const { told, made, stream } = handle("4-0", document("6-0"));
  await settled();
  for (const id of ["5-0", "6-0", "7-0", "7-0"]) stream.tell(log(id));
  assert.deepEqual(told, ["log 7-0"]);
  assert.equal(made.state.last_event_id, "7-0");
});

test("what a page that was reloaded had not told yet is told, though the document knows of it, and of the end", async () => {
  const { told, made, stream } = handle("4-0", document("7-0", { state: "succeeded" }), "4-0");
  await settled();
  assert.equal((await made.done).state, "succeeded");
  assert.equal(stream.left, 0, "it goes on listening");
  for (const event of [log("5-0"), log("6-0"), end("7-0")]) stream.tell(event);
  await settled();
  assert.deepEqual(told, ["log 5-0", "log 6-0", "end 7-0"]);
  assert.ok(stream.left > 0);
});

test("an end that only a document tells is told once", async () => {
  const { told, stream } = handle("9-0", document("7-0", { state: "succeeded" }));
  await settled();
  assert.deepEqual(told, ["end 7-0"]);
  stream.tell(end("7-0"));
  await settled();
  assert.deepEqual(told, ["end 7-0"]);
});

test("after a gap nobody waits for what was missed", async () => {
  const { told, stream } = handle("4-0", document("7-0", { state: "succeeded" }), "4-0");
  await settled();
  stream.reader.begin({ topics: [`job=${job.id}`], fresh: false, gap: true });
  await settled();
  assert.deepEqual(told, ["end 7-0"]);
  assert.ok(stream.left > 0);
});
