"""What a checkpoint does to a client that is served meanwhile, and how much is written for what is logged.

A broker is filled and ended, and its next start begins a checkpoint of everything as soon as it serves clients. A canary
publishes to itself all the time, by schedule: what it waits during the checkpoint is compared with what it waits after it.
"""

import json
import os
import select
import struct
import subprocess
import threading
import time

from comparing.machine import parse_cores
from comparing.process import Broker, free_port
from crashing.clients import PUBACK, PUBLISH, SUBSCRIBE, text
from logging_costs import replay

PAYLOAD = bytes(4096)
# A queue of a session, with room for what a message takes beside its payload.
PER_MESSAGE = len(PAYLOAD) + 1024
RATE = 100
# Fewer messages of the canary than this say nothing about one in a hundred.
SAMPLES_MIN = 300
LOOK_S = 0.02
CHECKPOINT_MAX_S = 600
# Removing what a checkpoint has replaced is over by then.
QUIET_S = 3


def measure(folder, ringmq, size, rounds, duration, cores, load_cores):
    """Yields lines about a broker that holds so many bytes."""
    messages = max(2 * replay.SESSIONS, size // 2 // len(PAYLOAD))
    data, run = folder / "data", Run(folder, ringmq, messages, cores)
    with run.broker() as broker:
        began = time.monotonic()
        replay.fill(broker.port, messages, PAYLOAD)
        took, written = time.monotonic() - began, written_by(broker.pids()[0])
    yield f"{messages:,} queued for {replay.SESSIONS} sessions and {messages:,} retained, {len(PAYLOAD)} bytes each; filled in {took:.1f} s"
    logged = run.logged()
    yield (f"logged {logged >> 20:,} MiB, padding included; written {written >> 20:,} MiB, checkpoints included and the zeros that three segments or more of 64 MiB begin with: "
           f"{written / logged:.2f} bytes for each byte logged, {written / (2 * messages * len(PAYLOAD)):.2f} for each byte of payload\n")
    yield ("| round | checkpoint, MiB | s | messages | PUBACK p99 during it, ms | after it | ratio | delivery p99 during it, ms | after it | ratio |\n"
           "|---|---|---|---|---|---|---|---|---|---|")
    for number in range(1, rounds + 1):
        with run.broker() as broker, Canary(broker.port, load_cores) as canary:
            begin, end, written = watch(data, canary)
            time.sleep(QUIET_S)
            quiet = time.monotonic()
            # As long, so that both have seen as much.
            time.sleep(max(duration, end - begin))
            canary.stop()
            yield row(number, written, end - begin, canary.between(begin, end), canary.between(quiet, time.monotonic()))


class Run:
    def __init__(self, folder, ringmq, messages, cores):
        self.folder, self.cores, self.ringmq = folder, cores, ringmq
        each, most = -(-messages // replay.SESSIONS) + 1, 2 * messages * PER_MESSAGE
        self.command = [
            ringmq, "--shards", "1", "--data-dir", folder / "data", "--queued-messages-max", each, "--queued-bytes-max", min(each * PER_MESSAGE, 2 << 30),
            "--total-queued-bytes-max", most, "--retained-messages-max", messages + 1000, "--retained-bytes-max", most]

    def broker(self):
        port = free_port()
        return Broker([[*self.command, "--listen", f"127.0.0.1:{port}"]], port, self.cores, self.folder)

    def logged(self):
        """Bytes of the log of the last start."""
        command = [self.ringmq, "log", "inspect", self.folder / "data", "--json"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True)
        return sum(shard["end"] for shard in json.loads(done.stdout)["epochs"][-1]["shards"])


def written_by(pid):
    """Bytes that a process has sent to disks."""
    with open(f"/proc/{pid}/io") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def watch(data, canary):
    """Waits until the checkpoint of the start is finished. Gives when it began and ended, and its size."""
    epoch = max(data.glob("e????"))
    deadline, begin = time.monotonic() + CHECKPOINT_MAX_S, canary.began
    while not (done := list(epoch.glob("s00/*.ckp"))):
        if time.monotonic() > deadline:
            raise SystemExit(f"no checkpoint within {CHECKPOINT_MAX_S} s")
        canary.check()
        time.sleep(LOOK_S)
    return begin, time.monotonic(), done[0].stat().st_size


def row(number, size, took, during, after):
    cells = [f"{number}", f"{size >> 20:,}", f"{took:.1f}", f"{len(during):,} and {len(after):,}"]
    for field in ("acknowledged", "delivered"):
        with_it, without = (p99([getattr(sample, field) for sample in samples]) for samples in (during, after))
        cells += [f"{1000 * with_it:.2f}", f"{1000 * without:.2f}", f"{with_it / without:.2f}"]
    is_short = min(len(during), len(after)) < SAMPLES_MIN
    return f"| {' | '.join(cells)} |" + (f" TOO SHORT: fewer than {SAMPLES_MIN} messages" if is_short else "")


def p99(values):
    ordered = sorted(values)
    return ordered[int((len(ordered) - 1) * 0.99)] if ordered else float("nan")


class Canary:
    """Publishes to itself with QoS 1, in a session that is kept: each message is on the disk before its PUBACK."""

    def __init__(self, port, cores):
        self._cores, self._samples, self._failure, self._is_over = cores, [], None, threading.Event()
        # Another one each time: nothing is left of those before it.
        self._topic = text(f"canary/{port}")
        self._socket = replay.connect(port, f"canary{port}")
        self._socket.sendall(replay.packet(SUBSCRIBE, b"\0\1" + self._topic + b"\1"))
        replay.read(self._socket, 5)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self.began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        self._thread.join()
        self._socket.close()

    def stop(self):
        self._is_over.set()
        self._thread.join()
        self.check()

    def check(self):
        if self._failure:
            raise SystemExit(f"the canary was not served: {self._failure}")

    def between(self, begin, end):
        return [sample for sample in self._samples if begin <= sample.due < end]

    def _run(self):
        os.sched_setaffinity(0, parse_cores(self._cores))
        try:
            number, pending, buffer = 0, {}, b""
            while pending or not self._is_over.is_set():
                # By schedule, whatever waits: so what comes behind a slow one counts as slow as well.
                now = time.monotonic()
                due = self.began + number / RATE
                if due <= now and not self._is_over.is_set():
                    identifier = struct.pack(">H", number % 60_000 + 1)
                    pending[identifier] = Sample(due)
                    self._socket.sendall(replay.packet(PUBLISH | 2, self._topic + identifier + identifier))
                    number += 1
                    continue
                if select.select([self._socket], [], [], max(0, due - now))[0]:
                    more = self._socket.recv(1 << 16)
                    if not more:
                        raise ConnectionResetError("the broker closed the connection")
                    buffer = self._take(buffer + more, pending)
                elif self._is_over.is_set():
                    time.sleep(1 / RATE)
        except OSError as error:
            self._failure = error

    def _take(self, buffer, pending):
        """Takes whole packets off; all are shorter than 128 bytes. Gives what is left."""
        while len(buffer) >= 2 and len(buffer) >= 2 + buffer[1]:
            packet, buffer = buffer[:2 + buffer[1]], buffer[2 + buffer[1]:]
            ours = packet[-2:]
            sample = pending[ours]
            if packet[0] == PUBACK:
                sample.acknowledged = time.monotonic() - sample.due
            else:
                sample.delivered = time.monotonic() - sample.due
                at = 2 + len(self._topic)
                self._socket.sendall(replay.packet(PUBACK, packet[at:at + 2]))
            if sample.acknowledged and sample.delivered:
                self._samples.append(pending.pop(ours))
        return buffer


class Sample:
    """When a message was due, and after how many seconds its PUBACK and the message itself came."""

    def __init__(self, due):
        self.due, self.acknowledged, self.delivered = due, None, None
