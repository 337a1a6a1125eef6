// What was lost, case by case: the newest first.

import { html, useState } from './vendor/preact.js';
import { read } from './api.js';
import { Empty, Missing, Table, Trouble, link, useRepeated } from './parts.js';
import { count } from './text.js';

const HEAD = [
  ['At'],
  ['Client'],
  ['Topic', 'roomy'],
  ['Reason'],
  ['Bound', 'roomy'],
  ['Messages', 'number'],
];
const AGAIN = 3000;
const time = new Intl.DateTimeFormat('en', {
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  hourCycle: 'h23',
});

export function Losses() {
  const [filter, setFilter] = useState({ client: '', topic: '', since: '' });
  const [found, setFound] = useState({ losses: null, problem: null });
  useRepeated(
    async signal => {
      const query = new URLSearchParams(Object.entries(filter).filter(([, value]) => value));
      const next = await read(`/api/v1/losses?${query}`, { signal }).catch(problem => ({ problem }));
      if (!signal.aborted) setFound(next);
    },
    AGAIN,
    [filter],
  );
  const set = name => event => setFilter({ ...filter, [name]: event.target.value });
  return html`
    <h1>Losses <small>the last cases; docs/missing-messages.md says what to do about each reason</small></h1>
    <form class="tools" onSubmit=${event => event.preventDefault()}>
      <input type="search" placeholder="Client" aria-label="Client" onChange=${set('client')} />
      <input type="search" placeholder="Topic or filter: site/#" aria-label="Topic or filter" onChange=${set('topic')} />
      <select aria-label="Since" value=${filter.since} onChange=${set('since')}>
        <option value="">any time</option><option value="60">last minute</option><option value="3600">last hour</option>
      </select>
    </form>
    <${Trouble} problem=${found.problem} />
    <${Missing} shards=${found.missing_shards} />
    ${found.losses?.length === 0 && html`<${Empty}>Nothing was lost.<//>`}
    ${
      found.losses?.length > 0 &&
      html`<div class="card list">
      <${Table} label="Losses" head=${HEAD}>
        ${found.losses.map(
          (loss, index) => html`<tr key=${index}>
          <th scope="row">${time.format(new Date(loss.at))}</th>
          <td>${loss.client_id === null ? '–' : html`<a class="id" href=${link(loss.client_id)}>${loss.client_id}</a>`}</td>
          <td class="roomy"><span class="id">${loss.topic}</span></td>
          <td><code>${loss.reason}</code></td>
          <td class="roomy">${loss.bound ? `${loss.bound.name} = ${count(loss.bound.max)}` : '–'}</td>
          <td class="number">${count(loss.count)}</td>
        </tr>`,
        )}
      <//>
    </div>`
    }
  `;
}
