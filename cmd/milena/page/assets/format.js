// What values look like. A value that is not known is null, and every function here says "unknown" then: never 0, and never nothing.

export const unknown = 'unknown';
export const known = value => value !== null && value !== undefined;

const plain = new Intl.NumberFormat('en', {maximumFractionDigits: 0});
const short = new Intl.NumberFormat('en', {notation: 'compact', maximumFractionDigits: 1});

export const count = n => known(n) ? plain.format(n) : unknown;
export const compact = n => !known(n) ? unknown : Math.abs(n) < 100_000 ? plain.format(n) : short.format(n);
export const plural = (n, noun) => known(n) ? `${compact(n)} ${noun}${n === 1 ? '' : 's'}` : unknown;

export function bytes(n) {
  if (!known(n)) return unknown;
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let i = 0;
  while (Math.abs(n) >= 999.5 && i < units.length - 1) { n /= 1000; i++; }
  return `${n.toFixed(i && n < 99.95 ? 1 : 0)} ${units[i]}`;
}
export const byteRate = n => known(n) ? bytes(n) + '/s' : unknown;
export const recordRate = n => known(n) ? `${compact(Math.round(n))} records/s` : unknown;

// seconds has two units at most, as nobody needs the milliseconds of an hour. Its spaces do not break, nor do those of ago.
export function seconds(s) {
  if (!known(s)) return unknown;
  const text = s === 0 ? '0 s'
    : s < 0.001 ? '< 1 ms'
    : s < 1 ? `${Math.round(s * 1000)} ms`
    : s < 10 ? `${s.toFixed(1)} s`
    : s < 120 ? `${Math.round(s)} s`
    : s < 600 && s % 60 >= 1 ? `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`
    : s < 7200 ? `${Math.floor(s / 60)} min`
    : s < 172_800 ? `${Math.floor(s / 3600)} h ${Math.floor(s % 3600 / 60)} min`
    : `${Math.floor(s / 86_400)} d ${Math.floor(s % 86_400 / 3600)} h`;
  return text.replaceAll(' ', '\u00a0');
}

// clock is a time of day, with the date unless it is today's. It is in the time zone of the reader, like the axes of the plots.
export function clock(time) {
  if (!known(time)) return unknown;
  const at = new Date(time);
  if (Number.isNaN(at.getTime())) return unknown;
  const pad = n => String(n).padStart(2, '0');
  const day = at.toDateString() === new Date().toDateString() ? '' : `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} `;
  return `${day}${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
}

// ago is how long before now a time is. Both are times of the server: the clock of the reader may be wrong.
export const ago = (time, now) => known(time) ? `${seconds(Math.max(0, (new Date(now) - new Date(time)) / 1000))}\u00a0ago` : unknown;

// sentence begins with a capital.
export const sentence = text => text ? text[0].toUpperCase() + text.slice(1) : text;

// words makes a name of the API readable: source_dark becomes "source dark".
export const words = name => known(name) ? String(name).replaceAll('_', ' ') : unknown;
