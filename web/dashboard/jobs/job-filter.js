/**
 * Which jobs to show: by state, type, group and labels, and by words that all occur in the job's text.
 * A value, which the page's address contains (`#/?state=failed&label=customer:acme&q=holiday`).
 */

/** @typedef {import("../../jobs.js").Job} Job */

/** @type {WeakMap<Job, string>} The text that is searched. A job is a new object after every change. */
const texts = new WeakMap();

export class JobFilter {
  /** @param {{state?: string, type?: string, group?: string, labels?: Record<string, string>, text?: string}} [of] "" is any */
  constructor({ state = "", type = "", group = "", labels = {}, text = "" } = {}) {
    this.state = state;
    this.type = type;
    this.group = group;
    this.labels = labels;
    this.text = text;
    this.words = text.toLowerCase().split(/\s+/).filter(Boolean);
  }

  /** @param {URLSearchParams} query */
  static from(query) {
    const [state, type, group, text] = ["state", "type", "group", "q"].map((name) => query.get(name) ?? "");
    const labels = query.getAll("label").flatMap((label) => {
      const found = /^(?=[^:]+:)((?:\\[\\:]|[^:])+):(.*)$/s.exec(label);
      return found ? [[found[1].replace(/\\([\\:])/g, "$1"), found[2]]] : [];
    });
    return new JobFilter({ state, type, group, labels: Object.fromEntries(labels), text });
  }

  /** @returns {Record<string, any>} what the service can filter by: as a query of GET /jobs, or the body of POST /jobs:cancel */
  get asked() {
    const { state, type, group, labels } = this;
    const said = Object.entries({ state, type, group }).filter(([, value]) => value !== "");
    return { ...Object.fromEntries(said), ...(Object.keys(labels).length > 0 && { labels }) };
  }

  /** @returns {string} what `from` reads; empty if it matches all jobs */
  get query() {
    const { state, type, group, text: q } = this;
    const labels = Object.entries(this.labels).map(([name, value]) => ["label", `${name.replace(/[\\:]/g, "\\$&")}:${value}`]);
    const said = Object.entries({ state, type, group, q }).filter(([, value]) => value !== "");
    return new URLSearchParams([...said, ...labels]).toString();
  }

  /** Whether it matches all jobs. */
  get empty() {
    return Object.keys(this.asked).length === 0 && this.words.length === 0;
  }

  /** @param {Job} job */
  matches(job) {
    if (this.state && job.state !== this.state) return false;
    if (this.type && job.type !== this.type) return false;
    if (this.group && job.group !== this.group) return false;
    for (const [name, value] of Object.entries(this.labels)) if (job.labels?.[name] !== value) return false;
    if (this.words.length === 0) return true;
    const text = textOf(job);
    return this.words.every((word) => text.includes(word));
  }
}

/** @param {Job} job */
function textOf(job) {
  let text = texts.get(job);
  if (text === undefined) {
    const labels = Object.entries(job.labels ?? {}).map(([name, value]) => `${name}: ${value}`);
    const said = [job.progress?.message ?? "", job.error ? `${job.error.code}: ${job.error.message}` : ""];
    text = [job.id, job.type, job.group ?? "", ...labels, ...said].join("\n").toLowerCase();
    texts.set(job, text);
  }
  return text;
}
