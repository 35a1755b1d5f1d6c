// The page: asks, says in words how things are, shows the rest.

const PERIOD = 1000, SLOWEST = 10000, PATIENCE = 5000; // ms
/** Rates and quantiles are of the last seconds. */
const WINDOW = 5;
const EVENTS_SHOWN = 50;
const TOKEN = 'outrigger-token';
const at = (id) => document.getElementById(id);

const state = {
  /** Readings of the last seconds, oldest first. */
  seen: [],
  events: [],
  lastEvent: 0,
  failures: 0,
  hotKeysGone: false,
  timer: null,
  asking: false,
};

const EVENTS = {
  ejected: ['bad', 'ejected'],
  kept: ['warn', 'fails, but no more servers may be ejected'],
  not_flushed: ['warn', 'answers, but could not be emptied'],
  returning: ['warn', 'returning'],
  readmitted: ['good', 'back, with all of its traffic'],
  reloaded: ['good', 'configuration reloaded'],
  reload_failed: ['bad', 'reload failed, the old configuration stays'],
  upgraded: ['good', 'another process takes over'],
  upgrade_failed: ['bad', 'upgrade failed, this process goes on'],
  draining: ['warn', 'draining'],
};

const overview = {
  requests: tile('Requests/s', 'Of all pools', {show: short}),
  sessions: tile('Client sessions', 'Open connections of clients, all pools', {tone: 'calm', show: short}),
  busy: tile('Busiest worker', 'CPU time of the worker that has the most to do; at 100 % it is full', {tone: 'calm', show: percent, top: 1}),
  buffered: tile('Buffered', 'Bytes of requests and replies kept in memory', {tone: 'calm', show: bytes}),
};
at('overview').append(...Object.values(overview).map((one) => one.node));

/** Why there is no answer; `status` is 0 if nobody answers at all. */
class Trouble extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = token ? {Authorization: `Bearer ${token}`} : {};
  let response, body;
  try {
    response = await fetch(path, {headers, cache: 'no-store', signal: AbortSignal.timeout(PATIENCE)});
    body = await response.json();
  } catch (error) {
    if (response && error.name === 'SyntaxError') throw new Trouble(response.status, `Status ${response.status}, and no JSON`);
    throw new Trouble(0, error.name === 'TimeoutError' ? `No answer within ${PATIENCE / 1000} s` : 'No connection');
  }
  if (!response.ok) throw new Trouble(response.status, body?.error ?? `Status ${response.status}`);
  return body;
}

/** Some builds or settings have no hot keys: that is no reason to show nothing. */
async function askHotKeys() {
  if (state.hotKeysGone) return null;
  try {
    return await ask('hotkeys?top=6');
  } catch (error) {
    if (error.status !== 404) throw error;
    state.hotKeysGone = true;
    return null;
  }
}

async function poll() {
  clearTimeout(state.timer);
  if (state.asking || document.hidden) return;
  state.asking = true;
  let next = PERIOD;
  const started = performance.now();
  try {
    const topology = await ask('topology');
    const [events, hotKeys] = await Promise.all([ask(`events?last=100&after=${state.lastEvent}`), askHotKeys()]);
    takeEvents(events);
    show(topology, hotKeys);
    document.body.classList.remove('stale', 'empty');
    at('token').hidden = true;
    state.failures = 0;
    // The first rates need two readings.
    if (state.seen.length < 2) next = PERIOD / 4;
    next -= performance.now() - started;
  } catch (error) {
    next = failed(error);
  } finally {
    state.asking = false;
  }
  if (next != null) state.timer = setTimeout(poll, Math.max(PERIOD / 10, next));
}

/** Says what is wrong; when to try again, unless a token must be typed first. */
function failed(error) {
  document.body.classList.add('stale');
  if (error.status === 401) {
    const typed = sessionStorage.getItem(TOKEN);
    sessionStorage.removeItem(TOKEN);
    say('warn', typed ? 'The token was not accepted' : 'A token is needed', []);
    at('token').hidden = false;
    at('token-field').focus();
    return null;
  }
  const wait = Math.min(SLOWEST, PERIOD * 2 ** state.failures++);
  const last = state.updated ? ` What you see below is of ${clock(state.updated)}.` : '';
  const next = `${last} Next try in ${duration(wait / 1000)}.`;
  if (error instanceof Trouble) {
    say('bad', error.status ? 'Outrigger answers with an error' : 'Outrigger does not answer', [`${visible(error.message)}.${next}`]);
  } else {
    console.error(error);
    say('bad', 'This page does not understand Outrigger', [`Was it upgraded? Then load the page again. ${visible(error)}.${next}`]);
  }
  return wait;
}

function takeEvents({last, events}) {
  // A process that began anew counts from 1 again.
  if (last < state.lastEvent) {
    state.events = [];
    state.lastEvent = 0;
    return;
  }
  state.events = [...state.events, ...events].slice(-EVENTS_SHOWN);
  state.lastEvent = last;
}

/** Keeps the readings of the last seconds; says whether there is a gap before this one. */
function remember(topology) {
  const previous = state.seen.at(-1), time = topology.uptime_seconds;
  const same = previous && previous.started === topology.started && previous.pid === topology.pid;
  const gap = !same || time - previous.uptime_seconds > WINDOW || time <= previous.uptime_seconds;
  if (previous && !same) {
    state.events = [];
    state.lastEvent = 0;
  }
  state.seen = gap ? [topology] : [...state.seen.filter((one) => time - one.uptime_seconds <= WINDOW), topology];
  return gap;
}

const byName = (list) => new Map(list?.map((one) => [one.name, one]));

function show(topology, hotKeys) {
  const gap = remember(topology);
  const oldest = gap ? null : state.seen[0], previous = gap ? null : state.seen.at(-2);
  const seconds = (from) => topology.uptime_seconds - from.uptime_seconds;
  const bounds = topology.latency_bounds_us;
  const old = byName(oldest?.pools), last = byName(previous?.pools);
  const keys = new Map(hotKeys?.pools.map((one) => [one.pool, one]));
  const clock = Date.parse(topology.started) / 1e3 + topology.uptime_seconds;
  const pools = topology.pools.map((pool) => {
    const before = old.get(pool.name), justNow = last.get(pool.name), servers = byName(before?.servers);
    return {
      pool: {...pool, servers: pool.servers.map((server) => {
        const then = servers.get(server.name);
        return {...server, numbers: then && serverNumbers(server, then, seconds(oldest), bounds)};
      })},
      keys: keys.get(pool.name),
      numbers: before && poolNumbers(pool, before, seconds(oldest), bounds),
      moment: justNow && poolNumbers(pool, justNow, seconds(previous), bounds),
      gap,
      clock,
    };
  });
  state.updated = Date.now();
  showProcess(topology, pools, oldest, previous, gap);
  keep(at('pools'), pools, ({pool}) => pool.name, poolCard);
  showEvents();
}

/** The share of a CPU that each worker used since another reading. */
function busyRatios(topology, before) {
  if (!before) return [];
  const seconds = topology.uptime_seconds - before.uptime_seconds;
  return topology.worker_threads.map((thread, index) =>
    Math.min(1, grown(thread.cpu_seconds, before.worker_threads[index]?.cpu_seconds ?? 0) / seconds));
}

function showProcess(topology, pools, oldest, previous, gap) {
  const all = (numbers, value) => (numbers.every(Boolean) && !gap ? sum(numbers.map(value)) : null);
  const requests = all(pools.map((one) => one.numbers), (one) => one.requests);
  const moment = all(pools.map((one) => one.moment), (one) => one.requests);
  const busy = busyRatios(topology, oldest), busyNow = busyRatios(topology, previous);
  const sessions = sum(topology.pools.map((pool) => pool.sessions.open));
  for (const one of Object.values(overview)) if (gap) one.gap();
  overview.requests.update(short(requests), moment, count(pools.length, 'pool', 'pools'));
  overview.sessions.update(short(sessions), sessions);
  overview.busy.update(percent(busy.length ? Math.max(...busy) : null), busyNow.length ? Math.max(...busyNow) : null,
    `of ${count(topology.workers, 'worker', 'workers')}`);
  overview.buffered.update(bytes(topology.buffered_bytes), topology.buffered_bytes, `of ${bytes(topology.buffered_limit_bytes)}`);
  writeName(at('source'), topology.source);
  write(at('facts'), `${visible(topology.version)}  ·  process ${topology.pid}  ·  up ${duration(topology.uptime_seconds)}`);
  showConfig(topology.config);
  const {tone, title, details} = verdict(topology, pools, busy);
  say(tone, title, details);
  at('raw').hidden = Boolean(sessionStorage.getItem(TOKEN));
}

function showConfig(config) {
  const words = [`Configuration: generation ${config.generation}, in force for ${duration(config.age_seconds)}`,
    `hash ${visible(config.hash).slice(0, 12)}`];
  if (config.reloads || config.failed_reloads) {
    words.push(count(config.reloads, 'reload', 'reloads') + (config.failed_reloads ? `, ${config.failed_reloads} failed` : ''));
  }
  write(at('config'), words.join('  ·  '));
  const failed = !config.last_reload_successful;
  at('reload-error').hidden = !failed;
  write(at('reload-error-text'), failed ? config.last_error : '');
}

/** How things are: the worst thing first, then all the others. */
function verdict(topology, pools, busy) {
  const found = [];
  const add = (tone, title, detail) => found.push({tone, title, detail});
  const {config} = topology, draining = /drain/i.test(topology.not_ready_reason ?? '');
  if (!topology.ready) {
    add(draining ? 'warn' : 'bad', draining ? 'Draining' : 'Not ready', visible(topology.not_ready_reason ?? 'no reason given'));
  }
  for (const {pool} of pools) {
    if (pool.servers.length && pool.servers.every((server) => server.state === 'ejected')) {
      add('bad', `Pool ${visible(pool.name)} has no live server`, `on_ejected: ${visible(pool.on_ejected)}`);
    }
  }
  const servers = pools.flatMap(({pool}) => pool.servers.map((server) => ({...server, pool: pool.name})));
  const names = (list) => listed(list.map((server) => `${visible(server.pool)}/${visible(server.name)}`));
  const away = servers.filter((server) => server.state === 'ejected');
  const returning = servers.filter((server) => server.state === 'returning');
  if (away.length) add('bad', `${away.length} of ${count(servers.length, 'server', 'servers')} ejected`, names(away));
  if (!config.last_reload_successful) {
    add('bad', 'The last reload failed', `generation ${config.generation} stays in force; why: see below`);
  }
  for (const {pool, numbers} of pools) {
    const name = visible(pool.name), {open, limit} = pool.sessions;
    if (numbers?.failed >= 0.01) add('bad', `Requests fail in pool ${name}`, `${percent(numbers.failed)} of them`);
    if (limit && open >= limit * 0.9) add('warn', `Pool ${name} is nearly full`, `${open} of ${limit} client sessions`);
  }
  if (topology.buffered_bytes > topology.buffered_limit_bytes * 0.8) {
    add('warn', 'Memory for buffers is nearly used up', `${bytes(topology.buffered_bytes)} of ${bytes(topology.buffered_limit_bytes)}`);
  }
  if (Math.max(0, ...busy) > 0.9) add('warn', 'A worker is nearly full', 'it uses more than 90 % of its CPU');
  if (returning.length) add('warn', `${count(returning.length, 'server is', 'servers are')} returning`, names(returning));
  if (config.needs_restart.length) {
    add('warn', `${count(config.needs_restart.length, 'setting waits', 'settings wait')} for a restart`, visible(listed(config.needs_restart)));
  }
  if (!found.length) {
    const what = `${count(pools.length, 'pool', 'pools')}, ${count(servers.length, 'server', 'servers')}, all live`;
    return {tone: 'good', title: 'All is well', details: [what]};
  }
  const [worst, ...others] = found;
  return {...worst, details: [worst.detail, ...others.map((one) => `${one.title}: ${one.detail}`)]};
}

function say(tone, title, details) {
  at('verdict').dataset.tone = tone;
  write(at('headline'), title);
  const tab = ['Outrigger', at('source').textContent].filter(Boolean).join(' ');
  if (document.title !== `${title} · ${tab}`) document.title = `${title} · ${tab}`;
  keep(at('details'), details, (_, index) => index, () => {
    const node = element('li');
    return {node, update: (text) => write(node, text)};
  });
}

function showEvents() {
  const row = (event) => {
    const [tone, words] = EVENTS[event.what] ?? ['', event.what.replaceAll('_', ' ')];
    const time = element('time', '', clock(event.at)), who = element('bdi', 'name');
    time.dateTime = event.at;
    const text = element('span', 'what', words);
    text.dataset.tone = tone;
    writeName(who, [event.pool, event.server].filter(Boolean).join('/'));
    const why = element('bdi', 'why', visible(event.why ?? ''));
    return {node: element('li', '', time, element('div', '', who, ' ', text, ' ', why)), update() {}};
  };
  keep(at('events'), [...state.events].reverse(), (event) => event.number, row);
  at('no-events').hidden = state.events.length > 0;
}

at('token').addEventListener('submit', (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, at('token-field').value.trim());
  at('token-field').value = '';
  say('warn', 'Asking Outrigger', []);
  poll();
});
document.addEventListener('visibilitychange', poll);
poll();
