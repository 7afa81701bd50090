// One flow: its answers, and below them its plots, tables, timeline and instances, one tab at a time.
import {html} from './vendor/preact.js';
import {orders} from './actions.js';
import {Command} from './attention.js';
import {Details, Instances} from './details.js';
import {compact, known, plural} from './format.js';
import {Plots} from './plots.js';
import {link} from './route.js';
import {Groups, Partitions, Topics} from './tables.js';
import {Timeline} from './timeline.js';
import {answersOf, levelOf, stateName} from './verdict.js';

export const Pill = ({level, children}) => html`<span class=${`pill ${level}`}><span class="dot" aria-hidden="true"></span>${children}</span>`;

export function Answers({flow: f, now}) {
  return html`<dl class="answers">${answersOf(f, now).map(a => html`
    <div key=${a.question} class=${`answer ${a.level}`}>
      <dt>${a.question}</dt>
      <dd><span class="big">${a.answer}</span>${a.notes.filter(Boolean).map(n => html`<span class="note">${n}</span>`)}${a.command && html`<${Command} text=${a.command} />`}</dd>
    </div>`)}</dl>`;
}

const tabs = {overview: 'Overview', topics: 'Topics', partitions: 'Partitions', groups: 'Groups', timeline: 'Timeline', instances: 'Instances'};

export function Flow({flow: f, now, route, history, theme, can, order, signIn}) {
  const tab = tabs[route.tab] ? route.tab : 'overview', shared = {flow: f, route, can, order};
  const counts = {topics: f.topics_total, partitions: f.partitions?.total, groups: f.groups_total, instances: f.instances?.length || undefined};
  const part = f.instance?.share < 1;
  return html`<section class="flow" aria-labelledby="flow-name">
    <div class="flow-head">
      <h2 id="flow-name">${f.source} <span aria-label="to">→</span> ${f.target}</h2>
      <span class="soft">flow ${f.flow}</span><${Pill} level=${levelOf(f)}>${stateName(f)}</${Pill}>
      ${can && html`<div class="buttons">${Object.entries(orders).map(([verb, o]) => html`<button key=${verb} onClick=${() => order({verb, flow: f.flow})}>${o.name}</button>`)}</div>`}
    </div>
    ${f.verdict?.sentence && html`<p class="sentence">${f.verdict.sentence}</p>`}
    ${f.recovery && html`<p class="notice">${f.recovery.sentence}</p>`}
    ${f.config_refused && html`<p class="notice bad">The config file is refused, and the config before it stays in force: ${f.config_refused}</p>`}
    ${part && html`<p class="notice">These figures are about instance ${f.instance.id}, which holds ${f.instance.held} of ${plural(f.instance.shards, 'shard')}. The command <code>milena status</code> shows all instances.</p>`}
    <nav class="tabs" aria-label=${`Views of flow ${f.flow}`}>${Object.entries(tabs).map(([key, name]) => html`
      <a key=${key} href=${link({flow: f.flow, tab: key === 'overview' ? '' : key, q: '', sort: '', desc: ''})} aria-current=${key === tab ? 'page' : undefined}>${name}${
        known(counts[key]) ? html`<span class="badge">${compact(counts[key])}</span>` : ''}</a>`)}</nav>
    <div class="tab" key=${tab + f.flow}>
      <h3 class="sr">${tabs[tab]}</h3>
      ${tab === 'overview' && html`<${Plots} history=${history} route=${route} theme=${theme} now=${now / 1000} /><${Details} flow=${f} />`}
      ${tab === 'topics' && html`<${Topics} ...${shared} />`}
      ${tab === 'partitions' && html`<${Partitions} ...${shared} />`}
      ${tab === 'groups' && html`<${Groups} ...${shared} />`}
      ${tab === 'timeline' && html`<${Timeline} flow=${f.flow} signIn=${signIn} />`}
      ${tab === 'instances' && html`<${Instances} flow=${f} />`}
    </div>
  </section>`;
}
