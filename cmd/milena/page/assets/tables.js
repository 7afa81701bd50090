// The tables of a flow: topics, partitions and groups.
import {html} from './vendor/preact.js';
import {ofFlow} from './api.js';
import {count, known, seconds, unknown, words} from './format.js';
import {Rows} from './rows.js';

// cell shows a value, and marks what is not known.
export const cell = (value, text) => known(value) ? text(value) : html`<span class="unknown">${unknown}</span>`;

const levels = {halted: 'bad', differs: 'bad', waiting: 'warn', paused: 'warn', throttled: 'warn', stopped: 'warn', catching_up: 'warn', refused: 'warn'};
const State = ({state, note, title}) => html`<span class=${levels[state] ?? ''} title=${title ?? note ?? ''}>${words(state)}${note ? html`<span class="soft"> ${note}</span>` : ''}</span>`;

const lag = [
  {key: 'lag_records', name: 'lag, records', width: 'w-s', number: true, sortable: true, cell: r => cell(r.lag_records, count)},
  {key: 'lag_seconds', name: 'lag, time', width: 'w-s', number: true, sortable: true, cell: r => cell(r.lag_seconds, seconds)},
];

// menu is the column with the orders about a row; there is none for a milena that takes no orders.
function menu(can, order, flow, nameOf, scopeOf) {
  if (!can) return [];
  const verbsOf = row => row.state === 'halted' ? ['retry', 'pause'] : row.state === 'paused' ? ['resume'] : ['pause'];
  return [{
    key: 'menu', name: html`<span class="sr">Orders</span>`, width: 'w-m',
    cell: row => verbsOf(row).map(verb => html`<button key=${verb} class="plain rowmenu" aria-label=${`${verb} ${nameOf(row)}`} onClick=${() => order({verb, flow, scope: scopeOf(row)})}>${verb}</button>`),
  }];
}

export function Topics({flow: f, route, can, order}) {
  const columns = [
    {key: 'topic', name: 'topic', width: 'w-l', sortable: true, cell: r => html`<span title=${r.topic}>${r.topic}</span>`},
    {key: 'target_topic', name: `topic on ${f.target}`, width: 'w-l', cell: r => html`<span title=${r.target_topic}>${cell(r.target_topic, String)}</span>`},
    {key: 'state', name: 'state', width: 'w-m', sortable: true, cell: r => html`<${State} state=${r.state} note=${r.note} />`},
    {key: 'partitions', name: 'partitions', width: 'w-s', number: true, sortable: true, cell: r => cell(r.partitions, count)},
    {key: 'attention', name: 'need attention', width: 'w-m', number: true, sortable: true, cell: r => r.attention ? html`<span class="warn">${count(r.attention)}</span>` : count(r.attention)},
    ...lag,
    ...menu(can, order, f.flow, r => `topic ${r.topic}`, r => ({topics: [r.topic]})),
  ];
  return html`<${Rows} path=${ofFlow(f.flow, 'topics')} columns=${columns} route=${route} noun="topic" defaultSort="topic" />`;
}

export function Partitions({flow: f, route, can, order}) {
  const columns = [
    {key: 'topic', name: 'topic', width: 'w-l', sortable: true, cell: r => html`<span title=${r.topic}>${r.topic}</span>`},
    {key: 'partition', name: 'partition', width: 'w-s', number: true, sortable: true, cell: r => r.partition},
    {key: 'state', name: 'state', width: 'w-m', sortable: true, cell: r => html`<${State} state=${r.state} note=${r.note} title=${r.attention} />`},
    {key: 'acked', name: 'copied up to offset', width: 'w-m', number: true, sortable: true, cell: r => cell(r.acked, count)},
    {key: 'source_end', name: `end on ${f.source}`, width: 'w-m', number: true, sortable: true, cell: r => cell(r.source_end, count)},
    ...lag,
    ...menu(can, order, f.flow, r => `partition ${r.topic}-${r.partition}`, r => ({partitions: [`${r.topic}-${r.partition}`]})),
  ];
  return html`<${Rows} path=${ofFlow(f.flow, 'partitions')} columns=${columns} route=${route} noun="partition" defaultSort="topic" />`;
}

export function Groups({flow: f, route}) {
  const columns = [
    {key: 'group', name: 'group', width: 'w-l', sortable: true, cell: r => html`<span title=${r.group}>${r.group}</span>`},
    {key: 'state', name: 'state', width: 'w-s', sortable: true, cell: r => html`<${State} state=${r.state} />`},
    {key: 'lag_records', name: `lag on ${f.target}, records`, width: 'w-m', number: true, sortable: true, cell: r => cell(r.lag_records, count)},
    {key: 'refused', name: 'partitions refused', width: 'w-m', number: true, sortable: true, cell: r => cell(r.refused, count)},
    {key: 'reason', name: 'reason', width: 'w-l', cell: r => html`<span class="soft" title=${[r.reason, r.detail].filter(Boolean).join(': ')}>${r.reason ?? ''}</span>`},
  ];
  return html`<${Rows} path=${ofFlow(f.flow, 'groups')} columns=${columns} route=${route} noun="group" defaultSort="group" />`;
}
