/**
 * Numbers and other values as text.
 */

/** @typedef {import("../jobs.js").Job} Job */

const UNITS = ["B", "kB", "MB", "GB", "TB"];

/** @param {number} bytes */
export function size(bytes) {
  // A value that would round to 1000 is 1.00 of the next unit.
  const unit = Math.min(UNITS.length - 1, Math.max(0, Math.floor(Math.log10(bytes / 0.9995) / 3)));
  return `${unit === 0 ? bytes : (bytes / 1000 ** unit).toPrecision(3)} ${UNITS[unit]}`;
}

/** @param {number} value */
export function number(value) {
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

/**
 * @param {number} value
 * @param {string | null | undefined} unit
 */
export function quantity(value, unit) {
  if (unit === "bytes" || unit === "B") return size(Math.round(value));
  return unit ? `${number(value)} ${unit}` : number(value);
}

/**
 * A rate. For seconds of media per second it is a factor.
 * @param {number} value
 * @param {string | null | undefined} unit
 */
export function rate(value, unit) {
  return unit === "s" ? `${number(value)}×` : `${quantity(value, unit)}/s`;
}

/** @param {number} seconds with a tenth below 10 s */
export function duration(seconds) {
  if (seconds < 10) return `${Math.max(0, +seconds.toFixed(1))} s`;
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 172_800) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} days`;
}

/**
 * Rough, since it is not refreshed every second.
 * @param {string} time RFC 3339
 * @param {number} now ms
 */
export function ago(time, now) {
  const s = Math.max(0, (now - Date.parse(time)) / 1000);
  if (s < 60) return "now";
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ago`;
  return new Date(time).toLocaleDateString("en", { day: "numeric", month: "short" });
}

/**
 * The fraction that a bar may show: 1 only if the job succeeded, null while it is unknown.
 * @param {Job} job
 * @returns {number | null}
 */
export function shownFraction(job) {
  if (job.state === "succeeded") return 1;
  const fraction = job.progress?.fraction;
  if (typeof fraction !== "number") return job.state === "running" ? null : 0;
  return Math.min(0.999, Math.max(0, fraction));
}

/**
 * @param {number | null} fraction
 * @returns {string} whole percent, never rounded up to 100; empty if unknown
 */
export function percent(fraction) {
  return fraction === null ? "" : `${Math.floor(fraction * 100 + 1e-9)} %`;
}

/** The beginning of the random part of a job's id, enough to tell jobs apart. */
export function shortId(/** @type {string} */ id) {
  return id.slice(id.indexOf("-") + 1).slice(0, 8);
}

/**
 * How long an ended job took; empty if it has not ended or never started.
 * @param {Job} job
 */
export function took({ started_at: from, finished_at: to }) {
  return from && to ? `took ${duration((Date.parse(to) - Date.parse(from)) / 1000)}` : "";
}

/**
 * A sentence from the service, with its UTC times as local times.
 * @param {string} text
 */
export function withLocalTimes(text) {
  return text.replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, (time) => {
    const at = new Date(time);
    if (at.toDateString() === new Date().toDateString()) return at.toLocaleTimeString("en-GB");
    return at.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
  });
}

/**
 * Which attempt it is, and of how many if it is one of these: those that a stopping worker released do not count, and
 * a task of Celery's may ask for more.
 * @param {Job} job
 */
export function attemptOf(job) {
  return job.attempt + (job.attempt > job.max_attempts ? "" : ` of ${job.max_attempts}`);
}

/** @param {Job} job */
export function attemptText(job) {
  return job.attempt > 1 ? `attempt ${attemptOf(job)}` : "";
}

/**
 * What people ask first comes first: where there is little room, the end is cut off.
 * @param {Job} job
 * @param {boolean} fresh without it nobody knows whether the job goes on like this
 */
export function paceText({ progress, cancel_requested: canceling }, fresh) {
  const { current, total, unit, rate: pace, eta_s: eta } = progress ?? {};
  const moving = fresh && !canceling ? [eta != null && `${duration(eta)} left`, pace && rate(pace, unit)] : [];
  const of = total == null ? "" : ` of ${quantity(total, unit)}`;
  const amount = current != null && quantity(current, of && unit !== "bytes" ? "" : unit) + of;
  return [...moving, amount].filter(Boolean).join(" · ");
}

/**
 * @param {{status: import("../jobs.js").Status, since: number}} connection
 * @returns {string} empty if it is live or nothing is watched
 */
export function connectionText({ status, since }) {
  const texts = { connecting: "Connecting", reconnecting: "Reconnecting", stale: "Out of date", "gave-up": "Not connected" };
  const text = /** @type {Record<string, string>} */ (texts)[status];
  return text ? `${text} for ${duration(Math.floor((Date.now() - since) / 1000))}` : "";
}

/** Text from outside: cut, and characters that would reorder or break the text around it are replaced. */
export function plain(/** @type {string} */ text, most = 500) {
  const cut = text.length > most ? `${text.slice(0, most)}…` : text;
  return cut.replace(/(?![\t\n])[\p{Cc}\p{Bidi_C}]/gu, "\ufffd");
}

/** What a person would call the job: its label `name`, or its type. */
export function nameOf(/** @type {Job} */ { labels, type }) {
  return plain(labels.name ?? type);
}
