// Parts of the page. Everything that came from the proxy goes in as text: `append` and `textContent` make no HTML.

/** Points of a sparkline, a second each: it begins with the short time, and grows to the long one. */
const SHORT_TIME = 60, LONG_TIME = 300;

function element(tag, classes, ...children) {
  const made = document.createElement(tag);
  if (classes) made.className = classes;
  made.append(...children);
  return made;
}

function drawing(tag, attributes, ...children) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function hint(node, text) {
  if (node.title !== text) node.title = text;
}

/** A name or a key: cut if it is too long for its place, whole when pointed at. */
function writeName(node, name) {
  const text = visible(name);
  write(node, text);
  hint(node, text);
}

/**
 * Makes the children of a node those of a list. What is there already, by its key, stays the same node: a selection, the
 * focus and what a screen reader has read survive.
 */
function keep(parent, items, key, make) {
  const old = parent.kept ?? new Map(), kept = new Map();
  let next = parent.firstElementChild;
  items.forEach((item, index) => {
    let id = key(item, index);
    while (kept.has(id)) id += ' again';
    const row = old.get(id) ?? make(item);
    kept.set(id, row);
    if (row.node === next) next = next.nextElementSibling;
    else parent.insertBefore(row.node, next);
    row.update(item, index);
  });
  for (const [id, row] of old) if (!kept.has(id)) row.node.remove();
  parent.kept = kept;
}

/** The last minutes of a number; null where nothing is known. */
class Trail {
  values = [];

  add(value) {
    this.values.push(value);
    if (this.values.length > LONG_TIME) this.values.shift();
  }

  get known() {
    return this.values.filter((value) => value != null);
  }
}

/** A line without axes: its right end is now, its top the most of the time shown, or `top`. */
function sparkline(tone) {
  const line = drawing('path', {class: 'line'}), area = drawing('path', {class: 'area'});
  const node = drawing('svg', {
    class: `spark ${tone}`, preserveAspectRatio: 'none', 'aria-hidden': 'true',
  }, area, line);
  const update = ({values}, top) => {
    const width = Math.max(SHORT_TIME, values.length);
    node.setAttribute('viewBox', `0 0 ${width} 100`);
    const height = (value) => (98 - 94 * Math.min(1, value / (top || 1))).toFixed(1);
    let path = '', filled = '', run = [];
    const close = () => {
      if (run.length > 1) {
        const points = run.map(([x, y]) => `${x} ${y}`).join('L');
        path += `M${points}`;
        filled += `M${run[0][0]} 100L${points}L${run[run.length - 1][0]} 100Z`;
      }
      run = [];
    };
    values.forEach((value, index) => {
      if (value == null) close();
      else run.push([width - values.length + index + 1, height(value)]);
    });
    close();
    line.setAttribute('d', path);
    area.setAttribute('d', filled);
    // A line along the bottom is no news, whatever it is about.
    node.classList.toggle('nothing', !values.some(Boolean));
  };
  return {node, update};
}

/** A number with its name, its last minutes and a word about it. */
function tile(name, about, {tone = 'plain', show, top}) {
  const value = element('dd', 'value'), note = element('dd', 'note');
  const trail = new Trail(), spark = sparkline(tone);
  const node = element('div', 'tile', element('dt', '', name), value, note, element('dd', 'chart', spark.node));
  node.title = about;
  return {
    node,
    /** `moment`: what the last second adds to the line. */
    update(text, moment, words) {
      trail.add(moment);
      write(value, text);
      const most = Math.max(0, ...trail.known);
      write(note, words ?? (most > 0 ? `max ${show(most)}` : ''));
      spark.update(trail, top ?? most);
    },
    gap: () => trail.add(null),
    /** The least of the time shown. */
    least: () => (trail.known.length ? `min ${show(Math.min(...trail.known))}` : ''),
  };
}

/** A time of day on the reader's clock, with the date if it is not today's. */
function clock(stamp) {
  const at = new Date(stamp);
  if (isNaN(at)) return '';
  const time = at.toLocaleTimeString([], {hour12: false});
  return at.toDateString() === new Date().toDateString() ? time : `${at.toLocaleDateString()} ${time}`;
}
