/**
 * The dashboard: what is in the address is what is shown.
 */

import "./connection-state.js";
import "./jobs/job-list.js";
import { show } from "../element/dom.js";
import { EndNotices } from "./notifications.js";
import { percent, shortId, shownFraction } from "../element/format.js";
import { listenForFiles } from "./file-drop.js";
import { FilterBar } from "./jobs/filter-bar.js";
import { JobCatalog } from "./jobs/job-index.js";
import { JobFilter } from "./jobs/job-filter.js";
import { JobPage, titleOf } from "./job/job-page.js";
import { JobPast } from "./jobs/ended-jobs.js";
import { Headway } from "../jobs.js";
import { JobFeed } from "../client/job-feed.js";
import { isLive } from "../client/reducer.js";
import { routeOf } from "./route.js";
import { listenForKeys } from "./shortcuts.js";
import { SubmitForm } from "./new/submit-form.js";
import { WaitingReasons } from "./jobs/waiting-reasons.js";
import { WorkersPage } from "./workers/workers-page.js";

/** @typedef {import("../jobs.js").Job} Job */

const TICK_MS = 30_000;

const client = new Headway();
const feed = new JobFeed(client);
const past = new JobPast(client, feed);
const catalog = new JobCatalog();
const reasons = new WaitingReasons(client);
const list = /** @type {import("./jobs/job-list.js").JobList} */ (part("jobs"));
const filters = new FilterBar(part("filters"));
const form = new SubmitForm(/** @type {HTMLFormElement} */ (part("submit-form")), client);
const notices = new EndNotices(/** @type {HTMLButtonElement} */ (part("notices")));
const more = /** @type {HTMLButtonElement} */ (part("more"));
const help = /** @type {HTMLDialogElement} */ (part("help"));
const views = { jobs: part("jobs-view"), job: part("job-view"), new: part("new-view"), workers: part("workers-view") };

let route = routeOf(location.hash);
/** @type {JobPage | null} The job that is open. */
let page = null;
/** Where the list was left. */
let left = { hash: "#/", top: 0 };
/** The address of what is shown; after a step it is no longer the page's. */
let here = location.hash || "#/";
let drawing = false;
/** @type {Map<string, Job | undefined>} What changed since the last drawing, and what was known before. */
const changed = new Map();

function part(/** @type {string} */ id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

/** Fifty events of one job, or of fifty jobs, are one drawing. */
function soon() {
  if (drawing) return;
  drawing = true;
  // A page that is not seen draws no frames, and has ends to tell all the same.
  if (document.hidden) setTimeout(draw, 250);
  else requestAnimationFrame(draw);
}

function draw() {
  drawing = false;
  const ended = [];
  for (const [id, before] of changed) {
    const job = feed.jobs.get(id);
    if (before && job && isLive(before) && !isLive(job)) ended.push(job);
  }
  const mentioned = changed.has(route.id);
  changed.clear();
  past.trim(catalog, list.seen, route.id);
  for (const job of ended) notices.take(job);
  if (ended.length > 0) {
    const texts = ended.slice(0, 3).map((job) => `${job.type} ${shortId(job.id)} ${job.state}`);
    part("announcement").textContent = ended.length > 3 ? `${ended.length} jobs ended` : texts.join(", ");
  }
  if (route.view === "jobs") drawList();
  if (route.view === "job") drawPage(mentioned);
}

function drawList() {
  list.whole = catalog.whole;
  list.jobs = catalog.shown;
  filters.catalog = catalog;
  drawRest();
}

/** What stands below the list. */
function drawRest() {
  const none = catalog.shown.length === 0;
  const known = past.state === "all" || past.state === "paused";
  const found = catalog.filter.empty ? "No jobs yet." : `None of the ${catalog.size} jobs that were read is like that.`;
  const waiting = feed.status === "live" ? "Reading…" : "Waiting for the service.";
  show(part("empty"), none && past.state !== "failed" ? (known ? found : waiting) : "");
  show(more, past.state === "paused" ? "Look further back" : past.state === "failed" ? "Try again" : "");
  const { filter } = catalog;
  show(part("count"), none || filter.empty ? "" : `${catalog.shown.length} of ${catalog.size} read`);
}

/** @param {boolean} mentioned whether something was heard of the job, if only that it is none */
function drawPage(mentioned) {
  const job = feed.jobs.get(route.id);
  if (!job) {
    if (mentioned) show(part("notice"), `There is no job ${route.id} (any more).`);
    return;
  }
  if (!page) {
    page = new JobPage(client, feed, job.id, left.hash);
    views.job.append(page);
  }
  show(part("notice"), "");
  page.reason = reasons.for(job);
  page.job = job;
  const title = titleOf(job, percent(shownFraction(job)));
  document.title = `${title} · Headway`;
}

function go() {
  if (route.view === "jobs") left = { hash: here, top: globalThis.scrollY };
  const before = route;
  here = location.hash || "#/";
  route = routeOf(location.hash);
  const moved = before.view !== route.view || before.id !== route.id;
  show(part("notice"), "");
  for (const [name, view] of Object.entries(views)) view.hidden = name !== route.view;
  for (const link of document.querySelectorAll("nav [data-view]")) {
    const current = /** @type {HTMLElement} */ (link).dataset.view === route.view;
    if (current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (moved) {
    page?.remove();
    page = null;
    views.workers.replaceChildren();
  }
  document.title = { jobs: "Headway", job: "Job · Headway", new: "New job · Headway", workers: "Workers · Headway" }[route.view];
  SHOW[route.view]();
  if (!moved) return;
  globalThis.scrollTo({ top: route.view === "jobs" ? left.top : 0, behavior: "instant" });
  // Whoever comes back from a job goes on from there. Else the reading, and the Tab key, begin at what is new.
  if (route.view === "jobs" && before.view === "job" && list.goTo(before.id)) return;
  const heading = /** @type {HTMLElement | null} */ (views[route.view].querySelector("h2"));
  heading?.focus({ preventScroll: true });
}

const SHOW = {
  jobs() {
    const filter = JobFilter.from(route.query);
    const other = filter.query !== catalog.filter.query;
    filters.filter = filter;
    if (other) {
      catalog.filter = filter;
      past.begin(filter);
      lookUp(filter);
    }
    drawList();
    list.draw();
  },
  job() {
    list.draw();
    drawPage(false);
    if (!feed.jobs.has(route.id)) feed.want(route.id);
  },
  async new() {
    list.draw();
    form.refresh();
    const from = route.query.get("from");
    if (!from) return;
    try {
      form.fill(feed.jobs.get(from) ?? (await client.get(from)));
    } catch (error) {
      show(part("notice"), `The job ${from} could not be read: ${/** @type {Error} */ (error).message}`);
    }
  },
  workers() {
    list.draw();
    if (views.workers.childElementCount === 0) views.workers.append(new WorkersPage(client));
  },
};

/** @param {string} text */
function say(text) {
  if (page) page.say(text);
  else show(part("notice"), text);
}

/**
 * Whoever searches for the id of a job finds it, also if it is far back.
 * @param {JobFilter} filter
 */
function lookUp({ text }) {
  const id = text.trim();
  if (/^\w+-[\w-]{22}$/.test(id) && !feed.jobs.has(id)) feed.want(id);
}

/** @param {Event} event */
async function cancel(event) {
  const { id } = /** @type {CustomEvent} */ (event).detail;
  try {
    feed.put(await client.cancel(id));
    say("");
  } catch (error) {
    say(`${shortId(id)} was not canceled: ${/** @type {Error} */ (error).message}`);
    list.card(id)?.cancelRefused();
  }
}

/** @param {Event} event */
async function retry(event) {
  const { id } = /** @type {CustomEvent} */ (event).detail;
  try {
    open(await client.retry(id));
  } catch (error) {
    say(`${shortId(id)} was not submitted again: ${/** @type {Error} */ (error).message}`);
  }
}

/** @param {Job} job that was just made */
function open(job) {
  feed.put(job);
  location.hash = `#/jobs/${encodeURIComponent(job.id)}`;
}

feed.addEventListener("change", (event) => {
  const { id, job } = /** @type {CustomEvent} */ (event).detail;
  const before = catalog.put(id, job);
  if (!changed.has(id)) changed.set(id, before);
  soon();
});
feed.addEventListener("status", () => {
  // What is not known to be fresh does not look fresh.
  document.body.classList.toggle("out-of-date", feed.status !== "live");
  if (feed.status === "live") {
    form.refresh();
    if (past.state === "failed") past.again();
  }
  if (route.view !== "jobs") return;
  list.draw();
  drawRest();
});
feed.addEventListener("problem", (event) => {
  say(`The list could not be read: ${/** @type {CustomEvent} */ (event).detail.message}`);
});
feed.addEventListener("gap", () => past.reread());
feed.addEventListener("event", (event) => {
  if (/** @type {CustomEvent} */ (event).detail.event === "reset") past.reread();
});
past.addEventListener("change", () => {
  catalog.edge = past.edge;
  if (route.view !== "jobs") return;
  drawList();
  if (past.state !== "more") return;
  list.draw();
  if (past.state === "more") past.rest();
});
past.addEventListener("problem", (event) => {
  say(`Older jobs could not be read: ${/** @type {CustomEvent} */ (event).detail.message}`);
});
reasons.addEventListener("change", () => {
  if (route.view === "jobs") list.draw();
  soon();
});
list.reasonFor = (job) => reasons.for(job);
list.addEventListener("near-end", () => feed.status === "live" && past.more());
more.addEventListener("click", () => past.again());
document.addEventListener("cancel-job", cancel);
document.addEventListener("retry-job", retry);
filters.element.addEventListener("filter", (event) => {
  const { query } = /** @type {CustomEvent} */ (event).detail;
  // A letter more is not a step to go back.
  history.replaceState(null, "", query ? `#/?${query}` : "#/");
  go();
  globalThis.scrollTo({ top: 0, behavior: "instant" });
});
form.element.addEventListener("submitted", (event) => open(/** @type {CustomEvent} */ (event).detail.job));
part("keys").addEventListener("click", () => help.showModal());
globalThis.addEventListener("hashchange", go);
// A frame that was asked for just before comes only when somebody looks again.
document.addEventListener("visibilitychange", () => document.hidden && drawing && draw());
setInterval(() => list.tick(), TICK_MS);
reasons.start(() => (route.view === "jobs" ? list.inSight : [feed.jobs.get(route.id)].flatMap((job) => job ?? [])));
// The address says what is shown, so that a link within the page must not change it.
part("skip").addEventListener("click", (event) => {
  event.preventDefault();
  part("main").focus();
});

listenForFiles((file) => {
  location.hash = "#/new";
  form.takeFile(file);
});
listenForKeys(
  {
    "/": () => {
      if (route.view !== "jobs") location.hash = left.hash;
      setTimeout(() => filters.focus());
    },
    j: () => route.view === "jobs" && list.step(1),
    k: () => route.view === "jobs" && list.step(-1),
    n: () => (location.hash = "#/new"),
    w: () => (location.hash = "#/workers"),
    u: () => (location.hash = left.hash),
    Escape: () => route.view !== "jobs" && (location.hash = left.hash),
    "?": () => help.showModal(),
  },
  /** @type {HTMLInputElement} */ (part("keys-on")),
);

/** @type {any} */ (part("connection")).stream = feed;
// Where the list was left is known here: the browser measures before there are jobs in it.
history.scrollRestoration = "manual";
catalog.filter = JobFilter.from(route.query);
past.begin(catalog.filter);
go();
feed.start();
