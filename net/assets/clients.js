// Clients: a list, one of them, and its end.

import { html, useEffect, useRef, useState } from './vendor/preact.js';
import { change, read } from './api.js';
import { latest, live, useLive } from './live.js';
import { Card, Dialog, Empty, Facts, Missing, Table, Trouble, link, useRepeated } from './parts.js';
import { bytes, count, many, span } from './text.js';

const LIMIT = 100;
const LIST_AGAIN = 5000;
const SHOW_AGAIN = 2000;

const HEAD = [
  ['Client'],
  ['User', 'roomy'],
  ['State'],
  ['Address', 'roomy'],
  ['MQTT', 'roomy'],
  ['Subscriptions', 'number roomy'],
  ['Queued', 'number'],
  ['Unsent', 'number roomy', 'Bytes that wait for its socket'],
];

const path = id => `/api/v1/clients/${encodeURIComponent(id)}`;

export function Clients() {
  useLive();
  const search = useRef();
  const [filter, setFilter] = useState({ prefix: '', connected: '', queued_min: '' });
  const [list, setList] = useState({ clients: null, cursor: null, problem: null, missing: [] });
  const [pages, setPages] = useState(1);

  useRepeated(
    async signal => {
      // What is on the screen, as it is by now.
      const next = await load(filter, pages, signal).catch(problem => ({
        clients: null,
        problem,
      }));
      if (!signal.aborted) setList(next);
    },
    LIST_AGAIN,
    [filter, pages],
  );
  useEffect(() => {
    const find = event => {
      if (event.key !== '/' || event.target.matches('input, select')) return;
      event.preventDefault();
      search.current.focus();
    };
    addEventListener('keydown', find);
    return () => removeEventListener('keydown', find);
  }, []);

  const set = change => {
    setPages(1);
    setFilter({ ...filter, ...change });
  };
  return html`
    <h1>Clients <small>${many(latest('sessions'), 'session')}, ${count(latest('sessions_connected'))} connected</small></h1>
    <form class="tools" onSubmit=${event => event.preventDefault()}>
      <input ref=${search} type="search" placeholder="Beginning of the client identifier ( / )" aria-label="Beginning of the client identifier" value=${filter.prefix} onInput=${event => set({ prefix: event.target.value })} />
      <select aria-label="State" value=${filter.connected} onChange=${event => set({ connected: event.target.value })}>
        <option value="">connected and away</option><option value="true">connected</option><option value="false">away</option>
      </select>
      <select aria-label="Queue" value=${filter.queued_min} onChange=${event => set({ queued_min: event.target.value })}>
        <option value="">any queue</option><option value="1">something queued</option><option value="1000">1,000 queued or more</option>
      </select>
    </form>
    <${Trouble} problem=${list.problem} />
    <${Missing} shards=${list.missing} />
    ${list.clients && html`<${List} ...${list} onMore=${() => setPages(pages + 1)} />`}
  `;
}

async function load(filter, pages, signal) {
  const clients = [];
  const missing = new Set();
  let cursor = null;
  for (let page = 0; page < pages; page += 1) {
    const given = Object.entries({ ...filter, cursor }).filter(([, value]) => value);
    const query = new URLSearchParams([['limit', LIMIT], ...given]);
    const answer = await read(`/api/v1/clients?${query}`, { signal });
    clients.push(...answer.clients);
    answer.missing_shards.forEach(shard => missing.add(shard));
    cursor = answer.cursor;
    if (!cursor) break;
  }
  return { clients, cursor, missing: [...missing], problem: null };
}

const List = ({ clients, cursor, onMore }) =>
  clients.length
    ? html`<div class="card list">
        <${Table} label="Clients" head=${HEAD}>
          ${clients.map(
            client => html`<tr key=${client.client_id}>
              <th scope="row"><a class="id" href=${link(client.client_id)}>${client.client_id || '(empty)'}</a></th>
              <td class="roomy">${client.user ?? '–'}</td>
              <td><${State} client=${client} /></td>
              <td class="roomy">${client.peer ?? '–'}</td>
              <td class="roomy">${client.protocol}</td>
              <td class="number roomy">${count(client.subscriptions)}</td>
              <td class=${client.queued_messages ? 'number loud' : 'number'}>${count(client.queued_messages)}</td>
              <td class="number roomy">${client.unsent_bytes ? bytes(client.unsent_bytes) : '0'}</td>
            </tr>`,
          )}
        <//>
        ${cursor && html`<p class="more"><button type="button" onClick=${onMore}>Show ${LIMIT} more</button></p>`}
      </div>`
    : html`<${Empty}>No client is like that.<//>`;

const State = ({ client }) =>
  client.connected
    ? html`<span class="tag good">connected</span>${client.paused && html` <span class="tag">paused</span>`}`
    : html`<span class="tag">away</span>`;

export function Client({ id }) {
  const [client, setClient] = useState(null);
  const [losses, setLosses] = useState([]);
  const [problem, setProblem] = useState(null);
  const [isAsking, setAsking] = useState(false);
  const [said, setSaid] = useState('');

  const look = async signal => {
    try {
      const found = await read(path(id), { signal });
      const lost = await read(`${path(id)}/losses`, { signal });
      if (signal.aborted) return;
      setClient(found);
      setLosses(lost.losses);
      setProblem(null);
    } catch (error) {
      if (signal.aborted) return;
      setProblem(error);
      if (error.status === 404) setClient(null);
    }
  };
  useRepeated(look, SHOW_AGAIN, [id, said]);
  const mayChange = useLive().start?.caller.role === 'operator';
  return html`
    <p class="way"><a href="#/clients">Clients</a></p>
    <h1 class="subject">
      <span class="id">${id || '(empty)'}</span> ${client && html`<${State} client=${client} />`}
      ${
        mayChange &&
        html`<span class="acts">
          <a class="button" href=${`#/traces/client/${encodeURIComponent(id)}`}>Trace...</a>
          ${client?.connected && html`<button type="button" class="danger" onClick=${() => setAsking(true)}>Disconnect...</button>`}
        </span>`
      }
    </h1>
    <p role="status" class="said">${said}</p>
    ${problem?.status === 404 ? html`<${Empty}>This client has no session.<//>` : html`<${Trouble} problem=${problem} />`}
    ${client && html`<${About} client=${client} /><${Lost} losses=${losses} />`}
    ${isAsking && html`<${Disconnect} id=${id} hasWill=${client?.will} onClose=${done => (setAsking(false), done && setSaid(done))} />`}
  `;
}

const WHY = [['Lost because of'], ['What to do', 'roomy'], ['The last on'], ['Messages', 'number']];

const Lost = ({ losses }) =>
  html`<${Card} title="Lost">
    ${
      losses.length
        ? html`<${Table} label="Lost" head=${WHY}>
          ${losses.map(
            loss => html`<tr key=${loss.reason}>
              <th scope="row"><code>${loss.reason}</code>
                <small>${loss.meaning}${loss.bound && `: ${loss.bound.name} = ${count(loss.bound.max)}`}</small></th>
              <td class="help roomy">${loss.fix}</td>
              <td><span class="id">${loss.topic}</span></td>
              <td class="number">${count(loss.count)}</td>
            </tr>`,
          )}
        <//>`
        : html`<${Empty}>It has missed nothing.<//>`
    }
  <//>`;

const yes = (is, text = 'yes') => (is ? text : 'no');

function About({ client }) {
  const expiry =
    client.expiry_s === 0
      ? 'with the connection'
      : client.expiry_s === null
        ? 'never'
        : `${span(client.expiry_s)} after the connection`;
  return html`<div class="trio">
    <${Card} title="Connection">
      <${Facts} facts=${
        client.connected
          ? [
              ['Address', client.peer ?? 'not known'],
              ['Connected for', span(client.connected_for_s)],
              [
                'Silent for',
                span(client.silent_for_s),
                client.silence_max_s ? `lost after ${span(client.silence_max_s)}` : 'no keep alive',
              ],
              ['Protocol', `MQTT ${client.protocol}`, client.bridge && 'a bridge'],
              ['Reading', client.paused ? 'paused' : 'yes'],
              ['Unsent', bytes(client.unsent_bytes)],
            ]
          : [
              ['State', 'away'],
              ['Protocol', `MQTT ${client.protocol}`, 'at last'],
              client.ends_in_s !== null && ['Session ends in', span(client.ends_in_s)],
            ]
      } />
    <//>
    <${Card} title="Session">
      <${Facts} facts=${[
        ['User', client.user ?? 'none'],
        ['Shard', client.shard],
        ['Subscriptions', count(client.subscriptions)],
        ['Will', yes(client.will)],
        ['Expires', expiry],
      ]} />
    <//>
    <${Card} title="Messages">
      <${Facts} facts=${[
        ['Queued', count(client.queued_messages), bytes(client.queued_bytes)],
        ['In flight to it', count(client.inflight), 'not acknowledged yet'],
        ['QoS 2 from it', count(client.receipts), 'not released yet'],
      ]} />
    <//>
  </div>`;
}

function Disconnect({ id, hasWill, onClose }) {
  const [withWill, setWithWill] = useState(true);
  const [problem, setProblem] = useState(null);
  const act = async event => {
    event.preventDefault();
    try {
      await change(`${path(id)}/disconnect`, { will: withWill });
      onClose('Disconnected. It may come back at any time.');
    } catch (error) {
      setProblem(error);
    }
  };
  return html`<${Dialog} title=${html`Disconnect <span class="id">${id || '(empty)'}</span>?`} onClose=${() => onClose(null)}>
    <form onSubmit=${act}>
      <p>Its connection ends, and an MQTT 5.0 client is told so (0x98). Its session stays if it outlives its connection. Nothing keeps the client from coming back.</p>
      ${hasWill && html`<label><input type="checkbox" checked=${withWill} onChange=${event => setWithWill(event.target.checked)} /> Publish its will</label>`}
      <${Trouble} problem=${problem} />
      <p class="answers">
        <button type="button" onClick=${() => onClose(null)}>Cancel</button>
        <button type="submit" class="danger">Disconnect</button>
      </p>
    </form>
  <//>`;
}
