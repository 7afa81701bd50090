// Signing in, and the orders pause, resume, retry and drill. Who may do what is decided by the server; the page only does not offer what it knows to fail.
import {html, useEffect, useRef, useState} from './vendor/preact.js';
import {call, ofFlow} from './api.js';

// Dialog is a modal <dialog>: the browser keeps the focus inside, and Escape closes it.
function Dialog({label, onClose, children}) {
  const element = useRef();
  useEffect(() => {
    const before = document.activeElement;
    element.current.showModal();
    return () => before?.focus?.();
  }, []);
  return html`<dialog ref=${element} aria-label=${label} onClose=${onClose} onCancel=${onClose}>${children}</dialog>`;
}

export function Login({why, onDone, onClose}) {
  const [problem, setProblem] = useState(''), [busy, setBusy] = useState(false);
  async function submit(event) {
    event.preventDefault();
    const {user, secret} = Object.fromEntries(new FormData(event.target));
    setBusy(true);
    try {
      onDone(await call('POST', '/api/v1/session', user ? {user, password: secret} : {token: secret}));
    } catch (refusal) {
      setProblem(refusal.message);
      setBusy(false);
    }
  }
  return html`<${Dialog} label="Sign in" onClose=${onClose}>
    <form onSubmit=${submit}>
      <h2>Sign in</h2>
      ${why && html`<p class="soft">${why}</p>`}
      <label>User <span class="soft">(leave empty with a token)</span><input name="user" autocomplete="username" autocapitalize="none" /></label>
      <label>Password or token<input name="secret" type="password" autocomplete="current-password" required /></label>
      <p class="bad" role="alert">${problem}</p>
      <div class="buttons"><button type="button" onClick=${onClose}>Cancel</button><button class="main" disabled=${busy}>${busy ? 'Signing in …' : 'Sign in'}</button></div>
    </form>
  </${Dialog}>`;
}

// What each order does, for whoever is about to give it.
export const orders = {
  pause: {name: 'Pause', text: 'Nothing of it is copied until somebody resumes it. The target falls behind.'},
  resume: {name: 'Resume', text: 'Copies what was paused, from where it stopped.'},
  retry: {name: 'Retry', text: 'Tries again what is halted. If its cause is still there, it halts again.'},
  drill: {name: 'Drill', text: 'Rehearses a failover and moves nothing: it finds out what a failover would suffer from, how long it would take, and what it would lose.'},
};

// Order asks for a reason and confirms. Scope is {topics} or {partitions}; empty, it is the whole flow.
export function Order({verb, flow, scope = {}, onClose, onRefused}) {
  const order = orders[verb], [done, setDone] = useState(null), [problem, setProblem] = useState(''), [busy, setBusy] = useState(false);
  const what = scope.partitions ? `partition ${scope.partitions.join(', ')}` : scope.topics ? `topic ${scope.topics.join(', ')}` : `flow ${flow}`;
  async function submit(event) {
    event.preventDefault();
    const {reason} = Object.fromEntries(new FormData(event.target));
    setBusy(true);
    setProblem('');
    try {
      setDone(await call('POST', ofFlow(flow, verb), {...scope, reason: reason.trim()}) ?? {});
    } catch (refusal) {
      if (refusal.status === 401) { onRefused(refusal); return; }
      setProblem(refusal.message);
    }
    setBusy(false);
  }
  if (done) return html`<${Dialog} label=${order.name} onClose=${onClose}><h2>${order.name}: ${what}</h2>
    <ul class="said">${said(done).map(text => html`<li>${text}</li>`)}</ul><div class="buttons"><button class="main" onClick=${onClose} autofocus>Close</button></div></${Dialog}>`;
  return html`<${Dialog} label=${order.name} onClose=${onClose}>
    <form onSubmit=${submit}>
      <h2>${order.name} ${what}?</h2>
      <p>${order.text}</p>
      <label>Reason <span class="soft">(others see it in the status and the log)</span><input name="reason" required maxlength="500" pattern=".*\\S.*" autocomplete="off" autofocus /></label>
      <p class="bad" role="alert">${problem}</p>
      <div class="buttons"><button type="button" onClick=${onClose}>Cancel</button><button class="main" disabled=${busy}>${busy ? 'Waiting for the answer …' : order.name}</button></div>
    </form>
  </${Dialog}>`;
}

// said are the sentences of an answer: what the instances did, and what is to be known about it.
function said(answer) {
  const outcomes = (answer.outcomes ?? []).map(o => `${o.instance ? o.instance + ': ' : ''}${o.result}${o.detail ? ', ' + o.detail : ''}`);
  const missing = (answer.missing ?? []).map(text => `no answer yet: ${text}`);
  const all = [...outcomes, ...missing, ...answer.notes ?? [], ...answer.still_paused ?? []];
  if (all.length) return all;
  return [answer.id ? 'It has begun. What comes of it is in the timeline, and here as the last drill.' : 'It is written down; the instances carry it out.'];
}
