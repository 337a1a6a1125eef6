'use strict'
const { check, checkEqual, waitPast } = require('./client.js')

const MESSAGES = 120
const MARKER = 'end'

async function connect(place) {
  const client = await place.client('a')
  check(!client.connack.sessionPresent, 'session present on a clean start')
  await client.close()
}

/** Every message of one publisher arrives once, in order, at the QoS of the publication. */
const inOrder = (qos) => async (place) => {
  const [subscriber, publisher] = [await place.client('sub'), await place.client('pub')]
  await subscriber.subscribe(place.topic('+'), { qos: 2 })
  const expected = Array.from({ length: MESSAGES }, (_, index) => `${index}`)
  await publisher.publishAll([...expected, MARKER].map((text) => [place.topic('t'), text, { qos }]))
  const messages = await subscriber.receiveUntil(MARKER)
  checkEqual(messages.map((message) => message.text), expected, 'payloads')
  check(messages.every((message) => message.qos === qos && !message.retain), 'another qos or a retain flag')
}

async function wildcards(place) {
  const [subscriber, publisher] = [await place.client('sub'), await place.client('pub')]
  const marker = `${place.tag}-marker`
  await subscriber.subscribe(marker)
  for (const [filter, expected] of [
    ['a/+', ['a/', 'a/b', 'a/c']],
    ['a/#', ['a', 'a/', 'a/b', 'a/b/c', 'a/c']],
    ['+/b/+', ['a/b/c']],
    ['+', ['a']],
  ]) {
    await subscriber.subscribe(place.topic(filter))
    for (const topic of ['a', 'a/', 'a/b', 'a/b/c', 'a/c', '/a']) publisher.publish(place.topic(topic), topic)
    await publisher.publish(marker, MARKER)
    const received = (await subscriber.receiveUntil(MARKER)).map((message) => message.text)
    checkEqual(received.sort(), expected, `filter ${filter}`)
    await subscriber.unsubscribe(place.topic(filter))
  }
}

async function retained(place) {
  const [publisher, live] = [await place.client('pub'), await place.client('live')]
  const topic = place.topic('r/x')
  await live.subscribe(place.topic('r/#'))
  for (const text of ['old', 'new']) await publisher.publish(topic, text, { qos: 1, retain: true })
  // [MQTT-3.3.1-9] a message for an existing subscription carries retain = 0.
  checkEqual((await live.receive(2)).map((message) => message.retain), [false, false], 'retain of live messages')
  for (const [name, filter] of [['exact', 'r/x'], ['plus', 'r/+'], ['hash', 'r/#']]) {
    const late = await place.client(name)
    await late.subscribe(place.topic(filter))
    const messages = (await late.receive(1, 'retained message')).map(({ text, retain }) => [text, retain])
    checkEqual(messages, [['new', true]], `retained messages of ${filter}`)
  }
  await publisher.publish(topic, '', { qos: 1, retain: true })
  const after = await place.client('after')
  await after.subscribe(place.topic('r/#'))
  await publisher.publish(place.topic('r/z'), MARKER)
  checkEqual(await after.receiveUntil(MARKER), [], 'retained messages after their deletion')
}

/** Each message goes to one member of the group, and each member gets some. */
async function shared(place) {
  const members = [await place.client('one'), await place.client('two')]
  const publisher = await place.client('pub')
  for (const [index, member] of members.entries()) {
    await member.subscribe(`$share/g/${place.topic('t')}`)
    await member.subscribe(place.topic(`end/${index}`))
  }
  const expected = Array.from({ length: MESSAGES }, (_, index) => `${index}`)
  await publisher.publishAll(expected.map((text) => [place.topic('t'), text, { qos: 1 }]))
  const got = []
  for (const [index, member] of members.entries()) {
    await publisher.publish(place.topic(`end/${index}`), MARKER)
    const part = (await member.receiveUntil(MARKER)).map(({ text }) => text)
    check(part.length > 0, `member ${index} got nothing`)
    got.push(...part)
  }
  checkEqual(got.sort(), expected.sort(), 'messages of the group')
}

async function will(place) {
  const watcher = await place.client('watch')
  const topic = place.topic('will')
  await watcher.subscribe(topic, { qos: 2 })
  for (const qos of [0, 1, 2]) {
    const packet = { topic, payload: `gone${qos}`, qos, retain: false }
    await (await place.client('cut', { will: packet })).cut()
    const message = (await watcher.receive(1, 'will of a cut connection'))[0]
    checkEqual([message.text, message.qos], [`gone${qos}`, qos], 'will')
    await (await place.client('polite', { will: packet })).close()
    // The same id once more: its CONNACK shows that the earlier connection has been dealt with.
    await (await place.client('polite')).publish(topic, MARKER)
    checkEqual(await watcher.receiveUntil(MARKER), [], 'will after DISCONNECT')
  }
}

async function session(place) {
  const publisher = await place.client('pub')
  let subscriber = await place.client('sub', { clean: false })
  check(!subscriber.connack.sessionPresent, 'session present at the first connect')
  await subscriber.subscribe(place.topic('s/+'), { qos: 2 })
  await subscriber.close()
  const expected = { 1: [], 2: [] }
  const sent = []
  for (let index = 0; index < 60; index += 1) {
    for (const qos of [1, 2]) {
      expected[qos].push(`${qos}-${index}`)
      sent.push([place.topic(`s/${qos}`), `${qos}-${index}`, { qos }])
    }
  }
  await publisher.publishAll(sent)
  subscriber = await place.client('sub', { clean: false })
  check(subscriber.connack.sessionPresent, 'no session present after a reconnect')
  const messages = await subscriber.receive(120, 'queued messages')
  for (const qos of [1, 2]) {
    checkEqual(messages.filter((message) => message.qos === qos).map(({ text }) => text), expected[qos], `QoS ${qos}`)
  }
  await subscriber.close()
  check(!(await place.client('sub')).connack.sessionPresent, 'session present on a clean start')
}

async function takeover(place) {
  const first = await place.client('twin', { clean: false })
  await first.subscribe(place.topic('t'))
  const second = await place.client('twin', { clean: false })
  check(second.connack.sessionPresent, 'the second connection did not get the session')
  await first.wait(() => first.closed, 'end of the first connection')
  await second.publish(place.topic('t'), MARKER)
  checkEqual(await second.receiveUntil(MARKER), [], 'messages of the session')
}

async function keepalive(place) {
  // Long enough that a library which pings late by half of it, on a busy machine, is in time.
  const quiet = await place.client('quiet', { keepalive: 6 })
  await quiet.subscribe(place.topic('k'))
  await waitPast(10.2, "the keep alive and the broker's half period of grace")
  check(!quiet.closed, 'closed although it pings')
  await quiet.publish(place.topic('k'), MARKER)
  checkEqual(await quiet.receiveUntil(MARKER), [], 'messages')
}

async function large(place) {
  const [subscriber, publisher] = [await place.client('sub'), await place.client('pub')]
  await subscriber.subscribe(place.topic('large'), { qos: 2 })
  const payload = Buffer.alloc(200 * 1024, (place.tag + '0123456789abcdef').slice(-21))
  for (const qos of [0, 1, 2]) {
    await publisher.publish(place.topic('large'), payload, { qos })
    const message = (await subscriber.receive(1, 'large message'))[0]
    check(payload.equals(message.payload) && message.qos === qos, `200 KiB at QoS ${qos} came back different`)
  }
}

/** What a publisher attaches reaches the subscriber unchanged. */
async function messageProperties(place) {
  const [subscriber, publisher] = [await place.client('sub'), await place.client('pub')]
  await subscriber.subscribe(place.topic('p'))
  const properties = {
    payloadFormatIndicator: true,
    contentType: 'text/plain',
    userProperties: { one: ['1', '2'], two: '' },
  }
  await publisher.publish(place.topic('p'), 'x', { qos: 1, properties })
  const got = (await subscriber.receive(1))[0].properties
  checkEqual([got.contentType, got.payloadFormatIndicator], ['text/plain', true], 'content type, payload format')
  checkEqual(Object.entries(got.userProperties), Object.entries(properties.userProperties), 'user properties')
}

async function requestResponse(place) {
  const [responder, requester] = [await place.client('responder'), await place.client('requester')]
  await responder.subscribe(place.topic('ask'))
  await requester.subscribe(place.topic('answers'))
  for (let index = 0; index < 20; index += 1) {
    const correlationData = Buffer.from([0, 255, index])
    await requester.publish(place.topic('ask'), `${index}`, {
      qos: 1, properties: { responseTopic: place.topic('answers'), correlationData },
    })
    const question = (await responder.receive(1, 'request'))[0]
    await responder.publish(question.properties.responseTopic, `re ${question.text}`, {
      qos: 1, properties: { correlationData: question.properties.correlationData },
    })
    const answer = (await requester.receive(1, 'response'))[0]
    checkEqual([answer.text, answer.properties.correlationData], [`re ${index}`, correlationData], 'response')
  }
}

async function messageExpiry(place) {
  const publisher = await place.client('pub')
  const subscriber = await place.client('sub', { clean: false })
  await subscriber.subscribe(place.topic('e'))
  await subscriber.close()
  await publisher.publish(place.topic('e'), 'short', { qos: 1, properties: { messageExpiryInterval: 1 } })
  await publisher.publish(place.topic('e'), 'long', { qos: 1, properties: { messageExpiryInterval: 60 } })
  await waitPast(2.2, 'the expiry of the first message')
  const messages = await (await place.client('sub', { clean: false })).receive(1, 'message that has not expired')
  checkEqual(messages.map(({ text }) => text), ['long'], 'messages that outlive their expiry')
  // [MQTT-3.3.2-6] the interval is lowered by the time the message has waited.
  const left = messages[0].properties.messageExpiryInterval
  check(left >= 55 && left <= 59, `remaining expiry ${left} after 2 of 60 s`)
}

async function sessionExpiry(place) {
  await (await place.client('short', { expiry: 1 })).close()
  await (await place.client('long', { expiry: 60 })).close()
  await waitPast(3, 'the expiry of the short session')
  for (const [name, expected] of [['short', false], ['long', true]]) {
    const again = await place.client(name, { clean: false, expiry: 0 })
    checkEqual(again.connack.sessionPresent, expected, `session present of ${name}`)
  }
}

async function reasonCodes(place) {
  const client = await place.client('a')
  const granted = await client.subscribe({ [place.topic('x')]: { qos: 0 }, [place.topic('y')]: { qos: 2 } })
  checkEqual(granted.map((each) => each.qos), [0, 2], 'SUBACK')
  const puback = await client.publish(place.topic('x'), '')
  check(!puback?.reasonCode, `PUBACK ${puback?.reasonCode} with a subscriber`)
}

async function takeoverReason(place) {
  const first = await place.client('twin')
  await place.client('twin')
  await first.wait(() => first.closed, 'end of the first connection')
  checkEqual(first.disconnect?.reasonCode, 0x8e, 'reason of a takeover')
}

/** The library assigns aliases to the broker by itself, and takes those of the broker. */
async function topicAlias(place) {
  const subscriber = await place.client('sub', { properties: { topicAliasMaximum: 3 } })
  const publisher = await place.client('pub', { autoAssignTopicAlias: true, autoUseTopicAlias: true })
  await subscriber.subscribe(place.topic('+'), { qos: 0 })
  const topics = Array.from({ length: 60 }, (_, index) => place.topic(`t${index % 5}`))
  for (const topic of topics) await publisher.publish(topic, topic, { qos: 0 })
  const messages = await subscriber.receive(60)
  checkEqual(messages.map(({ topic, text }) => [topic, text]), topics.map((topic) => [topic, topic]), 'topics')
}

async function subscriptionIdentifiers(place) {
  const [subscriber, publisher] = [await place.client('sub'), await place.client('pub')]
  await subscriber.subscribe(place.topic('a'), { qos: 1, properties: { subscriptionIdentifier: 7 } })
  await subscriber.subscribe(place.topic('b'), { qos: 1, properties: { subscriptionIdentifier: 268_435_455 } })
  for (const [topic, expected] of [['a', 7], ['b', 268_435_455]]) {
    await publisher.publish(place.topic(topic), 'x')
    const [message] = await subscriber.receive(1)
    checkEqual([message.properties.subscriptionIdentifier].flat(), [expected], `identifier on ${topic}`)
  }
}

async function noLocal(place) {
  const [both, other] = [await place.client('both'), await place.client('other')]
  await both.subscribe(place.topic('n'), { qos: 1, nl: true })
  await both.publish(place.topic('n'), 'mine')
  await other.publish(place.topic('n'), MARKER)
  checkEqual(await both.receiveUntil(MARKER), [], 'own messages despite no local')
}

async function retainOptions(place) {
  const [publisher, keeps] = [await place.client('pub'), await place.client('keeps')]
  const topic = place.topic('r')
  await keeps.subscribe(topic, { qos: 1, rap: true })
  await publisher.publish(topic, 'kept', { qos: 1, retain: true })
  checkEqual((await keeps.receive(1))[0].retain, true, 'retain as published')
  for (const [rh, first, again] of [[0, 1, 1], [1, 1, 0], [2, 0, 0]]) {
    const client = await place.client(`h${rh}`)
    for (const expected of [first, again]) {
      await client.subscribe(topic, { qos: 1, rh })
      // A live message on the topic is sent only after the retained one is here: the two have no order.
      const kept = await client.receive(expected, 'retained messages')
      await publisher.publish(topic, MARKER)
      kept.push(...await client.receiveUntil(MARKER))
      checkEqual(kept.length, expected, `retained messages, handling ${rh}`)
    }
  }
  await publisher.publish(topic, '', { qos: 1, retain: true })
}

/** Where users log in: a wrong password, and topics that the rules close. */
async function rights(place) {
  const { MQTT_USER: username, MQTT_PASSWORD: password } = process.env
  for (const wrong of [{ username, password: 'wrong' }, { username: 'nobody', password }]) {
    const refused = await place.client('stranger', wrong).then(() => null, (error) => error)
    check(refused?.message.includes('refused'), `${wrong.username} was let in: ${refused?.message}`)
  }
  const [client, other] = [await place.client('a'), await place.client('b')]
  const denied = await client.subscribe('forbidden/closed').then((granted) => granted[0].qos, () => 128)
  check(denied >= 128, `a closed topic was granted: ${denied}`)
  await client.subscribe([place.topic('t'), '+/closed'])
  await other.publish('forbidden/closed', 'closed', { qos: 0 })
  await other.publish(place.topic('t'), MARKER)
  const messages = await client.receiveUntil(MARKER)
  check(!messages.some((message) => message.topic.startsWith('forbidden/')), 'a message came that the rules close')
}

module.exports = {
  common: {
    ...(process.env.MQTT_USER ? { rights } : {}),
    keepalive, connect, qos0: inOrder(0), qos1: inOrder(1), qos2: inOrder(2), wildcards, retained, shared, will,
    session, takeover, large,
  },
  v5: {
    session_expiry: sessionExpiry,
    message_expiry: messageExpiry,
    message_properties: messageProperties,
    request_response: requestResponse,
    reason_codes: reasonCodes,
    takeover_reason: takeoverReason,
    topic_alias: topicAlias,
    subscription_identifiers: subscriptionIdentifiers,
    no_local: noLocal,
    retain_options: retainOptions,
  },
  timed: new Set([keepalive, sessionExpiry, messageExpiry]),
}
