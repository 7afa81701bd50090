// The plots of a flow over the last hour. They share their time axis: dragging over one zooms all, and a double click goes back.
import {html, useEffect, useRef, useState} from './vendor/preact.js';
import uPlot from './vendor/uplot.js';
import {byteRate, clock, count, known, plural, seconds} from './format.js';
import {link} from './route.js';

// color is what a variable of style.css comes to in the present theme. A canvas does not know light-dark(), so an element works it out.
function color(name) {
  const probe = document.createElement('i');
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}
const tickSize = () => getComputedStyle(document.documentElement).getPropertyValue('--tick').trim();

// Plot draws columns of numbers over times in seconds, between the two ends of a range. A null is a gap in the line: nobody knows what was there.
function Plot({title, times, columns, text, say = text, range: [from, to], zoom, theme}) {
  const box = useRef(), chart = useRef();
  useEffect(() => {
    const made = chart.current = new uPlot(options(box.current, columns, text, zoom), [[], ...columns.map(() => [])], box.current);
    const resized = new ResizeObserver(([entry]) => made.setSize({width: Math.floor(entry.contentRect.width), height: heightOf(box.current)}));
    resized.observe(box.current);
    return () => { resized.disconnect(); made.destroy(); };
  }, [theme]);
  useEffect(() => chart.current.batch(() => {
    chart.current.setData([times, ...columns.map(c => c.values)], false);
    chart.current.setScale('x', {min: from, max: to});
  }), [times, from, to, theme]);

  const newest = columns[0].values.at(-1), most = Math.max(...columns[0].values.filter((v, i) => known(v) && times[i] >= from && times[i] <= to));
  const highest = Number.isFinite(most) ? `highest ${text(most)}` : '';
  return html`<figure class="plot">
    <figcaption><h4>${title}</h4><b>${say(newest)}</b><span class="soft">${highest}</span>
      ${columns.length > 1 && html`<span class="legend">${columns.map((c, i) => html`<span class=${`key key-${i}`}>${c.name}</span>`)}</span>`}</figcaption>
    <div class="canvas" ref=${box} role="img" aria-label=${`${title} over time: now ${say(newest)} ${highest}`}></div>
  </figure>`;
}

const heightOf = box => Math.max(120, box.clientHeight);

function options(box, columns, text, zoom) {
  const tick = parseFloat(tickSize());
  const axis = {stroke: color('--soft'), grid: {stroke: color('--line'), width: 1}, ticks: {show: false}, font: `${tickSize()} system-ui, sans-serif`};
  const strokes = [color('--line-0'), color('--line-1')];
  return {
    width: box.clientWidth, height: heightOf(box), padding: [8, 8, 0, 0],
    legend: {show: false},
    cursor: {
      y: false, points: {size: 6}, drag: {x: true, y: false, setScale: false},
      sync: {key: 'flow', filters: {pub: type => type === 'mousemove' || type === 'mouseleave'}}, // the range is shared by Plots
      bind: {dblclick: () => () => { zoom(null); return null; }},
    },
    scales: {y: {range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1]}},
    axes: [{...axis, space: 5 * tick, size: 2.6 * tick, values: '{HH}:{mm}'}, {...axis, size: 6.8 * tick, space: 3 * tick, values: (_, ticks) => ticks.map(v => text(v))}],
    series: [{}, ...columns.map((_, i) => ({
      stroke: strokes[i], width: 1.75, fill: i === 0 && columns.length === 1 ? color('--wash') : undefined, points: {show: false}, spanGaps: false,
    }))],
    hooks: {
      setSelect: [u => {
        const {left, width} = u.select;
        if (width < 2) return;
        zoom([u.posToVal(left, 'x'), u.posToVal(left + width, 'x')]);
        u.setSelect({left: 0, width: 0}, false);
      }],
      init: [u => {
        const tip = document.createElement('div');
        tip.className = 'tip';
        tip.hidden = true;
        u.over.append(tip);
        u.tip = tip;
      }],
      setCursor: [u => showTip(u, columns, text)],
    },
  };
}

function showTip(u, columns, text) {
  const i = u.cursor.idx;
  u.tip.hidden = !known(i) || u.cursor.left < 0;
  if (u.tip.hidden) return;
  const at = new Date(u.data[0][i] * 1000).toLocaleTimeString('en-GB');
  u.tip.textContent = `${at}  ` + columns.map((c, n) => `${columns.length > 1 ? c.name + ' ' : ''}${text(u.data[n + 1][i])}`).join('  ');
  u.tip.classList.toggle('left', u.cursor.left > u.over.clientWidth / 2);
}

const lengths = [5, 15, 60]; // minutes

// Plots are those of one flow, over the time that the URL says. History has columns, one value per step.
export function Plots({history: h, route, theme, now}) {
  const minutes = lengths.find(n => String(n) === route.minutes) ?? 60, [zoomed, zoom] = useState(null);
  useEffect(() => zoom(null), [minutes]);
  if (!h) return html`<p class="empty">Loading the last hour …</p>`;
  const shared = {times: h.t, range: zoomed ?? [now - minutes * 60, now], zoom, theme};
  return html`
    <nav class="range" aria-label="Time range">${lengths.map(n => html`
      <a key=${n} href=${link({minutes: n === 60 ? '' : String(n)})} aria-current=${n === minutes && !zoomed ? 'true' : undefined} onClick=${() => zoom(null)}>${n === 60 ? '1 hour' : `${n} min`}</a>`)}
      <span class="hint soft">${zoomed ? html`${clock(zoomed[0] * 1000)} to ${clock(zoomed[1] * 1000)} <button onClick=${() => zoom(null)}>Back to now</button>` : 'drag over a plot to zoom, double-click to go back'}</span></nav>
    <div class="plots">
      <${Plot} title="Throughput" columns=${[{values: h.bytes}]} text=${byteRate} ...${shared} />
      <${Plot} title="Lag" columns=${[{values: h.lag_records}]} text=${count} say=${n => plural(n, 'record')} ...${shared} />
      <${Plot} title="Latency" columns=${[{name: 'median', values: h.latency_p50}, {name: '99 %', values: h.latency_p99}]} text=${seconds} ...${shared} />
      <${Plot} title="A failover would lose (RPO)" columns=${[{values: h.rpo_seconds}]} text=${seconds} ...${shared} />
    </div>`;
}
