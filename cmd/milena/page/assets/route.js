// What is shown is in the URL, behind the #, so that a link shows the same to others, and the browser's "back" works. The server never sees it.

const fields = ['flow', 'tab', 'q', 'sort', 'desc', 'minutes'];

export function route() {
  const given = new URLSearchParams(location.hash.slice(1));
  return Object.fromEntries(fields.map(name => [name, given.get(name) ?? '']));
}

// link is the URL of the present route with changes. An empty value leaves a field out.
export function link(changes) {
  const wanted = {...route(), ...changes}, query = new URLSearchParams();
  for (const name of fields) if (wanted[name]) query.set(name, wanted[name]);
  return '#' + query;
}

// go shows another route. One that replaces the present one, as each letter of a search does, adds nothing to the history of the browser.
export function go(changes, {replace = false} = {}) {
  const url = link(changes);
  if (!replace) { location.hash = url; return; }
  history.replaceState(null, '', url);
  dispatchEvent(new HashChangeEvent('hashchange'));
}
