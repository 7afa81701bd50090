// What needs somebody, the worst first: what, where, why, and the command that mends it.
import {html, useEffect, useRef, useState} from './vendor/preact.js';
import {plural, sentence} from './format.js';
import {inOrder} from './verdict.js';

// Few are shown at first, so that the four answers below stay in sight.
const shownAtFirst = matchMedia('(max-width: 760px)').matches ? 1 : 2;

const levels = {bad: 'bad', warning: 'warn', notice: 'soft'};

export function Attention({flows}) {
  const [all, setAll] = useState(false);
  const list = inOrder(flows.flatMap(f => (f.attention ?? []).map(a => ({...a, flow: f.flow}))));
  if (list.length === 0) return null;
  const shown = all ? list : list.slice(0, shownAtFirst), hidden = list.length - shown.length;
  const unlisted = flows.reduce((sum, f) => sum + (f.attention_more ?? 0), 0);
  return html`<section class="card attention" aria-labelledby="attention">
    <h2 id="attention">${list[0].severity === 'notice' ? 'To be known' : 'Needs attention'}</h2>
    <ul>${shown.map(a => html`<${Item} key=${[a.flow, a.what, a.where, a.cause].join('\n')} item=${a} many=${flows.length > 1} />`)}</ul>
    ${unlisted > 0 && (all || hidden === 0) && html`<p class="more soft">And ${plural(unlisted, 'more partition')}: see the tab Partitions, sorted by state.</p>`}
    ${(hidden > 0 || all) && list.length > shownAtFirst && html`<div class="more"><button class="plain" aria-expanded=${all} onClick=${() => setAll(!all)}>${all ? 'Show fewer' : `Show ${hidden} more`}</button></div>`}
  </section>`;
}

function Item({item: a, many}) {
  const level = levels[a.severity] ?? 'warn';
  return html`<li class=${`item ${level}`}>
    <span class="mark"><span class="dot" aria-hidden="true"></span><span class="sr">${a.severity}: </span></span>
    <div><b>${sentence(a.what)}</b><div class="cause">${a.cause}</div>${a.hint ? html`<${Advice} text=${a.hint} />` : a.command && html`<${Command} text=${a.command} />`}</div>
    <span class="soft where">${[many && a.flow, a.where].filter(Boolean).join(' · ')}</span>
  </li>`;
}

// Advice is a text with commands between backticks. The first choice is in sight, with the words that say when it is the right one.
function Advice({text}) {
  const [when, command, ...others] = text.split('`'), choices = others.filter((_, i) => i % 2).length;
  const step = (part, i) => i % 2 ? html`<${Command} text=${part} />` : html`<div class="cause">${part.replace(/^[.,;]\s*/, '')}</div>`;
  return html`<div class="cause advice">${when}</div>${command && html`<${Command} text=${command} />`}
    ${choices > 0 && html`<details><summary>${choices === 1 ? 'Another choice or step' : `${choices} other choices or steps`}</summary>${others.map(step)}</details>`}`;
}

// Command is a command line with a button that copies it.
export function Command({text}) {
  const [said, say] = useState(''), code = useRef();
  useEffect(() => {
    if (!said) return;
    const timer = setTimeout(() => say(''), 2500);
    return () => clearTimeout(timer);
  }, [said]);
  return html`<div class="command"><code ref=${code} tabindex="0">${text}</code>
    <button aria-label=${`Copy the command ${text}`} onClick=${async () => say(await copy(text, code.current) ? 'Copied' : 'Select and copy it')}>${said || 'Copy'}</button>
    <span class="sr" role="status">${said}</span></div>`;
}

// copy uses the old way where the new one is missing: browsers have navigator.clipboard only with HTTPS or on localhost.
async function copy(text, element) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection().selectAllChildren(element);
    return document.execCommand('copy');
  }
}
