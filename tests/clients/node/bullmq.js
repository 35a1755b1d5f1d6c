// BullMQ: queues made of scripts of many keys, blocking pops and streams of events. The braces of the prefix keep the keys of
// one queue on one server, as its own documentation asks of a cluster.

import { FlowProducer, Queue, QueueEvents, Worker } from "bullmq";
import { Redis } from "ioredis";
import { ask, assert, equal, eventually, host, port, range, run, within, PATIENCE } from "./checks.js";

const connection = { host, port, retryStrategy: () => 50 };
const settings = { connection, prefix: "{bull}" };

// A queue with a worker and its events, closed in the end.
async function withQueue(name, process, action, more = {}) {
  const queue = new Queue(name, settings);
  const worker = new Worker(name, process, { ...settings, maxRetriesPerRequest: null, ...more });
  const events = new QueueEvents(name, settings);
  [queue, worker, events].forEach((one) => one.on("error", () => {}));
  await Promise.all([queue.waitUntilReady(), worker.waitUntilReady(), events.waitUntilReady()]);
  try {
    return await action(queue, worker, events);
  } finally {
    await within(Promise.allSettled([worker.close(true), events.close(), queue.close()]), PATIENCE);
  }
}

async function a_job_is_done_and_waited_for() {
  await withQueue("sums", async (job) => job.data.a + job.data.b, async (queue, _, events) => {
    const job = await queue.add("sum", { a: 20, b: 22 });
    equal(await job.waitUntilFinished(events, PATIENCE), 42);
    assert(await job.isCompleted());
  });
}

async function many_jobs_are_done_once() {
  const seen = [];
  await withQueue("many", async (job) => seen.push(job.data), async (queue) => {
    await queue.addBulk(range(200, (n) => ({ name: "n", data: n })));
    await eventually("all jobs", async () => (await queue.getCompletedCount()) === 200);
  }, { concurrency: 10 });
  equal(seen.sort((a, b) => a - b), range(200));
}

async function a_delayed_job_waits() {
  await withQueue("later", async () => Date.now(), async (queue, _, events) => {
    const begin = Date.now();
    const job = await queue.add("late", {}, { delay: 400 });
    equal(await queue.getDelayedCount(), 1);
    const done = await job.waitUntilFinished(events, PATIENCE);
    assert(done - begin >= 390 && done - begin < 5000, `${done - begin} ms`);
  });
}

async function a_failing_job_is_tried_again() {
  await withQueue("again", async (job) => {
    if (job.attemptsMade < 2) throw new Error("not yet");
    return "at last";
  }, async (queue, _, events) => {
    const job = await queue.add("stubborn", {}, { attempts: 3, backoff: 20 });
    equal(await job.waitUntilFinished(events, PATIENCE), "at last");
  });
}

async function priorities_and_flows() {
  const flows = new FlowProducer(settings);
  flows.on("error", () => {});
  await withQueue("flow", async (job) => (job.name === "parent" ? Object.values(await job.getChildrenValues()).length : 1), async (queue, _, events) => {
    const flow = await flows.add({ name: "parent", queueName: "flow", children: range(5, (n) => ({ name: "child", queueName: "flow", opts: { priority: n + 1 } })) });
    equal(await flow.job.waitUntilFinished(events, PATIENCE), 5);
    equal((await queue.getJobCounts("completed")).completed, 6);
  });
  await flows.close();
}

async function a_queue_is_paused_and_emptied() {
  const queue = new Queue("paused", settings);
  await queue.pause();
  await queue.addBulk(range(50, (n) => ({ name: "n", data: n })));
  equal((await queue.getJobs()).length, 50);
  await queue.obliterate({ force: true });
  equal((await queue.getJobs()).length, 0);
  await queue.close();
}

async function a_server_is_lost_and_comes_back() {
  // With three servers the queue may be on another one; then it must not notice.
  await withQueue("survivor", async (job) => job.data, async (queue, _, events) => {
    await ask("kill");
    await ask("start");
    await eventually("a job done after that", async () => {
      const job = await within(queue.add("again", 7), 3000);
      return (await job.waitUntilFinished(events, 3000)) === 7;
    });
  });
  const cache = new Redis(connection);
  equal(await cache.ping(), "PONG");
  cache.disconnect();
}

await run("bullmq", "bullmq", [
  a_job_is_done_and_waited_for, many_jobs_are_done_once, a_delayed_job_waits, a_failing_job_is_tried_again,
  priorities_and_flows, a_queue_is_paused_and_emptied, a_server_is_lost_and_comes_back,
]);
