"""Scenarios that both protocol versions share."""

import os

from client import check, check_equal, wait_past

MESSAGES = 120
MARKER = b"end"


def connect(place):
    client = place.client("a")
    check(not client.session_present, "session present on a clean start")
    client.close()
    check_equal(client.closed[0].value, 0, "reason of a normal end")


def in_order(place, qos):
    """Every message of one publisher arrives once, in order, at the QoS of the publication."""
    subscriber, publisher = place.client("sub"), place.client("pub")
    subscriber.subscribe((place.topic("+"), 2))
    expected = [b"%d" % index for index in range(MESSAGES)]
    sent = [publisher.publish(place.topic("t"), payload, qos) for payload in expected + [MARKER]]
    publisher.settle(sent)
    messages = subscriber.receive_until(MARKER)
    check_equal([m.payload for m in messages], expected, "payloads")
    check_equal({(m.topic, m.qos, m.retain) for m in messages}, {(place.topic("t"), qos, False)}, "topic, qos, retain")


def qos_is_the_lower_of_both(place):
    for subscribed in (0, 1, 2):
        subscriber, publisher = place.client(f"sub{subscribed}"), place.client(f"pub{subscribed}")
        codes = subscriber.subscribe((place.topic("q"), subscribed))
        check_equal([code.value for code in codes], [subscribed], "granted QoS")
        for published in (0, 1, 2):
            publisher.publish_settled(place.topic("q"), b"x", published)
            check_equal(subscriber.receive(1)[0].qos, min(subscribed, published), f"QoS {published} to {subscribed}")


def wildcards(place):
    topics = ["a", "a/b", "a/b/c", "a/c", "b", "/a", "a/", "$x/a"]
    subscriber, publisher = place.client("sub"), place.client("pub")
    # Matched by none of the filters, and sent after all of a row: when it is here, so is everything before it.
    marker = f"{place.tag}-marker"
    subscriber.subscribe((marker, 1))
    for pattern, expected in [
        ("a/+", ["a/b", "a/c", "a/"]),
        ("a/#", ["a", "a/b", "a/b/c", "a/c", "a/"]),
        ("+/+/c", ["a/b/c"]),
        ("+", ["a", "b"]),
        ("+/a", ["/a", "$x/a"]),
        ("#", topics),
        ("a/b", ["a/b"]),
    ]:
        subscriber.subscribe((place.topic(pattern), 1))
        sent = [publisher.publish(place.topic(topic), topic.encode(), 1) for topic in topics]
        publisher.settle(sent)
        publisher.publish_settled(marker, MARKER)
        received = [m.payload.decode() for m in subscriber.receive_until(MARKER)]
        check_equal(sorted(received), sorted(expected), f"filter {pattern}")
        subscriber.unsubscribe(place.topic(pattern))


def unsubscribe(place):
    subscriber, publisher = place.client("sub"), place.client("pub")
    subscriber.subscribe((place.topic("gone"), 1), (place.topic("stays"), 1))
    subscriber.unsubscribe(place.topic("gone"))
    publisher.publish_settled(place.topic("gone"), b"x")
    publisher.publish_settled(place.topic("stays"), MARKER)
    check_equal(subscriber.receive_until(MARKER), [], "messages after UNSUBACK")


def retained(place):
    publisher, live = place.client("pub"), place.client("live")
    live.subscribe((place.topic("r/#"), 1))
    publisher.publish_settled(place.topic("r/x"), b"old", retain=True)
    publisher.publish_settled(place.topic("r/x"), b"new", retain=True)
    publisher.publish_settled(place.topic("r/y"), b"other", retain=True)
    # [MQTT-3.3.1-9] a message for an existing subscription carries retain = 0.
    check_equal([m.retain for m in live.receive(3)], [False] * 3, "retain of live messages")
    for name, pattern in (("exact", "r/x"), ("plus", "r/+"), ("hash", "r/#")):
        late = place.client(name)
        late.subscribe((place.topic(pattern), 1))
        wanted = {place.topic("r/x"): b"new"} | ({} if name == "exact" else {place.topic("r/y"): b"other"})
        messages = late.receive(len(wanted), f"retained messages of {pattern}")
        check_equal({m.topic: m.payload for m in messages}, wanted, f"retained messages of {pattern}")
        check_equal([m.retain for m in messages], [True] * len(wanted), "retain of retained messages")
    for topic in ("r/x", "r/y"):
        publisher.publish_settled(place.topic(topic), b"", retain=True)
    after = place.client("after")
    after.subscribe((place.topic("r/#"), 1))
    publisher.publish_settled(place.topic("r/z"), MARKER)
    check_equal(after.receive_until(MARKER), [], "retained messages after their deletion")


def shared(place):
    """Each message goes to one member of the group, and each member gets some."""
    members, publisher = [place.client("one"), place.client("two")], place.client("pub")
    for index, member in enumerate(members):
        codes = member.subscribe((f"$share/g/{place.topic('t')}", 1), (place.topic(f"end/{index}"), 1))
        check_equal([code.value for code in codes], [1, 1], "granted QoS")
    expected = [b"%d" % index for index in range(MESSAGES)]
    publisher.settle([publisher.publish(place.topic("t"), payload, 1) for payload in expected])
    got = []
    for index, member in enumerate(members):
        publisher.publish_settled(place.topic(f"end/{index}"), MARKER)
        part = [m.payload for m in member.receive_until(MARKER)]
        check(part, f"member {index} got nothing")
        got += part
    check_equal(sorted(got), sorted(expected), "messages of the group")


def will(place):
    watcher = place.client("watch")
    watcher.subscribe((place.topic("will"), 2))
    for qos in (0, 1, 2):
        packet = {"topic": place.topic("will"), "payload": b"gone%d" % qos, "qos": qos}
        place.client("cut", will=packet).cut()
        message = watcher.receive(1, "will of a cut connection")[0]
        check_equal((message.payload, message.qos), (packet["payload"], qos), "will")
        place.client("polite", will=packet).close()
        # The same id once more: its CONNACK shows that the earlier connection has been dealt with.
        place.client("polite").publish_settled(place.topic("will"), MARKER)
        check_equal(watcher.receive_until(MARKER), [], "will after DISCONNECT")
    retained_will = {"topic": place.topic("kept"), "payload": b"kept", "qos": 1, "retain": True}
    watcher.subscribe((place.topic("kept"), 1))
    place.client("cut", will=retained_will).cut()
    watcher.receive(1, "retained will")
    late = place.client("late")
    late.subscribe((place.topic("kept"), 1))
    check(late.receive(1, "will from the retained messages")[0].retain, "the will was not retained")
    late.publish_settled(place.topic("kept"), b"", retain=True)


def session(place):
    publisher, subscriber = place.client("pub"), place.client("sub", clean=False)
    check(not subscriber.session_present, "session present at the first connect")
    subscriber.subscribe((place.topic("s/+"), 2))
    subscriber.close()
    # Far more than the in-flight window of a usual broker or client (20).
    expected = {qos: [b"%d-%d" % (qos, index) for index in range(60)] for qos in (1, 2)}
    sent = [
        publisher.publish(place.topic(f"s/{qos}"), expected[qos][index], qos)
        for index in range(60)
        for qos in (1, 2)
    ]
    publisher.settle(sent)
    subscriber = place.client("sub", clean=False)
    check(subscriber.session_present, "no session present after a reconnect")
    publisher.publish_settled(place.topic("s/1"), MARKER)
    messages = subscriber.receive(121, "queued messages")
    check_equal(len(messages), 121, "number of messages")
    for qos in (1, 2):
        got = [m.payload for m in messages if m.qos == qos and m.payload != MARKER]
        check_equal(got, expected[qos], f"queued QoS {qos}")
    subscriber.close()
    check(not place.client("sub").session_present, "session present on a clean start")
    publisher.publish_settled(place.topic("s/1"), b"lost")
    check(not place.client("sub", clean=False).session_present, "the clean start left a session behind")


def takeover(place):
    first = place.client("twin", clean=False)
    first.subscribe((place.topic("t"), 1))
    second = place.client("twin", clean=False)
    check(second.session_present, "the second connection did not get the session")
    first.wait(lambda: first.closed, "end of the first connection")
    second.publish_settled(place.topic("t"), MARKER)
    check_equal(second.receive_until(MARKER), [], "messages of the session")
    check(second.closed is None, "the second connection ended")


def keepalive(place):
    # Long enough that a library which pings late by half of it, on a busy machine, is in time.
    quiet = place.client("quiet", keepalive=6)
    quiet.subscribe((place.topic("k"), 0))
    wait_past(10.2, "the keep alive and the broker's half period of grace")
    check(quiet.closed is None, f"closed although it pings: {quiet.closed}")
    quiet.publish(place.topic("k"), MARKER)
    check_equal(quiet.receive_until(MARKER), [], "messages")


def large(place):
    subscriber, publisher = place.client("sub"), place.client("pub")
    subscriber.subscribe((place.topic("large"), 2))
    payload = bytes((index * 7 + index // 251) % 256 for index in range(200 * 1024))
    for qos in (0, 1, 2):
        publisher.publish_settled(place.topic("large"), payload, qos)
        message = subscriber.receive(1, "large message")[0]
        check(message.payload == payload and message.qos == qos, f"200 KiB at QoS {qos} came back different")


def fan_out(place):
    topic = place.topic("fan")
    subscribers = [place.client(f"sub{index}") for index in range(6)]
    for index, subscriber in enumerate(subscribers):
        subscriber.subscribe((topic, index % 3))
    publisher = place.client("pub")
    expected = [b"%d" % index for index in range(30)]
    publisher.settle([publisher.publish(topic, payload, 2) for payload in expected + [MARKER]])
    for subscriber in subscribers:
        check_equal([m.payload for m in subscriber.receive_until(MARKER)], expected, "payloads")


def rights(place):
    """Where users log in: a wrong password, and topics that the rules close."""
    for user in [(os.environ["MQTT_USER"], "wrong"), ("nobody", os.environ["MQTT_PASSWORD"])]:
        try:
            place.client("stranger", user=user)
        except AssertionError as error:
            check("refused" in str(error), f"refused otherwise: {error}")
        else:
            raise AssertionError(f"{user} was let in")
    client, other = place.client("a"), place.client("b")
    codes = client.subscribe(("forbidden/closed", 1), (place.topic("t"), 1), ("+/closed", 0))
    check_equal([code.is_failure for code in codes], [True, False, False], "granted subscriptions")
    other.publish("forbidden/closed", b"closed", 1)
    other.publish_settled(place.topic("t"), MARKER)
    messages = client.receive_until(MARKER)
    check(not [m for m in messages if m.topic.startswith("forbidden/")], "a message came that the rules close")


ALL = {
    "connect": connect,
    "keepalive": keepalive,
    "qos0": lambda place: in_order(place, 0),
    "qos1": lambda place: in_order(place, 1),
    "qos2": lambda place: in_order(place, 2),
    "qos_is_the_lower_of_both": qos_is_the_lower_of_both,
    "wildcards": wildcards,
    "unsubscribe": unsubscribe,
    "retained": retained,
    "shared": shared,
    "will": will,
    "session": session,
    "takeover": takeover,
    "large": large,
    "fan_out": fan_out,
} | ({"rights": rights} if "MQTT_USER" in os.environ else {})
