import assert from "node:assert/strict";
import { test } from "node:test";

import { attemptOf, attemptText, shownFraction } from "../../web/element/format.js";

const job = (/** @type {any} */ more) => /** @type {import("../../web/jobs.js").Job} */ ({ max_attempts: 2, ...more });

test("an attempt is one of so many only while there are so many", () => {
  const all = [1, 2, 4].map((attempt) => job({ attempt }));
  assert.deepEqual(all.map(attemptText), ["", "attempt 2 of 2", "attempt 4"]);
  assert.deepEqual(all.map(attemptOf), ["1 of 2", "2 of 2", "4"]);
});

test("of a job that runs without saying how far it is nobody knows it, and of any other it is nothing", () => {
  assert.equal(shownFraction(job({ state: "running", progress: null })), null);
  assert.equal(shownFraction(job({ state: "running", progress: { fraction: null } })), null);
  assert.equal(shownFraction(job({ state: "queued", progress: null })), 0);
  assert.equal(shownFraction(job({ state: "running", progress: { fraction: 1 } })), 0.999);
});
