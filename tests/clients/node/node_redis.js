// node-redis as programs use it: `node_redis.js 2|3`, the version of the protocol.

import { createClient, createClientPool, defineScript, WatchError } from "redis";
import { ask, assert, equal, eventually, host, port, range, run, servers, sizesAreSpread, sleep } from "./checks.js";

const RESP = Number(process.argv[2]);
const scripts = {
  double: defineScript({
    SCRIPT: "return ARGV[1] * 2",
    NUMBER_OF_KEYS: 1,
    parseCommand(parser, key, number) {
      parser.pushKey(key);
      parser.push(number.toString());
    },
    transformReply: (reply) => reply,
  }),
};
const options = { RESP, scripts, socket: { host, port, reconnectStrategy: () => 50 }, disableOfflineQueue: false };

async function connect(more = {}) {
  const client = createClient({ ...options, ...more });
  // Reconnecting is what is looked at; each failure to connect is an event.
  client.on("error", () => {});
  return client.connect();
}

const cache = await connect();

async function opens_and_names_itself() {
  equal(await cache.ping(), "PONG");
  const named = await connect({ name: "suite" });
  equal(await named.clientGetName(), "suite");
  await named.close();
}

async function types() {
  equal(await cache.set("greeting", "hello", { expiration: { type: "EX", value: 100 } }), "OK");
  equal(await cache.get("greeting"), "hello");
  equal(await cache.get("none"), null);
  equal(await cache.hSet("hash", { a: 1, b: 2 }), 2);
  equal({ ...(await cache.hGetAll("hash")) }, { a: "1", b: "2" });
  equal(await cache.rPush("list", ["1", "2", "3"]), 3);
  equal(await cache.lRange("list", 0, -1), ["1", "2", "3"]);
  equal(await cache.sAdd("set", ["x", "y"]), 2);
  equal([...(await cache.sMembers("set"))].sort(), ["x", "y"]);
  equal(await cache.zAdd("scores", [{ score: 1, value: "one" }, { score: 2.5, value: "two" }]), 2);
  equal((await cache.zRangeWithScores("scores", 0, -1)).map((one) => ({ ...one })), [
    { value: "one", score: 1 },
    { value: "two", score: 2.5 },
  ]);
  equal(await cache.zScore("scores", "two"), 2.5);
  const id = await cache.xAdd("stream", "*", { f: "v" });
  equal((await cache.xRange("stream", "-", "+"))[0].id, id);
  equal((await cache.xLen("stream")), 1);
}

async function many_requests_in_one_tick() {
  const replies = await Promise.all(range(1000).flatMap((n) => [cache.set(`p${n}`, n), cache.get(`p${n}`)]));
  equal(replies, range(1000).flatMap((n) => ["OK", String(n)]));
}

async function transactions() {
  equal(await cache.multi().set("{t}a", 1).incr("{t}a").exec(), ["OK", 2]);
  const own = await connect();
  await own.watch("{t}a");
  await cache.set("{t}a", 9);
  await assert.rejects(own.multi().get("{t}a").exec(), WatchError);
  equal(await own.multi().get("{t}a").exec(), ["9"]);
  await own.close();
}

async function scripts_and_functions() {
  equal(await cache.double("k", 21), 42);
  equal(await cache.double("k2", 4), 8);
  equal(await cache.eval("return {KEYS[1], ARGV[1]}", { keys: ["a"], arguments: ["b"] }), ["a", "b"]);
  const sha = await cache.scriptLoad("return 7");
  equal(await cache.evalSha(sha, { keys: ["any"], arguments: [] }), 7);
}

async function all_keys_are_scanned() {
  await cache.mSet(Object.fromEntries(range(300, (n) => [`scan:${n}`, String(n)])));
  const found = new Set();
  for await (const keys of cache.scanIterator({ MATCH: "scan:*", COUNT: 50 })) keys.forEach((key) => found.add(key));
  equal(found.size, 300);
  assert((await cache.dbSize()) >= 300);
}

async function keys_are_on_every_server() {
  await cache.mSet(Object.fromEntries(range(300, (n) => [`m${n}`, String(n)])));
  await sizesAreSpread();
  equal(await cache.mGet(range(301, (n) => `m${n}`)), [...range(300, String), null]);
  equal(await cache.del(range(300, (n) => `m${n}`)), 300);
}

async function messages_are_published() {
  const subscriber = await connect();
  const got = [];
  await subscriber.subscribe(["news", "other"], (text, channel) => got.push([channel, text]));
  await subscriber.pSubscribe("n*", (text, channel) => got.push(["n*", channel, text]));
  equal(await cache.publish("news", "hello"), 2);
  equal(await cache.publish("other", "2"), 1);
  await eventually("messages", async () => got.length === 3);
  equal(got.sort(), [["n*", "news", "hello"], ["news", "hello"], ["other", "2"]]);
  await subscriber.unsubscribe("other");
  equal(await cache.publish("other", "3"), 0);
  if (RESP === 3) equal(await subscriber.get("none"), null);
  await subscriber.unsubscribe();
  await subscriber.pUnsubscribe();
  equal(await subscriber.get("none"), null);
  await subscriber.close();
}

async function blocking_pops() {
  const own = await connect();
  equal(await own.blPop("empty", 0.1), null);
  const waiting = own.blPop("wait", 10);
  await sleep(50);
  await cache.rPush("wait", "now");
  equal({ ...(await waiting) }, { key: "wait", element: "now" });
  await own.close();
}

async function a_pool_of_clients() {
  const pool = createClientPool({ ...options }, { minimum: 2, maximum: 8 });
  pool.on("error", () => {});
  await pool.connect();
  equal(await Promise.all(range(100, (n) => pool.set(`pool${n}`, n))), range(100, () => "OK"));
  equal(await pool.multi().get("pool1").exec(), ["1"]);
  await pool.close();
}

async function errors_leave_the_connection_usable() {
  await cache.set("text", "x");
  await assert.rejects(cache.lPush("text", "y"), /WRONGTYPE/);
  await assert.rejects(cache.sendCommand(["NONSENSE"]), /unknown command/);
  equal(await cache.get("text"), "x");
}

async function a_server_is_lost_and_comes_back() {
  const names = range(60, (n) => `back${n}`);
  const subscriber = await connect();
  const heard = [];
  await subscriber.subscribe("after", (text) => heard.push(text));
  // What is sent while there is no connection waits for one.
  const impatient = await connect({ disableOfflineQueue: true });
  await ask("kill");
  const lost = (await Promise.allSettled(names.map((name) => impatient.get(name)))).filter((one) => one.status === "rejected");
  assert(servers === 1 ? lost.length === 60 : lost.length > 0 && lost.length < 60, `${lost.length} lost`);
  await ask("start");
  await eventually("all keys", () => Promise.all(names.map((name) => cache.set(name, "after"))));
  equal(await Promise.all(names.map((name) => cache.get(name))), names.map(() => "after"));
  equal(await Promise.all(names.map((name) => cache.double(name, 4))), names.map(() => 8));
  await eventually("the subscription's return", async () => {
    await cache.publish("after", "again");
    return heard.length > 0;
  });
  subscriber.destroy();
  impatient.destroy();
}

await run(`node-redis/RESP${RESP}`, "redis", [
  opens_and_names_itself, types, many_requests_in_one_tick, transactions, scripts_and_functions, all_keys_are_scanned,
  keys_are_on_every_server, messages_are_published, blocking_pops, a_pool_of_clients, errors_leave_the_connection_usable,
  a_server_is_lost_and_comes_back,
]);
