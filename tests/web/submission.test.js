import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";

import { Problem } from "../../web/client/problem.js";
import { submit } from "../../web/client/submission.js";

const job = { id: "0-abc" };

/** A service that answers with these, one after another. */
function service(...answers) {
  const keys = [];
  const ask = async (_method, _path, { headers }) => {
    keys.push(headers["idempotency-key"]);
    const answer = answers.shift();
    if (answer instanceof Error) throw answer;
    return answer;
  };
  return { ask, keys };
}

afterEach(() => mock.restoreAll());

test("a submission whose answer was lost is repeated under its key", async () => {
  mock.method(Math, "random", () => 0);
  const client = service(new Problem(0, {}), new Problem(502, {}), job);
  assert.equal(await submit(client, "t", {}, {}), job);
  assert.equal(client.keys.length, 3);
  assert.equal(new Set(client.keys).size, 1);
  assert.match(client.keys[0], /^[0-9a-f]{32}$/);
});

test("a key that was given is used", async () => {
  const client = service(job);
  await submit(client, "t", {}, { idempotencyKey: "mine" });
  assert.deepEqual(client.keys, ["mine"]);
});

test("a refusal is not repeated", async () => {
  const client = service(new Problem(422, { title: "no such type" }));
  await assert.rejects(submit(client, "t", {}, {}), { status: 422, message: "no such type" });
  assert.equal(client.keys.length, 1);
});

test("it does not repeat for ever", async () => {
  mock.method(Math, "random", () => 0);
  const client = service(...Array.from({ length: 9 }, () => new Problem(503, {})));
  await assert.rejects(submit(client, "t", {}, {}), { status: 503 });
  assert.equal(client.keys.length, 5);
});

test("who does not want to wait any more is obeyed", async () => {
  mock.method(Math, "random", () => 1);
  const stop = new AbortController();
  const client = service(new Problem(0, {}), job);
  const submitted = submit(client, "t", {}, { signal: stop.signal });
  setTimeout(() => stop.abort(new Error("enough")), 5);
  await assert.rejects(submitted, { message: "enough" });
  assert.equal(client.keys.length, 1);
});
