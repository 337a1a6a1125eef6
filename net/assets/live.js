// The broker as it is: what the stream of the control plane says, and what follows from it.

import { useEffect, useReducer } from './vendor/preact.js';
import { events } from './api.js';

/** How much is shown, in seconds. */
export const SPAN = 300;
/** Rates of shards are means over so many seconds. */
const WINDOW = 5;
/** A second without news is late, so many are too late. */
const SILENCE = 6000;

// Counters that are shown as a rate, by the name of that rate.
const RATES = {
  in: 'publishes_received',
  out: 'publishes_sent',
  bytes_in: 'bytes_received',
  bytes_out: 'bytes_sent',
  lost: 'messages_dropped',
  refused_rate: 'refused',
  connect_rate: 'connects',
  cpu: 'cpu_ms',
};

/** `state`: connecting, live, lost (with `problem`), or locked: a token is needed. */
export const live = {
  state: 'connecting',
  problem: null,
  start: null,
  frame: null,
  columns: {},
  frames: [],
};

const watchers = new Set();
const tell = () => watchers.forEach(watcher => watcher());

/** Renders a component again with each second. */
export function useLive() {
  const [, again] = useReducer(n => n + 1, 0);
  useEffect(() => {
    watchers.add(again);
    return () => watchers.delete(again);
  }, []);
  return live;
}

function begin(start) {
  live.start = start;
  live.frame = null;
  live.frames = [];
  live.columns = { at: [] };
  const { at_ms: at, ...series } = start.history;
  at.forEach((ms, row) =>
    add(
      ms,
      Object.fromEntries(Object.entries(series).map(([name, column]) => [name, column[row]])),
    ),
  );
  if (start.now) show(start.now);
}

/** A row of all columns. A rate is unknown where seconds are missing. */
function add(ms, totals) {
  const { columns } = live;
  const at = ms / 1000;
  const row = columns.at.length;
  const elapsed = row ? at - columns.at[row - 1] : Infinity;
  columns.at.push(at);
  for (const [name, value] of Object.entries(totals)) (columns[name] ??= []).push(value);
  for (const [rate, name] of Object.entries(RATES)) {
    // Shards answer at different moments: their sum may seem to shrink.
    const grown = row ? Math.max(0, totals[name] - columns[name][row - 1]) : 0;
    (columns[rate] ??= []).push(elapsed < 4 ? grown / elapsed : null);
  }
  while (columns.at[0] < at - SPAN) for (const column of Object.values(columns)) column.shift();
}

function show(frame) {
  live.frame = frame;
  live.frames.push(frame);
  if (live.frames.length > WINDOW + 1) live.frames.shift();
}

/** The newest value of a column. */
export const latest = name => live.columns[name]?.at(-1) ?? 0;

/** How much a counter has grown in the minutes that are shown. */
export function grown(name) {
  const column = live.columns[name] ?? [];
  return column.length ? Math.max(0, column.at(-1) - column[0]) : 0;
}

/** Growth per second of something in the frames, over the last seconds. */
export function pace(read) {
  const [first, last] = [live.frames[0], live.frames.at(-1)];
  const elapsed = first ? (last.at_ms - first.at_ms) / 1000 : 0;
  return elapsed ? Math.max(0, (read(last) ?? 0) - (read(first) ?? 0)) / elapsed : 0;
}

let stop = new AbortController();

/** Connects anew, with another token, say. */
export function restart() {
  stop.abort();
}

async function watch(signal) {
  for await (const { name, content } of events('/api/v1/live', signal)) {
    if (name === 'start') begin(content);
    else {
      add(content.at_ms, content.totals);
      show(content);
    }
    live.state = 'live';
    live.problem = null;
    silence.restart();
    tell();
  }
}

const silence = {
  restart() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => stop.abort(), SILENCE);
  },
};

/** Once the page is not hidden. */
export const visible = () =>
  new Promise(resolve => {
    const look = () => {
      if (document.hidden) return;
      document.removeEventListener('visibilitychange', look);
      resolve();
    };
    document.addEventListener('visibilitychange', look);
    look();
  });

/** For as long as the page is open. A hidden page does not watch: the history fills the gap. */
export async function follow() {
  document.addEventListener('visibilitychange', () => document.hidden && stop.abort());
  for (;;) {
    await visible();
    stop = new AbortController();
    silence.restart();
    let problem = null;
    try {
      await watch(stop.signal);
    } catch (error) {
      if (error.name !== 'AbortError') problem = error;
    }
    if (document.hidden) continue;
    const isLocked = problem?.status === 401 || problem?.status === 403;
    live.state = isLocked ? 'locked' : 'lost';
    live.problem = problem;
    tell();
    // Until something is done about it, or for a second.
    const { signal } = (stop = new AbortController());
    await new Promise(resolve => {
      signal.addEventListener('abort', resolve);
      clearTimeout(silence.timer);
      if (!isLocked) setTimeout(resolve, 1000);
    });
  }
}
