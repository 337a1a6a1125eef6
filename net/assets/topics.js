// The topics on which clients publish most.

import { html, useState } from './vendor/preact.js';
import { read } from './api.js';
import { useLive } from './live.js';
import { Bar, Empty, Missing, Table, Trouble, useRepeated } from './parts.js';
import { bytes, count, many, short, span } from './text.js';

const AGAIN = 3000;
const HEAD = [
  ['Topic'],
  ['Share', 'wide roomy', 'Compared with the first'],
  ['Per second', 'number', 'Messages'],
  ['Bytes/s', 'number', 'Payloads alone'],
  ['Messages', 'number roomy'],
  ['Bytes', 'number roomy', 'Payloads alone'],
];

export function Topics() {
  const mayTrace = useLive().start?.caller.role === 'operator';
  const [query, setQuery] = useState({ by: 'messages', limit: '20' });
  const [found, setFound] = useState({});
  useRepeated(
    async signal => {
      const path = `/api/v1/topics/top?${new URLSearchParams(query)}`;
      const next = await read(path, { signal }).catch(problem => ({ problem }));
      if (!signal.aborted) setFound(next);
    },
    AGAIN,
    [query],
  );
  const set = name => event => setQuery({ ...query, [name]: event.target.value });
  const { topics } = found;
  return html`
    <h1>Topics <small>${topics && `on which clients publish most, in the last ${span(found.span_s)}`}</small></h1>
    <form class="tools" onSubmit=${event => event.preventDefault()}>
      <select aria-label="Order" value=${query.by} onChange=${set('by')}>
        <option value="messages">by messages</option><option value="bytes">by bytes</option>
      </select>
      <select aria-label="How many" value=${query.limit} onChange=${set('limit')}>
        <option value="20">the first 20</option><option value="100">the first 100</option><option value="1000">the first 1,000</option>
      </select>
      ${topics?.length > 0 && html`<span class="note">${found.error ? `a count may be too low by up to ${many(found.error, found.by.slice(0, -1))}` : 'counts are exact'}</span>`}
    </form>
    <${Trouble} problem=${found.problem} />
    <${Missing} shards=${found.missing_shards} />
    ${topics?.length === 0 && html`<${Empty}>Nothing was published.<//>`}
    ${
      topics?.length > 0 &&
      html`<div class="card list">
      <${Table} label="Topics" head=${mayTrace ? [...HEAD, ['Trace']] : HEAD}>
        ${topics.map(
          topic => html`<tr key=${topic.topic}>
          <th scope="row"><span class="id">${topic.topic}</span></th>
          <td class="wide roomy"><${Bar} share=${topic[found.by] / (topics[0][found.by] || 1)} hot=${2} /></td>
          <td class="number">${short(topic.messages_per_s)}</td>
          <td class="number">${bytes(topic.bytes_per_s)}</td>
          <td class="number roomy">${count(topic.messages)}</td>
          <td class="number roomy">${bytes(topic.bytes)}</td>
          ${mayTrace && html`<td><a href=${`#/traces/topic/${encodeURIComponent(topic.topic)}`} aria-label=${`Trace ${topic.topic}`}>Trace</a></td>`}
        </tr>`,
        )}
      <//>
    </div>`
    }
  `;
}
