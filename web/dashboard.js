/**
 * The dashboard: the list of jobs, the form, and the one job that is open.
 */

import "./connection-state.js";
import { show } from "./element.js";
import { shortId } from "./figures.js";
import { JobCard } from "./job-card.js";
import { JobFeed } from "./job-feed.js";
import { Headway } from "./jobs.js";
import { SubmitForm } from "./submit-form.js";

/** @typedef {import("./reducer.js").Job} Job */

const TICK_MS = 30_000;

const client = new Headway();
const feed = new JobFeed(client);
const list = part("jobs");
const more = /** @type {HTMLButtonElement} */ (part("more"));
const empty = part("empty");
const notice = part("notice");
const announcement = part("announcement");
/** @type {Map<string, JobCard>} */
const cards = new Map();
/** @type {Set<string>} Jobs to draw with the next frame: fifty events of one job are one drawing. */
const dirty = new Set();
/** The job whose details are open, and whether it is still to be brought into view. */
let opened = { id: "", show: false };

function part(/** @type {string} */ id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

/**
 * Where a card belongs: newest first.
 * @param {Job} job
 */
function placeFor(job) {
  let low = 0;
  let high = list.children.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const other = /** @type {Job} */ (/** @type {JobCard} */ (list.children[middle]).job);
    const before =
      other.created_at > job.created_at || (other.created_at === job.created_at && other.id > job.id);
    if (before) low = middle + 1;
    else high = middle;
  }
  return list.children[low] ?? null;
}

function draw() {
  for (const id of dirty) drawJob(id);
  dirty.clear();
  drawEmpty();
  if (opened.id) openJob();
}

/** @param {string} id */
function drawJob(id) {
  const job = feed.jobs.get(id);
  let card = cards.get(id);
  if (!job) {
    card?.remove();
    cards.delete(id);
    if (opened.id === id) show(notice, `There is no job ${id} (any more).`);
    return;
  }
  const before = card?.job;
  if (!card) {
    card = new JobCard();
    card.job = job;
    list.insertBefore(card, placeFor(job));
    cards.set(id, card);
  } else {
    card.job = job;
  }
  if (before && before.finished_at === null && job.finished_at !== null) {
    announcement.textContent = `${job.type} ${shortId(job.id)} ${job.state}`;
  }
}

function drawEmpty() {
  const { status } = feed.stream;
  const text =
    cards.size > 0 ? "" : status === "live" ? "No jobs yet. Submit one." : "Waiting for the service.";
  show(empty, text);
}

/** The details of the job that the address names; all others are closed. */
function openJob() {
  for (const [id, card] of cards) if (card.open && id !== opened.id) card.open = false;
  const card = cards.get(opened.id);
  if (!card) return;
  show(notice, "");
  card.open = true;
  if (!opened.show) return;
  opened.show = false;
  card.scrollIntoView({ block: "nearest" });
}

function route() {
  const match = /^#\/jobs\/([^/]+)$/.exec(location.hash);
  opened = { id: match ? decode(match[1]) : "", show: true };
  show(notice, "");
  openJob();
  if (opened.id && !feed.jobs.has(opened.id)) feed.want(opened.id);
}

/** @param {string} text */
function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** @param {Event} event */
async function cancel(event) {
  const { id } = /** @type {CustomEvent} */ (event).detail;
  try {
    feed.put(await client.cancel(id));
    show(notice, "");
  } catch (error) {
    show(notice, `${shortId(id)} was not canceled: ${/** @type {Error} */ (error).message}`);
    cards.get(id)?.cancelRefused();
  }
}

feed.addEventListener("change", (event) => {
  if (dirty.size === 0) requestAnimationFrame(draw);
  dirty.add(/** @type {CustomEvent} */ (event).detail.id);
});
feed.addEventListener("status", () => {
  // What is not known to be fresh does not look fresh.
  document.body.classList.toggle("out-of-date", feed.stream.status !== "live");
  drawEmpty();
});
feed.addEventListener("page", () => {
  more.hidden = !feed.hasMore;
  more.disabled = false;
});
feed.addEventListener("problem", (event) => {
  show(notice, `The list could not be read: ${/** @type {CustomEvent} */ (event).detail.message}`);
});
more.addEventListener("click", () => {
  more.disabled = true;
  feed.more();
});
list.addEventListener("cancel-job", cancel);
globalThis.addEventListener("hashchange", route);
setInterval(() => cards.forEach((card) => card.tick()), TICK_MS);

const form = new SubmitForm(/** @type {HTMLFormElement} */ (part("submit-form")), client);
form.element.addEventListener("submitted", (event) =>
  feed.put(/** @type {CustomEvent} */ (event).detail.job),
);
feed.stream.addEventListener("open", () => form.refresh());

// On a phone the jobs come first; the form is one tap away.
if (globalThis.matchMedia("(max-width: 60rem)").matches) part("new-job").removeAttribute("open");
/** @type {any} */ (part("connection")).stream = feed.stream;
drawEmpty();
route();
feed.start();
form.refresh();
