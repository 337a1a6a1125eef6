"""A broker whose control plane listens on TCP, and clients that speak as much MQTT 3.1.1 as a page needs to have something to show."""

import contextlib
import hashlib
import json
import random
import signal
import socket
import subprocess
import threading
import time
import urllib.request

START_MAX_S = 30


class Broker:
    """Runs while the block does; `stop` and `start` in between, on the same ports."""

    def __init__(self, program, folder, port, admin_port):
        self.port = port
        self.url = f"http://127.0.0.1:{admin_port}"
        tokens = folder / "tokens"
        roles = ("metrics", "viewer", "operator")
        tokens.write_text("".join(f"{role}:{role}:{hashlib.sha256(f't-{role}'.encode()).hexdigest()}\n" for role in roles))
        self.command = [program, "--listen", f"127.0.0.1:{port}", "--shards", "2", "--admin", f"127.0.0.1:{admin_port}",
                        "--admin-token-file", tokens, "--queued-messages-max", "200"]
        self.log = folder / "broker.log"
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_MAX_S
        # The control plane comes last.
        port = int(self.url.rpartition(":")[2])
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                return
            time.sleep(0.05)
        raise RuntimeError(f"the broker does not listen; its log:\n{self.log.read_text()}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)

    def change(self, method, path, order):
        """What the control plane answers to an operator."""
        request = urllib.request.Request(self.url + path, json.dumps(order).encode(), method=method,
                                         headers={"Authorization": "Bearer t-operator", "Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    @contextlib.contextmanager
    def load(self):
        """Publishers and subscribers at a pace that goes up and down, and a client whose queue runs over."""
        topics = [f"site/{index}/power" for index in range(20)]
        with contextlib.ExitStack() as stack:
            away = Client(self, "meter-away", clean=False)
            away.subscribe("site/1/#", qos=1)
            away.close()
            readers = [stack.enter_context(Client(self, f"dashboard-{index}")) for index in range(6)]
            for reader in readers:
                reader.subscribe("site/#")
            writers = [stack.enter_context(Client(self, f"meter-{index}")) for index in range(20)]
            done = threading.Event()
            random_ = random.Random(7)

            def write():
                pace = 60.0
                while not done.wait(0.02):
                    pace = min(120.0, max(20.0, pace + random_.uniform(-4, 4)))
                    for _ in range(int(pace)):
                        index = random_.randrange(20)
                        writers[index].publish(topics[index], b"x" * random_.randrange(20, 200), qos=int(index == 1))

            def read(reader):
                with contextlib.suppress(OSError):
                    while reader.socket.recv(65536):
                        pass

            threads = [threading.Thread(target=write)] + [threading.Thread(target=read, args=[one]) for one in [*readers, writers[1]]]
            for thread in threads:
                thread.daemon = True
                thread.start()
            try:
                yield
            finally:
                done.set()
                threads[0].join()


class Client:
    """A connection, from CONNECT to the end of the block."""

    def __init__(self, broker, name, clean=True):
        self.socket = socket.create_connection(("127.0.0.1", broker.port))
        # Far less often than anybody here stays.
        self.send(0x10, b"\x00\x04MQTT\x04" + (b"\x02" if clean else b"\x00") + b"\x02\x58" + text(name))
        packet = self.socket.recv(4)
        if packet[3:] != b"\x00":
            raise RuntimeError(f"{name} got {packet!r}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, kind, body):
        size, sizes = len(body), b""
        while True:
            size, low = divmod(size, 128)
            sizes += bytes([low | (128 if size else 0)])
            if not size:
                break
        self.socket.sendall(bytes([kind]) + sizes + body)

    def subscribe(self, topic_filter, qos=0):
        self.send(0x82, b"\x00\x01" + text(topic_filter) + bytes([qos]))
        self.socket.recv(5)

    def publish(self, topic, payload, qos=0):
        self.send(0x30 | qos << 1, text(topic) + (b"\x00\x01" if qos else b"") + payload)

    def is_closed(self):
        return self.socket.recv(1) == b""

    def close(self):
        self.socket.close()


class Crowd(contextlib.ExitStack):
    """Clients that are there and say nothing."""

    def __init__(self, broker, count):
        super().__init__()
        for index in range(count):
            self.enter_context(Client(broker, f"client-{index}"))


def text(words):
    encoded = words.encode()
    return len(encoded).to_bytes(2) + encoded
