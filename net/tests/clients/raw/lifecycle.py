#!/usr/bin/env python3
"""Starts and ends an MQTT broker, starves it of descriptors, kills it, and checks what its clients see.

Usage: lifecycle.py COMMAND...   with {port} where the port goes

Prints one line per scenario, `ok NAME` or `FAIL NAME: why`, and exits with 1 if one failed. Linux only: descriptors
and memory are read from /proc.
"""

import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time

from wire import CONNACK, DISCONNECT, V5, Pair, Wire, check, check_equal, connect, publish, run

START_MAX_S = 15
HELD_PORTS = []  # Their sockets.


class Broker:
    """A broker process of this scenario alone, ended by its process id."""

    def __init__(self, command, port=None, descriptors_max=None):
        self.port = port or held_port()
        self.address = ("127.0.0.1", self.port)
        self._log = tempfile.TemporaryFile()
        limit = descriptors_max and (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors_max,) * 2))
        self.process = subprocess.Popen(
            [word.replace("{port}", str(self.port)) for word in command],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, preexec_fn=limit)

    def __enter__(self):
        deadline = time.monotonic() + START_MAX_S
        while time.monotonic() < deadline:
            check(self.process.poll() is None, f"ended with {self.process.returncode} at start: {self.log()}")
            try:
                socket.create_connection(self.address, 1).close()
                return self
            except OSError:
                time.sleep(0.02)  # There is no event for "listens".
        self.__exit__()
        raise AssertionError(f"did not listen within {START_MAX_S} s: {self.log()}")

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._log.close()

    def log(self):
        self._log.seek(0)
        return self._log.read()[-600:].decode(errors="replace")

    def end(self, how, within_s):
        """Exit code, or a fault when it takes longer."""
        self.process.send_signal(how)
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running {within_s} s after signal {how}") from None

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def resident_kib(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def held_port():
    """A port for brokers, kept from everybody else until the process ends: it stays bound, without listening. The broker
    has to set SO_REUSEADDR, as servers do."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    HELD_PORTS.append(holder)
    return holder.getsockname()[1]


def await_true(condition, what, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < deadline, f"not within {seconds} s: {what}")
        time.sleep(0.02)  # What is asked about, /proc or a listen queue, has no event.


def sigterm_ends_it_with_0(command, tag):
    """SIGTERM and SIGINT: MQTT 5.0 clients hear 0x8B, all connections end, exit code 0 within 5 s."""
    for how in (signal.SIGTERM, signal.SIGINT):
        with Broker(command) as broker:
            new = [Wire(broker.address, V5) for _ in range(8)]
            old = [Wire(broker.address) for _ in range(8)]
            waiting = Wire(broker.address)
            for index, wire in enumerate(new + old):
                wire.connect(f"{tag}-{index}")
            code = broker.end(how, 5)
            check(code == 0, f"exit code {code} after signal {how}: {broker.log()}")
            for wire in new:
                kind, _, body = wire.packet("DISCONNECT 0x8B") or (None, None, b"")
                check_equal((kind, body[:1]), (DISCONNECT, b"\x8b"), "last packet")
                wire.expect_closed("shutdown")
            for wire in [*old, waiting]:
                wire.expect_closed("shutdown")


def sigterm_with_a_stalled_client(command, tag):
    """A client that does not read cannot hold up the end."""
    with Broker(command) as broker, Wire(broker.address, receive_buffer=4096) as stalled:
        stalled.connect(f"{tag}-stalled")
        stalled.subscribe("flood", 0)
        with Wire(broker.address) as sender:
            sender.connect(f"{tag}-sender")
            for _ in range(40):
                sender.send(publish("flood", bytes(256 * 1024)))
            sender.ping()
        code = broker.end(signal.SIGTERM, 5)
        check(code == 0, f"exit code {code}: {broker.log()}")


def killed_and_started_again(command, tag):
    """kill -9 with open connections, then at once a new start on the same port."""
    port = held_port()
    for _ in range(3):
        with Broker(command, port) as broker, Pair(broker.address, tag) as canary:
            canary.sing("before the kill")
            broker.end(signal.SIGKILL, 5)
            canary.subscriber.expect_closed("kill")


def second_broker_on_the_port_is_refused(command, tag):
    """Two brokers that share a port would share out the clients: the second must say so and end."""
    with Broker(command) as first, Pair(first.address, tag) as canary:
        second = Broker(command, first.port)
        try:
            code = second.process.wait(10)
            check(code != 0, "the second broker ended with 0")
            check(str(first.port) in second.log() or "in use" in second.log().lower(), f"says only: {second.log()}")
        except subprocess.TimeoutExpired:
            raise AssertionError("a second broker runs on the same port") from None
        finally:
            second.__exit__()
        canary.sing("after the second start")


def out_of_descriptors(command, tag):
    """With no descriptor left it keeps its clients, does not spin, and takes new ones when some have gone."""
    limit = 400
    with Broker(command, descriptors_max=limit) as broker, Pair(broker.address, tag) as canary:
        crowd = [Wire(broker.address) for _ in range(600)]
        for index, wire in enumerate(crowd):
            try:
                wire.send(connect(f"{tag}-{index}"))
            except OSError:
                pass  # The broker may refuse by closing.
        for _ in range(20):
            canary.sing("with no descriptor left")
        before = cpu_seconds(broker)
        time.sleep(1)  # A rate is measured over time.
        used = cpu_seconds(broker) - before
        check(used < 0.6, f"used {used:.2f} s of CPU in a second of waiting for descriptors")
        for wire in crowd:
            wire.close()
        await_true(lambda: broker.descriptors() < limit // 2, f"descriptors given back: {broker.descriptors()}")
        with Wire(broker.address) as late:
            late.connect(f"{tag}-late")
            late.ping()
        canary.sing("afterwards")


def cpu_seconds(broker):
    with open(f"/proc/{broker.process.pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def churn_leaves_nothing_behind(command, tag):
    """2,000 connections come and go in every way; descriptors return to where they were, memory nearly."""
    with Broker(command) as broker, Pair(broker.address, tag) as canary:
        churn(broker, f"{tag}-warm", 300)
        await_true(lambda: broker.descriptors() <= 100, "descriptors after the warm-up")
        descriptors, resident_kib = settled(broker.descriptors), broker.resident_kib()
        churn(broker, tag, 2000)
        await_true(lambda: broker.descriptors() <= descriptors,
                   f"descriptors back at {descriptors}, not {broker.descriptors()}")
        grown_kib = broker.resident_kib() - resident_kib
        check(grown_kib < 8 * 1024, f"{grown_kib} KiB more after 2,000 connections")
        canary.sing("after the churn")


def settled(measure):
    """The value of `measure` once it has stopped changing."""
    last, same = measure(), 0
    while same < 10:
        time.sleep(0.02)
        now = measure()
        last, same = now, same + 1 if now == last else 0
    return last


def churn(broker, tag, count):
    """By turns: a polite end, a bare close, a reset, no CONNECT at all, and half a CONNECT."""
    for index in range(count):
        with Wire(broker.address) as wire:
            if index % 5 < 3:
                # Every id comes five times, so some take over or resume.
                wire.send(connect(f"{tag}-{index // 5}", clean=index % 2 == 0))
                check_equal(wire.expect(CONNACK, "CONNACK")[1], 0, "CONNACK")
            if index % 5 == 0:
                wire.send(b"\xe0\x00")
                wire.expect_closed("DISCONNECT")
            elif index % 5 == 2:
                wire.reset()
            elif index % 5 == 4:
                wire.send(connect(f"{tag}-half")[:9])


SCENARIOS = {body.__name__: body for body in [
    sigterm_ends_it_with_0,
    sigterm_with_a_stalled_client,
    killed_and_started_again,
    second_broker_on_the_port_is_refused,
    out_of_descriptors,
    churn_leaves_nothing_behind,
]}

if __name__ == "__main__":
    sys.exit(run(SCENARIOS, [sys.argv[1:]], [], at_once=2))
