// ioredis as programs use it: `ioredis.js 2|3`, the version of the protocol.

import { Redis } from "ioredis";
import { ask, assert, equal, eventually, host, port, PATIENCE, range, run, servers, sizesAreSpread, sleep } from "./checks.js";

const protocol = Number(process.argv[2]);

function connect(more = {}) {
  const client = new Redis({ host, port, protocol, maxRetriesPerRequest: 2, retryStrategy: () => 50, ...more });
  // Reconnecting is what is looked at; each failure to connect is an event.
  client.on("error", () => {});
  return client;
}

const cache = connect();

async function opens_and_names_itself() {
  equal(await cache.ping(), "PONG");
  const named = connect({ connectionName: "suite" });
  equal(await named.client("GETNAME"), "suite");
  const info = await named.client("INFO");
  assert(info.includes("name=suite"), info);
  await named.quit();
}

async function types() {
  equal(await cache.set("greeting", "hello", "EX", 100), "OK");
  equal(await cache.get("greeting"), "hello");
  equal(await cache.get("none"), null);
  const bytes = Buffer.from(range(70_000, (n) => n % 256));
  await cache.set("bytes", bytes);
  assert((await cache.getBuffer("bytes")).equals(bytes));
  equal(await cache.hset("hash", { a: 1, b: 2 }), 2);
  equal({ ...(await cache.hgetall("hash")) }, { a: "1", b: "2" });
  equal(await cache.rpush("list", 1, 2, 3), 3);
  equal(await cache.lrange("list", 0, -1), ["1", "2", "3"]);
  equal(await cache.sadd("set", "x", "y"), 2);
  equal([...(await cache.smembers("set"))].sort(), ["x", "y"]);
  equal(await cache.zadd("scores", 1, "one", 2.5, "two"), 2);
  equal((await cache.zrange("scores", 0, -1, "WITHSCORES")).flat().map(String), ["one", "1", "two", "2.5"]);
  equal(Number(await cache.zscore("scores", "two")), 2.5);
  const id = await cache.xadd("stream", "*", "f", "v");
  equal(await cache.xrange("stream", "-", "+"), [[id, ["f", "v"]]]);
}

async function a_pipeline_answers_in_order() {
  const pipe = cache.pipeline();
  for (const n of range(1000)) pipe.set(`p${n}`, n).get(`p${n}`);
  equal(await pipe.exec(), range(1000).flatMap((n) => [[null, "OK"], [null, String(n)]]));
  const mixed = await cache.pipeline().set("wrong", "x").lpush("wrong", "y").get("wrong").exec();
  assert(mixed[1][0].message.startsWith("WRONGTYPE"), mixed);
  equal(mixed[2], [null, "x"]);
}

async function transactions() {
  equal(await cache.multi().set("{t}a", 1).incr("{t}a").exec(), [[null, "OK"], [null, 2]]);
  const own = connect();
  await own.watch("{t}a");
  await cache.set("{t}a", 9);
  equal(await own.multi().get("{t}a").exec(), null);
  equal(await own.multi().get("{t}a").exec(), [[null, "9"]]);
  await own.multi({ pipeline: false });
  await own.set("{t}b", 1);
  await own.get("{t}b");
  equal(await own.exec(), [[null, "OK"], [null, "1"]]);
  await own.quit();
}

async function scripts() {
  cache.defineCommand("double", { numberOfKeys: 1, lua: "return ARGV[1] * 2" });
  equal(await cache.double("k", 21), 42);
  equal(await cache.double("k2", 4), 8);
  equal(await cache.eval("return {KEYS[1], KEYS[2]}", 2, "{t}1", "{t}2"), ["{t}1", "{t}2"]);
  equal(await cache.pipeline().double("k3", 1).get("none").exec(), [[null, 2], [null, null]]);
}

async function all_keys_are_scanned() {
  await cache.mset(Object.fromEntries(range(300, (n) => [`scan:${n}`, n])));
  const found = new Set();
  for await (const keys of cache.scanStream({ match: "scan:*", count: 50 })) keys.forEach((key) => found.add(key));
  equal(found.size, 300);
}

async function keys_are_on_every_server() {
  await cache.mset(Object.fromEntries(range(300, (n) => [`m${n}`, n])));
  await sizesAreSpread();
  equal(await cache.mget(range(301, (n) => `m${n}`)), [...range(300, String), null]);
  equal(await cache.del(range(300, (n) => `m${n}`)), 300);
}

async function messages_are_published() {
  const subscriber = connect();
  const got = [];
  subscriber.on("message", (channel, text) => got.push([channel, text]));
  subscriber.on("pmessage", (pattern, channel, text) => got.push([pattern, channel, text]));
  equal(await subscriber.subscribe("news", "other"), 2);
  equal(await subscriber.psubscribe("n*"), 3);
  equal(await cache.publish("news", "hello"), 2);
  equal(await cache.publish("other", "2"), 1);
  await eventually("messages", async () => got.length === 3);
  equal(got.sort(), [["n*", "news", "hello"], ["news", "hello"], ["other", "2"]]);
  await subscriber.unsubscribe("other");
  equal(await cache.publish("other", "3"), 0);
  // Without names, after one was left already, the library of this version waits for ever.
  equal(await subscriber.unsubscribe("news"), 1);
  equal(await subscriber.punsubscribe("n*"), 0);
  equal(await subscriber.get("none"), null);
  await subscriber.quit();
}

async function blocking_pops() {
  equal(await cache.blpop("empty", 0.1), null);
  const own = connect();
  const waiting = own.blpop("wait", 10);
  await sleep(50);
  await cache.rpush("wait", "now");
  equal(await waiting, ["wait", "now"]);
  await own.quit();
}

async function errors_leave_the_connection_usable() {
  await cache.set("text", "x");
  await assert.rejects(cache.lpush("text", "y"), /WRONGTYPE/);
  await assert.rejects(cache.call("NONSENSE"), /unknown command/);
  equal(await cache.get("text"), "x");
}

async function a_server_is_lost_and_comes_back() {
  const names = range(60, (n) => `back${n}`);
  const subscriber = connect();
  const heard = [];
  subscriber.on("message", (_, text) => heard.push(text));
  await subscriber.subscribe("after");
  await ask("kill");
  const lost = (await Promise.allSettled(names.map((name) => cache.get(name)))).filter((one) => one.status === "rejected");
  assert(servers === 1 ? lost.length === 60 : lost.length > 0 && lost.length < 60, `${lost.length} lost`);
  await ask("start");
  await eventually("all keys", () => Promise.all(names.map((name) => cache.set(name, "after"))));
  equal(await Promise.all(names.map((name) => cache.get(name))), names.map(() => "after"));
  equal(await Promise.all(names.map((name) => cache.double(name, 4))), names.map(() => 8));
  await eventually("the subscription's return", async () => {
    await cache.publish("after", "again");
    return heard.length > 0;
  });
  subscriber.disconnect();
}

await run(`ioredis/RESP${protocol}`, "ioredis", [
  opens_and_names_itself, types, a_pipeline_answers_in_order, transactions, scripts, all_keys_are_scanned,
  keys_are_on_every_server, messages_are_published, blocking_pops, errors_leave_the_connection_usable,
  a_server_is_lost_and_comes_back,
]);
