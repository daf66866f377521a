/** Prints "id type" of each event of a stream, until the end: node read.js URL CURSOR */

import { createRequire } from "node:module";

// Installed in the working directory, which is not this file's.
const { EventSource } = createRequire(`${process.cwd()}/`)("eventsource");

const [url, cursor] = process.argv.slice(2);
const source = new EventSource(url, {
  fetch: (input, init) =>
    fetch(input, { ...init, headers: { "Last-Event-ID": cursor, ...init.headers } }),
});
for (const type of ["snapshot", "state", "progress", "log", "artifact", "end"]) {
  source.addEventListener(type, ({ lastEventId }) => {
    console.log(lastEventId, type);
    if (type === "end") source.close();
  });
}
