import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";

import { upload } from "../../web/client/upload.js";

const made = { id: "a", name: "upload", size: 4, media_type: "text/plain" };

/** A service that has so much of its upload, and answers each PATCH with the next of these; null: it says nothing. */
function service(...answers) {
  const here = { offset: 0, begun: 0, headers: [], aborted: 0, token: undefined };
  const answer = (status, headers = {}) => new Response(status === 200 || status === 201 ? "" : null, { status, headers });
  here.client = {
    caller: undefined,
    url: (path) => new URL(path, "http://127.0.0.1/"),
    async fetch(url, { method }) {
      if (here.refuses) return new Response("{}", { status: here.refuses });
      const headers = { "tus-resumable": "1.0.0", "upload-offset": String(here.offset) };
      if (method === "HEAD") return answer(here.gone ? 404 : 200, headers);
      here.begun += 1;
      here.gone = false;
      here.offset = 0;
      return answer(201, { ...headers, location: `/base/uploads/${here.begun}` });
    },
    ask: async (method, path) => ({ ...made, path }),
  };
  globalThis.XMLHttpRequest = class {
    upload = {};
    #headers = {};
    open(_method, url) {
      this.url = url;
    }
    setRequestHeader(name, value) {
      this.#headers[name] = value;
    }
    getResponseHeader(name) {
      return name === "upload-offset" ? String(here.offset) : null;
    }
    send(body) {
      here.request = this;
      here.headers.push(this.#headers);
      const next = answers.shift();
      if (next === null) return;
      const { status = 204, takes = body.size, lastsMs = 0 } = next ?? {};
      if (lastsMs) mock.timers.setTime(Date.now() + lastsMs);
      here.offset += takes;
      this.#end(status);
    }
    abort() {
      here.aborted += 1;
      this.#end(0);
    }
    #end(status) {
      Object.assign(this, { status, responseText: '{"title": "no"}', statusText: "" });
      queueMicrotask(() => this.onloadend());
    }
  };
  return here;
}

const text = () => new Blob(["abcd"]);
const passing = { takes: 0, status: 503 };

afterEach(() => {
  mock.restoreAll();
  mock.timers.reset();
});

test("what broke off goes on where the service is", async () => {
  mock.method(Math, "random", () => 0);
  const here = service({ status: 0, takes: 1 }, { status: 409, takes: 0 }, { status: 502, takes: 2 });
  const told = [];
  const sent = await upload(here.client, text(), { onProgress: (fraction) => told.push(fraction) });
  assert.deepEqual([sent.path, here.begun], ["/uploads/1", 1]);
  assert.deepEqual(here.headers.map((headers) => headers["upload-offset"]), ["0", "1", "1", "3"]);
  assert.deepEqual(told, [0, 0.25, 0.25, 0.75, 1]);
});

test("a part that took an hour and broke off was no silence", async () => {
  mock.method(Math, "random", () => 0);
  mock.timers.enable({ apis: ["Date"] });
  const hour = { status: 0, takes: 1, lastsMs: 3_600_000 };
  const here = service(hour, hour, { status: 0, takes: 0 }, hour);
  assert.equal((await upload(here.client, text(), {})).path, "/uploads/1");
  assert.deepEqual(here.headers.map((headers) => headers["upload-offset"]), ["0", "1", "2", "2", "3"]);
});

test("what the service has lost is begun anew by whoever comes back to it, and otherwise said", async () => {
  mock.method(Math, "random", () => 0);
  const file = text();
  const here = service({ status: 507, takes: 1 });
  await assert.rejects(upload(here.client, file, {}), { status: 507 });
  here.gone = true;
  assert.equal((await upload(here.client, file, {})).path, "/uploads/2");
  // It is done: the next one is another upload.
  assert.equal((await upload(here.client, file, {})).path, "/uploads/3");

  const other = service({ status: 404, takes: 0 });
  await assert.rejects(upload(other.client, file, {}), { status: 404 });
});

test("a token that has expired is asked for again", async () => {
  const here = service({ status: 401, takes: 0 });
  const tokens = ["old", "new"];
  here.client.caller = { token: () => tokens.shift() };
  const { fetch } = here.client;
  here.client.fetch = async (url, init) => {
    // As credentials.js does when a token is refused.
    if (init.method === "HEAD") here.client.caller.said = Promise.resolve("new");
    return fetch(url, init);
  };
  await upload(here.client, text(), {});
  assert.deepEqual(here.headers.map(({ authorization }) => authorization), ["Bearer old", "Bearer new"]);
});

test("a connection that is silent is given up, and a service that stays away is said", async () => {
  mock.method(Math, "random", () => 1);
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  const here = service(null, ...Array.from({ length: 99 }, () => passing));
  let failed;
  const sent = upload(here.client, text(), {}).catch((error) => (failed = error));
  for (let s = 0; !failed && s < 1000; s += 1) {
    await new Promise((resolve) => setImmediate(resolve));
    mock.timers.tick(1000);
  }
  await sent;
  assert.equal(failed?.status, 503);
  assert.equal(here.aborted, 1);
  assert.ok(Date.now() > 200_000 && Date.now() <= 361_000, String(Date.now()));
});

test("the time in which bytes go out is not waited for", async () => {
  mock.method(Math, "random", () => 1);
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  const here = service(null, undefined);
  let made;
  const sent = upload(here.client, text(), {}).then((upload) => (made = upload));
  for (let s = 0; !made && s < 1000; s += 1) {
    await new Promise((resolve) => setImmediate(resolve));
    // Ten minutes, and then the connection is silent.
    if (s < 600) here.request?.upload.onprogress({ loaded: 1 });
    mock.timers.tick(1000);
  }
  await sent;
  assert.equal(here.aborted, 1);
});

test("a file that was changed meanwhile is no lost connection", async () => {
  const here = service({ status: 0, takes: 0 });
  const file = text();
  const slice = file.slice.bind(file);
  let reads = 0;
  file.slice = (...range) => ((reads += 1) > 1 ? { arrayBuffer: () => Promise.reject(new Error("NotReadable")) } : slice(...range));
  await assert.rejects(upload(here.client, file, {}), { message: "The file was changed or removed while it was uploaded." });
});
