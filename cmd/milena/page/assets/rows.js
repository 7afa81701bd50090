// A table of any length: the rows in sight are elements, and their values are fetched by range. All rows have the same height, so where a row is needs no
// measuring, and the scroll bar is right from the beginning.
import {html, useEffect, useLayoutEffect, useRef, useState} from './vendor/preact.js';
import {get} from './api.js';
import {count} from './format.js';
import {go, link} from './route.js';

const rowRems = 2.4;        // the height of a row, as style.css has it
const block = 100;          // rows of a request
const spare = 12;           // rows above and below those in sight
const refreshEvery = 2000;  // milliseconds
const settle = 60;          // milliseconds of rest before rows are fetched, so that a fast scroll fetches only where it ends
const keptBlocks = 12;      // further ones are forgotten: memory does not grow with what was once in sight

// useBlocks fetches the blocks in [from, to) and again every now and then. Changing the query forgets all.
function useBlocks(query, from, to) {
  const kept = useRef({query, blocks: new Map(), total: null}), [, redraw] = useState(0), [problem, setProblem] = useState('');
  if (kept.current.query !== query) kept.current = {query, blocks: new Map(), total: kept.current.total};
  useEffect(() => {
    const mine = kept.current, abort = new AbortController();
    let timer;
    async function load(all) {
      try {
        for (let b = from; b < to; b++) {
          if (!all && mine.blocks.has(b)) continue;
          const answer = await get(`${query}&offset=${b * block}&limit=${block}`, abort.signal);
          mine.blocks.delete(b); // so that it becomes the newest
          mine.blocks.set(b, answer.rows);
          mine.total = answer.total;
          mine.note = answer.note;
          if (mine.blocks.size > keptBlocks) mine.blocks.delete(mine.blocks.keys().next().value);
          redraw(n => n + 1);
        }
        setProblem('');
      } catch (failure) {
        if (abort.signal.aborted) return;
        setProblem(failure.message);
      }
      timer = setTimeout(() => load(!document.hidden), refreshEvery);
    }
    timer = setTimeout(() => load(false), settle);
    return () => { clearTimeout(timer); abort.abort(); };
  }, [query, from, to]);
  return {row: i => kept.current.blocks.get(Math.floor(i / block))?.[i % block], total: kept.current.total, note: kept.current.note, problem};
}

// Rows is the table. Columns have {key, name, width, number, sortable, cell(row)}. The path answers {total, rows} to search, sort, desc, offset and limit.
export function Rows({path, columns, route, noun, defaultSort}) {
  const rowHeight = rowRems * parseFloat(getComputedStyle(document.documentElement).fontSize);
  const box = useRef(), [view, setView] = useState({top: 0, height: 600});
  const sort = columns.some(c => c.key === route.sort && c.sortable) ? route.sort : defaultSort;
  const desc = sort === route.sort ? route.desc === '1' : false;
  const query = `${path}?search=${encodeURIComponent(route.q)}&sort=${sort}&desc=${desc}`;

  const first = Math.max(0, Math.floor(view.top / rowHeight) - spare), inSight = Math.ceil(view.height / rowHeight) + 2 * spare;
  const {row, total, note, problem} = useBlocks(query, Math.floor(first / block), Math.floor((first + inSight) / block) + 1);
  const last = Math.min(total ?? 0, first + inSight);

  useLayoutEffect(() => {
    const element = box.current, measure = () => setView({top: element.scrollTop, height: element.clientHeight});
    let frame = 0;
    const scrolled = () => { frame ||= requestAnimationFrame(() => { frame = 0; measure(); }); };
    const resized = new ResizeObserver(measure);
    element.addEventListener('scroll', scrolled, {passive: true});
    resized.observe(element);
    return () => { cancelAnimationFrame(frame); resized.disconnect(); element.removeEventListener('scroll', scrolled); };
  }, []);
  useLayoutEffect(() => { box.current.scrollTop = 0; }, [query]);

  // The key makes the element of a row that leaves at one end come back at the other.
  const numbers = Array.from({length: Math.max(0, last - first)}, (_, i) => first + i);
  return html`
    <div class="rows">
      <div class="rows-tools">
        <label class="search"><span class="sr">Search ${noun}s</span>
          <input type="search" placeholder=${`Search ${noun}s`} value=${route.q} onInput=${e => go({q: e.target.value}, {replace: true})} /></label>
        <span class="soft" role="status">${total === null ? 'Loading …' : `${count(total)} ${noun}${total === 1 ? '' : 's'}${route.q ? ' found' : ''}`}</span>
        ${note && html`<span class="soft">${note}</span>`}
        ${problem && html`<span class="bad" role="alert">${problem}</span>`}
      </div>
      <div class="rows-box" ref=${box} tabindex="0" role="region" aria-label=${`Table of ${noun}s`}>
        <table aria-rowcount=${(total ?? 0) + 1}>
          <colgroup>${columns.map(c => html`<col key=${c.key} class=${c.width} />`)}</colgroup>
          <thead><tr aria-rowindex="1">${columns.map(c => html`<${Head} key=${c.key} column=${c} sort=${sort} desc=${desc} />`)}</tr></thead>
          <tbody>
            ${first > 0 && html`<tr key="above" aria-hidden="true"><td class="space" colspan=${columns.length} style=${{height: `${first * rowHeight}px`}}></td></tr>`}
            ${numbers.map(i => html`<${Row} key=${i % inSight} index=${i} columns=${columns} row=${row(i)} />`)}
            ${total > last && html`<tr key="below" aria-hidden="true"><td class="space" colspan=${columns.length} style=${{height: `${(total - last) * rowHeight}px`}}></td></tr>`}
          </tbody>
        </table>
        ${total === 0 && html`<p class="empty">${route.q ? `No ${noun} matches “${route.q}”.` : `There are no ${noun}s.`}</p>`}
      </div>
    </div>`;
}

// Head sorts by its column; the second time the other way around. Numbers begin with the largest, which is what somebody looks for.
function Head({column: c, sort, desc}) {
  const kind = c.number ? 'n' : '';
  if (!c.sortable) return html`<th scope="col" class=${kind}>${c.name}</th>`;
  const mine = c.key === sort, next = mine ? !desc : Boolean(c.number);
  return html`<th scope="col" class=${kind} aria-sort=${mine ? desc ? 'descending' : 'ascending' : undefined}>
    <a href=${link({sort: c.key, desc: next ? '1' : ''})}>${c.name}<span class="arrow" aria-hidden="true">${mine ? desc ? ' ↓' : ' ↑' : ''}</span></a></th>`;
}

function Row({index, columns, row}) {
  return html`<tr aria-rowindex=${index + 2}>${columns.map(c => html`
    <td key=${c.key} class=${c.number ? 'n' : ''}>${row ? c.cell(row) : html`<span class="soft">…</span>`}</td>`)}</tr>`;
}
