// The broker at a glance.

import { html } from './vendor/preact.js';
import { Chart, Spark } from './chart.js';
import { grown, latest, live, pace, useLive } from './live.js';
import { Bar, Card, Empty, Facts, Table } from './parts.js';
import { bytes, count, many, percent, short } from './text.js';

const rate = n => `${short(n)}/s`;
const byteRate = n => `${bytes(n)}/s`;

export function Overview() {
  const { frame, start } = useLive();
  if (!frame) return html`<${Empty}>Waiting for the first figures...<//>`;
  return html`
    <h1 class="hidden">Overview</h1>
    <div class="tiles">
      <${Tile} name="Connections" value=${count(latest('connections'))} note=${`of ${count(start.connections_max)}`} column="connections" />
      <${Tile} name="Messages in" value=${rate(latest('in'))} note=${byteRate(latest('bytes_in'))} column="in" />
      <${Tile} name="Messages out" value=${rate(latest('out'))} note=${byteRate(latest('bytes_out'))} column="out" color="s2" />
      <${Tile} name="CPU" value=${cores()} note=${`busiest shard ${percent(Math.max(...frame.shards.map((_, i) => busy(i))))}`} column="cpu" color="s5" />
      <${Tile} name="Queued" value=${count(latest('queued_messages'))} note=${bytes(latest('queued_bytes'))} column="queued_messages" color="s3" />
      <${Lost} />
    </div>
    <div class="pair">
      <${Chart} title="Messages per second" format=${short} series=${[
        { name: 'in', column: 'in', color: 's1' },
        { name: 'out', column: 'out', color: 's2' },
      ]} />
      <${Chart} title="Bytes per second" format=${bytes} series=${[
        { name: 'in', column: 'bytes_in', color: 's1' },
        { name: 'out', column: 'bytes_out', color: 's2' },
      ]} />
    </div>
    <${Shards} shards=${frame.shards} />
    <div class="pair">
      <${Reasons} title="Lost by reason" counts=${frame.dropped} field="dropped" hints=${LOST}>No message has been lost since the start.<//>
      <${Reasons} title="Refused by reason" counts=${frame.refused} field="refused" hints=${{}}>Nothing has been refused since the start.<//>
    </div>
    <${Held} />
  `;
}

const cores = () => {
  const used = latest('cpu') / 1000;
  return html`${used.toFixed(2)} <small>cores</small>`;
};
const busy = index => pace(frame => frame.shards[index]?.cpu_s);

const Tile = ({ name, value, note, column, color, bad }) =>
  html`<section class=${bad ? 'tile bad' : 'tile'} aria-label=${name}>
    <h2>${name}</h2><b>${value}</b><span>${note}</span><${Spark} column=${column} color=${color} />
  </section>`;

function Lost() {
  const lost = grown('messages_dropped');
  const all = latest('messages_dropped');
  const note = lost
    ? `${count(lost)} in 5 min`
    : all
      ? `${count(all)} before`
      : 'none since the start';
  return html`<${Tile} name="Lost" value=${rate(latest('lost'))} note=${note} column="lost" color="s8" bad=${lost > 0} />`;
}

const SHARDS = [
  ['Shard'],
  ['Busy', 'wide', 'Share of a core that it uses'],
  ['No core', 'number', 'Share of the time that it was ready to run and had no core'],
  ['Per turn', 'number', 'Messages in per turn: a busy shard handles more at once'],
  ['In', 'number', 'Messages per second'],
  ['Out', 'number', 'Messages per second'],
  ['Connections', 'number'],
  ['Queued', 'number', 'Messages for its clients'],
  ['Unsent', 'number', 'Bytes that wait for slow sockets'],
  ['Inbox', 'number', 'Messages of other shards that wait'],
];

const Shards = ({ shards }) =>
  html`<${Card} title="Shards" note=${many(shards.length, 'shard')}>
    <${Table} label="Shards" head=${SHARDS}>
      ${shards.map((shard, index) => html`<${Shard} key=${index} shard=${shard} index=${index} />`)}
    <//>
  <//>`;

function Shard({ shard, index }) {
  const of = name => pace(frame => frame.shards[index]?.[name]);
  const turns = of('turns');
  const share = busy(index);
  return html`<tr class=${shard.responding ? '' : 'silent'}>
    <th scope="row">${index}${!shard.responding && html` <span class="tag bad">does not answer</span>`}</th>
    <td class="wide"><span class="share"><${Bar} share=${share} /><span>${percent(share)}</span></span></td>
    <td class="number">${percent(of('runnable_s'))}</td>
    <td class="number">${turns ? short(of('publishes_received') / turns) : '–'}</td>
    <td class="number">${rate(of('publishes_received'))}</td>
    <td class="number">${rate(of('publishes_sent'))}</td>
    <td class="number">${count(shard.connections)}</td>
    <td class="number">${count(shard.queued_messages)}</td>
    <td class="number">${bytes(shard.unsent_bytes)}</td>
    <td class="number">${count(shard.inbox_messages)}</td>
  </tr>`;
}

const REASONS = [['Reason'], ['Now', 'number'], ['Since the start', 'number']];

const Reasons = ({ title, counts, field, hints, children }) => {
  const reasons = Object.entries(counts).sort(([, a], [, b]) => b - a);
  return html`<${Card} title=${title}>
    ${
      reasons.length
        ? html`<${Table} label=${title} head=${REASONS}>
          ${reasons.map(
            ([reason, all]) => html`<tr key=${reason}>
              <th scope="row"><code>${reason}</code>${hints[reason] && html`<small>${hints[reason]}</small>`}</th>
              <td class="number">${rate(pace(frame => frame[field][reason]))}</td>
              <td class="number">${count(all)}</td>
            </tr>`,
          )}
        <//>`
        : html`<${Empty}>${children}<//>`
    }
  <//>`;
};

// The manual says more: docs/missing-messages.md.
const LOST = {
  slow_socket: 'QoS 0, and the subscriber reads too slowly: unsent_bytes_max',
  queue_full: 'The queue of a client is full: queued_messages_max, queued_bytes_max',
  shard_full: 'The queues of a shard are full: total_queued_messages_max, total_queued_bytes_max',
  packet_too_large: 'Larger than the subscriber accepts',
  denied: 'The access rules do not let the subscriber read the topic',
  expired: 'The Message Expiry Interval passed',
  no_member: 'Nobody of a shared subscription is connected',
  retained_full: 'Delivered, but not retained: retained_messages_max, retained_bytes_max',
};

function Held() {
  const away = latest('sessions') - latest('sessions_connected');
  return html`<${Card} title="Held">
    <${Facts} facts=${[
      ['Sessions', count(latest('sessions')), away ? `${count(away)} away` : 'all connected'],
      [
        'Subscriptions',
        count(latest('subscriptions') + latest('shared_subscriptions')),
        `${count(latest('shared_subscriptions'))} shared`,
      ],
      ['Retained', count(latest('retained_messages')), bytes(latest('retained_bytes'))],
      ['In flight', bytes(latest('inflight_bytes')), 'not acknowledged yet'],
      ['Unsent', bytes(latest('unsent_bytes')), 'for slow sockets'],
      ['Memory', bytes(latest('resident_bytes')), 'of the process'],
      latest('open_fds') > 0 && ['Open files', count(latest('open_fds'))],
      ['Accepted', count(latest('accepted')), 'connections since the start'],
    ]} />
  <//>`;
}
