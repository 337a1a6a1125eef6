'use strict'
// Runs in the browser: the scenarios over the WebSocket that the page's address names, reported to whoever served it.
//
// The address: ?url=ws://HOST:PORT&tag=TAG&scenarios=NAME,NAME

const WAIT_MS = 12_000

const scenarios = {
  /** Both versions, every QoS, payloads of one frame and of many. */
  async exchange({ url, tag }) {
    for (const protocolVersion of [4, 5]) {
      for (let pair = 0; pair < 4; pair++) {
        const topic = `${tag}/${protocolVersion}/${pair}`
        const subscriber = await open(url, `${topic}-s`, { protocolVersion })
        const received = []
        subscriber.on('message', (_, payload, packet) => received.push({ payload, qos: packet.qos }))
        await subscriber.subscribeAsync(topic, { qos: 2 })
        const publisher = await open(url, `${topic}-p`, { protocolVersion })
        const payloads = [0, 1, 125, 126, 4096, 70_000, 300_000].map((size) => new Uint8Array(size).fill(size % 251))
        for (const [index, payload] of payloads.entries()) {
          await publisher.publishAsync(topic, payload, { qos: index % 3 })
        }
        await until(() => received.length === payloads.length, `${payloads.length} messages`)
        // Order is promised within each QoS only: the library gives a QoS 2 message out at its PUBREL.
        for (const qos of [0, 1, 2]) {
          const sent = payloads.filter((_, index) => index % 3 === qos)
          const found = received.filter((message) => message.qos === qos).map((message) => message.payload)
          check(found.length === sent.length, `${found.length} messages of QoS ${qos}`)
          sent.forEach((payload, index) => {
            const same = found[index].length === payload.length && found[index].every((byte) => byte === payload[0])
            check(same, `payload ${index} of QoS ${qos}`)
          })
        }
        await Promise.all([subscriber.endAsync(), publisher.endAsync()])
      }
    }
  },

  /** A retained message waits for a later subscriber; a will is sent when the page goes without a word. */
  async retained_and_will({ url, tag }) {
    const watcher = await open(url, `${tag}-watcher`)
    const seen = new Map()
    watcher.on('message', (topic, payload) => seen.set(topic, payload.toString()))
    await watcher.publishAsync(`${tag}/kept`, 'kept', { qos: 1, retain: true })
    await watcher.subscribeAsync(`${tag}/#`, { qos: 1 })
    const goes = await open(url, `${tag}-goes`, { will: { topic: `${tag}/will`, payload: 'gone', qos: 1 } })
    goes.stream.socket?.close?.()
    goes.end(true)
    await until(() => seen.get(`${tag}/kept`) === 'kept' && seen.get(`${tag}/will`) === 'gone', 'both messages')
    await watcher.publishAsync(`${tag}/kept`, '', { retain: true })
    await watcher.endAsync()
  },

  /** From an origin that is not listed, the browser gets no WebSocket. */
  async origin_is_refused({ url }) {
    const outcome = await new Promise((resolve) => {
      const socket = new WebSocket(url, 'mqtt')
      socket.onopen = () => resolve('open')
      socket.onerror = () => resolve('refused')
    })
    check(outcome === 'refused', `a page of ${location.origin} got in`)
  },

  /** The subprotocol is mqtt, and nothing else opens. */
  async subprotocol({ url }) {
    const open = (protocols) => new Promise((resolve) => {
      const socket = new WebSocket(url, protocols)
      socket.onopen = () => { resolve(socket.protocol); socket.close() }
      socket.onerror = () => resolve('refused')
    })
    check(await open(['chat', 'mqtt']) === 'mqtt', 'mqtt among others')
    check(await open(['chat']) === 'refused', 'another one')
    check(await open([]) === 'refused', 'none')
  },
}

async function open(url, clientId, options = {}) {
  const client = mqtt.connect(url, { clientId, reconnectPeriod: 0, connectTimeout: WAIT_MS, ...options })
  await new Promise((resolve, reject) => {
    client.once('connect', resolve)
    client.once('error', reject)
    client.once('close', () => reject(new Error(`${clientId} was refused`)))
  })
  return client
}

function check(holds, what) {
  if (!holds) throw new Error(what)
}

async function until(condition, what) {
  const end = performance.now() + WAIT_MS
  while (!condition()) {
    check(performance.now() < end, `no ${what} within ${WAIT_MS} ms`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

async function main() {
  const wanted = Object.fromEntries(new URLSearchParams(location.search))
  const lines = []
  for (const name of wanted.scenarios.split(',')) {
    try {
      await scenarios[name](wanted)
      lines.push(`ok ${name}`)
    } catch (error) {
      lines.push(`FAIL ${name}: ${error.message}`)
    }
  }
  await fetch('/report', { method: 'POST', body: lines.join('\n') })
}

main()
