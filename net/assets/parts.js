// What several views are made of.

import { html, useEffect, useRef } from './vendor/preact.js';

export const Card = ({ title, note, kind = '', children }) =>
  html`<section class=${`card ${kind}`}>
    <header><h2>${title}</h2>${note && html`<span class="note">${note}</span>`}</header>
    ${children}
  </section>`;

/** Scrolls by itself where the screen is narrow, with the keyboard too. */
export const Table = ({ label, head, children }) =>
  html`<div class="scroll" role="region" aria-label=${label} tabindex="0">
    <table>
      <thead>
        <tr>${head.map(([name, kind, title]) => html`<th scope="col" class=${kind} title=${title}>${name}</th>`)}</tr>
      </thead>
      <tbody>${children}</tbody>
    </table>
  </div>`;

export const Empty = ({ children }) => html`<p class="empty">${children}</p>`;

export const Trouble = ({ problem }) =>
  problem &&
  html`<div class="trouble" role="alert"><b>${problem.message}.</b>${problem.fix && html` ${problem.fix}.`}</div>`;

/** Shards whose part of an answer is not there. */
export const Missing = ({ shards }) =>
  shards?.length > 0 &&
  html`<p class="trouble" role="alert">Shards that do not answer are missing here: ${shards.join(', ')}</p>`;

/** A bar for a share of one. */
export const Bar = ({ share, hot = 0.9 }) =>
  html`<svg class=${share > hot ? 'bar hot' : 'bar'} viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
    <rect class="all" width="100" height="8" rx="2" /><rect class="part" width=${Math.min(100, share * 100)} height="8" rx="2" />
  </svg>`;

export const Facts = ({ facts }) =>
  html`<dl class="facts">
    ${facts.filter(Boolean).map(([name, value, note]) => html`<div key=${name}><dt>${name}</dt><dd>${value}${note && html` <small>${note}</small>`}</dd></div>`)}
  </dl>`;

/** In front of everything, until it is answered or given up. */
export function Dialog({ title, children, onClose }) {
  const dialog = useRef();
  useEffect(() => {
    const opener = document.activeElement;
    dialog.current.showModal();
    return () => opener?.focus();
  }, []);
  return html`<dialog ref=${dialog} aria-labelledby="question" onClose=${onClose}>
    <h2 id="question">${title}</h2>
    ${children}
  </dialog>`;
}

/** Less than this between two keys is typing: it is waited for. */
const TYPING = 150;

/**
 * Does something, and again after each `pause`, as long as `what` stays the same; what is under way when it changes is
 * given up. A hidden page waits.
 */
export function useRepeated(act, pause, what) {
  useEffect(() => {
    const over = new AbortController();
    let timer;
    const turn = async () => {
      if (!document.hidden) await act(over.signal);
      if (!over.signal.aborted) timer = setTimeout(turn, pause);
    };
    timer = setTimeout(turn, TYPING);
    return () => {
      over.abort();
      clearTimeout(timer);
    };
  }, what);
}

/** Where a client is shown. */
export const link = id => `#/clients/${encodeURIComponent(id)}`;
