// The stream of views. EventSource tries again by itself only after some failures, and at a fixed pace; here it is closed after each failure and opened
// again after a pause that grows, so that a hundred forgotten pages do not storm a server that comes back.
import {get} from './api.js';

const firstPause = 1000, longestPause = 30_000;
// A view comes only when something has changed. After a long silence the stream is opened again, which brings the newest view at once: a connection may be
// dead without an error, when a laptop slept or a firewall forgot it. A stream that brings no view soon is none.
const silence = 45_000, firstView = 15_000;

// listen calls onView with each view, onLine with {live, since, next} whenever that changes, and onSession with the session before each attempt.
// The result is a function that tries at once.
export function listen({onView, onLine, onSession}) {
  let source, pause = firstPause, timer, watchdog, line = {live: false, since: null, next: null};

  const tell = changes => onLine(line = {...line, ...changes});
  const watch = (then, wait) => {
    clearTimeout(watchdog);
    watchdog = setTimeout(then, wait);
  };

  function open() {
    clearTimeout(timer);
    source?.close();
    source = new EventSource('/api/v1/events');
    watch(fail, firstView);
    source.addEventListener('view', event => {
      watch(open, silence);
      pause = firstPause;
      const view = JSON.parse(event.data);
      onView(view);
      if (!line.live) tell({live: true, since: null, next: null});
    });
    source.addEventListener('error', fail);
  }

  function fail() {
    clearTimeout(watchdog);
    clearTimeout(timer);
    source?.close();
    const wait = pause * (0.75 + Math.random() / 2);
    pause = Math.min(pause * 2, longestPause);
    tell({live: false, since: line.live || !line.since ? Date.now() : line.since, next: Date.now() + wait});
    timer = setTimeout(attempt, wait);
  }

  // attempt asks for the session first, because EventSource does not tell a refusal from a server that is gone.
  async function attempt() {
    tell({next: null});
    try {
      const session = await get('/api/v1/session', AbortSignal.timeout(10_000));
      onSession(session);
      if (session.login_required_to_read && !session.user) {
        return; // the login tries again
      }
    } catch (refusal) {
      if (refusal.status !== 404) { fail(); return; } // a server without sessions has nothing to say about them
    }
    open();
  }

  const now = () => { pause = firstPause; clearTimeout(timer); return attempt(); };
  addEventListener('online', now);
  // A page in the background may have been frozen together with its timers.
  document.addEventListener('visibilitychange', () => { if (!document.hidden && !line.live) now(); });
  now();
  return now;
}
