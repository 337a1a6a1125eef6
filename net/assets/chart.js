// Curves of the last minutes, as SVG: the colours are those of the style sheet, and the text is text.

import { html, useEffect, useReducer } from './vendor/preact.js';
import { SPAN, live } from './live.js';
import { bytes } from './text.js';

const clock = { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' };
const minute = new Intl.DateTimeFormat('en', clock);
const second = new Intl.DateTimeFormat('en', { ...clock, second: '2-digit' });
const TICKS = 5;

/** Where the pointer is in any chart, as a share of the width; all charts show that moment. */
const pointer = { share: null, watchers: new Set() };

function point(share) {
  pointer.share = share;
  pointer.watchers.forEach(watcher => watcher());
}

function usePointer() {
  const [, again] = useReducer(n => n + 1, 0);
  useEffect(() => {
    pointer.watchers.add(again);
    return () => pointer.watchers.delete(again);
  }, []);
  return pointer.share;
}

/** `series`: `{ name, column, color }`; `format` writes a value. */
export function Chart({ title, series, format }) {
  const share = usePointer();
  const times = live.columns.at ?? [];
  const columns = series.map(({ column }) => live.columns[column] ?? []);
  const max = Math.max(1, ...columns.flat()) * 1.1;
  const step = stepOf(Math.max(1, max / TICKS), format === bytes);
  const levels = Array.from({ length: Math.floor(max / step) + 1 }, (_, index) => index * step);
  const row = share === null ? times.length - 1 : nearest(times, share);
  const left = `${percent(placeOf(times[row]))}%`;
  const move = event => {
    const box = event.currentTarget.getBoundingClientRect();
    point(Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
  };
  return html`<section class="card chart">
    <header>
      <h2>${title}</h2>
      <span class="legend">
        ${share !== null && row >= 0 && html`<time>${second.format(times[row] * 1000)}</time>`}
        ${series.map(
          (one, index) =>
            html`<span key=${one.name}><i class=${`dot ${one.color}`}></i>${one.name} <b>${format(columns[index][row] ?? 0)}</b></span>`,
        )}
      </span>
    </header>
    <div class="plot" role="img" aria-label=${`${title} of the last five minutes`}>
      <div class="levels">${levels.map(level => html`<span key=${level} style=${{ bottom: `${percent(level / max)}%` }}>${format(level)}</span>`)}</div>
      <div class="field" onPointerMove=${move} onPointerLeave=${() => point(null)}>
        <svg viewBox=${`0 0 ${SPAN} 100`} preserveAspectRatio="none">
          <path class="grid" d=${levels.map(level => `M0,${100 - percent(level / max)}h${SPAN}`).join('')} />
          ${series.map(one => html`<${Curve} key=${one.name} ...${one} max=${max} />`)}
        </svg>
        ${share !== null && row >= 0 && html`<i class="cursor" style=${{ left }}></i>`}
        ${
          share !== null &&
          series.map((one, index) => {
            const value = columns[index][row];
            return (
              value != null &&
              html`<i key=${one.name} class=${`dot ${one.color}`} style=${{ left, bottom: `${percent(value / max)}%` }}></i>`
            );
          })
        }
      </div>
      <div class="minutes">${minutes(times).map(at => html`<span key=${at} style=${{ left: `${percent(placeOf(at))}%` }}>${minute.format(at * 1000)}</span>`)}</div>
    </div>
  </section>`;
}

const percent = share => +(share * 100).toFixed(2);

/** Of a moment, from 0 to 1. */
const placeOf = at => 1 - (live.columns.at.at(-1) - at) / SPAN;

/** The row that is closest to a share of the width. */
function nearest(times, share) {
  const wanted = times.at(-1) - SPAN * (1 - share);
  const far = row => Math.abs(times[row] - wanted);
  let best = times.length - 1;
  while (best > 0 && far(best - 1) <= far(best)) best -= 1;
  return best;
}

/** 1, 2 or 5 times a power of ten; of bytes a power of two. */
function stepOf(least, isBytes) {
  if (isBytes) return 2 ** Math.ceil(Math.log2(least));
  const power = 10 ** Math.floor(Math.log10(least));
  return power * ([1, 2, 5].find(factor => factor * power >= least) ?? 10);
}

/** The full minutes, without those that would be cut off. */
function minutes(times) {
  const last = times.at(-1);
  if (last === undefined) return [];
  const first = Math.ceil((last - SPAN + 8) / 60) * 60;
  return Array.from({ length: 5 }, (_, index) => first + 60 * index).filter(at => at <= last - 8);
}

/** A line and the area below, with gaps where nothing is known. */
function Curve({ column, color, max }) {
  const runs = [[]];
  (live.columns[column] ?? []).forEach((value, row) => {
    const x = (SPAN * placeOf(live.columns.at[row])).toFixed(1);
    if (value === null) runs.push([]);
    else runs.at(-1).push(`${x},${(100 - (100 * value) / max).toFixed(1)}`);
  });
  const whole = runs.filter(run => run.length > 1);
  const x = point => point.split(',')[0];
  return html`<g class=${color}>
    <path class="area" d=${whole.map(run => `M${x(run[0])},100 L${run.join(' ')} L${x(run.at(-1))},100Z`).join(' ')} />
    <path class="line" d=${whole.map(run => `M${run.join(' ')}`).join(' ')} />
  </g>`;
}

/** A small curve without axes, from zero up. */
export function Spark({ column, color = 's1' }) {
  const max = Math.max(1e-9, ...(live.columns[column] ?? [])) * 1.07;
  return html`<svg class="spark" viewBox=${`0 0 ${SPAN} 100`} preserveAspectRatio="none" aria-hidden="true">
    <${Curve} column=${column} color=${color} max=${max} />
  </svg>`;
}
