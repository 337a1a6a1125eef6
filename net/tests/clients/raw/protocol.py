#!/usr/bin/env python3
"""Sends an MQTT broker exact bytes, right and wrong ones, and checks exactly what comes back.

Usage: protocol.py HOST PORT [SCENARIO...]

Prints one line per scenario, `ok NAME` or `FAIL NAME: why`, and exits with 1 if one failed.
"""

import struct
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from wire import (
    CONNACK, CONNECT, DISCONNECT, MAXIMUM_PACKET_SIZE, PINGREQ, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, RECEIVE_MAXIMUM,
    SESSION_EXPIRY, SUBACK, SUBSCRIBE, TOPIC_ALIAS, TOPIC_ALIAS_MAXIMUM, UNSUBSCRIBE, V311, V5, Pair, Wire, ack, check,
    check_equal, connect, packet, publish, run, subscribe, text,
)

# Ids enough that both clients of a pair, and the accepting and the home shard, differ in some row.
IDS = range(8)


def connect_byte_by_byte(address, tag):
    for version, connack in ((V311, bytes.fromhex("20 02 00 00")), (V5, None)):
        for index in IDS:
            with Wire(address, version) as wire:
                for byte in connect(f"{tag}-{index}", version):
                    wire.send(bytes([byte]))
                if connack:
                    wire.expect_bytes(connack, "CONNACK")
                else:
                    check_equal(wire.expect(CONNACK, "CONNACK")[:2], b"\0\0", "CONNACK")
                wire.ping()


def every_cut_of_a_conversation(address, tag):
    """The same bytes in two segments, for every place to cut them."""
    topic = f"{tag}/t"
    for version in (V311, V5):
        head = connect(f"{tag}-{version}", version)
        rest = subscribe(1, topic, 1, version) + publish(topic, b"payload", 1, 7, version) + packet(PINGREQ)
        for cut in range(1, len(head + rest), 3):
            with Wire(address, version) as wire:
                wire.send((head + rest)[:cut])
                time.sleep(0.001)  # Makes two segments likely; nothing depends on it.
                wire.send((head + rest)[cut:])
                check_equal(sorted(kinds_until(wire, 4, 13)), [2, 3, 4, 9, 13], f"answers, cut at {cut}")


def all_in_one_segment(address, tag):
    for version in (V311, V5):
        for index in IDS:
            topic = f"{tag}/{version}/{index}"
            with Wire(address, version) as wire:
                burst = [publish(topic, b"%d" % n, 0, None, version) for n in range(200)]
                wire.send(connect(f"{tag}-{version}-{index}", version) + subscribe(1, topic, 0, version) + b"".join(burst))
                wire.expect(CONNACK, "CONNACK")
                wire.expect(SUBACK, "SUBACK")
                check_equal([wire.payload() for _ in range(200)], [b"%d" % n for n in range(200)], "messages")


def kinds_until(wire, at_least, last):
    kinds = []
    while len(kinds) <= at_least or last not in kinds:
        found = wire.packet(f"packets after {kinds}")
        check(found is not None, f"closed after packets {kinds}")
        kinds.append(found[0])
    return kinds


def garbage_closes_only_its_connection(address, tag):
    with Pair(address, tag) as canary:
        for index, bytes_ in enumerate([
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            bytes(range(256)),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
            b"\x10\xff\xff\xff\xff\x7f",
            b"\x10\xff\xff\xff\xff\xff",
            b"\x10\x00",
            packet(PINGREQ),
            publish("a", b"before CONNECT"),
            subscribe(1, "#"),
            connect("x", name="MQTZ"),
            connect("x")[:-2] + b"\x00\x05x",
            b"\xf0\x00",
        ]):
            with Wire(address) as wire:
                wire.send(bytes_)
                while (found := wire.packet(f"end of the connection after garbage {index}")) is not None:
                    check(found[0] == CONNACK and found[2][1] != 0, f"{found} answers garbage {index}")
            canary.sing(f"after garbage {index}")
        # After CONNECT too.
        for version in (V311, V5):
            for index, bytes_ in enumerate([
                b"\x00\x00",
                b"\xff\xff\xff\xff\xff\xff",
                packet(PUBLISH, b"\x00", 0),
                packet(PUBLISH, text("a"), 6),
                packet(PUBLISH, text("a/#") + b"\0" * (version == V5) + b"x", 0),
                packet(PUBLISH, text(b"a\xff") + b"\0" * (version == V5) + b"x", 0),
                packet(PUBLISH, text("a\0") + b"\0" * (version == V5) + b"x", 0),
                packet(SUBSCRIBE, b"\0\1" + b"\0" * (version == V5) + text("a") + b"\0", 0),
                packet(SUBSCRIBE, b"\0\1" + b"\0" * (version == V5), 2),
                packet(SUBSCRIBE, b"\0\1" + b"\0" * (version == V5) + text("a") + b"\3", 2),
                packet(SUBSCRIBE, b"\0\1" + b"\0" * (version == V5) + text("a/#/b") + b"\0", 2),
                packet(UNSUBSCRIBE, b"\0\1" + b"\0" * (version == V5), 2),
                packet(PUBREL, b"\0\1", 0),
                connect(f"{tag}-again", version),
                packet(CONNACK, b"\0\0" + b"\0" * (version == V5)),
            ]):
                with Wire(address, version) as wire:
                    wire.connect(f"{tag}-{version}-{index}")
                    wire.send(bytes_)
                    refused = wire.packet(f"end after wrong packet {index} of version {version}")
                    if refused is not None and refused[0] == SUBACK:
                        check(refused[2][-1] >= 0x80, f"wrong packet {index} was accepted: {refused}")
                        continue
                    check(refused is None or (version == V5 and refused[0] == DISCONNECT), f"{refused} answers {index}")
                canary.sing(f"after wrong packet {index}")


def half_packets_then_close(address, tag):
    with Pair(address, tag) as canary:
        whole = connect(f"{tag}-half") + subscribe(1, f"{tag}/x") + publish(f"{tag}/x", b"payload", 1, 1)
        for cut in range(0, len(whole), 2):
            for abrupt in (False, True):
                wire = Wire(address)
                wire.send(whole[:cut])
                wire.reset() if abrupt else wire.close()
        canary.sing("after half packets")


def replies_of_3_1_1(address, tag):
    """[MQTT-3.1.2-2], [MQTT-3.1.3-8]: the exact bytes, then the end."""
    for bytes_, reply, what in [
        (connect(tag, version=2), "20 02 00 01", "unsupported level"),
        (connect("", clean=False), "20 02 00 02", "empty client id with clean session 0"),
    ]:
        with Wire(address) as wire:
            wire.send(bytes_)
            wire.expect_bytes(bytes.fromhex(reply), what)
            wire.expect_closed(what)
    with Wire(address) as wire:
        wire.send(connect("", clean=True))
        wire.expect_bytes(bytes.fromhex("20 02 00 00"), "empty client id with clean session 1")
        wire.ping()


def unsupported_level_after_5(address, tag):
    with Wire(address) as wire:
        wire.send(connect(tag, version=6))
        found = wire.packet("CONNACK")
        check(found in ((CONNACK, 0, b"\0\1"), (CONNACK, 0, b"\0\x84\0")), f"{found} answers level 6")
        wire.expect_closed("level 6")


def answers_in_exact_bytes_3_1_1(address, tag):
    topic = f"{tag}/exact"
    with Wire(address) as wire:
        wire.connect(tag)
        wire.send(packet(SUBSCRIBE, b"\x12\x34" + text("nothing/a") + b"\0" + text("nothing/b") + b"\2", 2))
        wire.expect_bytes(bytes.fromhex("90 04 12 34 00 02"), "SUBACK")
        wire.send(packet(UNSUBSCRIBE, b"\x12\x35" + text("nothing/a"), 2))
        wire.expect_bytes(bytes.fromhex("b0 02 12 35"), "UNSUBACK")
        wire.send(publish(topic, b"x", 1, 0xFFFF))
        wire.expect_bytes(bytes.fromhex("40 02 ff ff"), "PUBACK")
        wire.send(publish(topic, b"x", 2, 3))
        wire.expect_bytes(bytes.fromhex("50 02 00 03"), "PUBREC")
        wire.send(publish(topic, b"x", 2, 3, flags=8))
        wire.expect_bytes(bytes.fromhex("50 02 00 03"), "PUBREC of the repetition")
        wire.send(ack(PUBREL, 3))
        wire.expect_bytes(bytes.fromhex("70 02 00 03"), "PUBCOMP")
        wire.send(ack(PUBREL, 4))
        wire.expect_bytes(bytes.fromhex("70 02 00 04"), "PUBCOMP of an unknown packet id")
        wire.ping()
        wire.send(packet(DISCONNECT))
        wire.expect_closed("DISCONNECT")


def qos2_repeated_before_pubrel_is_delivered_once(address, tag):
    for index in IDS:
        with Wire(address) as sender, Wire(address) as receiver:
            receiver.connect(f"{tag}-{index}-receiver")
            receiver.subscribe(f"{tag}/{index}", 0)
            sender.connect(f"{tag}-{index}-sender")
            for flags in (0, 8, 8):
                sender.send(publish(f"{tag}/{index}", b"once", 2, 1, flags=flags))
                sender.expect(PUBREC, "PUBREC")
            sender.send(ack(PUBREL, 1))
            sender.expect(PUBCOMP, "PUBCOMP")
            sender.send(publish(f"{tag}/{index}", b"then", 0))
            check_equal([receiver.payload(), receiver.payload()], [b"once", b"then"], "messages")


def redelivery_after_reconnect(address, tag):
    """Unacknowledged messages come again, in order, same packet ids, DUP set; nothing else does [MQTT-4.4.0-1]."""
    for version in (V311, V5):
        for index in range(4):
            client, topic = f"{tag}-{version}-{index}", f"{tag}/{version}/{index}"
            options = {"properties": bytes([SESSION_EXPIRY]) + struct.pack("!I", 60)} if version == V5 else {}
            with Wire(address, version) as sender, Wire(address, version) as receiver:
                receiver.connect(client, clean=False, **options)
                receiver.subscribe(topic, 2)
                sender.connect(f"{client}-sender")
                for number in range(1, 7):
                    sender.send(publish(topic, b"%d" % number, 1 if number < 4 else 2, number, version))
                    sender.expect(PUBACK if number < 4 else PUBREC, "PUBACK/PUBREC")
                    if number >= 4:
                        sender.send(ack(PUBREL, number))
                        sender.expect(PUBCOMP, "PUBCOMP")
                first = [receiver.message() for _ in range(6)]
                check_equal([m[2] for m in first], [b"%d" % n for n in range(1, 7)], "first delivery")
                # 1: acknowledged. 4: received, its PUBREL is due. 2, 3, 5, 6: nothing was said.
                receiver.send(ack(PUBACK, first[0][1]), ack(PUBREC, first[3][1]))
                check_equal(receiver.expect(PUBREL, "PUBREL")[:2], struct.pack("!H", first[3][1]), "PUBREL")
            with Wire(address, version) as receiver:
                present, _ = receiver.connect(client, clean=False, **options)
                check(present, "no session present")
                again, released = [], []
                for _ in range(5):
                    kind, flags, body = receiver.packet("redelivery") or check(False, "closed during redelivery")
                    if kind == PUBREL:
                        released.append(body[:2])
                    else:
                        at = 2 + struct.unpack_from("!H", body)[0]
                        again.append((flags >> 3, struct.unpack_from("!H", body, at)[0]))
                check_equal(released, [struct.pack("!H", first[3][1])], "PUBREL again")
                check_equal(again, [(1, first[n][1]) for n in (1, 2, 4, 5)], "(DUP, packet id) again")
                receiver.send(ack(PUBACK, again[0][1]), ack(PUBACK, again[1][1]), ack(PUBCOMP, first[3][1]))
                receiver.ping()
                receiver.send(connect(client, version))


def receive_maximum_of_the_client_is_kept(address, tag):
    for index in IDS:
        with Wire(address, V5) as sender, Wire(address, V5) as receiver:
            receiver.connect(f"{tag}-{index}-r", properties=bytes([RECEIVE_MAXIMUM, 0, 3]))
            receiver.subscribe(f"{tag}/{index}", 2)
            sender.connect(f"{tag}-{index}-s")
            for number in range(1, 11):
                sender.send(publish(f"{tag}/{index}", b"%d" % number, 1, number, V5))
                sender.expect(PUBACK, "PUBACK")
            window = [receiver.message() for _ in range(3)]
            for number in range(4, 11):
                receiver.ping()  # The very next packet is the answer: nothing above the window.
                receiver.send(ack(PUBACK, window[number - 4][1]))
                window.append(receiver.message(f"message {number} after a PUBACK"))
            check_equal([m[2] for m in window], [b"%d" % n for n in range(1, 11)], "messages")


def maximum_packet_size_of_the_client_is_kept(address, tag):
    """[MQTT-3.1.2-24], [MQTT-3.1.2-25]: what is too large is dropped for this client, as if delivered."""
    for index in IDS:
        with Wire(address, V5) as sender, Wire(address, V5) as receiver:
            receiver.connect(f"{tag}-{index}-r", properties=bytes([MAXIMUM_PACKET_SIZE]) + struct.pack("!I", 200))
            receiver.subscribe(f"{tag}/{index}", 1)
            sender.connect(f"{tag}-{index}-s")
            for number, payload in enumerate([b"small", bytes(300), b"small too"], 1):
                sender.send(publish(f"{tag}/{index}", payload, 1, number, V5))
                sender.expect(PUBACK, "PUBACK")
            check_equal([receiver.payload(), receiver.payload()], [b"small", b"small too"], "messages")


def malformed_connect_is_0x81(address, tag):
    reserved_flag = bytearray(connect(tag, V5))
    reserved_flag[9] |= 1
    with Wire(address, V5) as wire:
        wire.send(bytes(reserved_flag))
        check_equal(wire.expect(CONNACK, "CONNACK 0x81")[:2], b"\0\x81", "CONNACK")
        wire.expect_closed("CONNACK 0x81")


def malformed_packet_is_0x81(address, tag):
    for index, bytes_ in enumerate([
        packet(PUBLISH, text("a") + b"\0\1" + b"\0", 6),
        packet(SUBSCRIBE, b"\0\1\0" + text("a") + b"\0", 0),
        packet(PUBLISH, text(b"a\xff") + b"\0"),
        packet(PUBLISH, b"\0\5a"),
    ]):
        with Wire(address, V5) as wire:
            wire.connect(f"{tag}-{index}")
            wire.send(bytes_)
            wire.expect_disconnect(0x81, f"malformed packet {index}")


def protocol_error_is_0x82(address, tag):
    for index, bytes_ in enumerate([
        connect(f"{tag}-0", V5),
        publish("", b"no topic and no alias", version=V5),
        publish("a", b"", version=V5, properties=bytes([0x0B, 1])),
        packet(SUBSCRIBE, b"\0\1\0", 2),
        packet(SUBSCRIBE, b"\0\1\0" + text("$share/g/t") + b"\4", 2),
    ]):
        with Wire(address, V5) as wire:
            wire.connect(f"{tag}-{index}")
            wire.send(bytes_)
            wire.expect_disconnect(0x82, f"protocol error {index}")
    with Wire(address, V5) as wire:
        wire.send(connect(tag, V5, properties=bytes([RECEIVE_MAXIMUM, 0, 0])))
        check_equal(wire.expect(CONNACK, "CONNACK 0x82")[:2], b"\0\x82", "receive maximum 0")
        wire.expect_closed("receive maximum 0")


def packet_too_large_is_0x95_before_its_body(address, tag):
    for index in IDS:
        with Wire(address, V5) as wire:
            limit = wire.connect(f"{tag}-{index}")[1].get(MAXIMUM_PACKET_SIZE)
            check(limit is not None, "CONNACK names no maximum packet size")
            # Only the fixed header: a broker that waits for the body waits for ever.
            wire.send(bytes([PUBLISH << 4]) + b"\xff\xff\xff\x7f")
            wire.expect_disconnect(0x95, "header of a packet that is too large")


def receive_maximum_of_the_broker_is_0x93(address, tag):
    with Wire(address, V5) as wire:
        most = wire.connect(tag)[1].get(RECEIVE_MAXIMUM, 65535)
        for number in range(1, most + 1):
            wire.send(publish(f"{tag}/t", b"", 2, number, V5))
        for number in range(1, most + 1):
            wire.expect(PUBREC, f"PUBREC {number} of {most}")
        wire.send(publish(f"{tag}/t", b"", 2, most + 1, V5))
        wire.expect_disconnect(0x93, f"publish {most + 1} without PUBREL")


def topic_alias_is_0x94(address, tag):
    with Wire(address, V5) as wire:
        most = wire.connect(tag)[1].get(TOPIC_ALIAS_MAXIMUM, 0)
    for index, alias in enumerate((0, most + 1)):
        with Wire(address, V5) as wire:
            wire.connect(f"{tag}-{index}")
            wire.send(publish("a", b"", version=V5, properties=bytes([TOPIC_ALIAS]) + struct.pack("!H", alias)))
            wire.expect_disconnect(0x94, f"topic alias {alias} of at most {most}")


def takeover_is_0x8e(address, tag):
    for clean in (True, False):
        for index in IDS:
            with Wire(address, V5) as first, Wire(address, V5) as second:
                first.connect(f"{tag}-{index}", clean=clean)
                second.connect(f"{tag}-{index}", clean=clean)
                first.expect_disconnect(0x8E, "takeover")
                second.ping()


def disconnect_before_the_next_connect_calls_off_the_will(address, tag):
    """DISCONNECT is at the broker before the same client connects again: this is no takeover [MQTT-3.14.4-3]."""

    def come_and_go(index):
        will = text(f"{tag}/will/{index}") + text("will")
        body = text("MQTT") + b"\4\6\0\x3c" + text(f"{tag}-{index}") + will
        for _ in range(100):
            with Wire(address) as wire:
                wire.send(packet(CONNECT, body))
                wire.expect(CONNACK, "CONNACK")
                wire.send(packet(DISCONNECT))
        # Once more: by this CONNACK all wills that are to come have been published.
        with Wire(address) as wire:
            wire.connect(f"{tag}-{index}")
            wire.send(publish(f"{tag}/end", b"end"))
            wire.ping()

    with Wire(address) as watcher:
        watcher.connect(f"{tag}-watcher")
        watcher.subscribe(f"{tag}/#", 0)
        # At once, so that a connection's end and the next connect meet while the broker is busy.
        with ThreadPoolExecutor(len(IDS)) as pool:
            list(pool.map(come_and_go, IDS))
        payloads = [watcher.payload()]
        while payloads.count(b"end") < len(IDS):
            payloads.append(watcher.payload())
        check_equal(payloads.count(b"will"), 0, f"wills after {100 * len(IDS)} times DISCONNECT")


def takeover_in_rings(address, tag):
    """Many connections with one id at once: exactly one is left, and it works."""
    wires = [Wire(address, V5) for _ in range(20)]
    for wire in wires:
        wire.send(connect(f"{tag}-ring", V5))
    alive = []
    for wire in wires:
        check_equal(wire.expect(CONNACK, "CONNACK")[1], 0, "CONNACK")
        wire.send(packet(PINGREQ))
        kinds = []
        while (found := wire.packet("PINGRESP or DISCONNECT")) is not None:
            kinds.append(found[0])
            if found[0] == 13 and len(kinds) == 1:
                # Taken over later or not at all: the next packet of a loser is its DISCONNECT.
                alive.append(wire)
                break
    check(alive, "no connection survived")
    losers = 0
    for wire in alive:
        wire.send(packet(PINGREQ))
        found = wire.packet("PINGRESP or DISCONNECT")
        losers += found is None or found[0] == DISCONNECT
    check_equal(len(alive) - losers, 1, "connections left")
    for wire in wires:
        wire.close()


def keep_alive_is_0x8d(address, tag):
    """[MQTT-3.1.2-22]: after one and a half times the keep alive without a packet."""
    started = time.monotonic()
    with Wire(address, V5) as quiet, Wire(address, V5) as busy, Wire(address) as old:
        quiet.connect(f"{tag}-quiet", keepalive=2)
        old.connect(f"{tag}-old", keepalive=2)
        busy.connect(f"{tag}-busy", keepalive=2)
        while time.monotonic() - started < 2.7:
            time.sleep(0.3)
            busy.ping()
        quiet.expect_disconnect(0x8D, "keep alive")
        elapsed = time.monotonic() - started
        check(2.9 <= elapsed <= 5, f"closed after {elapsed:.2f} s of a keep alive of 2 s")
        old.expect_closed("keep alive of 3.1.1")
        busy.ping()


def stalled_subscriber_does_not_disturb(address, tag):
    """A subscriber that never reads gets far more than any buffer holds; a pair beside it goes on quickly."""
    with Pair(address, tag) as canary, Wire(address, receive_buffer=4096) as stalled, Wire(address) as sender:
        stalled.connect(f"{tag}-stalled")
        stalled.subscribe(f"{tag}/flood", 0)
        sender.connect(f"{tag}-sender")
        slowest = 0
        for _ in range(60):
            sender.send(publish(f"{tag}/flood", bytes(256 * 1024)))
            slowest = max(slowest, canary.sing("beside a stalled subscriber"))
        check(slowest < 2, f"a message beside a stalled subscriber took {slowest:.1f} s")


def partial_reader_gets_whole_packets(address, tag):
    """What a slow reader does get is well-formed and in order, though something was dropped."""
    with Wire(address, receive_buffer=64 * 1024) as slow, Wire(address) as sender:
        slow.connect(f"{tag}-slow")
        slow.subscribe(f"{tag}/flood", 0)
        sender.connect(f"{tag}-sender")
        for number in range(4000):
            sender.send(publish(f"{tag}/flood", b"%06d" % number + bytes(4000)))
        sender.ping()
        last = -1
        slow.send(packet(PINGREQ))
        while True:
            found = slow.packet("messages up to the PINGRESP")
            check(found is not None, "the slow reader was disconnected")
            if found[0] == 13:
                break
            number = int(found[2][2 + len(f"{tag}/flood") :][:6])
            check(number > last, f"message {number} after {last}")
            last = number
        check(last >= 0, "not a single message")


SCENARIOS = {body.__name__: body for body in [
    keep_alive_is_0x8d,
    stalled_subscriber_does_not_disturb,
    partial_reader_gets_whole_packets,
    connect_byte_by_byte,
    every_cut_of_a_conversation,
    all_in_one_segment,
    garbage_closes_only_its_connection,
    half_packets_then_close,
    replies_of_3_1_1,
    unsupported_level_after_5,
    answers_in_exact_bytes_3_1_1,
    qos2_repeated_before_pubrel_is_delivered_once,
    redelivery_after_reconnect,
    receive_maximum_of_the_client_is_kept,
    maximum_packet_size_of_the_client_is_kept,
    malformed_connect_is_0x81,
    malformed_packet_is_0x81,
    protocol_error_is_0x82,
    packet_too_large_is_0x95_before_its_body,
    receive_maximum_of_the_broker_is_0x93,
    topic_alias_is_0x94,
    takeover_is_0x8e,
    takeover_in_rings,
    disconnect_before_the_next_connect_calls_off_the_will,
]}

if __name__ == "__main__":
    sys.exit(run(SCENARIOS, [(sys.argv[1], int(sys.argv[2]))], sys.argv[3:], at_once=4))
