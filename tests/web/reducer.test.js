import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { compareIds } from "../../web/client/event-id.js";
import { newer, reduce } from "../../web/client/reducer.js";

const cases = (name) => JSON.parse(readFileSync(new URL(`cases/${name}.json`, import.meta.url), "utf8"));

const reduction = cases("reduce");
for (const { name, job, events, expect } of reduction.cases) {
  test(name, () => {
    const start = job === null ? undefined : { ...reduction.base, ...job };
    const wanted = expect === null ? undefined : { ...(start ?? reduction.base), ...expect };
    const frozen = JSON.stringify(start);
    const found = events.reduce(reduce, start);
    assert.deepEqual(found, wanted);
    assert.equal(JSON.stringify(start), frozen, "the job that was given is left alone");
    if (start && JSON.stringify(expect) === "{}")
      assert.equal(found, start, "no change is the same object");
  });
}

for (const { a, b, expect } of cases("ids").cases) {
  test(`id ${a} against ${b} is ${expect}`, () => {
    assert.equal(compareIds(a, b), expect);
    assert.equal(compareIds(b, a), expect === 0 ? 0 : -expect);
  });
}

test("of two documents the newer is kept, whichever was read first", () => {
  const older = { ...reduction.base, last_event_id: "1000-5" };
  const later = { ...reduction.base, last_event_id: "1000-12" };
  assert.equal(newer(older, later), later);
  assert.equal(newer(later, older), later);
  assert.equal(newer(undefined, older), older);
});
