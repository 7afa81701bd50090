// The page: what the server says, what the reader chose, and how the parts are put together. Everything that is shown is text of elements and never
// markup, because names of topics, groups and instances come from other clusters.
import {html, render, useEffect, useState} from './vendor/preact.js';
import {Login, Order} from './actions.js';
import {call} from './api.js';
import {Attention} from './attention.js';
import {Answers, Flow, Pill} from './flow.js';
import {clock, plural, seconds} from './format.js';
import {useHistory} from './history.js';
import {listen} from './live.js';
import {ClusterMap} from './map.js';
import {link, route as current} from './route.js';
import {levelOf, needing, stateName} from './verdict.js';

function useRoute() {
  const [route, set] = useState(current);
  useEffect(() => {
    const changed = () => set(current());
    addEventListener('hashchange', changed);
    return () => removeEventListener('hashchange', changed);
  }, []);
  return route;
}

// The theme is the system's unless the reader chose one, which this browser remembers.
function useTheme() {
  const [chosen, choose] = useState(localStorage.getItem('theme') ?? ''), dark = matchMedia('(prefers-color-scheme: dark)'), [system, set] = useState(dark.matches);
  useEffect(() => {
    const changed = () => set(dark.matches);
    dark.addEventListener('change', changed);
    return () => dark.removeEventListener('change', changed);
  }, []);
  if (chosen) document.documentElement.dataset.theme = chosen; else delete document.documentElement.dataset.theme;
  const pick = theme => {
    if (theme) localStorage.setItem('theme', theme); else localStorage.removeItem('theme');
    choose(theme);
  };
  return [chosen, pick, chosen || (system ? 'dark' : 'light')];
}

// useClock is the time of the server, as the clock of the reader may be wrong. It goes on between two views, because an age does; not while the page is
// not live, because nobody knows how old things are then.
function useClock() {
  const [clock, set] = useState({now: Date.now(), ahead: 0});
  useEffect(() => {
    const timer = setInterval(() => document.hidden || set(c => ({...c, now: Date.now() + c.ahead})), 1000);
    return () => clearInterval(timer);
  }, []);
  return [clock.now, server => set({now: server, ahead: server - Date.now()})];
}

function App() {
  const route = useRoute(), [chosenTheme, chooseTheme, theme] = useTheme();
  const [view, setView] = useState(null), [line, setLine] = useState({live: false, since: null, next: null}), [session, setSession] = useState(null);
  const [dialog, setDialog] = useState(null), [reconnect, setReconnect] = useState(null), [now, setClock] = useClock(), [seenAt, setSeenAt] = useState(null);
  useEffect(() => {
    const now = listen({onView: v => { setView(v); setClock(Date.parse(v.now)); setSeenAt(v.now); }, onLine: setLine, onSession: setSession});
    setReconnect(() => now);
  }, []);

  const flows = view?.flows ?? [], flow = flows.find(f => f.flow === route.flow) ?? flows[0];
  const history = useHistory(flow?.flow, view, line.live);
  const locked = session?.login_required_to_read && !session.user;
  const shut = () => setDialog(null), signIn = why => setDialog({login: true, why});
  const order = wanted => session?.user || !session ? setDialog({order: wanted}) : setDialog({login: true, then: wanted, why: 'Orders need somebody who gives them.'});
  const signedIn = async () => {
    const then = dialog?.then;
    setDialog(then ? {order: then} : null);
    await reconnect();
  };
  const signOut = async () => {
    await call('DELETE', '/api/v1/session').catch(() => {});
    setView(null);
    await reconnect();
  };
  const summary = summaryOf(view, line);
  useEffect(() => { document.title = titleOf(view, line); }, [view, line]);

  return html`
    <a class="skip sr" href="#main" onClick=${e => { e.preventDefault(); document.getElementById('main').focus(); }}>Skip to the content</a>
    <header class="top">
      <h1><img src="/assets/icon.svg" alt="" />milena</h1>
      <span class="soft">${[view?.instance, view?.version].filter(Boolean).join(' · ')}</span>
      <div class="end">
        <${Line} line=${line} seenAt=${seenAt} again=${reconnect} locked=${locked} />
        <label><span class="sr">Theme</span><select value=${chosenTheme} onChange=${e => chooseTheme(e.target.value)}>
          <option value="">Auto</option><option value="light">Light</option><option value="dark">Dark</option></select></label>
        ${session?.user ? html`<button onClick=${signOut}>Sign out ${session.user}</button>` : session?.orders || session?.login_required_to_read ? html`<button onClick=${() => signIn()}>Sign in</button>` : ''}
      </div>
    </header>
    <p class="sr" role="status">${summary}</p>
    <main id="main" tabindex="-1">
      ${locked ? html`<section class="card flow"><h2>Sign in to see the status</h2><p class="sentence">This milena shows its status only to people whom it knows.</p><button class="main" onClick=${() => signIn()}>Sign in</button></section>`
        : !view ? html`<p class="empty">${line.next ? 'milena does not answer.' : 'Loading …'}</p>`
        : html`<${Body} view=${view} flow=${flow} now=${now} stale=${!line.live} route=${route} history=${history} theme=${theme} session=${session} order=${order} signIn=${signIn} />`}
    </main>
    ${dialog?.login && html`<${Login} why=${dialog.why} onDone=${signedIn} onClose=${shut} />`}
    ${dialog?.order && html`<${Order} ...${dialog.order} onClose=${shut} onRefused=${() => setDialog({login: true, then: dialog.order, why: 'The session is over.'})} />`}`;
}

// firstVersion is the one that the server had when it served this page.
let first;
const firstVersion = version => first ??= version;

// Body is all that the server says.
function Body({view, flow, now, stale, route, history, theme, session, order, signIn}) {
  const flows = view.flows, many = flows.length > 1;
  return html`
    ${view.not_ready?.length > 0 && flows.length === 0 && html`<div class="notice"><h2>Not ready</h2><ul class="said">${view.not_ready.map(text => html`<li key=${text}>${text}</li>`)}</ul></div>`}
    ${view.version !== firstVersion(view.version) && html`<p class="notice">milena was changed to ${view.version}, and this page is of the version before. <button onClick=${() => location.reload()}>Load it again</button></p>`}
    <div class=${stale ? 'stack stale' : 'stack'}>
      <${Attention} flows=${flows} />
      <div class=${many ? 'fleet many' : 'fleet'}>
        <div class="flows">${flows.map(f => html`<article key=${f.flow} class=${`card flow-row ${many && f === flow ? 'selected' : ''}`} aria-label=${`flow ${f.flow}`}>
          ${many && html`<h2><a href=${link({flow: f.flow, q: '', sort: '', desc: ''})} aria-current=${f === flow ? 'true' : undefined}>${f.source} → ${f.target}</a><span class="soft">${f.flow}</span><${Pill} level=${levelOf(f)}>${stateName(f)}</${Pill}></h2>`}
          <${Answers} flow=${f} now=${now} /></article>`)}</div>
        ${flows.length > 0 && html`<aside class="card mapbox" aria-label="Map"><${ClusterMap} flows=${flows} selected=${flow?.flow} /></aside>`}
      </div>
      ${flow && html`<div class="card"><${Flow} flow=${flow} now=${now} route=${route} history=${history} theme=${theme} can=${session?.orders} order=${order} signIn=${signIn} /></div>`}
    </div>`;
}

// Line says whether what is shown is of now.
function Line({line, seenAt, again, locked}) {
  const [, tick] = useState(0);
  useEffect(() => {
    if (line.live) return;
    const timer = setInterval(() => tick(n => n + 1), 1000);
    return () => clearInterval(timer);
  }, [line.live]);
  if (line.live) return html`<span class="line good"><span class="dot" aria-hidden="true"></span>live</span>`;
  if (locked) return html`<span class="line soft">not signed in</span>`;
  if (!line.since) return html`<span class="line soft">connecting …</span>`;
  const wait = Math.max(0, Math.ceil((line.next - Date.now()) / 1000));
  return html`<span class="line bad"><span class="dot" aria-hidden="true"></span>not live since ${clock(seenAt ?? line.since)}${line.next ? html`, next try in ${seconds(wait)}` : ', trying …'}</span>
    <button onClick=${again}>Try now</button>`;
}

// summaryOf is what a screen reader announces: it changes only when the state does, and not with each number.
function summaryOf(view, line) {
  if (!view) return '';
  const flows = view.flows.map(f => `${f.flow}: ${stateName(f)}, ${needing(f) ? `${plural(needing(f), 'thing')} need attention` : 'nothing needs attention'}`);
  return [line.live ? '' : 'The page is not live.', ...flows].filter(Boolean).join(' ');
}

function titleOf(view, line) {
  const n = view?.flows.reduce((sum, f) => sum + needing(f), 0) ?? 0, bad = view?.flows.some(f => levelOf(f) === 'bad');
  return `${!line.live && view ? '(not live) ' : ''}${n ? `${bad ? '■' : '▲'} ${n} · ` : ''}milena`;
}

render(html`<${App} />`, document.getElementById('page'));
