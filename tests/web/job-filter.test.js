import assert from "node:assert/strict";
import { test } from "node:test";

import { JobIndex } from "../../web/dashboard/jobs/job-index.js";
import { JobFilter } from "../../web/dashboard/jobs/job-filter.js";
import { routeOf } from "../../web/dashboard/route.js";

/** @param {string} id */
function job(id, /** @type {any} */ more = {}) {
  const of = { id, type: "t", state: "queued", group: null, labels: {}, progress: null, error: null };
  return { ...of, created_at: "2026-01-01T00:00:00.000Z", ...more };
}

test("a filter goes into the address and comes out of it the same", () => {
  const labels = { "customer&": "a:b=c", other: "", "a:b\\": "c:" };
  const filter = new JobFilter({ state: "failed", group: "a&b=c #1", labels, text: "two  words" });
  const read = JobFilter.from(routeOf(`#/?${filter.query}`).query);
  assert.deepEqual({ ...read }, { ...filter });
  assert.equal(new JobFilter().query, "");
  assert.ok(new JobFilter({ text: " " }).empty);
});

test("words are looked for in everything that a job says, in any order and case", () => {
  const found = job("0-abc", {
    labels: { Customer: "Ünal" },
    progress: { message: "Encoding" },
    error: { code: "error", message: "broke" },
  });
  for (const text of ["ABC", "ünal customer", "encod", "broke ünal", ""]) {
    assert.ok(new JobFilter({ text }).matches(found), text);
  }
  assert.ok(!new JobFilter({ text: "ünal nobody" }).matches(found));
  assert.ok(!new JobFilter({ group: "g" }).matches(found));
  assert.ok(new JobFilter({ labels: { Customer: "Ünal" } }).matches(found));
  assert.ok(!new JobFilter({ labels: { Customer: "Ünal", other: "" } }).matches(found));
  assert.ok(!new JobFilter({ labels: { other: "" } }).empty);
});

test("a catalog keeps jobs newest first and counts them, whatever comes when", () => {
  const catalog = new JobIndex();
  for (const n of [3, 1, 4, 0, 2]) catalog.put(`j${n}`, job(`j${n}`, { created_at: `2026-01-0${n + 1}` }));
  catalog.put("j2", job("j2", { created_at: "2026-01-03", state: "running", group: "g" }));
  const ids = () => catalog.shown.map(({ id }) => id);
  assert.deepEqual(ids(), ["j4", "j3", "j2", "j1", "j0"]);
  assert.equal(catalog.states.of("queued"), 4);
  assert.deepEqual(catalog.groups.names, ["g"]);
  catalog.filter = new JobFilter({ state: "running" });
  assert.deepEqual(ids(), ["j2"]);
  assert.equal(catalog.put("j2", undefined)?.id, "j2");
  assert.deepEqual(ids(), []);
  assert.deepEqual(catalog.groups.names, []);
  assert.equal(catalog.put("nobody", undefined), undefined);
  assert.equal(catalog.size, 4);
});

test("two jobs of the same moment have one order", () => {
  const [one, other] = [new JobIndex(), new JobIndex()];
  for (const id of ["a", "b", "c"]) one.put(id, job(id));
  for (const id of ["c", "a", "b"]) other.put(id, job(id));
  assert.deepEqual(one.shown, other.shown);
});

test("an address that says nothing known is the list", () => {
  for (const hash of ["", "#", "#/", "#/nowhere", "#main"]) assert.equal(routeOf(hash).view, "jobs");
  assert.deepEqual([routeOf("#/jobs/a%2Fb").view, routeOf("#/jobs/a%2Fb").id], ["job", "a/b"]);
  assert.equal(routeOf("#/jobs/%zz").id, "%zz");
  assert.equal(routeOf("#/new?from=x").query.get("from"), "x");
});
