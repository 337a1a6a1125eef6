"""Clients that live outside of the broker and outlive it. They resume where they were, as MQTT demands, and know what
they are owed.

What a client knows follows from its events alone. With a clock they are kept with its time, and `at` gives the client
as it was at a time: with what it knew then, and nothing of what came later.
"""

import collections
import socket
import struct
import threading
import time

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 0x10, 0x20, 0x30, 0x40, 0x50, 0x62, 0x70
SUBSCRIBE, SUBACK, PINGREQ, PINGRESP, DISCONNECT = 0x82, 0x90, 0xC0, 0xD0, 0xE0
WINDOW = 16
ANSWER_MAX_S = 30
EVERYTHING = "crash/#"


class Gone(Exception):
    """The broker was killed, or the connection was closed."""


class Client:
    """A connection of MQTT 3.1.1; what outlives it is in the subclasses."""

    def __init__(self, name, clean=False, clock=None):
        self.name, self.clean, self.clock, self.socket, self.buffer = name, clean, clock, None, b""
        self.is_known, self.sessions_lost, self.events = False, 0, []

    def note(self, event, *arguments):
        """The time is taken between what was received and what is sent because of it."""
        if self.clock:
            self.events.append((self.clock(), event, arguments))
        event(self, *arguments)

    def fresh(self):
        """A client of the same name that knows nothing."""
        raise NotImplementedError

    def at(self, time):
        client = self.fresh()
        for when, event, arguments in self.events:
            if when > time:
                break
            event(client, *arguments)
        return client

    def connect(self, port, keep_alive_s=0):
        self.buffer = b""
        try:
            self.socket = socket.create_connection(("127.0.0.1", port), 5)
        except OSError as error:
            raise Gone from error
        self.socket.settimeout(ANSWER_MAX_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        flags = bytes([2 if self.clean else 0])
        self.send(CONNECT, b"\0\4MQTT\4" + flags + struct.pack(">H", keep_alive_s) + text(self.name))
        kind, body = self.read()
        assert kind == CONNACK and body[1] == 0, f"{self.name}: {kind:#x} {body}"
        if self.is_known and body[0] == 0:
            self.sessions_lost += 1
        if not self.clean:
            self.note(Client.on_session)
        return body[0] == 1

    def on_session(self):
        self.is_known = True

    def send(self, kind, body=b""):
        size, header = len(body), bytes([kind])
        while size > 127:
            header, size = header + bytes([size & 127 | 128]), size >> 7
        try:
            self.socket.sendall(header + bytes([size]) + body)
        except OSError as error:
            raise Gone from error

    def read(self):
        while True:
            packet = self.cut()
            if packet:
                return packet
            try:
                more = self.socket.recv(1 << 16)
            except OSError as error:
                raise Gone from error
            if not more:
                raise Gone
            self.buffer += more

    def cut(self):
        """The next packet that is whole."""
        size, shift = 0, 0
        for index, byte in enumerate(self.buffer[1:5], 1):
            size, shift = size | (byte & 127) << shift, shift + 7
            if byte < 128:
                end = index + 1 + size
                if len(self.buffer) < end:
                    return None
                kind, body = self.buffer[0], self.buffer[index + 1:end]
                self.buffer = self.buffer[end:]
                return kind, body
        return None

    def close(self):
        if self.socket:
            try:
                self.socket.shutdown(socket.SHUT_RDWR)  # Who waits for something in another thread is told.
            except OSError:
                pass  # It is closed already.
            self.socket.close()


class Publisher(Client):
    """Publishes numbers as long as it may, and ends each exchange that it began."""

    def __init__(self, name, qos, size_of=lambda number: 0, clock=None, window=WINDOW, keep_alive_s=0):
        super().__init__(name, clock=clock)
        self.qos, self.size_of, self.window, self.keep_alive_s = qos, size_of, window, keep_alive_s
        self.next, self.next_id = 0, 1
        self.open = collections.OrderedDict()  # packet identifier: (number, retained, is_released)
        self.acked, self.retained_acked = set(), -1

    def fresh(self):
        return Publisher(self.name, self.qos, self.size_of, None, self.window, self.keep_alive_s)

    def run(self, port, may_begin):
        self.connect(port, self.keep_alive_s)
        for packet_id in list(self.open):
            self.repeat(packet_id)
        while True:
            while len(self.open) < self.window and may_begin():
                self.begin()
            if not self.open:
                return
            self.handle(*self.read())

    def repeat(self, packet_id):
        number, retained, is_released = self.open[packet_id]
        if is_released:
            self.send(PUBREL, struct.pack(">H", packet_id))
        else:
            self.publish(packet_id, number, retained, 8)

    def begin(self):
        while self.next_id in self.open:
            self.next_id = self.next_id % 65_535 + 1
        packet_id, number, retained = self.next_id, self.next, self.next % 8 == 7
        self.note(Publisher.on_begun, packet_id, number, retained)
        self.publish(packet_id, number, retained, 0)

    def publish(self, packet_id, number, retained, dup):
        topic = text(f"crash/{'retained' if retained else 'live'}/{self.name}")
        payload = f"{self.name} {number} ".encode() + b"x" * self.size_of(number)
        self.send(PUBLISH | dup | self.qos << 1 | retained, topic + struct.pack(">H", packet_id) + payload)

    def handle(self, kind, body):
        packet_id = struct.unpack(">H", body[:2])[0]
        if kind == PUBREC:
            self.note(Publisher.on_received, packet_id)
            self.send(PUBREL, body[:2])
        else:
            assert kind in (PUBACK, PUBCOMP), hex(kind)
            self.note(Publisher.on_ended, packet_id)

    def on_begun(self, packet_id, number, retained):
        self.next_id, self.next = packet_id % 65_535 + 1, number + 1
        self.open[packet_id] = (number, retained, False)

    def on_received(self, packet_id):
        number, retained, _ = self.open[packet_id]
        self.take_as_acked(number, retained)
        self.open[packet_id] = (number, retained, True)
        self.open.move_to_end(packet_id)  # PUBRELs go in the order of PUBRECs.

    def on_ended(self, packet_id):
        number, retained, _ = self.open.pop(packet_id)
        self.take_as_acked(number, retained)

    def take_as_acked(self, number, retained):
        self.acked.add(number)
        if retained:
            self.retained_acked = max(self.retained_acked, number)


class Subscriber(Client):
    """Has a persistent session, and counts what comes."""

    def __init__(self, name, qos, clock=None):
        super().__init__(name, clock=clock)
        self.qos, self.is_subscribed, self.got, self.noted = qos, False, collections.Counter(), set()

    def fresh(self):
        return Subscriber(self.name, self.qos)

    def run(self, port):
        self.connect(port)
        if not self.is_subscribed:
            self.send(SUBSCRIBE, b"\0\1" + text(EVERYTHING) + bytes([self.qos]))
        while True:
            kind, body = self.read()
            if kind & 0xF0 == PUBLISH:
                self.handle(kind, body)
            elif kind == PUBREL:
                self.note(Subscriber.on_release, body[:2])
                self.send(PUBCOMP, body[:2])
            else:
                assert kind == SUBACK, hex(kind)
                self.note(Subscriber.on_suback)

    def handle(self, kind, body):
        qos, topic_end = kind >> 1 & 3, 2 + struct.unpack(">H", body[:2])[0]
        packet_id, payload = body[topic_end:topic_end + 2], body[topic_end + 2:]
        assert qos > 0, "everything is published with QoS 1 or 2"
        name, number, _ = payload.split(b" ", 2)
        self.note(Subscriber.on_message, f"{name.decode()} {number.decode()}", packet_id, qos)
        self.send(PUBACK if qos == 1 else PUBREC, packet_id)

    def on_message(self, message, packet_id, qos):
        if qos == 1 or packet_id not in self.noted:
            self.got[message] += 1
        if qos == 2:
            self.noted.add(packet_id)

    def on_release(self, packet_id):
        self.noted.discard(packet_id)

    def on_suback(self):
        self.is_subscribed = True


class Crowd:
    """Publishers and subscribers, each in a thread while there is a broker."""

    def __init__(self, publishers, subscribers):
        self.publishers, self.subscribers = publishers, subscribers
        # What went wrong in threads.
        self.errors, self.threads = [], {}
        # How many connections were lost in them.
        self.lost_count = 0

    def at(self, time):
        """As it was at this time of the clock of its clients."""
        return Crowd([one.at(time) for one in self.publishers], [one.at(time) for one in self.subscribers])

    def start(self, client, *arguments):
        thread = threading.Thread(target=self.watch, args=(client.run, *arguments), daemon=True)
        self.threads[client] = thread
        thread.start()

    def watch(self, run, *arguments):
        try:
            run(*arguments)
        except Gone:
            self.lost_count += 1
        except Exception as error:  # Whatever it is, it is the outcome of the test.
            self.errors.append(repr(error))

    def stop(self, *clients):
        """Closes connections, of all if none are named; their threads have ended after it."""
        for client in clients or list(self.threads):
            client.close()
            self.threads.pop(client).join(ANSWER_MAX_S)

    def is_publishing(self):
        return any(self.threads[publisher].is_alive() for publisher in self.publishers)

    def is_subscribed(self):
        return all(subscriber.is_subscribed for subscriber in self.subscribers)

    def acked(self):
        return sum(len(publisher.acked) for publisher in self.publishers)

    def missing(self):
        """What was acknowledged and has not come, with whom it should have reached."""
        owed = [f"{publisher.name} {number}" for publisher in self.publishers for number in list(publisher.acked)]
        return [f"{message} to {subscriber.name}" for subscriber in self.subscribers for message in owed
                if message not in subscriber.got]

    def twice(self):
        """What was published with QoS 2 and came to a subscriber with QoS 2 more than once."""
        names = {publisher.name for publisher in self.publishers if publisher.qos == 2}
        return [f"{message} to {subscriber.name}" for subscriber in self.subscribers if subscriber.qos == 2
                for message, count in subscriber.got.items() if count > 1 and message.partition(" ")[0] in names]

    def sessions_lost(self):
        return sum(client.sessions_lost for client in self.publishers + self.subscribers)

    def failures(self):
        """What breaks a promise, in words."""
        lost, twice, sessions_lost = self.missing(), self.twice(), self.sessions_lost()
        found = list(self.errors)
        if lost:
            found.append(f"{len(lost)} lost: {', '.join(lost[:20])}")
        if twice:
            found.append(f"{len(twice)} of QoS 2 twice: {', '.join(twice[:20])}")
        if sessions_lost:
            found.append(f"{sessions_lost} sessions lost")
        return found

    def settle(self, port, patience_s):
        """Everybody is back: they end what they began, and publish one more message each. What came before that has come
        when it comes, as the order of messages is kept."""
        self.errors += self.stale(port, patience_s)
        for subscriber in self.subscribers:
            self.start(subscriber, port)
        last = {publisher: publisher.next for publisher in self.publishers}
        for publisher, number in last.items():
            self.start(publisher, port, lambda publisher=publisher, number=number: publisher.next == number)
        owed = [(subscriber, f"{publisher.name} {number}") for publisher, number in last.items() for subscriber in self.subscribers]
        wait_for(lambda: not self.is_publishing() and all(message in subscriber.got for subscriber, message in owed),
                 patience_s, lambda: sum(sum(subscriber.got.values()) for subscriber in self.subscribers))

    def stale(self, port, patience_s=ANSWER_MAX_S):
        """Retained values that are older than what was acknowledged. Nobody publishes meanwhile."""
        client, found = Client("reader", clean=True), {}
        expected = [publisher for publisher in self.publishers if publisher.retained_acked >= 0]
        client.connect(port)
        client.socket.settimeout(patience_s)
        client.send(SUBSCRIBE, b"\0\1" + text("crash/retained/+") + b"\0")
        # Values of others, which were not acknowledged, may come before them.
        while any(publisher.name not in found for publisher in expected):
            try:
                kind, body = client.read()
            except Gone:
                break  # Nothing more comes within the time that is allowed.
            if kind & 0xF0 == PUBLISH:
                name, number, _ = body[2 + struct.unpack(">H", body[:2])[0]:].split(b" ", 2)
                found[name.decode()] = int(number)
        client.close()
        return [f"retained: {publisher.name} has {found.get(publisher.name)}, acknowledged was {publisher.retained_acked}"
                for publisher in expected if found.get(publisher.name, -1) < publisher.retained_acked]


def wait_for(condition, patience_s, progress=lambda: None):
    """Until it holds, or for so long after the last progress."""
    deadline, before = time.monotonic() + patience_s, progress()
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
        if (now := progress()) != before:
            deadline, before = time.monotonic() + patience_s, now


def text(value):
    return struct.pack(">H", len(value)) + value.encode()
