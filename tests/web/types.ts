// What a user of the client writes, with every public member of jobs.d.ts (tests/web/test_types.py sees to
// that); the compiler says whether the types allow it.
import {
  Headway,
  Problem,
  newKey,
  type Artifact,
  type Counts,
  type Credential,
  type ErrorCode,
  type EventData,
  type Group,
  type HeadwayOptions,
  type Job,
  type JobEvent,
  type JobFeed,
  type JobFilter,
  type JobHandle,
  type JobType,
  type Progress,
  type Selection,
  type Stage,
  type State,
  type Unique,
  type Status,
  type Submission,
  type Submitted,
  type SubmitOptions,
  type Upload,
} from "../../web/jobs.js";

const options: HeadwayOptions = {
  base: new URL("https://example.org/headway/"),
  token: "t",
  share: false,
  attempts: 3,
  remember: true,
};
const headway = new Headway(options);
const credential: Credential = async (refused) => refused ?? "t";
new Headway({ token: credential, share: "user 7" });
new Headway({ ticket: new URL("https://example.org/ticket") });
const stop = new AbortController();

// -- submitting

const how: SubmitOptions = {
  idempotencyKey: newKey(),
  group: "g",
  labels: { name: "a" },
  max_attempts: 2,
  timeout_s: 60,
  webhook: { url: "https://hooks.example/headway", events: ["state", "end"] },
  size: 3,
  priority: 9,
  run_at: new Date("2030-01-01"),
  expires_s: 3600,
  unique: { key: "nightly" },
  signal: stop.signal,
  onUpload: (fraction, file) => console.log(fraction + file.size),
};
const made: Job = await headway.submit("simulate", { file: new Blob([]) }, how);
const sent: Upload = await headway.upload(new File([], "a"), {
  onProgress: (fraction) => console.log(fraction),
  signal: stop.signal,
});
console.log(`upload:${sent.id}`, sent.name, sent.size / 2, sent.media_type);
// @ts-expect-error: a number is no label
await headway.submit("simulate", {}, { labels: { n: 1 } });

const some: Submission[] = [{ type: "simulate" }, { type: "simulate", params: {}, unique: { key: "k", while: "queued" } }];
const submitted: Submitted[] = await headway.submitMany(some, { idempotencyKey: newKey(), signal: stop.signal });
for (const { id, created, links } of submitted) console.log(id, !created, links.self);
// @ts-expect-error: each has a type
await headway.submitMany([{ params: {} }]);

// -- many by a filter

const old: JobFilter = { state: "failed", type: "simulate", group: "g", labels: { customer: "acme" }, older_s: 86_400 };
const which: Selection = { ...old, dry_run: true };
console.log((await headway.list({ ...old, limit: 5 })).items.length, (await headway.cancelMany(which)).result);
console.log((await headway.retryMany(old, { idempotencyKey: newKey() })).id, (await headway.deleteMany({ older_s: 0 })).id);
const counts: Counts = await headway.counts();
console.log(counts.states.queued + (counts.types["simulate"]?.failed ?? 0));

// -- asking

const types: JobType[] = await headway.types();
for (const { name, title, queue, params, alive } of types) console.log(name, title, queue, params.properties, !alive);
const page = await headway.list({ state: "running", type: "simulate", group: "g", limit: 10, cursor: null });
console.log(page.next?.length, page.items.length, (await headway.get(made.id)).id);
console.log((await headway.cancel(made.id)).cancel_requested, (await headway.retry(made.id)).retry_of);

function show(job: Job): void {
  const state: State = job.state;
  const code: ErrorCode | undefined = job.error?.code;
  console.log(state, code === "worker_lost", job.error?.message.length, job.type, job.owner, job.group?.length);
  console.log(job.labels["a"]?.length, job.params["a"], job.attempt + job.max_attempts + (job.timeout_s ?? 0));
  const times: string[] = [job.created_at, job.updated_at, job.started_at ?? "", job.finished_at ?? ""];
  console.log(times, job.result, job.last_event_id, job.links.self, job.links.events, job.waiting_reason?.length);
  const progress: Progress | null = job.progress;
  const { fraction, current, total, unit, message, rate, eta_s, data } = progress ?? {};
  console.log((fraction ?? 0) + (current ?? 0) + (total ?? 0) + (rate ?? 0) + (eta_s ?? 0), unit, message, data?.["fps"]);
  const stage: Stage | null | undefined = progress?.stage;
  if (stage) console.log(stage.name.length, stage.index / stage.count, stage.fraction);
  const files: Artifact[] = job.artifacts;
  for (const file of files) console.log(file.name, file.media_type, file.size, file.url, file.attempt);
}

// -- one job

const job: JobHandle = headway.job(made);
job.open();
job.addEventListener("snapshot", ({ detail }) => show(detail));
job.addEventListener("state", ({ detail }) => console.log(detail.state === "running", detail.reason?.length));
job.addEventListener("progress", ({ detail }) => console.log(detail.fraction ?? 0, detail.attempt, detail.job, detail.at));
job.addEventListener("log", ({ detail }) => console.log(detail.level, detail.message.length));
job.addEventListener("artifact", ({ detail }) => console.log(detail.url));
job.addEventListener("end", ({ detail }) => show(detail), { once: true });
job.addEventListener("reset", ({ detail }) => console.log(detail.reason, detail.job?.id, detail.jobs?.length));
job.addEventListener("change", ({ detail }) => console.log(detail.job?.state === "running"));
job.addEventListener("event", ({ detail }) => heard(detail));
job.addEventListener("gap", function () {
  console.log(this.state);
});
const label = () => console.log(job.status === "live", job.since / 1000);
job.addEventListener("status", label);
job.removeEventListener("status", label);
// @ts-expect-error: there is no such event
job.addEventListener("progres", () => {});

function heard(event: JobEvent): void {
  if (event.event === "log") console.log(event.data.message.length);
  // @ts-expect-error: only a log has a message
  if (event.event === "state") console.log(event.data.message);
  if (event.event === "message") console.log(event.data.from === "task", event.data.name, event.data.data);
  if (event.event === "group-end") console.log(event.data.counts.succeeded);
  const ended: EventData["end"] | undefined = event.event === "end" ? event.data : undefined;
  console.log(event.id, ended?.state);
}

for await (const event of headway.job(job.id)) heard(event);
const ended: Job = await job.done;
await job.cancel();
await job.send("answer", { text: "yes" });
const message = await headway.send(job.id, "answer", null, { idempotencyKey: "k" });
console.log(message.id, message.data.from);
// @ts-expect-error: a message has a name
await job.send();
const again: JobHandle = await job.retry();
const status: Status = again.status;
// @ts-expect-error: there is no such status
const wrong: Status = "fine";
if (again.status === "gave-up") again.again();
console.log(again.state?.retry_of, ended.id, ended.parent, ended.children?.counts.waiting, status, wrong);
const held: Unique | null = ended.unique;
console.log(held?.key, held?.while === "live", ended.priority ?? 4, ended.run_at, ended.expires_at);
again.close();

// -- many

const feed: JobFeed = headway.watch({ group: "g" });
headway.watch({ jobs: new Set([job.id]) }).stop();
headway.watch().start().stop();
feed.addEventListener("change", ({ detail }) => console.log(detail.id, detail.job?.state));
feed.addEventListener("event", ({ detail }: CustomEvent<JobEvent>) => console.log(detail.id));
const group: Group = await headway.putGroup("g", { expected: 3, title: "Three" });
console.log(group.group, group.title, group.expected, group.counts.failed, group.fraction, group.rate, group.eta_s);
console.log((await headway.group("g")).ended_at, (await headway.cancelGroup("g")).started_at);
// @ts-expect-error: a group is not paused
if ((await headway.retryGroup("g")).state === "paused") console.log("paused");
feed.addEventListener("gap", () => feed.want(job.id));
feed.addEventListener("status", () => console.log(feed.status, feed.since));
feed.forget(job.id);
feed.addEventListener("problem", ({ detail }) => console.log(detail.message));
for (const one of feed.jobs.values()) console.log(one.progress?.stage?.name);
// @ts-expect-error: it is the feed's to change
feed.jobs.clear();
feed.put(made);
feed.again();

// -- refusals

try {
  await headway.cancel("x");
} catch (error) {
  if (!(error instanceof Problem)) throw error;
  const name: "Problem" = error.name;
  console.log(name, error.status === 404, error.type, error.title, error.message, error.retryAfterMs);
  for (const { pointer, detail } of error.errors) console.log(pointer, detail);
}
