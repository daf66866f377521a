import assert from "node:assert/strict";
import { test } from "node:test";

import { percent, shownFraction, size } from "../../web/element/format.js";
import { kindOf, limitsOf, titleOf } from "../../web/dashboard/new/schema-field.js";

const root = {
  $defs: {
    Preset: { enum: ["mp4", "webm"], title: "Preset", type: "string" },
    "a/b": { type: "integer", minimum: 3 },
  },
};

test("a number or null, as pydantic writes it, is a number that may be left out", () => {
  const property = { anyOf: [{ type: "number", minimum: 0, maximum: 1 }, { type: "null" }], default: null };
  const kind = kindOf(property, root);
  assert.equal(kind.type, "number");
  assert.equal(kind.nullable, true);
  assert.deepEqual(limitsOf(kind), { min: 0, max: 1, step: "any" });
});

test("a reference to an enumeration is a choice, and keeps the property's own words", () => {
  const kind = kindOf({ $ref: "#/$defs/Preset", default: "webm", description: "How" }, root);
  assert.equal(kind.type, "enum");
  assert.deepEqual(kind.schema.enum, ["mp4", "webm"]);
  assert.equal(kind.schema.default, "webm");
  assert.equal(kind.schema.description, "How");
});

test("an enumeration or null, behind allOf, and a constant are choices", () => {
  assert.equal(kindOf({ anyOf: [{ $ref: "#/$defs/Preset" }, { type: "null" }] }, root).type, "enum");
  assert.equal(kindOf({ allOf: [{ $ref: "#/$defs/Preset" }] }, root).type, "enum");
  assert.deepEqual(kindOf({ const: "only" }, root).schema.enum, ["only"]);
});

test("types as a list, with null among them", () => {
  assert.deepEqual(kindOf({ type: ["integer", "null"] }, root).type, "integer");
  assert.equal(kindOf({ type: ["integer", "null"] }, root).nullable, true);
});

test("references follow JSON pointers and end, even if they lead in a circle", () => {
  assert.deepEqual(limitsOf(kindOf({ $ref: "#/$defs/a~1b" }, root)), { min: 3, max: undefined, step: 1 });
  assert.equal(kindOf({ $ref: "#/$defs/x" }, { $defs: { x: { $ref: "#/$defs/x" } } }).type, "json");
  assert.equal(kindOf({ $ref: "#/$defs/nowhere" }, root).type, "json");
});

test("exclusive limits of whole numbers are limits one further", () => {
  const kind = kindOf({ type: "integer", exclusiveMinimum: 0, exclusiveMaximum: 10 }, root);
  assert.deepEqual(limitsOf(kind), { min: 1, max: 9, step: 1 });
});

test("what no input fits is written as JSON", () => {
  for (const property of [
    { type: "object" },
    { type: "array" },
    {},
    { anyOf: [{ type: "string" }, { type: "integer" }] },
  ]) {
    assert.equal(kindOf(property, root).type, "json");
  }
});

test("titles that were made from names give way to the name, others do not", () => {
  assert.equal(titleOf("duration_s", "Duration S"), "Duration (s)");
  assert.equal(titleOf("log_every", "Log Every"), "Log every");
  assert.equal(titleOf("crf", "Quality"), "Quality");
  assert.equal(titleOf("crf", undefined), "Crf");
});

const job = (state, fraction) => ({ state, progress: fraction === undefined ? null : { fraction } });

test("a bar shows 100 % for what succeeded, and for nothing else", () => {
  assert.equal(shownFraction(job("succeeded", null)), 1);
  assert.equal(percent(shownFraction(job("running", 1))), "99 %");
  assert.equal(percent(shownFraction(job("failed", 0.9999))), "99 %");
  assert.equal(percent(1), "100 %");
});

test("a fraction is null while it is not known, and nothing is known before a job runs", () => {
  assert.equal(shownFraction(job("running", null)), null);
  assert.equal(shownFraction(job("running")), null);
  assert.equal(shownFraction(job("queued")), 0);
});

test("percents are whole and not spoilt by binary fractions", () => {
  assert.equal(percent(0.29), "29 %");
  assert.equal(percent(0.57), "57 %");
});

test("sizes have three digits", () => {
  assert.deepEqual([0, 999, 1000, 12_345_678, 999_600].map(size), [
    "0 B",
    "999 B",
    "1.00 kB",
    "12.3 MB",
    "1.00 MB",
  ]);
});
