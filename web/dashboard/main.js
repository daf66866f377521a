/**
 * The dashboard. The address determines what is shown.
 */

import "./connection-state.js";
import "./jobs/group-summary.js";
import "./jobs/job-list.js";
import { show } from "../element/dom.js";
import { style } from "../element/style.js";
import { Notifications } from "./notifications.js";
import { percent, shortId, shownFraction } from "../element/format.js";
import { listenForFiles } from "./file-drop.js";
import { FilterBar } from "./jobs/filter-bar.js";
import { JobIndex } from "./jobs/job-index.js";
import { JobFilter } from "./jobs/job-filter.js";
import { ManyDialog } from "./jobs/many-dialog.js";
import { JobPage, titleOf } from "./job/job-page.js";
import { EndedJobs } from "./jobs/ended-jobs.js";
import { JobFeed } from "../client/job-feed.js";
import { isLive } from "../client/reducer.js";
import { routeOf } from "./route.js";
import { Session } from "./session.js";
import { listenForKeys } from "./shortcuts.js";
import { SubmitForm } from "./new/submit-form.js";
import { watchCounts } from "./jobs/state-counts.js";
import { WaitingReasons } from "./jobs/waiting-reasons.js";
import { WorkersPage } from "./workers/workers-page.js";

/** @typedef {import("../jobs.js").Job} Job */

const TICK_MS = 30_000;

const dialog = (/** @type {string} */ name) => /** @type {HTMLDialogElement} */ (part(name));
const session = new Session(dialog("sign-in"), dialog("other-session"), part("who"));
const { client } = session;
const feed = new JobFeed(client);
const ended = new EndedJobs(client, feed);
const index = new JobIndex();
const reasons = new WaitingReasons(client);
const list = /** @type {import("./jobs/job-list.js").JobList} */ (part("jobs"));
const summary = /** @type {import("./jobs/group-summary.js").GroupSummary} */ (part("group"));
const filters = new FilterBar(part("filters"));
const form = new SubmitForm(/** @type {HTMLFormElement} */ (part("submit-form")), client);
const notices = new Notifications(/** @type {HTMLButtonElement} */ (part("notices")));
const many = new ManyDialog(dialog("many"), client);
const lookAtCounts = watchCounts(
  client,
  () => (route.view === "jobs" && feed.status === "live" ? index.filter : null),
  (counts) => (filters.counts = counts),
);
const more = /** @type {HTMLButtonElement} */ (part("more"));
const help = /** @type {HTMLDialogElement} */ (part("help"));
const views = { jobs: part("jobs-view"), job: part("job-view"), new: part("new-view"), workers: part("workers-view") };

let route = routeOf(location.hash);
/** @type {JobPage | null} */
let page = null;
/** The address and the position of the list when it was left. */
let left = { hash: "#/", top: 0 };
/** The address of what is shown; the page's own may be ahead of it. */
let here = location.hash || "#/";
let drawing = false;
/** @type {Map<string, Job | undefined>} Jobs that changed since the last drawing, as they were before. */
const changed = new Map();

function part(/** @type {string} */ id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

/** Many events in one frame are drawn once. */
function soon() {
  if (drawing) return;
  drawing = true;
  // A page in the background has no frames, but still has to notify.
  if (document.hidden) setTimeout(draw, 250);
  else requestAnimationFrame(draw);
}

function draw() {
  drawing = false;
  const justEnded = [];
  for (const [id, before] of changed) {
    const job = feed.jobs.get(id);
    if (before && job && isLive(before) && !isLive(job)) justEnded.push(job);
  }
  const mentioned = changed.has(route.id);
  changed.clear();
  ended.trim(index, list.seen, route.id);
  for (const job of justEnded) notices.jobEnded(job);
  if (justEnded.length > 0) {
    const texts = justEnded.slice(0, 3).map((job) => `${job.type} ${shortId(job.id)} ${job.state}`);
    part("announcement").textContent = justEnded.length > 3 ? `${justEnded.length} jobs ended` : texts.join(", ");
  }
  if (route.view === "jobs") drawList();
  if (route.view === "job") drawPage(mentioned);
}

function drawList() {
  list.complete = index.complete;
  list.fresh = feed.status === "live";
  list.jobs = index.shown;
  filters.index = index;
  drawRest();
}

/** What is below the list. */
function drawRest() {
  const none = index.shown.length === 0;
  const known = ended.state === "all" || ended.state === "paused";
  const found = index.filter.empty ? "No jobs yet." : `No match among the ${index.size} jobs loaded.`;
  const waiting = feed.status === "live" ? "Loading…" : "Waiting for the service.";
  show(part("empty"), none && ended.state !== "failed" ? (known ? found : waiting) : "");
  show(more, ended.state === "paused" ? "Load older jobs" : ended.state === "failed" ? "Try again" : "");
  const { filter } = index;
  show(part("count"), none || filter.empty ? "" : `${index.shown.length} of ${index.size} loaded`);
  // The service, which does it, knows nothing of words.
  part("many-open").hidden = filter.words.length > 0;
}

/** @param {boolean} mentioned whether the feed has reported the job, even if only that it does not exist */
function drawPage(mentioned) {
  const job = feed.jobs.get(route.id);
  if (!job) {
    if (mentioned) show(part("notice"), `No such job: ${route.id}. It may have expired.`);
    return;
  }
  if (!page) {
    page = new JobPage(client, feed, job.id, left.hash);
    views.job.append(page);
  }
  show(part("notice"), "");
  page.reason = reasons.for(job);
  page.job = job;
  page.hasChildren = index.groups.of(job.id) > 0;
  const title = titleOf(job, percent(shownFraction(job)));
  document.title = `${title} · Headway`;
}

function go() {
  if (route.view === "jobs") left = { hash: here, top: globalThis.scrollY };
  const before = route;
  here = location.hash || "#/";
  route = routeOf(location.hash);
  const lacking = session.lacks(route.view);
  if (lacking) route = routeOf("#/");
  const moved = before.view !== route.view || before.id !== route.id;
  show(part("notice"), lacking && `This page needs the role "${lacking}", which ${session.who?.owner}'s credential does not have.`);
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
  // Back from a job, the focus is at its card again. Otherwise reading and the Tab key begin at the new heading.
  if (route.view === "jobs" && before.view === "job" && list.goTo(before.id)) return;
  const heading = /** @type {HTMLElement | null} */ (views[route.view].querySelector("h2"));
  heading?.focus({ preventScroll: true });
}

const SHOW = {
  jobs() {
    const filter = JobFilter.from(route.query);
    const other = filter.query !== index.filter.query;
    filters.filter = filter;
    if (other) {
      index.filter = filter;
      ended.begin(filter);
      lookUp(filter);
    }
    drawList();
    list.draw();
    summary.look();
    lookAtCounts();
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
      show(part("notice"), `Could not load job ${from}: ${/** @type {Error} */ (error).message}`);
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
 * A search for a whole id finds the job however old it is.
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
    say(`Could not cancel ${shortId(id)}: ${/** @type {Error} */ (error).message}`);
    list.card(id)?.cancelRefused();
  }
}

/** @param {Event} event */
async function retry(event) {
  const { id } = /** @type {CustomEvent} */ (event).detail;
  try {
    open(await client.retry(id));
  } catch (error) {
    say(`Could not run ${shortId(id)} again: ${/** @type {Error} */ (error).message}`);
  }
}

/** @param {Job} job that was just made */
function open(job) {
  feed.put(job);
  location.hash = `#/jobs/${encodeURIComponent(job.id)}`;
}

feed.addEventListener("change", (event) => {
  const { id, job } = /** @type {CustomEvent} */ (event).detail;
  const before = index.put(id, job);
  if (!changed.has(id)) changed.set(id, before);
  soon();
});
feed.addEventListener("status", () => {
  // Nothing looks current that may not be.
  document.body.classList.toggle("out-of-date", feed.status !== "live");
  if (feed.status === "live") {
    if (!session.who) session.check();
    form.refresh();
    if (ended.state === "failed") ended.again();
  }
  if (route.view === "job") drawPage(false);
  if (route.view !== "jobs") return;
  list.fresh = feed.status === "live";
  list.draw();
  drawRest();
});
feed.addEventListener("problem", (event) => {
  say(`Could not load the list: ${/** @type {CustomEvent} */ (event).detail.message}`);
});
feed.addEventListener("gap", () => ended.reread());
feed.addEventListener("event", (event) => {
  if (/** @type {CustomEvent} */ (event).detail.event === "reset") ended.reread();
});
ended.addEventListener("change", () => {
  index.completeSince = ended.completeSince;
  if (route.view !== "jobs") return;
  drawList();
  if (ended.state !== "more") return;
  list.draw();
  if (ended.state === "more") ended.rest();
});
ended.addEventListener("problem", (event) => {
  say(`Could not load older jobs: ${/** @type {CustomEvent} */ (event).detail.message}`);
});
reasons.addEventListener("change", () => {
  if (route.view === "jobs") list.draw();
  soon();
});
list.reasonFor = (/** @type {Job} */ job) => reasons.for(job);
list.addEventListener("near-end", () => feed.status === "live" && ended.more());
more.addEventListener("click", () => ended.again());
document.addEventListener("cancel-job", cancel);
document.addEventListener("retry-job", retry);
filters.element.addEventListener("filter", (event) => {
  const { query } = /** @type {CustomEvent} */ (event).detail;
  // Typing must not fill the history.
  history.replaceState(null, "", query ? `#/?${query}` : "#/");
  go();
  globalThis.scrollTo({ top: 0, behavior: "instant" });
});
form.element.addEventListener("submitted", (event) => open(/** @type {CustomEvent} */ (event).detail.job));
part("many-open").addEventListener("click", () => many.open(index.filter));
part("keys").addEventListener("click", () => help.showModal());
globalThis.addEventListener("hashchange", go);
// A requested frame comes only when the page is visible again.
document.addEventListener("visibilitychange", () => document.hidden && drawing && draw());
setInterval(() => list.tick(), TICK_MS);
reasons.start(() => (route.view === "jobs" ? list.inSight : [feed.jobs.get(route.id)].flatMap((job) => job ?? [])));
// The address determines what is shown, so a link within the page must not change it.
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

/** @type {any} */ (part("connection")).feed = feed;
document.adoptedStyleSheets.push(style);
// The position in the list is restored by `go`: the browser would do it before there are jobs.
history.scrollRestoration = "manual";
await session.begin();
session.addEventListener("change", go);
// The page has only waited. The stream is opened again at once, as after an interruption of the network.
session.addEventListener("back", () => dispatchEvent(new Event("online")));
summary.start(client, () => ({
  name: route.view === "jobs" ? index.filter.group : "",
  fresh: feed.status === "live",
}));
index.filter = JobFilter.from(route.query);
ended.begin(index.filter);
go();
feed.start();
