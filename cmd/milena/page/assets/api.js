// Requests to the server that served the page.

// Refusal is an answer that is not 2xx. Its message is what the server says, which names what to do.
export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export async function call(method, path, body, signal) {
  const answer = await fetch(path, {
    method, cache: 'no-store', signal: signal ?? AbortSignal.timeout(60_000),
    ...body !== undefined && {headers: {'Content-Type': 'application/json'}, body: JSON.stringify(body)},
  });
  const text = await answer.text();
  if (!answer.ok) throw new Refusal(answer.status, reasonIn(text) || `${answer.status} ${answer.statusText}`);
  return text ? JSON.parse(text) : null;
}

function reasonIn(text) {
  try { return JSON.parse(text).error; } catch { return text.trim().slice(0, 500); }
}

export const get = (path, signal) => call('GET', path, undefined, signal);
export const ofFlow = (flow, what) => `/api/v1/flows/${encodeURIComponent(flow)}/${what}`;
