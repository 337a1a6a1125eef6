// Charts of the last minutes.

import { html, useEffect, useRef, useState } from './vendor/preact.js';
import { SPAN, live } from './live.js';
import { bytes } from './text.js';

const wantsDark = matchMedia('(prefers-color-scheme: dark)');
// A canvas knows no variables of the style sheet: this element is asked what they come to.
const probe = document.head.appendChild(document.createElement('i'));

function paint(name, share = 1) {
  probe.style.color = `var(--${name})`;
  const [red, green, blue] = getComputedStyle(probe).color.match(/[\d.]+/g);
  return `rgb(${red} ${green} ${blue} / ${share})`;
}

const clock = { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' };
const minute = new Intl.DateTimeFormat('en', clock);
const second = new Intl.DateTimeFormat('en', { ...clock, second: '2-digit' });
// Bytes are counted in powers of two.
const POWERS = Array.from({ length: 50 }, (_, power) => 2 ** power);
const cursors = window.uPlot.sync('overview');

/** `series`: `{ name, column, color }`; `format` writes a value. */
export function Chart({ title, series, format }) {
  const frame = useRef();
  const plot = useRef();
  const [at, setAt] = useState(null);
  const data = [live.columns.at ?? [], ...series.map(({ column }) => live.columns[column] ?? [])];

  useEffect(() => {
    plot.current = new window.uPlot(options(series, format, setAt), data, frame.current);
    const resize = new ResizeObserver(() => plot.current.setSize(size(frame.current)));
    resize.observe(frame.current);
    const repaint = () => plot.current.redraw(false);
    wantsDark.addEventListener('change', repaint);
    document.addEventListener('theme', repaint);
    return () => {
      resize.disconnect();
      wantsDark.removeEventListener('change', repaint);
      document.removeEventListener('theme', repaint);
      cursors.unsub(plot.current);
      plot.current.destroy();
    };
  }, []);
  useEffect(() => plot.current.setData(data), [live.frame]);

  const row = at ?? data[0].length - 1;
  return html`<section class="card chart">
    <header>
      <h2>${title}</h2>
      <span class="legend">
        ${at !== null && html`<time>${second.format(data[0][at] * 1000)}</time>`}
        ${series.map(
          (one, index) =>
            html`<span key=${one.name}><i class=${`dot ${one.color}`}></i>${one.name} <b>${format(data[index + 1][row] ?? 0)}</b></span>`,
        )}
      </span>
    </header>
    <div class="plot" ref=${frame} role="img" aria-label=${`${title} of the last five minutes`}></div>
  </section>`;
}

const size = element => ({ width: element.clientWidth, height: element.clientHeight });

function options(series, format, setAt) {
  const axis = {
    stroke: () => paint('soft'),
    font: '12px system-ui, sans-serif',
    ticks: { show: false },
  };
  const grid = { stroke: () => paint('grid'), width: 1 };
  return {
    width: 300,
    height: 200,
    padding: [8, 16, 0, 0],
    legend: { show: false },
    cursor: {
      y: false,
      points: { size: 7 },
      drag: { x: false, y: false },
      sync: { key: 'overview' },
    },
    scales: {
      x: {
        range: () => [(live.columns.at?.at(-1) ?? SPAN) - SPAN, live.columns.at?.at(-1) ?? SPAN],
      },
      y: { range: (_, __, max) => [0, Math.max(max * 1.1, 1)] },
    },
    axes: [
      {
        ...axis,
        grid: { show: false },
        space: 50,
        size: 28,
        incrs: [60, 120, 300],
        values: (_, ticks) => ticks.map(tick => minute.format(tick * 1000)),
      },
      {
        ...axis,
        grid,
        space: 40,
        size: 62,
        ...(format === bytes && { incrs: POWERS }),
        values: (_, ticks) => ticks.map(tick => format(tick)),
      },
    ],
    series: [
      {},
      ...series.map(one => ({
        stroke: () => paint(one.color),
        fill: () => paint(one.color, 0.11),
        width: 1.75,
        points: { show: false },
      })),
    ],
    hooks: { setCursor: [plot => setAt(plot.cursor.left >= 0 ? (plot.cursor.idx ?? null) : null)] },
  };
}

/** A small curve without axes, from zero up. */
export function Spark({ column, color = 's1' }) {
  const values = live.columns[column] ?? [];
  const { at } = live.columns;
  const max = Math.max(1e-9, ...values);
  const x = row => SPAN - (at.at(-1) - at[row]);
  const points = values.flatMap((value, row) =>
    value === null ? [] : [`${x(row).toFixed(1)},${(30 - (28 * value) / max).toFixed(1)}`],
  );
  if (points.length < 2) return html`<svg class="spark"></svg>`;
  const [first] = points[0].split(',');
  return html`<svg class=${`spark ${color}`} viewBox=${`0 0 ${SPAN} 31`} preserveAspectRatio="none" aria-hidden="true">
    <path class="area" d=${`M${first},31 L${points.join(' ')} L${SPAN},31 Z`} />
    <path class="line" d=${`M${points.join(' ')}`} />
  </svg>`;
}
