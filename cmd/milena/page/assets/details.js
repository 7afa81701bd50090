// What is known of a flow beside its plots: what people decided, recoveries and drills, and the instances that share it.
import {html} from './vendor/preact.js';
import {Command} from './attention.js';
import {bytes, byteRate, clock, count, known, plural, seconds, unknown, words} from './format.js';
import {cell} from './tables.js';

export function Details({flow: f}) {
  const lists = [
    ['A failover would lose most of', f.rpo?.topics],
    ['Throttled by quotas of brokers', f.throttle?.brokers],
    ['Not ready', f.not_ready],
  ].filter(([, texts]) => texts?.length);
  return html`
    ${f.verdict?.command && f.state !== 'source_dark' && html`<section class="block"><h4>To move clients to ${f.target}</h4><${Command} text=${f.verdict.command} /></section>`}
    ${f.decisions?.length > 0 && html`<section class="block"><h4>Decided by people</h4><ul class="plainlist">${f.decisions.map(d => html`
      <li key=${d.sentence}>${d.sentence}${d.command && html`<${Command} text=${d.command} />`}</li>`)}</ul></section>`}
    ${lists.map(([name, texts]) => html`<section class="block" key=${name}><h4>${name}</h4><ul class="plainlist soft">${texts.map(text => html`<li key=${text}>${text}</li>`)}</ul></section>`)}
    <dl class="facts">${facts(f).filter(Boolean).map(([name, value, level]) => html`<div key=${name}><dt>${name}</dt><dd class=${level ?? ''}>${value}</dd></div>`)}</dl>`;
}

function facts(f) {
  const {rpo = {}, groups: g, acls, verify: v, last_drill: drill} = f;
  return [
    ['RPO objective', known(rpo.objective_seconds) ? `${seconds(rpo.objective_seconds)}${rpo.objective_missed ? ', missed' : ', kept'}` : 'none set', rpo.objective_missed ? 'bad' : ''],
    ['RTO objective', known(f.rto_objective_seconds) ? seconds(f.rto_objective_seconds) : 'none set'],
    ['Last drill', drill ? `${drill.passed ? 'passed' : plural(drill.findings, 'finding')}, ${clock(drill.when)} by ${drill.who}` : 'never', drill && !drill.passed ? 'bad' : ''],
    drill && known(drill.rto_seconds) && ['A failover took, in the drill', seconds(drill.rto_seconds)],
    ['Source last seen', cell(rpo.seen_at, clock)],
    ['Copied since the start', f.copied ? `${count(f.copied.records)} records, ${bytes(f.copied.bytes)}` : unknown],
    ['Consumer groups', g ? `${plural(g.groups, 'group')}, ${plural(g.positions, 'offset')}${g.refused ? `, ${count(g.refused)} not committed` : ''}` : unknown, g?.refused ? 'warn' : ''],
    acls && ['ACLs', `${count(acls.in_step)} in step${acls.refused ? `, ${count(acls.refused)} refused` : ''}`, acls.refused ? 'warn' : ''],
    v && ['Verified in the background', `${plural(v.verified_partitions, 'partition')}${v.differing_partitions ? `, ${count(v.differing_partitions)} differ` : ', none differs'}`, v.differing_partitions ? 'bad' : ''],
    known(f.throttle?.bytes_per_second) && ['Limited to', byteRate(f.throttle.bytes_per_second), 'warn'],
    ['Source cluster id', f.source_cluster_id || unknown],
    ['Target cluster id', f.target_cluster_id || unknown],
    ['Fence', f.fence ?? unknown],
  ];
}

export function Instances({flow: f}) {
  const mine = f.instance ?? {}, list = f.instances ?? [];
  return html`
    ${mine.problem && html`<p class="notice bad">${mine.problem}</p>`}
    ${list.length === 0 ? html`<p class="sentence">One instance runs this flow, with ${cell(mine.held, count)} of ${cell(mine.shards, n => plural(n, 'shard'))}.</p>` : html`
    <div class="wide-scroll" tabindex="0" role="region" aria-label="Table of instances"><table class="instances">
      <thead><tr><th scope="col">instance</th><th scope="col">host</th><th scope="col">version</th><th scope="col" class="n">shards</th><th scope="col"></th></tr></thead>
      <tbody>${list.map(m => html`<tr key=${m.name}><td>${m.name}${m.this ? html` <span class="badge">this page</span>` : ''}</td><td>${m.host || unknown}</td><td>${m.version || unknown}</td>
        <td class="n">${cell(m.shards, count)}</td><td class="share">${known(m.shards) && mine.shards > 0 && html`<meter min="0" max=${mine.shards} value=${m.shards} aria-label=${`shards of ${m.name}`}></meter>`}</td></tr>`)}</tbody>
    </table></div>`}
    <dl class="facts">
      <div><dt>This instance</dt><dd>${mine.id || 'the only one'}: ${words(mine.state)}</dd></div>
      <div><dt>Its shards</dt><dd>${cell(mine.held, count)} of ${cell(mine.shards, count)}</dd></div>
      <div><dt>Syncs topics, groups and ACLs</dt><dd>${known(mine.syncs) ? mine.syncs ? 'yes' : 'no, another instance does' : unknown}</dd></div>
    </dl>`;
}
