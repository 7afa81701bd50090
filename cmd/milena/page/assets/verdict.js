// The four answers of the first screen: is it copying, how far behind is it, can it fail over, and does it need somebody.
import {ago, byteRate, clock, compact, count, known, plural, recordRate, seconds, sentence, unknown, words} from './format.js';

// What each state is called, and how bad it is. The words are those of the commands and the docs.
const states = {
  copying: ['good', 'Copying'],
  catching_up: ['warn', 'Catching up'],
  standby: ['soft', 'Standby'],
  starting: ['soft', 'Starting'],
  stopping: ['soft', 'Stopping'],
  paused: ['warn', 'Paused'],
  stopped: ['warn', 'Stopped'],
  failed_over: ['warn', 'Failed over'],
  halted: ['bad', 'Halted'],
  source_dark: ['bad', 'Source is dark'],
  target_dark: ['bad', 'Target is dark'],
};

export const stateName = f => states[f.state]?.[1] ?? (f.state ? words(f.state) : unknown);
export const levelOf = f => states[f.state]?.[0] ?? 'soft';

const ranks = {bad: 0, warning: 1, notice: 2};

// inOrder sorts by severity. What somebody can do something about comes before its consequences.
export const inOrder = list => [...list].sort((a, b) => ranks[a.severity] - ranks[b.severity] || Boolean(b.command) - Boolean(a.command));

// needing is how many things need somebody: those listed, and those that have no row.
export const needing = f => (f.attention?.filter(a => a.severity !== 'notice').length ?? 0) + (f.attention_more ?? 0);

export const answersOf = (f, now) => [copying(f), behind(f), failover(f, now), needs(f)];

function copying(f) {
  const p = f.partitions ?? {}, {bytes_per_second: bytes, records_per_second: records} = f.throughput ?? {};
  return {
    question: 'Is it copying?', level: levelOf(f), answer: stateName(f),
    notes: [
      p.halted > 0 && `${count(p.halted)} of ${plural(p.total, 'partition')} halted`,
      f.state === 'source_dark' ? `${f.source} was last seen at ${clock(f.rpo?.seen_at)}` : known(bytes) ? `${byteRate(bytes)} · ${recordRate(records)}` : 'throughput unknown',
    ],
  };
}

function behind(f) {
  const {records, seconds: age, unknown_partitions: unseen} = f.lag ?? {}, some = known(age) || known(records);
  return {
    question: 'How far behind?', level: !some ? 'soft' : age > 10 || unseen > 0 ? 'warn' : 'good',
    answer: known(age) ? seconds(age) : known(records) ? plural(records, 'record') : 'Unknown',
    notes: [some && `${known(records) ? plural(records, 'record') : unknown + ' records'} to copy`, unseen > 0 && `unknown for ${plural(unseen, 'partition')}`],
  };
}

// A flow that copies has always some records on the way, so a loss is no reason for a warning until the objective is missed.
const usual = 60; // seconds, for a flow without an objective

function failover(f, now) {
  const v = f.verdict ?? {}, lost = v.would_lose_records, answer = {yes: 'Yes', no: 'No'}[v.can_fail_over] ?? 'Unknown';
  const old = known(f.rpo?.objective_seconds) ? f.rpo.objective_missed : now - Date.parse(v.complete_up_to) > usual * 1000;
  const fine = known(v.complete_up_to) && known(lost) && !old;
  return {
    question: 'Can I fail over now?', answer, command: f.state === 'source_dark' && v.command,
    level: {Yes: fine ? 'good' : 'warn', No: f.state === 'failed_over' ? 'soft' : 'bad', Unknown: 'soft'}[answer],
    notes: answer === 'Yes' ? [sentence(loses(f)), known(v.complete_up_to) ? `Complete up to ${clock(v.complete_up_to)}, ${ago(v.complete_up_to, now)}` : 'Complete up to: unknown']
      : [sentence(v.sentence?.replace(/^(No|Not known)(: | here: )/, ''))],
  };
}

// loses is what a failover would lose. While the source is not seen, nobody knows what came since.
function loses(f) {
  const lost = f.verdict.would_lose_records, {missing_records: seen, seen_at: at} = f.rpo ?? {};
  if (lost === 0) return 'would lose no record that was seen';
  if (known(lost)) return `would lose up to ${plural(lost, 'record')}`;
  return known(seen) && known(at) ? `would lose up to ${plural(seen, 'record')}, and what came after ${clock(at)}: unknown` : 'how much would be lost is unknown';
}

function needs(f) {
  const n = needing(f), [first] = inOrder(f.attention ?? []), notices = (f.attention ?? []).filter(a => a.severity === 'notice').length, bad = f.attention?.some(a => a.severity === 'bad');
  return {
    question: 'What needs me?', level: n === 0 ? 'good' : bad ? 'bad' : 'warn',
    answer: n === 0 ? 'Nothing' : n === 1 ? '1 thing' : `${compact(n)} things`,
    notes: [n > 0 && first && sentence(`${first.what}: ${first.where}`), n === 0 && notices > 0 && `${plural(notices, 'thing')} to be known`],
  };
}
