/**
 * Follows jobs by their events and compares with the documents of the store, step by step.
 * stdin: a JSON list of steps {events, document}; exits 1 with the first difference.
 */

import assert from "node:assert/strict";
import { text } from "node:stream/consumers";

import { reduce } from "../../web/client/reducer.js";

let job;
for (const { events, document } of JSON.parse(await text(process.stdin))) {
  job ??= document;
  job = events.reduce(reduce, job);
  assert.deepEqual(job, document);
}
