// How a suite says what it found; see ../python/checks.py, which says the same.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

const [, address, portText] = /^(.*):(\d+)$/.exec(process.env.OUTRIGGER_ADDRESS ?? "127.0.0.1:6379");
export const host = address;
export const port = Number(portText);
export const servers = Number(process.env.OUTRIGGER_SERVERS ?? "1");
// What takes longer hangs.
export const PATIENCE = 15_000;
export const equal = assert.deepEqual;
export { assert, sleep };

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

export async function ask(question) {
  console.log(`ask ${question}`);
  return (await answers.next()).value;
}

export async function sizesAreSpread() {
  const sizes = (await ask("sizes")).split(" ").map(Number);
  assert(sizes.length === servers && sizes.every((size) => size > 0), `keys of each server: ${sizes}`);
}

// Looks until there is something; an error of the library is nothing.
export async function eventually(what, look) {
  const end = Date.now() + PATIENCE;
  let last;
  while (Date.now() < end) {
    try {
      const found = await within(look(), PATIENCE);
      if (found) return found;
    } catch (error) {
      last = error;
    }
    await sleep(20);
  }
  throw new Error(`waited in vain for ${what}; the last error was ${last}`);
}

export function within(promise, milliseconds) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing for ${milliseconds} ms`)), milliseconds);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export function range(count, make = (n) => n) {
  return Array.from({ length: count }, (_, n) => make(n));
}

// Calls each check, which fails by throwing; its name is what it shows.
export async function run(client, library, checks) {
  const version = createRequire(import.meta.url)(`./node_modules/${library}/package.json`).version;
  console.log(`client ${client} ${version}`);
  let failures = 0;
  for (const check of checks) {
    try {
      await within(check(), 2 * PATIENCE);
      console.log(`ok ${check.name}`);
    } catch (error) {
      failures += 1;
      const line = /(\w+\.js:\d+):\d+/.exec(error.stack?.split("\n").find((l) => !l.includes("node_modules") && l.includes("file:")) ?? "");
      console.log(`failed ${check.name}: ${String(error).replace(/\s+/g, " ")} (${line?.[1] ?? "elsewhere"})`);
    }
  }
  process.exit(failures ? 1 : 0);
}
