'use strict'
// One mqtt.js connection whose events can be awaited, each with a deadline and a name of what is missing.

const fs = require('node:fs')
const mqtt = require('mqtt')

const WAIT_MS = 12_000
// Below the receive maximum of every usual broker (Mosquitto's is 20).
const WINDOW = 15

function check(holds, what) {
  if (!holds) throw new Error(what)
}

function checkEqual(actual, expected, what) {
  const [left, right] = [actual, expected].map((value) => `${JSON.stringify(value)}`)
  check(left === right, `${what}: ${brief(left)} instead of ${brief(right)}`)
}

function brief(text) {
  return text.length < 200 ? text : `${text.slice(0, 120)}...${text.slice(-60)}`
}

/** The only sleep: for rules that speak of time itself (keep alive, expiry). */
function waitPast(seconds, why) {
  check(why, 'say why')
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000))
}

/** Where one run of a scenario happens: the broker, the version, and client ids and topics of its own. */
class Place {
  constructor(host, port, version, tag) {
    Object.assign(this, { host, port, version, tag, clients: [] })
  }

  /** Connects as `name`; resolves once CONNACK 0 is here. */
  async client(name, options = {}) {
    const client = new Client(this, name, options)
    this.clients.push(client)
    await client.wait(() => client.connack || client.closed, `CONNACK for ${name}`)
    check(client.connack, `${name} was refused: ${client.error ?? 'connection closed'}`)
    return client
  }

  topic(rest) {
    return `${this.tag}/${rest}`
  }

  async closeAll() {
    await Promise.all(this.clients.map((client) => client.close()))
  }
}

/** The options of the listener that scripts/test-clients describes in the environment. */
function way() {
  const { MQTT_SCHEME: protocol = 'mqtt', MQTT_CA, MQTT_CERT, MQTT_KEY, MQTT_USER, MQTT_PASSWORD } = process.env
  const files = { ca: MQTT_CA, cert: MQTT_CERT, key: MQTT_KEY }
  const read = Object.entries(files).filter(([, path]) => path).map(([name, path]) => [name, fs.readFileSync(path)])
  const user = MQTT_USER ? { username: MQTT_USER, password: MQTT_PASSWORD } : {}
  return { protocol, ...user, ...Object.fromEntries(read) }
}

class Client {
  constructor(place, name, { clean = true, expiry, properties, ...options }) {
    Object.assign(this, { messages: [], connack: null, closed: false, disconnect: null, error: null, waiters: new Set() })
    if (place.version === 5) {
      properties = { sessionExpiryInterval: expiry ?? (clean ? 0 : 300), ...properties }
    }
    this.mqtt = mqtt.connect({
      host: place.host,
      port: place.port,
      ...way(),
      protocolVersion: place.version,
      clientId: `${place.tag}-${name}`,
      clean,
      properties,
      reconnectPeriod: 0,
      resubscribe: false,
      connectTimeout: WAIT_MS,
      ...options,
    })
    const note = (event, change) => this.mqtt.on(event, (...values) => { change(...values); this.changed() })
    note('connect', (packet) => { this.connack = packet })
    note('message', (topic, payload, packet) => this.messages.push({ ...packet, topic, text: payload.toString() }))
    note('disconnect', (packet) => { this.disconnect = packet })
    note('close', () => { this.closed = true })
    note('error', (error) => { this.error = error })
  }

  changed() {
    for (const waiter of this.waiters) waiter()
  }

  wait(condition, what) {
    return new Promise((resolve, reject) => {
      const settle = (finish) => { clearTimeout(deadline); this.waiters.delete(look); finish() }
      const look = () => condition() && settle(resolve)
      const deadline = setTimeout(
        () => settle(() => reject(new Error(`no ${what} within ${WAIT_MS} ms; ${this.messages.length} messages are here`))),
        WAIT_MS)
      this.waiters.add(look)
      look()
    })
  }

  subscribe(topic, options = { qos: 1 }) {
    return within(this.mqtt.subscribeAsync(topic, options), `SUBACK for ${topic}`)
  }

  unsubscribe(topic) {
    return within(this.mqtt.unsubscribeAsync(topic), `UNSUBACK for ${topic}`)
  }

  /** Resolves when the last acknowledgement is here (QoS 0: when it is written). */
  publish(topic, payload, options = { qos: 1 }) {
    return within(this.mqtt.publishAsync(topic, payload, options), `acknowledgement of a publish to ${topic}`)
  }

  /** Publishes `[topic, text, options]` rows in order. The library does not keep to the broker's receive maximum. */
  async publishAll(rows) {
    for (let index = 0; index < rows.length; index += WINDOW) {
      await Promise.all(rows.slice(index, index + WINDOW).map((row) => this.publish(...row)))
    }
  }

  /** Waits for `count` messages and takes everything that is there. */
  async receive(count, what = 'messages') {
    await this.wait(() => this.messages.length >= count || this.closed, `${count} ${what}`)
    check(this.messages.length >= count, `closed with ${this.messages.length} of ${count} ${what}`)
    return this.messages.splice(0)
  }

  /** Waits for a message with this payload and takes what came before it. */
  async receiveUntil(text) {
    await this.wait(() => this.closed || this.messages.some((message) => message.text === text), `marker ${text}`)
    check(this.messages.at(-1)?.text === text, `marker ${text} is not the last message`)
    return this.messages.splice(0).slice(0, -1)
  }

  /** Ends the connection without DISCONNECT. */
  cut() {
    this.mqtt.stream.destroy()
    return this.wait(() => this.closed, 'end of the cut connection')
  }

  async close(options = {}) {
    if (!this.closed) await within(this.mqtt.endAsync(false, options), 'end of the connection')
    else this.mqtt.end(true)
  }
}

function within(promise, what) {
  let deadline
  const late = new Promise((_, reject) => {
    deadline = setTimeout(() => reject(new Error(`no ${what} within ${WAIT_MS} ms`)), WAIT_MS)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(deadline))
}

module.exports = { Place, check, checkEqual, waitPast }
