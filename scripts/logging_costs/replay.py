"""How long a broker takes to start with much to read."""

import itertools
import os
import signal
import socket
import struct
import threading
import time

from comparing.process import Broker, free_port
from crashing.clients import CONNACK, CONNECT, PUBLISH, SUBSCRIBE, text

SESSIONS = 100
PAYLOAD = bytes(256)
# So many messages wait for their PUBACK.
WINDOW = 2_000
BATCH = 500
PUBACK_SIZE = 4


def starts(folder, ringmq, messages, cores):
    """Fills a broker, ends it in both ways, and says for each how long the next start took."""
    run = Run(folder, ringmq, messages, cores)
    with run.broker() as broker:
        began = time.monotonic()
        fill(broker.port, messages)
        yield f"filled in {time.monotonic() - began:.1f} s; {size_of(folder / 'data') >> 20:,} MiB in the directory"
        os.kill(broker.pids()[0], signal.SIGKILL)
    for how, number in (("kill -9", signal.SIGKILL), ("kill -9 again", signal.SIGTERM), ("SIGTERM", signal.SIGTERM)):
        began = time.monotonic()
        with run.broker() as broker:
            ready = time.monotonic() - began
            check(broker.port, messages)
            yield f"after {how}: listens after {ready:.2f} s; {size_of(folder / 'data') >> 20:,} MiB in the directory"
            os.kill(broker.pids()[0], number)


class Run:
    def __init__(self, folder, ringmq, messages, cores):
        self.folder, self.cores = folder, cores
        each = -(-messages // SESSIONS)
        self.command = [ringmq, "--shards", "1", "--data-dir", folder / "data", "--queued-messages-max", each + 1,
                        "--retained-messages-max", 2 * messages + 1000]

    def broker(self):
        port = free_port()
        return Broker([[*self.command, "--listen", f"127.0.0.1:{port}"]], port, self.cores, self.folder)


def size_of(folder):
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def fill(port, messages, payload=PAYLOAD):
    for number in range(SESSIONS):
        with connect(port, f"away{number}") as away:
            topic = text(f"queued/{number}")
            away.sendall(packet(SUBSCRIBE, b"\0\1" + topic + b"\1"))
            read(away, 5)
    publish(port, (packet(PUBLISH | 2, text(f"queued/{number % SESSIONS}") + b"%s" + payload) for number in range(messages)), messages)
    publish(port, (packet(PUBLISH | 3, text(f"retained/{number // 1000}/{number}") + b"%s" + payload) for number in range(messages)), messages)


def publish(port, packets, total):
    """With QoS 1, and waits for every PUBACK. `%s` in a packet is where its identifier goes."""
    free, done = threading.Semaphore(WINDOW // BATCH), threading.Event()

    def acknowledge():
        got = 0
        while got < total * PUBACK_SIZE and (data := client.recv(1 << 16)):
            for _ in range((got + len(data)) // (PUBACK_SIZE * BATCH) - got // (PUBACK_SIZE * BATCH)):
                free.release()
            got += len(data)
        done.set()

    with connect(port, "publisher") as client:
        threading.Thread(target=acknowledge, daemon=True).start()
        numbered = (one.replace(b"%s", struct.pack(">H", number % 60_000 + 1), 1) for number, one in enumerate(packets))
        while batch := b"".join(itertools.islice(numbered, BATCH)):
            free.acquire()
            client.sendall(batch)
        if not done.wait(60):
            raise SystemExit("not every message was acknowledged within 60 s")


def check(port, messages):
    """The first and the last retained message are there, and some of a queue."""
    # Without PUBACK the broker stops at its window of messages in flight.
    size = len(packet(PUBLISH | 2, text("queued/0") + b"\0\1" + PAYLOAD))
    with connect(port, "away0", least=4 + min(messages // SESSIONS, 100) * size):
        pass
    with connect(port, "looker", clean=True) as looker:
        for number in (0, messages - 1):
            looker.sendall(packet(SUBSCRIBE, b"\0\1" + text(f"retained/{number // 1000}/{number}") + b"\0"))
            read(looker, 5 + len(PAYLOAD))


def connect(port, name, clean=False, least=4):
    """Waits for `least` bytes, of which CONNACK takes four."""
    client = socket.create_connection(("127.0.0.1", port), 10)
    client.settimeout(30)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.sendall(packet(CONNECT, b"\0\4MQTT\4" + bytes([2 if clean else 0]) + b"\0\0" + text(name)))
    answer = read(client, least)
    assert answer[0] == CONNACK and answer[3] == 0, answer
    return client


def read(client, least):
    data = b""
    while len(data) < least:
        more = client.recv(1 << 16)
        if not more:
            raise SystemExit("the broker closed a connection")
        data += more
    return data


def packet(kind, body):
    length, left = b"", len(body)
    while True:
        left, low = left >> 7, left & 127
        length += bytes([low | (128 if left else 0)])
        if not left:
            return bytes([kind]) + length + body
