/** The service's side of streams, driven by a test: every request is a Connection that the test answers. */

/** Until everything that waits for no timer has happened. */
export async function settled() {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

export class Connection {
  /** @type {Connection[]} All that were asked for. */
  static all = [];

  /** To be used as the global `fetch`. */
  static fetch(url, init = {}) {
    return new Promise((resolve, reject) => Connection.all.push(new Connection(new URL(url), init, resolve, reject)));
  }

  static get last() {
    return Connection.all.at(-1);
  }

  /** How many have been neither closed by the page nor ended by the service. */
  static get open() {
    return Connection.all.filter(({ closed }) => !closed).length;
  }

  #ended = false;
  #body = new TransformStream();
  #writer = this.#body.writable.getWriter();
  #encoder = new TextEncoder();

  constructor(url, init, resolve, reject) {
    Object.assign(this, { url, init, query: url.searchParams, resolve });
    // Streams that nobody reads any more reject.
    this.#writer.closed.catch(() => {});
    init.signal?.addEventListener("abort", () => {
      reject(init.signal.reason);
      this.#writer.abort().catch(() => {});
    });
    this.fail = reject;
  }

  get closed() {
    return this.#ended || Boolean(this.init.signal?.aborted);
  }

  async opens() {
    this.resolve(new Response(this.#body.readable, { headers: { "content-type": "text/event-stream" } }));
    await settled();
  }

  async says(event, data, id = "") {
    await this.sends(`${id && `id: ${id}\n`}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  async sends(text) {
    this.#writer.write(this.#encoder.encode(text)).catch(() => {});
    await settled();
  }

  /** As the service opens a stream that is caught up. */
  async lives() {
    await this.opens();
    await this.says("heartbeat", { interval_s: 15 });
  }

  /** The connection is lost, or there never was one. */
  async breaks() {
    this.#ended = true;
    this.fail(new TypeError("network error"));
    this.#writer.abort().catch(() => {});
    await settled();
  }

  async refuses(status = 503, body = "{}") {
    this.#ended = true;
    this.resolve(new Response(status === 204 ? null : body, { status, headers: { "content-type": "application/problem+json" } }));
    await settled();
  }
}
