// What an event of a trace says, in a line.

import { count } from './text.js';

/** Its kind (in, out, good, bad, soft or none) and its words. */
export function described(event) {
  switch (event.event) {
    case 'packet':
      return [event.direction, packet(event)];
    case 'published':
      return event.reason
        ? ['bad', refused(event)]
        : ['', published(event)];
    case 'delivery':
      return delivery(event);
    case 'connected':
      return [
        'good',
        `connected: MQTT ${event.protocol}, ${event.session_present ? 'its earlier' : 'a new'} session, keep alive ${event.keep_alive_s} s`,
      ];
    case 'refused':
      return ['bad', `refused: ${event.why} (${event.reason})`];
    case 'ended':
      return ['bad', `connection ended: ${event.reason}`];
    case 'stage':
      return ['soft', stage(event.stage, event.took_us)];
    case 'rules':
      return ['', `rules of the hook: ${event.step}`];
    default:
      return ['', JSON.stringify(event)];
  }
}

function packet(event) {
  const hex = reason => `0x${reason.toString(16).toUpperCase().padStart(2, '0')}`;
  const parts = [event.packet, event.packet_id ?? '', ...(event.filters ?? [])];
  const shown = parts.filter(part => part !== '').join(' ');
  const content = event.payload_bytes === undefined ? '' : message(event);
  return [shown + content, ...(event.reasons ?? []).map(hex)].join(' ');
}

function message(event) {
  const { topic, topic_alias: alias, payload, payload_base64: base64 } = event;
  const aliased = topic ? `${topic} (alias ${alias})` : `alias ${alias}`;
  const name = alias === undefined ? topic : aliased;
  const flags = `${event.retain ? ' retain' : ''}${event.dup ? ' dup' : ''}`;
  const binary = base64 === undefined ? '' : ` base64 ${base64}`;
  const content = payload === undefined ? binary : ` "${payload}"`;
  return ` ${name} qos ${event.qos}${flags}, ${count(event.payload_bytes)} bytes${content}`;
}

const refused = event =>
  `published${message(event)}: refused, ${event.reason}${event.denied_by ? `, by ${event.denied_by}` : ''}`;

function published(event) {
  const number = event.count > 1 ? ` ${event.count} messages,` : '';
  return `published${number}${message(event)}: to ${event.subscribers} subscribers here, ${event.groups} groups, ${event.other_shards} other shards`;
}

const STAGES = {
  turn: 'the turn took',
  queue: 'it had waited in the queue for',
  ack: 'the client has acknowledged after',
  send: 'the socket has taken the bytes after',
  send_wait: 'bytes had waited for the send before for',
};

const stage = (name, us) =>
  `${STAGES[name] ?? `${name} took`} ${us < 1000 ? `${us.toFixed(1)} µs` : `${(us / 1000).toFixed(1)} ms`}`;

function delivery({ topic, step, count: number, ahead, reason, bound }) {
  switch (step) {
    case 'sent':
      return ['', `${topic}: ${number === 1 ? '' : `${count(number)} `}sent`];
    case 'queued':
      return ['', `${topic}: queued behind ${count(ahead)}`];
    case 'sent_from_queue':
      return ['', `${topic}: sent from the queue`];
    default:
      return [
        'bad',
        `${topic}: LOST, ${reason}${bound ? `, ${bound.name} = ${count(bound.max)}` : ''}`,
      ];
  }
}
