// What happened to a flow, the newest first: what milena log prints.
import {html, useEffect, useState} from './vendor/preact.js';
import {get, ofFlow} from './api.js';
import {clock, count, known, plural, words} from './format.js';

const most = 200;

export function Timeline({flow, signIn}) {
  const [entries, setEntries] = useState(null), [refusal, setRefusal] = useState(null), [asked, ask] = useState(0);
  useEffect(() => {
    const abort = new AbortController();
    setRefusal(null);
    get(ofFlow(flow, `log?last=${most}`), abort.signal).then(setEntries, failure => abort.signal.aborted || setRefusal(failure));
    return () => abort.abort();
  }, [flow, asked]);
  if (refusal) return html`<p class="notice ${refusal.status === 401 ? '' : 'bad'}">${refusal.message}</p>
    <p class="buttons after">${refusal.status === 401 && html`<button class="main" onClick=${() => signIn('The timeline is only for people whom this milena knows.')}>Sign in</button>`}
    <button onClick=${() => ask(asked + 1)}>Read it again</button></p>`;
  if (!entries) return html`<p class="empty">Reading the log …</p>`;
  return html`
    <div class="rows-tools"><span class="soft">${entries.length === most ? `The newest ${most} entries; milena log has all` : plural(entries.length, 'entry').replace('entrys', 'entries')}</span>
      <button onClick=${() => ask(asked + 1)}>Read again</button></div>
    ${entries.length === 0 ? html`<p class="empty">Nothing has happened yet that milena remembers.</p>` : html`<ol class="timeline">${[...entries].reverse().map((e, i) => html`<${Entry} key=${`${e.when}${i}`} entry=${e} />`)}</ol>`}`;
}

function Entry({entry: e}) {
  const {level, title, notes} = (tell[e.kind] ?? event)(e);
  return html`<li class=${level ?? ''}><span class="when"><time datetime=${e.when}>${clock(e.when)}</time></span><b>${title}</b>
    ${notes.filter(Boolean).map(text => html`<p class="soft">${text}</p>`)}</li>`;
}

const tell = {
  decision: ({decision: d, outcomes}) => ({
    level: 'warn', title: `${d.who}: ${words(d.what)} ${scopeOf(d.scope)}`,
    notes: [d.why, known(d.until) && `until ${clock(d.until)}`, ...(outcomes ?? []).map(o => `${o.instance}: ${words(o.result)}${o.detail ? `, ${o.detail}` : ''}`)],
  }),
  anomaly: ({anomaly: a}) => ({
    level: a.halted ? 'bad' : 'warn', title: `${words(a.kind)} in ${a.topic}-${a.partition}: ${words(a.action)}`,
    notes: [
      a.detail, a.from >= 0 && a.to > a.from && `source offsets ${count(a.from)} to ${count(a.to - 1)}`, a.halted && 'still halted',
      known(a.repaired) && `over since ${clock(a.repaired)}${a.repaired_by ? ` (${words(a.repaired_by)})` : ''}`,
    ],
  }),
  recovery: ({recovery: r}) => ({
    level: r.drilled && !r.drilled.passed ? 'bad' : 'good', title: `${words(r.what)} by ${r.who}: ${words(r.state)}`, notes: [`step ${words(r.step)}`],
  }),
};

// event is the start, stop, takeover or reload of an instance.
const event = ({kind, event: e}) => ({
  title: `${words(kind)}${e?.instance ? ` of ${e.instance}` : ''}${e?.count > 1 ? `, ${e.count} times` : ''}`, notes: [e?.who && `by ${e.who}`, e?.why, e?.detail],
});

function scopeOf(scope) {
  if (!scope || typeof scope === 'string') return scope ?? '';
  const {kind, topic, partition, group} = scope;
  return kind === 'partition' ? `${topic}-${partition ?? 0}` : [kind, topic ?? group].filter(Boolean).join(' ');
}
