// Traces: those that go on, a new one, and what one tells.

import { html, useEffect, useReducer, useRef, useState } from './vendor/preact.js';
import { change, lines, read } from './api.js';
import { useLive, visible } from './live.js';
import { Empty, Table, Trouble, link, useRepeated } from './parts.js';
import { count, many, span } from './text.js';
import { described } from './traced.js';

const AGAIN = 2000;
/** Events that are shown; the broker remembers some thousand. */
const SHOWN = 500;
const KINDS = {
  client: ['Client', 'Its identifier, there or not'],
  topic: ['Topic', 'A topic, or a filter: site/#'],
  address: ['Address', '192.0.2.7'],
};
const HEAD = [
  ['Of'],
  ['Ends in'],
  ['Events', 'number'],
  ['Left out', 'number roomy', 'For want of room in a shard'],
  ['Number', 'number roomy'],
];

/** What it is of: its kind, and the name. */
const subject = trace =>
  Object.keys(KINDS)
    .map(kind => [kind, trace[kind]])
    .find(([, name]) => name !== null);

export function Traces({ kind, name }) {
  const mayBegin = useLive().start?.caller.role === 'operator';
  const [found, setFound] = useState({});
  useRepeated(
    async signal => {
      const next = await read('/api/v1/traces', { signal }).catch(problem => ({ problem }));
      if (!signal.aborted) setFound(next);
    },
    AGAIN,
    [],
  );
  const { traces } = found;
  return html`
    <h1>Traces <small>everything about a client, a topic or an address, as it happens</small></h1>
    ${mayBegin ? html`<${Begin} key=${`${kind} ${name}`} kind=${Object.hasOwn(KINDS, kind ?? '') ? kind : 'client'} name=${name} />` : html`<p class="note">A token of the role operator may begin one.</p>`}
    <${Trouble} problem=${found.problem} />
    ${traces?.length === 0 && html`<${Empty}>Nothing is traced.<//>`}
    ${
      traces?.length > 0 &&
      html`<div class="card list">
      <${Table} label="Traces" head=${HEAD}>
        ${traces.map(trace => {
          const [of, what] = subject(trace);
          return html`<tr key=${trace.id}>
            <th scope="row"><a class="id" href=${`#/traces/${trace.id}`}>${of} ${what}</a></th>
            <td>${span(trace.ends_in_s)}</td>
            <td class="number">${count(trace.events)}</td>
            <td class="number roomy">${count(trace.left_out)}</td>
            <td class="number roomy">${trace.id}</td>
          </tr>`;
        })}
      <//>
    </div>`
    }
  `;
}

function Begin({ kind: first, name }) {
  const [kind, setKind] = useState(first);
  const [problem, setProblem] = useState(null);
  const begin = async event => {
    event.preventDefault();
    const given = new FormData(event.target);
    const order = {
      [kind]: given.get('name'),
      for: +given.get('for'),
      payload: +given.get('payload'),
      stages: given.has('stages'),
    };
    try {
      location.hash = `#/traces/${(await change('/api/v1/traces', order)).id}`;
    } catch (error) {
      setProblem(error);
    }
  };
  return html`<form class="tools" onSubmit=${begin}>
      <select aria-label="What to trace" value=${kind} onChange=${event => setKind(event.target.value)}>
        ${Object.entries(KINDS).map(([value, [text]]) => html`<option key=${value} value=${value}>${text}</option>`)}
      </select>
      <input type="search" name="name" required autocomplete="off" placeholder=${KINDS[kind][1]} aria-label=${KINDS[kind][0]} defaultValue=${name ?? ''} />
      <select name="for" aria-label="For how long">
        <option value="60">for a minute</option><option value="600" selected>for 10 minutes</option><option value="3600">for an hour</option><option value="86400">for a day</option>
      </select>
      <select name="payload" aria-label="Payloads">
        <option value="0">no payloads</option><option value="100">100 bytes of payloads</option><option value="1024">1,024 bytes of payloads</option>
      </select>
      <label><input type="checkbox" name="stages" /> with times</label>
      <button type="submit" class="main">Begin</button>
    </form>
    <${Trouble} problem=${problem} />`;
}

const time = at => at.slice(11, 23);

export function Trace({ id }) {
  const mayEnd = useLive().start?.caller.role === 'operator';
  const told = useTold(id);
  const [trace, setTrace] = useState(null);
  const [word, setWord] = useState('');
  const [problem, setProblem] = useState(null);
  useRepeated(
    async signal => {
      const answer = await read('/api/v1/traces', { signal }).catch(() => null);
      const found = answer?.traces.find(trace => `${trace.id}` === id);
      if (!signal.aborted && found) setTrace(found);
    },
    AGAIN,
    [id],
  );
  const end = () => change(`/api/v1/traces/${id}`, {}, 'DELETE').catch(setProblem);
  const [kind, name] = trace ? subject(trace) : ['trace', id];
  const fits = ([event, , text]) =>
    `${event.client_id} ${text}`.toLowerCase().includes(word.toLowerCase());
  const shown = told.events.map(event => [event, ...described(event)]).filter(fits);
  return html`
    <p class="way"><a href="#/traces">Traces</a></p>
    <h1 class="subject">
      <small>${kind}</small> <span class="id">${name}</span> <${State} told=${told} trace=${trace} />
      ${!told.end && mayEnd && trace && html`<button type="button" class="danger acts" onClick=${end}>End</button>`}
    </h1>
    <${Trouble} problem=${problem ?? told.problem} />
    <form class="tools" onSubmit=${event => event.preventDefault()}>
      <input type="search" placeholder="Only events with these letters" aria-label="Only events with these letters" value=${word} onInput=${event => setWord(event.target.value)} />
      <span class="note">${many(told.count, 'event')}${told.count > told.events.length && `, the last ${told.events.length} here`}</span>
    </form>
    ${told.count === 0 && !told.problem && html`<${Empty}>${told.end ? 'Nothing has happened.' : 'Nothing has happened yet.'}<//>`}
    ${told.count > 0 && html`<${Events} shown=${shown} withClients=${kind !== 'client'} />`}
  `;
}

const State = ({ told, trace }) =>
  told.end
    ? html`<span class="tag">ended${told.end.left_out > 0 && `, up to ${count(told.end.left_out)} left out`}</span>`
    : trace && html`<span class="tag good">goes on for ${span(trace.ends_in_s)}</span>`;

/** What a trace has told, and tells; from the beginning that the broker remembers, whenever the connection is new. */
function useTold(id) {
  const told = useRef(null);
  told.current ??= { events: [], count: 0, end: null, problem: null };
  const [, again] = useReducer(n => n + 1, 0);
  useEffect(() => {
    const over = new AbortController();
    const follow = async () => {
      while (!over.signal.aborted && !told.current.end) {
        await visible();
        const hidden = new AbortController();
        const hide = () => document.hidden && hidden.abort();
        document.addEventListener('visibilitychange', hide);
        let { problem } = told.current;
        try {
          await listen(id, AbortSignal.any([over.signal, hidden.signal]), told.current, again);
        } catch (error) {
          if (error.name !== 'AbortError') problem = error;
        }
        document.removeEventListener('visibilitychange', hide);
        if (over.signal.aborted) return;
        told.current.problem = told.current.end ? null : problem;
        again();
        if (problem?.status === 404) return;
        await new Promise(resolve => setTimeout(resolve, 1000));
      }
    };
    follow();
    return () => over.abort();
  }, [id]);
  return told.current;
}

async function listen(id, signal, told, again) {
  let isNew = true;
  for await (const some of lines(`/api/v1/traces/${id}`, signal)) {
    if (isNew) Object.assign(told, { events: [], count: 0, problem: null });
    isNew = false;
    for (const line of some) {
      const event = JSON.parse(line);
      if (event.ended) told.end = event;
      else told.events.push({ ...event, number: (told.count += 1) });
    }
    told.events.splice(0, told.events.length - SHOWN);
    again();
  }
}

/** The newest is at the bottom, and in sight unless the reader has scrolled up. */
function Events({ shown, withClients }) {
  const box = useRef();
  const isAtEnd = useRef(true);
  useEffect(() => {
    if (isAtEnd.current) box.current.scrollTop = box.current.scrollHeight;
  });
  const scrolled = ({ target }) => {
    isAtEnd.current = target.scrollHeight - target.scrollTop - target.clientHeight < 24;
  };
  return html`<div class="card log" ref=${box} onScroll=${scrolled} role="region" aria-label="Events" tabindex="0">
    <table>
      <thead><tr><th scope="col">At</th>${withClients && html`<th scope="col">Client</th>`}<th scope="col">What</th></tr></thead>
      <tbody>
        ${shown.map(
          ([event, kind, text]) => html`<tr key=${event.number}>
          <td class="at">${time(event.at)}</td>
          ${withClients && html`<td>${event.client_id === null ? '–' : html`<a class="id" href=${link(event.client_id)}>${event.client_id}</a>`}</td>`}
          <td class=${`what ${kind}`}>${text}</td>
        </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}
