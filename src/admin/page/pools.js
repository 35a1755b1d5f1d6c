// One pool: what it does, who has its keys, how its servers are, which keys are hot or big, what fails.

/** Servers of a pool that are shown before one asks for more. */
const SERVERS_SHOWN = 12;
const COLOURS = 8;

function poolCard({pool: {name}}) {
  const heading = element('h2'), standing = element('span', 'standing'), facts = element('p', 'facts');
  writeName(heading, name);
  const tiles = {
    requests: tile('Requests/s', 'Requests a second, the mean of the last 5 seconds; the line: the last 5 minutes', {show: short}),
    hits: tile('Hit ratio', 'Reads that found a value, of all reads answered', {tone: 'calm', show: percent, top: 1}),
    errors: tile('Errors', 'Requests that failed, were refused, or got an error reply of a server', {tone: 'bad', show: percent}),
    latency: tile('p99', 'From the arrival of a request until its reply is ready: 99 of 100 took no longer', {tone: 'calm', show: latency}),
  };
  const ring = ringBar(), servers = serverTable(), errors = errorList(), keys = keyLists();
  const node = element('section', 'card pool',
    element('header', '', heading, standing), facts,
    element('dl', 'tiles', ...Object.values(tiles).map((one) => one.node)),
    ring.node,
    element('div', 'halves', element('div', 'main', servers.node, errors.node), keys.node));
  node.setAttribute('aria-label', `Pool ${visible(name)}`);
  return {
    node,
    update({pool, keys: found, numbers, moment, gap, clock: now}) {
      const away = pool.servers.filter((server) => server.state === 'ejected').length;
      write(standing, away ? `${pool.servers.length - away} of ${count(pool.servers.length, 'server', 'servers')} live`
        : `${count(pool.servers.length, 'server', 'servers')} live`);
      standing.dataset.tone = away === pool.servers.length ? 'bad' : away ? 'warn' : 'good';
      write(facts, poolFacts(pool, numbers));
      for (const one of Object.values(tiles)) if (gap) one.gap();
      tiles.requests.update(short(numbers?.requests), moment?.requests);
      tiles.hits.update(percent(numbers?.hits), moment?.hits, numbers?.hits == null ? 'no reads' : tiles.hits.least());
      tiles.errors.update(percent(numbers?.errors), moment?.errors);
      tiles.errors.node.dataset.tone = numbers?.errors >= 0.01 ? 'bad' : '';
      tiles.latency.update(latency(numbers?.p99), moment?.p99, `p50 ${latency(numbers?.p50)}`);
      ring.update(pool);
      servers.update(pool, now);
      errors.update(pool, numbers);
      keys.update(found, now);
    },
  };
}

function poolFacts(pool, numbers) {
  const {open, limit} = pool.sessions;
  const facts = [pool.protocol, visible(pool.listen), `${pool.distribution}, ${pool.hash}`,
    limit ? `${open} of ${limit} client sessions` : count(open, 'client session', 'client sessions')];
  if (numbers) {
    facts.push(`${short(numbers.reads)} reads/s, ${short(numbers.writes)} writes/s`);
    facts.push(`${bytes(numbers.bytesIn)}/s in, ${bytes(numbers.bytesOut)}/s out`);
  }
  return facts.join('  ·  ');
}

/** The shares of the keys, a segment a server. One without a share that is ejected stays visible as a hatched sliver. */
function ringBar() {
  const bar = element('div', 'ring');
  bar.setAttribute('role', 'img');
  const segment = () => {
    const node = element('span', 'segment');
    return {
      node,
      update(server, index) {
        node.className = `segment colour${index % COLOURS} ${server.state}`;
        node.style.flexGrow = server.ring_share;
        const {name, ring_share: share, state} = server;
        write(node, visible(name));
        hint(node, `${visible(name)}: ${percent(share)} of the keys, ${state}`);
      },
    };
  };
  return {
    node: bar,
    update({servers}) {
      bar.hidden = !servers.length;
      bar.classList.toggle('many', servers.length > 24);
      keep(bar, servers, (server) => server.name, segment);
      const shares = servers.map((server) => `${visible(server.name)} ${percent(server.ring_share)}`);
      const label = `Shares of the keys: ${listed(shares, SERVERS_SHOWN)}`;
      if (bar.getAttribute('aria-label') !== label) bar.setAttribute('aria-label', label);
    },
  };
}

const COLUMNS = ['Server', 'Keys', 'Requests/s', 'p50', 'p99', 'In flight', 'Connections'];

function serverTable() {
  const body = element('tbody'), more = element('button', 'more');
  const table = element('table', 'servers', element('caption', 'unseen', 'Servers'),
    element('thead', '', element('tr', '', ...COLUMNS.map((name) => {
      const cell = element('th', '', name);
      cell.scope = 'col';
      return cell;
    }))), body);
  // Said because narrow screens lay it out as something else.
  table.setAttribute('role', 'table');
  body.setAttribute('role', 'rowgroup');
  let all = false, last = null;
  more.type = 'button';
  const update = (pool, now) => {
    last = [pool, now];
    const numbered = pool.servers.map((server, index) => ({server, index, now}));
    // The troubled ones are never among those that are left out.
    const first = numbered.filter((row) => row.server.state !== 'live');
    const rest = numbered.filter((row) => row.server.state === 'live');
    const rows = all || numbered.length <= SERVERS_SHOWN ? numbered : [...first, ...rest].slice(0, SERVERS_SHOWN);
    keep(body, rows, (row) => row.server.name, serverRow);
    more.hidden = numbered.length <= SERVERS_SHOWN;
    write(more, all ? 'Show fewer' : `Show all ${numbered.length} servers`);
    more.setAttribute('aria-expanded', String(all));
  };
  more.addEventListener('click', () => {
    all = !all;
    update(...last);
  });
  return {node: element('div', 'scroll', table, more), update};
}

function serverRow() {
  const swatch = element('i', 'swatch'), name = element('bdi', 'name'), state = element('span', 'state');
  const address = element('bdi', 'address'), note = element('div', 'trouble');
  const head = element('th', '', element('div', 'who', swatch, name, state), address, note);
  head.scope = 'row';
  const cells = COLUMNS.slice(1).map((title) => {
    const cell = element('td');
    cell.dataset.title = title;
    cell.setAttribute('role', 'cell');
    return cell;
  });
  head.setAttribute('role', 'rowheader');
  const node = element('tr', '', head, ...cells);
  node.setAttribute('role', 'row');
  return {
    node,
    update({server, index, now}) {
      const {numbers} = server;
      swatch.className = `swatch colour${index % COLOURS} ${server.state}`;
      writeName(name, server.name);
      writeName(address, server.address);
      address.hidden = server.address === server.name;
      write(state, server.state === 'returning' ? `returning, ${server.traffic_percent} %` : server.state);
      state.dataset.tone = {live: 'good', returning: 'warn'}[server.state] ?? 'bad';
      write(note, trouble(server, now));
      const {connected, connecting, waiting, dedicated_in_use, dedicated_idle} = server.connections;
      const dedicated = dedicated_in_use + dedicated_idle;
      [percent(server.ring_share), short(numbers?.requests), latency(numbers?.p50), latency(numbers?.p99),
        server.in_flight + (server.queued ? ` + ${server.queued} queued` : ''),
        connected + (connecting + waiting ? ` of ${connected + connecting + waiting}` : '') +
          (dedicated ? ` (${dedicated} dedicated, ${dedicated_in_use} in use)` : ''),
      ].forEach((text, cell) => write(cells[cell], text));
    },
  };
}

/** What is wrong with a server, in words; nothing if nothing is. */
function trouble(server, now) {
  const words = [], until = Date.parse(server.until) / 1e3 - now, at = now - Date.parse(server.ejected_at) / 1e3;
  if (server.state !== 'live') {
    words.push(`ejected${at >= 0 ? ` ${duration(at)} ago` : ''}${server.reason ? `: ${visible(server.reason)}` : ''}`);
    if (until > 0) words.push(`${server.state === 'ejected' ? 'back at the earliest' : 'all traffic'} in ${duration(until)}`);
  } else if (server.failures) {
    words.push(`${count(server.failures, 'failure', 'failures')} in a row`);
  }
  for (const [reason, rate] of server.numbers?.troubles ?? []) words.push(`${reason.replaceAll('_', ' ')} ${short(rate)}/s`);
  return words.join('; ');
}

/** Failed and refused requests by reason, once there are some. */
function errorList() {
  const list = element('ul'), node = element('div', 'errors', element('h3', '', 'Errors'), list);
  const row = () => {
    const reason = element('span'), rate = element('b'), total = element('span', 'note');
    return {
      node: element('li', '', reason, rate, total),
      update(error) {
        write(reason, error.reason.replaceAll('_', ' '));
        write(rate, `${short(error.rate)}/s`);
        write(total, `${short(error.total)} in all`);
      },
    };
  };
  return {
    node,
    update(pool, numbers) {
      const errors = Object.entries(pool.errors).map(
        ([reason, total]) => ({reason, total, rate: numbers?.reasons.get(reason)}));
      const replies = sum(Object.values(pool.requests).map((results) => results.error));
      errors.push({reason: 'error replies of servers', total: replies, rate: numbers?.serverErrors});
      const some = errors.filter((error) => error.total > 0).sort((a, b) => b.total - a.total);
      node.hidden = !some.length;
      keep(list, some, (error) => error.reason, row);
    },
  };
}

/** A long key is given with its length and only as far as it is kept; none at all if keys are not to be shown. */
const keyText = ({key, key_bytes: length}) => (length ? `${key}… (${length} bytes)` : key || NONE);

/** Hot keys with their share of the requests, big ones with their size. */
function keyLists() {
  const hot = element('ol', 'keys'), big = element('ol', 'keys'), none = element('p', 'note');
  const hotRow = () => {
    const key = element('bdi', 'key'), share = element('b'), server = element('bdi', 'note'), bar = element('i', 'bar');
    return {
      node: element('li', '', key, server, share, bar),
      update(entry) {
        writeName(key, keyText(entry));
        write(share, percent(entry.share));
        writeName(server, entry.server ?? '');
        bar.style.width = `${Math.min(100, entry.share * 100)}%`;
      },
    };
  };
  const bigRow = () => {
    const key = element('bdi', 'key'), size = element('b'), note = element('bdi', 'note');
    return {
      node: element('li', '', key, note, size),
      update({entry, now}) {
        writeName(key, keyText(entry));
        write(size, bytes(entry.bytes));
        write(note, `${visible(entry.command)}, ${duration(now - Date.parse(entry.at) / 1e3)} ago`);
      },
    };
  };
  const hotPart = element('div', '', element('h3', '', 'Hot keys'), hot);
  const bigPart = element('div', '', element('h3', '', 'Big keys'), big);
  return {
    node: element('div', 'side', hotPart, bigPart, none),
    update(found, now) {
      const hots = found?.hot ?? [], bigs = (found?.big ?? []).map((entry) => ({entry, now}));
      keep(hot, hots, (entry) => entry.key, hotRow);
      keep(big, bigs, ({entry}) => entry.key, bigRow);
      hotPart.hidden = !hots.length;
      bigPart.hidden = !bigs.length;
      write(none, hots.length || bigs.length ? '' : found ? 'No hot or big keys seen.' : 'Hot keys are not watched.');
    },
  };
}
