/**
 * Figures as people read them.
 */

import { isLive } from "../client/reducer.js";

/** @typedef {import("../jobs.js").Job} Job */

const UNITS = ["B", "kB", "MB", "GB", "TB"];

/** @param {number} bytes */
export function size(bytes) {
  // What would be rounded to 1000 is 1.00 of the next.
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
 * How fast it goes. Seconds of a film in a second are a speed.
 * @param {number} value
 * @param {string | null | undefined} unit
 */
export function rate(value, unit) {
  return unit === "s" ? `${number(value)}×` : `${quantity(value, unit)}/s`;
}

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 172_800) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} days`;
}

/**
 * How long ago, in words that are not precise, because nobody refreshes them every second.
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
 * The fraction that a bar may show: 1 only for what succeeded, null while it is not known.
 * @param {Job} job
 * @returns {number | null}
 */
export function shownFraction(job) {
  if (job.state === "succeeded") return 1;
  const fraction = job.progress?.fraction;
  if (typeof fraction !== "number") return isLive(job) && job.state === "running" ? null : 0;
  return Math.min(0.999, Math.max(0, fraction));
}

/**
 * @param {number | null} fraction
 * @returns {string} whole percent, never rounded up to 100; empty if it is not known
 */
export function percent(fraction) {
  return fraction === null ? "" : `${Math.floor(fraction * 100 + 1e-9)} %`;
}

/** The part of a job's id that people can tell apart: the random one, without the partition. */
export function shortId(/** @type {string} */ id) {
  return id.slice(id.indexOf("-") + 1).slice(0, 8);
}

/**
 * How long an ended job took, in words; empty while it has not ended or if it never began.
 * @param {Job} job
 */
export function took({ started_at: from, finished_at: to }) {
  return from && to ? `took ${duration((Date.parse(to) - Date.parse(from)) / 1000)}` : "";
}

/**
 * A sentence of the service, with its moments as times of here.
 * @param {string} text
 */
export function withLocalTimes(text) {
  return text.replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, (time) => new Date(time).toLocaleTimeString("en-GB"));
}
