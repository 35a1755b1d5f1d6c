'use strict';
// Numbers: counters become rates, bins become quantiles, quantities become words. Nothing here touches the page.

const sum = (list) => list.reduce((total, value) => total + value, 0);

/** What a counter grew by. One that is smaller than before began anew: a pool was replaced, or the process. */
const grown = (now, before) => (now >= before ? now - before : now);

const grownBins = (now, before) => now.map((count, bin) => grown(count, before?.[bin] ?? 0));

const addBins = (lists) => lists[0].map((_, bin) => sum(lists.map((list) => list[bin])));

/** The latency, in µs, that a share of the requests did not exceed; null if there were none. */
function quantile(share, bins, bounds) {
  const rank = share * sum(bins);
  if (!rank) return null;
  let below = 0;
  for (let bin = 0; bin < bins.length; bin++) {
    if (below + bins[bin] >= rank) {
      // The last bin has no bound: all that is known is that it was longer.
      if (bin >= bounds.length) return bounds[bounds.length - 1];
      const from = bin ? bounds[bin - 1] : 0;
      return from + (bounds[bin] - from) * (rank - below) / bins[bin];
    }
    below += bins[bin];
  }
  return null;
}

/** What a pool did between two readings. */
function poolNumbers(now, before, seconds, bounds) {
  const rate = (name) => grown(now[name], before[name]) / seconds;
  const total = (classes, results) => sum(classes.flatMap((command) => results.map(
    (result) => grown(now.requests[command][result], before.requests[command][result]))));
  const all = ['read', 'write', 'other', 'proxy'], results = ['ok', 'miss', 'error', 'failed', 'rejected'];
  const asked = total(all, results), hits = total(['read'], ['ok']), misses = total(['read'], ['miss']);
  const bins = addBins(Object.keys(now.latency).map((name) => grownBins(now.latency[name], before.latency[name])));
  return {
    requests: asked / seconds,
    reads: total(['read'], results) / seconds,
    writes: total(['write'], results) / seconds,
    others: total(['other', 'proxy'], results) / seconds,
    hits: hits + misses ? hits / (hits + misses) : null,
    errors: asked ? total(all, ['error', 'failed', 'rejected']) / asked : null,
    failed: asked ? total(all, ['failed', 'rejected']) / asked : null,
    p50: quantile(0.5, bins, bounds),
    p99: quantile(0.99, bins, bounds),
    bytesIn: rate('request_bytes'),
    bytesOut: rate('response_bytes'),
    serverErrors: total(all, ['error']) / seconds,
    reasons: new Map(Object.entries(now.errors).map(
      ([reason, count]) => [reason, grown(count, before.errors[reason] ?? 0) / seconds])),
  };
}

/** What a server did between two readings. */
function serverNumbers(now, before, seconds, bounds) {
  const bins = grownBins(now.latency, before.latency);
  return {
    requests: grown(now.requests, before.requests) / seconds,
    p50: quantile(0.5, bins, bounds),
    p99: quantile(0.99, bins, bounds),
    troubles: [
      ...Object.entries(now.errors).map(([reason, count]) => [reason, grown(count, before.errors[reason] ?? 0)]),
      ['requests timed out', grown(now.timeouts, before.timeouts)],
    ].filter(([, count]) => count > 0).map(([reason, count]) => [reason, count / seconds]),
  };
}

const NONE = '–';

/** Three digits at the most: 0.4, 12, 3.4k, 120k, 1.2M. */
function short(value) {
  if (value == null) return NONE;
  if (value < 0.05) return '0';
  for (const [unit, name] of [[1e9, 'G'], [1e6, 'M'], [1e3, 'k']]) {
    if (value >= unit * 0.9995) return (value / unit).toFixed(value < unit * 9.95 ? 1 : 0) + name;
  }
  return value < 9.95 && value % 1 ? value.toFixed(1) : String(Math.round(value));
}

function bytes(value) {
  for (const [unit, name] of [[2 ** 30, 'GiB'], [2 ** 20, 'MiB'], [2 ** 10, 'KiB']]) {
    if (value >= unit) return `${(value / unit).toFixed(value < unit * 10 ? 1 : 0)} ${name}`;
  }
  return `${Math.round(value)} B`;
}

/** Never 0 % of something, nor 100 % of all but something. */
function percent(share) {
  if (share == null) return NONE;
  const value = share * 100;
  if (value === 0 || value === 100) return `${value} %`;
  if (value < 0.1) return '< 0.1 %';
  if (value > 99.9) return '> 99.9 %';
  return `${value.toFixed(value < 10 || value > 99 ? 1 : 0)} %`;
}

function latency(us) {
  if (us == null) return NONE;
  if (us < 999.5) return `${us.toFixed(0)} µs`;
  if (us < 999500) return `${(us / 1e3).toFixed(us < 9950 ? 1 : 0)} ms`;
  return `${(us / 1e6).toFixed(1)} s`;
}

function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor(whole % 3600 / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor(whole % 86400 / 3600)} h`;
}

const count = (number, one, many) => `${number} ${number === 1 ? one : many}`;

/** `a`, `a and b`, `a, b and 3 more`. */
function listed(names, most = 4) {
  const shown = names.length > most ? [...names.slice(0, most), `${names.length - most} more`] : names;
  return shown.length < 2 ? shown.join('') : `${shown.slice(0, -1).join(', ')} and ${shown[shown.length - 1]}`;
}

/** What cannot be seen, or would turn the text around, is written as an escape. Names and keys are anybody's bytes. */
const visible = (text) => String(text).replace(
  /[\u0000-\u001f\u007f-\u00a0\u00ad\u061c\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff]/g,
  (c) => c < '\u0100' ? `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}` : `\\u${c.charCodeAt(0).toString(16)}`);
