import assert from "node:assert/strict";
import { test } from "node:test";

import { decoder } from "../../web/client/sse.js";

const STREAM = 'retry: 1500\nid: 4-0\n\n: comment\n\nid: 5-0\nevent: log\ndata: {"message":"a: \u2028b"}\n\n' +
  'event: heartbeat\ndata: {}\n\nid: 6-0\nevent: end\ndata: {"cut":';
const EXPECTED = [["1500", "4-0"], ["4-0"], ["5-0", "log", '{"message":"a: \u2028b"}'], ["5-0", "heartbeat", "{}"]];

/** What comes of the stream in pieces of this length. */
function decoded(length) {
  const told = [];
  const decode = decoder(({ retry, id, event, data }) => told.push([retry, id, event, data].filter(Boolean)));
  for (let at = 0; at < STREAM.length; at += length) decode(STREAM.slice(at, at + length));
  return told;
}

test("in pieces of any size a stream is the same events, and what is cut off is none", () => {
  for (let length = 1; length <= STREAM.length; length += 1) assert.deepEqual(decoded(length), EXPECTED, `${length}`);
});
