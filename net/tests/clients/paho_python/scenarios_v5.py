"""Scenarios of MQTT 5.0 alone."""

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from client import check, check_equal, properties, wait_past
from scenarios import MARKER


def message_properties(place):
    """What a publisher attaches reaches the subscriber unchanged and in order [MQTT-3.3.2-18]."""
    subscriber, publisher = place.client("sub"), place.client("pub")
    subscriber.subscribe((place.topic("p"), 1))
    user = [("b", "1"), ("a", "2"), ("b", "3"), ("", "")]
    publisher.publish_settled(
        place.topic("p"), "héllo".encode(), UserProperty=user, ContentType="text/plain", PayloadFormatIndicator=1)
    got = subscriber.receive(1)[0].properties
    check_equal(got.UserProperty, user, "user properties")
    check_equal((got.ContentType, got.PayloadFormatIndicator), ("text/plain", 1), "content type, payload format")


def request_response(place):
    responder, requester = place.client("responder"), place.client("requester")
    responder.subscribe((place.topic("ask"), 1))
    requester.subscribe((place.topic("answers"), 1))
    for index in range(20):
        tag = b"\x00\xff%d" % index
        requester.publish(
            place.topic("ask"), b"%d" % index, 1, ResponseTopic=place.topic("answers"), CorrelationData=tag)
        question = responder.receive(1, "request")[0]
        responder.publish(
            question.properties.ResponseTopic, b"re " + question.payload, 1,
            CorrelationData=question.properties.CorrelationData)
        answer = requester.receive(1, "response")[0]
        check_equal((answer.payload, answer.properties.CorrelationData), (b"re %d" % index, tag), "response")


def message_expiry(place):
    publisher, subscriber = place.client("pub"), place.client("sub", clean=False)
    subscriber.subscribe((place.topic("e"), 1))
    subscriber.close()
    publisher.publish_settled(place.topic("e"), b"short", MessageExpiryInterval=1)
    publisher.publish_settled(place.topic("e"), b"long", MessageExpiryInterval=60)
    wait_past(2.2, "the expiry of the first message")
    subscriber = place.client("sub", clean=False)
    messages = subscriber.receive(1, "message that has not expired")
    check_equal([m.payload for m in messages], [b"long"], "messages that outlive their expiry")
    # [MQTT-3.3.2-6] the interval is lowered by the time the message has waited.
    left = messages[0].properties.MessageExpiryInterval
    check(55 <= left <= 59, f"remaining expiry {left} after 2 of 60 s")
    publisher.publish_settled(place.topic("e"), MARKER)
    check_equal(subscriber.receive_until(MARKER), [], "late messages")


def session_expiry(place):
    check(not place.client("zero", clean=True, expiry=0).session_present, "session present")
    place.client("zero", clean=False, expiry=0).close()
    check(not place.client("zero", clean=False).session_present, "a session with expiry 0 outlived its connection")
    place.client("short", expiry=1).close()
    place.client("long", expiry=60).close()
    place.client("ended", expiry=60).close(expiry=0)
    place.client("prolonged", expiry=1).close(expiry=60)
    wait_past(3, "the expiry of the short session")
    for name, expected in (("short", False), ("long", True), ("ended", False), ("prolonged", True)):
        check_equal(place.client(name, clean=False, expiry=0).session_present, expected, f"session present of {name}")


def reason_codes(place):
    client = place.client("a")
    codes = client.subscribe((place.topic("x"), 0), (place.topic("y"), 1), (place.topic("z/#"), 2))
    check_equal([code.value for code in codes], [0, 1, 2], "SUBACK")
    check_equal(client.publish_settled(place.topic("x"), b"").value, 0, "PUBACK with a subscriber")
    client.receive(1)
    # A broker may say 0x10 (no matching subscribers) where there is none [MQTT-3.4.2.1].
    check(client.publish_settled(place.topic("nobody"), b"").value in (0, 0x10), "PUBACK without a subscriber")
    codes = client.unsubscribe(place.topic("x"), place.topic("never"))
    check_equal([code.value for code in codes], [0, 0x11], "UNSUBACK")


def takeover_reason(place):
    first = place.client("twin")
    place.client("twin")
    first.wait(lambda: first.closed, "end of the first connection")
    check_equal(first.closed[0].value, 0x8E, "reason of a takeover")


def assigned_client_id(place):
    clients = [place.open("") for _ in range(3)]
    names = {client.connack[2].AssignedClientIdentifier for client in clients}
    check(len(names) == 3 and all(names), f"assigned client identifiers: {names}")


def topic_alias_to_broker(place):
    subscriber, publisher = place.client("sub"), place.client("pub")
    check(publisher.connack[2].TopicAliasMaximum >= 1, "the broker takes no topic alias")
    subscriber.subscribe((place.topic("#"), 1))
    publisher.publish(place.topic("one"), b"0", 1, TopicAlias=1)
    for index in range(1, 20):
        publisher.publish("", b"%d" % index, 1, TopicAlias=1)
    publisher.publish(place.topic("two"), b"20", 1, TopicAlias=1)
    publisher.publish("", b"21", 1, TopicAlias=1)
    got = [(m.topic, m.payload) for m in subscriber.receive(22)]
    expected = [(place.topic("one" if index < 20 else "two"), b"%d" % index) for index in range(22)]
    check_equal(got, expected, "topics and payloads")


def topic_alias_from_broker(place):
    """A broker may use aliases up to the maximum the client allows; every topic must still be known."""
    subscriber, publisher = place.client("sub", connect={"TopicAliasMaximum": 3}), place.client("pub")
    subscriber.subscribe((place.topic("+"), 0))
    expected = [place.topic(f"t{index % 5}") for index in range(60)]
    for topic in expected:
        publisher.publish(topic, topic, 0)
    aliases, topics = {}, []
    for message in subscriber.receive(60):
        topic, alias = message.topic, getattr(message.properties, "TopicAlias", None)
        if alias is not None:
            check(1 <= alias <= 3, f"alias {alias} above the maximum")
            topic = aliases[alias] if topic == "" else aliases.setdefault(alias, topic)
            aliases[alias] = topic
        check_equal(message.payload.decode(), topic, "topic")
        topics.append(topic)
    check_equal(topics, expected, "topics")


def subscription_identifiers(place):
    subscriber, publisher = place.client("sub"), place.client("pub")
    check(getattr(subscriber.connack[2], "SubscriptionIdentifierAvailable", 1) == 1, "not available")
    subscriber.subscribe((place.topic("a/+"), 1), SubscriptionIdentifier=7)
    subscriber.subscribe((place.topic("a/b"), 1), SubscriptionIdentifier=268_435_455)
    subscriber.subscribe((place.topic("c"), 1))
    for topic, expected in (("a/x", {7}), ("a/b", {7, 268_435_455}), ("c", set())):
        publisher.publish_settled(place.topic(topic), b"x")
        # One message with every identifier, or one message per subscription: both are allowed [MQTT-3.3.4-3..5].
        found = identifiers(subscriber.receive(1, f"message on {topic}"))
        while not expected <= found:
            found |= identifiers(subscriber.receive(1, f"message on {topic} with {expected - found}"))
        check_equal(found, expected, f"identifiers on {topic}")
    # Subscribing again replaces the identifier.
    subscriber.subscribe((place.topic("a/+"), 1), SubscriptionIdentifier=9)
    publisher.publish_settled(place.topic("a/x"), b"x")
    check_equal(subscriber.receive(1)[0].properties.SubscriptionIdentifier, [9], "replaced identifier")


def identifiers(messages):
    return {each for message in messages for each in getattr(message.properties, "SubscriptionIdentifier", [])}


def no_local(place):
    both, other = place.client("both"), place.client("other")
    both.subscribe((place.topic("n"), SubscribeOptions(qos=1, noLocal=True)))
    both.publish_settled(place.topic("n"), b"mine")
    other.publish_settled(place.topic("n"), MARKER)
    check_equal(both.receive_until(MARKER), [], "own messages despite no local")


def retain_as_published(place):
    keeps, clears, publisher = place.client("keeps"), place.client("clears"), place.client("pub")
    keeps.subscribe((place.topic("r"), SubscribeOptions(qos=1, retainAsPublished=True)))
    clears.subscribe((place.topic("r"), SubscribeOptions(qos=1, retainAsPublished=False)))
    for retain in (True, False):
        publisher.publish_settled(place.topic("r"), b"x", retain=retain)
        check_equal(keeps.receive(1)[0].retain, retain, "retain as published")
        check_equal(clears.receive(1)[0].retain, False, "retain without retain as published")
    publisher.publish_settled(place.topic("r"), b"", retain=True)


def retain_handling(place):
    publisher, topic = place.client("pub"), place.topic("h")
    publisher.publish_settled(topic, b"kept", retain=True)

    def check_retained(client, handling, expected):
        client.subscribe((topic, SubscribeOptions(qos=1, retainHandling=handling)))
        # A live message on the topic is sent only after the retained one is here: the two have no order.
        messages = client.receive(expected, "retained messages")
        publisher.publish_settled(topic, MARKER)
        messages += client.receive_until(MARKER)
        check_equal(len(messages), expected, f"retained messages, handling {handling}")

    for handling, first, again in ((0, 1, 1), (1, 1, 0), (2, 0, 0)):
        client = place.client(f"h{handling}")
        check_retained(client, handling, first)
        check_retained(client, handling, again)
    publisher.publish_settled(topic, b"", retain=True)


def will_delay(place):
    watcher = place.client("watch")
    watcher.subscribe((place.topic("w/+"), 1))

    def doomed(name, delay):
        packet = properties(PacketTypes.WILLMESSAGE, WillDelayInterval=delay, UserProperty=[("k", "v")])
        will = {"topic": place.topic(f"w/{name}"), "payload": name.encode(), "qos": 1, "properties": packet}
        return place.client(name, will=will, expiry=60)

    # Far longer than a busy machine takes for what has to happen before.
    delay_s = 4
    doomed("delayed", delay_s).cut()
    doomed("back", delay_s).cut()
    place.client("back", clean=False, expiry=60)
    publisher = place.client("pub")
    publisher.publish_settled(place.topic("w/early"), MARKER)
    check_equal(watcher.receive_until(MARKER), [], "wills before their delay")
    message = watcher.receive(1, "delayed will")[0]
    check_equal(message.payload, b"delayed", "will after its delay")
    check_equal(message.properties.UserProperty, [("k", "v")], "user property of the will")
    wait_past(delay_s + 0.5, "the delay of the will that a reconnect called off")
    publisher.publish_settled(place.topic("w/late"), MARKER)
    check_equal(watcher.receive_until(MARKER), [], "will despite a reconnect within its delay")


def disconnect_with_will(place):
    watcher = place.client("watch")
    watcher.subscribe((place.topic("w"), 1))
    client = place.client("a", will={"topic": place.topic("w"), "payload": b"will", "qos": 1})
    client.close(reason=ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message"))
    check_equal(watcher.receive(1, "will after DISCONNECT 0x04")[0].payload, b"will", "will")


ALL = {
    "session_expiry": session_expiry,
    "will_delay": will_delay,
    "message_expiry": message_expiry,
    "message_properties": message_properties,
    "request_response": request_response,
    "reason_codes": reason_codes,
    "takeover_reason": takeover_reason,
    "assigned_client_id": assigned_client_id,
    "topic_alias_to_broker": topic_alias_to_broker,
    "topic_alias_from_broker": topic_alias_from_broker,
    "subscription_identifiers": subscription_identifiers,
    "no_local": no_local,
    "retain_as_published": retain_as_published,
    "retain_handling": retain_handling,
    "disconnect_with_will": disconnect_with_will,
}
