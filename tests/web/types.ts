// What a user of the client writes; the compiler says whether jobs.d.ts allows it.
import { Headway, Problem, type Job, type JobEvent, type Status } from "../../web/jobs.js";

const headway = new Headway({ base: "https://example.org/headway/", token: "t" });
const made: Job = await headway.submit("simulate", { file: new Blob([]) }, {
  idempotencyKey: "k",
  onUpload: (fraction, file) => console.log(fraction + file.size),
});
const job = headway.job(made);
job.addEventListener("progress", ({ detail }) => console.log(detail.fraction ?? 0, detail.attempt));
job.addEventListener("end", ({ detail }) => console.log(detail.error?.code === "worker_lost"));
job.addEventListener("change", ({ detail }) => console.log(detail.job?.state === "running"));
// @ts-expect-error: there is no such event
job.addEventListener("progres", () => {});
for await (const event of job) {
  if (event.event === "log") console.log(event.data.message.length);
  // @ts-expect-error: only a log has a message
  if (event.event === "state") console.log(event.data.message);
}
const ended: Job = await job.done;
const again = await job.retry();
const status: Status = again.status;
// @ts-expect-error: there is no such status
const wrong: Status = "fine";
const feed = headway.watch({ group: "g" });
feed.addEventListener("event", ({ detail }: CustomEvent<JobEvent>) => console.log(detail.id));
for (const one of feed.jobs.values()) console.log(one.progress?.stage?.name, ended.id, status, wrong);
try {
  await headway.cancel("x");
} catch (error) {
  if (error instanceof Problem) console.log(error.errors[0]?.pointer, error.retryAfterMs);
}
