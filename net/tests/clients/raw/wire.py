"""MQTT packets as bytes, and a socket whose answers can be awaited: no client library in between."""

import os
import socket
import ssl
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

WAIT_S = 10
V311, V5 = 4, 5

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = range(1, 8)
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH = range(8, 16)

# Identifiers of MQTT 5.0 properties, section 2.2.2.2.
RECEIVE_MAXIMUM, TOPIC_ALIAS_MAXIMUM, TOPIC_ALIAS, MAXIMUM_PACKET_SIZE, SESSION_EXPIRY = 0x21, 0x22, 0x23, 0x27, 0x11


def text(value):
    value = value.encode() if isinstance(value, str) else value
    return struct.pack("!H", len(value)) + value


def variable(number):
    out = bytearray()
    while True:
        number, low = divmod(number, 128)
        out.append(low | (0x80 if number else 0))
        if not number:
            return bytes(out)


def packet(kind, body=b"", flags=0):
    return bytes([kind << 4 | flags]) + variable(len(body)) + body


def connect(client_id, version=V311, clean=True, keepalive=60, properties=b"", name="MQTT"):
    head = text(name) + bytes([version, 2 if clean else 0]) + struct.pack("!H", keepalive)
    if version == V5:
        head += variable(len(properties)) + properties
    return packet(CONNECT, head + text(client_id))


def subscribe(packet_id, topic_filter, options=0, version=V311):
    properties = b"\0" if version == V5 else b""
    return packet(SUBSCRIBE, struct.pack("!H", packet_id) + properties + text(topic_filter) + bytes([options]), 2)


def publish(topic, payload, qos=0, packet_id=None, version=V311, properties=b"", flags=0):
    body = text(topic) + (struct.pack("!H", packet_id) if packet_id is not None else b"")
    if version == V5:
        body += variable(len(properties)) + properties
    return packet(PUBLISH, body + payload, qos << 1 | flags)


def ack(kind, packet_id):
    return packet(kind, struct.pack("!H", packet_id), 2 if kind == PUBREL else 0)


def check(holds, what):
    if not holds:
        raise AssertionError(what)


def check_equal(actual, expected, what):
    check(actual == expected, f"{what}: {shown(actual)} instead of {shown(expected)}")


def shown(value):
    value = value.hex(" ") if isinstance(value, (bytes, bytearray)) else repr(value)
    return value if len(value) < 160 else value[:100] + "..."


class Wire:
    """One TCP connection; every wait ends within WAIT_S."""

    def __init__(self, address, version=V311, receive_buffer=None):
        self.version = version
        self._received = b""
        self._socket = socket.socket()
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(WAIT_S)
        self._socket.connect(address)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if os.environ.get("MQTT_SCHEME") == "mqtts":
            context = ssl.create_default_context(cafile=os.environ["MQTT_CA"])
            self._socket = context.wrap_socket(self._socket, server_hostname=address[0])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    close = __exit__

    def reset(self):
        """Ends the connection with RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def send(self, *chunks):
        for chunk in chunks:
            self._socket.sendall(chunk)

    def packet(self, what="packet", seconds=WAIT_S):
        """The next packet as `(kind, flags, body)`, or None when the broker has closed the connection."""
        deadline = time.monotonic() + seconds
        while (found := self._cut()) is None:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                more = self._socket.recv(65536)
            except TimeoutError:
                raise AssertionError(f"no {what} within {seconds} s; half a packet: {shown(self._received)}") from None
            except ConnectionResetError:
                more = b""
            if not more:
                check(not self._received, f"closed within a packet: {shown(self._received)}")
                return None
            self._received += more
        return found

    def _cut(self):
        size, shift = 0, 0
        for index, byte in enumerate(self._received[1:5], 1):
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                end = index + 1 + size
                if len(self._received) < end:
                    return None
                head, body = self._received[0], self._received[index + 1 : end]
                self._received = self._received[end:]
                return head >> 4, head & 15, body
        return None

    def expect(self, kind, what):
        found = self.packet(what)
        check(found is not None, f"closed instead of {what}")
        check(found[0] == kind, f"packet {found[0]} {shown(found[2])} instead of {what}")
        return found[2]

    def expect_bytes(self, raw, what):
        """The broker answers exactly these bytes."""
        self._socket.settimeout(WAIT_S)
        while len(self._received) < len(raw):
            try:
                more = self._socket.recv(65536)
            except TimeoutError:
                raise AssertionError(f"no {what} within {WAIT_S} s, but {shown(self._received)}") from None
            check(more, f"closed after {shown(self._received)} instead of {what}")
            self._received += more
        check_equal(self._received[: len(raw)], raw, what)
        self._received = self._received[len(raw) :]

    def expect_closed(self, what, seconds=WAIT_S):
        found = self.packet(f"end of the connection: {what}", seconds)
        check(found is None, f"packet {found and (found[0], shown(found[2]))} instead of the end: {what}")

    def expect_disconnect(self, reason, what):
        """MQTT 5.0: DISCONNECT with this reason, then the end."""
        body = self.expect(DISCONNECT, f"DISCONNECT {reason:#x}: {what}")
        check_equal(body[:1], bytes([reason]), f"reason of DISCONNECT: {what}")
        self.expect_closed(what)

    def connect(self, client_id, **options):
        """Opens the session; returns (session present, properties of CONNACK)."""
        self.send(connect(client_id, version=self.version, **options))
        body = self.expect(CONNACK, "CONNACK")
        check_equal(body[1], 0, "CONNACK code")
        return bool(body[0] & 1), properties_of(body[2:]) if self.version == V5 else {}

    def subscribe(self, topic_filter, options=0, packet_id=1):
        self.send(subscribe(packet_id, topic_filter, options, self.version))
        code = self.expect(SUBACK, "SUBACK")[-1]
        check(code < 0x80, f"SUBACK {code:#x} for {topic_filter}")

    def payload(self, what="PUBLISH"):
        """Payload of the next packet, a PUBLISH."""
        return self.message(what)[2]

    def message(self, what="PUBLISH"):
        """The next packet, a PUBLISH, as `(flags, packet id or None, payload)`."""
        found = self.packet(what)
        check(found is not None and found[0] == PUBLISH, f"{found} instead of {what}")
        _, flags, body = found
        at = 2 + struct.unpack_from("!H", body)[0]
        packet_id = None
        if flags >> 1 & 3:
            packet_id = struct.unpack_from("!H", body, at)[0]
            at += 2
        if self.version == V5:
            check(body[at] < 0x80, "properties longer than these tests cause")
            at += 1 + body[at]
        return flags, packet_id, body[at:]

    def ping(self):
        """Waits until the broker has handled everything sent before."""
        self.send(packet(PINGREQ))
        self.expect_bytes(packet(PINGRESP), "PINGRESP")


def properties_of(data):
    """The integer properties of a CONNACK, by identifier."""
    sizes = {0x11: 4, 0x13: 2, 0x21: 2, 0x22: 2, 0x24: 1, 0x25: 1, 0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1}
    found, at, end = {}, 1, 1 + data[0]
    while at < end:
        identifier = data[at]
        if identifier in sizes:
            size = sizes[identifier]
            found[identifier] = int.from_bytes(data[at + 1 : at + 1 + size], "big")
        else:
            size = 2 + struct.unpack_from("!H", data, at + 1)[0]
        at += 1 + size
    return found


class Pair:
    """A publisher and a subscriber that must not notice what happens to others."""

    def __init__(self, address, tag):
        self.topic = f"{tag}/canary"
        self._count = 0
        self.subscriber, self.publisher = Wire(address), Wire(address)
        self.subscriber.connect(f"{tag}-canary-sub")
        self.subscriber.subscribe(self.topic, 1)
        self.publisher.connect(f"{tag}-canary-pub")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.subscriber.close()
        self.publisher.close()

    def sing(self, what):
        """One QoS 1 message all the way; returns the seconds it took."""
        started = time.monotonic()
        self._count = self._count % 60_000 + 1
        self.publisher.send(publish(self.topic, b"%d" % self._count, 1, self._count))
        check_equal(self.publisher.expect(PUBACK, f"PUBACK of the canary {what}"), struct.pack("!H", self._count), "PUBACK")
        _, packet_id, payload = self.subscriber.message(f"canary message {what}")
        check_equal(payload, b"%d" % self._count, f"canary {what}")
        self.subscriber.send(ack(PUBACK, packet_id))
        return time.monotonic() - started


def run(scenarios, arguments, wanted, at_once):
    """Runs `{name: body}` with these arguments and a tag of its own each; prints results; the exit code."""
    failed = []
    lock = threading.Lock()

    def one(item):
        name, body = item
        try:
            body(*arguments, f"raw-{os.getpid()}-{name}")
            line = f"ok {name}"
        except Exception as error:  # Whatever went wrong is the scenario's result.
            failed.append(name)
            line = " ".join(f"FAIL {name}: {type(error).__name__}: {error}".split())
        with lock:
            print(line, flush=True)

    chosen = [item for item in scenarios.items() if not wanted or item[0] in wanted]
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(one, chosen))
    return 1 if failed else 0
