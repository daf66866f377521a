/** Prints "id type" of the first events of a stream, cut once in between: node read.js URL CURSOR COUNT */

import { createRequire } from "node:module";

// Installed in the working directory, which is not this file's.
const { EventSource } = createRequire(`${process.cwd()}/`)("eventsource");

const [url, cursor, count] = process.argv.slice(2);
const source = new EventSource(url, {
  fetch: (input, init) =>
    fetch(input, { ...init, headers: { "Last-Event-ID": cursor, ...init.headers } }),
});
let seen = 0;
for (const type of ["snapshot", "state", "progress", "log", "artifact", "end"]) {
  source.addEventListener(type, ({ lastEventId }) => {
    if (seen >= Number(count)) return;
    console.log(lastEventId, type);
    seen += 1;
    if (seen === Number(count) || type === "end") source.close();
  });
}
