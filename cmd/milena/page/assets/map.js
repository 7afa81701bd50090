// A small map: clusters are boxes, flows are arrows. The list of flows says the same in words, so the drawing is one image for a screen reader.
import {html} from './vendor/preact.js';
import {byteRate, words} from './format.js';
import {levelOf} from './verdict.js';

const box = {width: 132, height: 40}, gap = 26, wide = 400;

// place puts clusters that are only copied from at the left, those that are only copied to at the right, and others where they are met first.
function place(flows) {
  const places = new Map(), columns = [[], []];
  const put = (name, column) => {
    if (places.has(name)) return;
    places.set(name, {column, row: columns[column].length});
    columns[column].push(name);
  };
  for (const f of flows) {
    put(f.source, 0);
    put(f.target, 1);
  }
  const rows = Math.max(...columns.map(c => c.length));
  for (const p of places.values()) {
    const free = rows - columns[p.column].length; // a short column is centred
    p.x = p.column === 0 ? 0 : wide - box.width;
    p.y = (p.row + free / 2) * (box.height + gap);
  }
  return {places, height: rows * (box.height + gap) - gap};
}

export function ClusterMap({flows, selected}) {
  const {places, height} = place(flows), pairs = new Map();
  const label = flows.map(f => `${f.source} to ${f.target}: ${words(f.state)}`).join('; ');
  return html`<svg class="map" viewBox=${`-1 -12 ${wide + 2} ${Math.max(height, box.height) + 24}`} role="img" aria-label=${`Map of clusters and flows. ${label}`}>
    ${flows.map(f => {
      const key = [f.source, f.target].sort().join('\n'), n = pairs.get(key) ?? 0; // two clusters may have a flow each way
      pairs.set(key, n + 1);
      return html`<${Arrow} key=${f.flow} flow=${f} from=${places.get(f.source)} to=${places.get(f.target)} shift=${n * 20} selected=${f.flow === selected} />`;
    })}
    ${[...places].map(([name, p]) => html`<g key=${name} transform=${`translate(${p.x} ${p.y})`}>
      <rect class="cluster" width=${box.width} height=${box.height} rx="8" />
      <text class="cluster-name" x=${box.width / 2} y=${box.height / 2 + 5} text-anchor="middle">${fit(name, 15)}</text></g>`)}
  </svg>`;
}

const fit = (text, letters) => text.length > letters ? text.slice(0, letters - 1) + '…' : text;

function Arrow({flow: f, from, to, shift, selected}) {
  const right = to.x > from.x, x1 = from.x + (right ? box.width : 0), x2 = to.x + (right ? 0 : box.width);
  const y1 = from.y + box.height / 2 + shift, y2 = to.y + box.height / 2 + shift, side = right ? -1 : 1;
  const bend = from.x === to.x ? 70 : 0, middle = (x1 + x2) / 2 + bend;
  return html`<g class=${`arrow ${levelOf(f)} ${selected ? 'selected' : ''}`}>
    <path d=${`M${x1} ${y1} C${middle} ${y1} ${middle} ${y2} ${x2 + side * 7} ${y2}`} />
    <polygon points=${`${x2},${y2} ${x2 + side * 9},${y2 - 5} ${x2 + side * 9},${y2 + 5}`} />
    <text x=${middle} y=${(y1 + y2) / 2 - 7} text-anchor="middle">${f.state === 'copying' ? byteRate(f.throughput?.bytes_per_second) : words(f.state)}</text>
  </g>`;
}
