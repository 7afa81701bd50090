// The last hour of the flow that is shown. It is fetched once, then each view adds to it; and fetched again after a break of the line, when some views
// were missed, and every few minutes, when the server may have summed up its samples differently.
import {useEffect, useState} from './vendor/preact.js';
import {get} from './api.js';

const again = 300_000, soon = 5000, hour = 3600;

export function useHistory(flow, view, live) {
  const [history, set] = useState(null);
  useEffect(() => {
    if (!flow || !live) return;
    const abort = new AbortController();
    const load = async () => {
      try {
        const columns = await get(`/api/v1/history?flow=${encodeURIComponent(flow)}`, abort.signal);
        set({...columns, flow});
        timer = setTimeout(load, again);
      } catch { // a process has no history in its first seconds; the plots keep what they have
        if (!abort.signal.aborted) timer = setTimeout(load, soon);
      }
    };
    let timer;
    load();
    return () => { abort.abort(); clearTimeout(timer); };
  }, [flow, live]);
  useEffect(() => {
    const f = view?.flows.find(f => f.flow === flow);
    if (f) set(h => h?.flow === flow ? extend(h, f, Date.parse(view.now) / 1000) : h);
  }, [view, flow]);
  return history?.flow === flow ? history : null;
}

// extend adds a sample if a step has passed since the newest, and forgets those older than an hour.
function extend(h, f, now) {
  if (h.t.length && now - h.t.at(-1) < h.step) return h;
  const sample = {t: now, ...sampleOf(f, now)};
  const first = Math.max(0, h.t.findIndex(t => t >= now - hour));
  return {...h, ...Object.fromEntries(Object.keys(sample).filter(key => h[key]).map(key => [key, [...h[key].slice(first), sample[key] ?? null]]))};
}

const sampleOf = (f, now) => ({
  bytes: f.throughput?.bytes_per_second, records: f.throughput?.records_per_second, lag_records: f.lag?.records, lag_seconds: f.lag?.seconds,
  latency_p50: f.latency?.p50_seconds, latency_p99: f.latency?.p99_seconds,
  rpo_seconds: f.rpo?.complete_up_to ? Math.max(0, (now * 1000 - Date.parse(f.rpo.complete_up_to)) / 1000) : null,
});
