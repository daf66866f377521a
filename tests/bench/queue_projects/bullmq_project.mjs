// BullMQ: `node bullmq_project.mjs work` is a worker of two processes; `… NAME COUNT PAUSE_S` sends.
import { fork } from "node:child_process";
import { appendFileSync } from "node:fs";
import { createRequire } from "node:module";
import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";

const { Queue, Worker } = createRequire(`${process.env.BENCH_NODE_MODULES}/`)("bullmq");
const UPDATES = 10;
const connection = { url: process.env.BENCH_BROKER, maxRetriesPerRequest: null };
const now = () => BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e6));

const tasks = {
  noop: () => {},
  updates: async (job) => {
    for (let n = 1; n <= UPDATES; n++) await job.updateProgress({ current: n, total: UPDATES });
  },
  begin: () => appendFileSync(process.env.BENCH_BEGINS, `${now()}\n`),
};

async function send(name, count, pauseS) {
  const queue = new Queue("bench", { connection });
  await queue.add("noop", {});
  const began = performance.now();
  for (let n = 0; n < count; n++) {
    console.log(String(now()));
    await queue.add(name, {});
    if (pauseS) await sleep(pauseS * 1000);
  }
  console.log(String((performance.now() - began) / 1000));
  await queue.close();
}

const [command, count, pauseS] = process.argv.slice(2);
if (command === "work") {
  const children = [1, 2].map(() => fork(process.argv[1], ["one"]));
  process.on("SIGTERM", () => {
    for (const child of children) child.kill();
    process.exit();
  });
} else if (command === "one") {
  new Worker("bench", (job) => tasks[job.name](job), { connection });
} else {
  await send(command, Number(count), Number(pauseS));
}
