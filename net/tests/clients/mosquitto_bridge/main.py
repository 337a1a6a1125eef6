#!/usr/bin/env python3
"""Checks an MQTT broker as the remote side of a real Mosquitto's bridge, over 3.1.1 and 5.0, in every direction.

Usage: main.py HOST PORT [SCENARIO...]

The bridge has Mosquitto's default settings, so that it tells its state on `$SYS/broker/connection/NAME/state`, also by its will, and
sets the bridge bit of the protocol level. Prints one line per scenario, `ok NAME` or `FAIL NAME: why`, and exits with 1 if one failed.
"""

import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

WAIT_S = 15
# Long enough for an echo to come back.
ECHO_S = 1
MOSQUITTO = shutil.which("mosquitto") or "/usr/sbin/mosquitto"  # Not every user has sbin in the path.


class Bridge:
    """A Mosquitto that bridges one topic tree to the remote broker."""

    def __init__(self, host, port, version, direction):
        self.remote, self.version = (host, port), version
        self.tag = f"bridge-{os.getpid()}-{version.replace('.', '')}-{direction}"
        self.local = ("127.0.0.1", str(free_port()))
        self._directory = tempfile.TemporaryDirectory()
        config = Path(self._directory.name) / "bridge.conf"
        config.write_text("\n".join([
            f"listener {self.local[1]} {self.local[0]}",
            "allow_anonymous true",
            "connection remote",
            f"address {host}:{port}",
            f"remote_clientid {self.tag}",
            f"topic {self.tag}/# {direction} 1",
            f"bridge_protocol_version {'mqttv50' if version == '5.0' else 'mqttv311'}",
            "restart_timeout 1",
        ]) + "\n")
        self._log = open(Path(self._directory.name) / "log", "w+")
        self._programs = []
        command = [MOSQUITTO, "-c", str(config)]
        self.process = subprocess.Popen(command, stdout=self._log, stderr=self._log)

    def subscribe(self, where, *filters):
        """Starts a subscriber; its subscriptions are in place when this returns."""
        self._programs.append(Subscriber(where, f"{self.tag}-sub-{len(self._programs)}", filters))
        return self._programs[-1]

    def publish(self, where, topic, payload, *options):
        host, port = where
        command = ["mosquitto_pub", "-h", host, "-p", port, "-i", f"{self.tag}-pub", "-t", topic, "-m", payload, "-q", "1", *options]
        subprocess.run(command, check=True, timeout=WAIT_S, capture_output=True)

    def state(self):
        return f"$SYS/broker/connection/{self.tag}/state"

    def log(self):
        self._log.seek(0)
        return self._log.read().replace("\n", " | ")[-400:]

    def kill(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(WAIT_S)

    def close(self):
        self.kill()
        for program in self._programs:
            program.close()
        host, port = self.remote
        for topic in (self.state(), f"{self.tag}/kept"):
            # The state is only for a client of that identifier to write.
            command = ["mosquitto_pub", "-h", host, "-p", port, "-i", self.tag, "-t", topic, "-n", "-r", "-q", "1"]
            subprocess.run(command, timeout=WAIT_S, capture_output=True)
        self._log.close()
        self._directory.cleanup()


class Subscriber:
    """A mosquitto_sub whose lines can be awaited: `retain topic payload`."""

    def __init__(self, where, name, filters):
        host, port = where
        words = [word for each in filters for word in ("-t", each)]
        command = ["stdbuf", "-oL", "mosquitto_sub", "-d", "-h", host, "-p", port, "-i", name, "-V", "mqttv311", "-q", "1", "-F", "got %r %t %p", *words]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self._early = []
        while not (line := self._lines.get(timeout=WAIT_S)).startswith("Subscribed"):
            if line.startswith("got "):
                self._early.append(line[4:])

    def _read(self):
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))

    def line(self, what):
        """The next message."""
        if self._early:
            return self._early.pop(0)
        end = time.monotonic() + WAIT_S
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {what} within {WAIT_S} s") from None
            if line.startswith("got "):
                return line[4:]

    def rest(self):
        """What comes until nothing does any more."""
        lines, self._early = self._early, []
        while True:
            try:
                line = self._lines.get(timeout=ECHO_S)
            except queue.Empty:
                return lines
            if line.startswith("got "):
                lines.append(line[4:])

    def close(self):
        self._process.kill()
        self._process.wait(WAIT_S)


def connected(bridge):
    """Waits until the bridge says at the remote broker that it is connected."""
    watch = bridge.subscribe(bridge.remote, bridge.state())
    while not (line := watch.line("word that the bridge is connected")).endswith(" 1"):
        check(line.endswith(" 0"), f"state {line!r}")
    return watch


def exchange(bridge, comes_in, goes_out):
    """Each side has each message that is to get there once, and nobody gets an echo."""
    connected(bridge)
    here = bridge.subscribe(bridge.remote, f"{bridge.tag}/#")
    there = bridge.subscribe(bridge.local, f"{bridge.tag}/#")
    # The bridge subscribes after it has told its state.
    settled(bridge, there if comes_in else None)
    for number in range(20):
        bridge.publish(bridge.remote, f"{bridge.tag}/t", f"remote {number}")
        bridge.publish(bridge.local, f"{bridge.tag}/t", f"local {number}")
    of_remote = [f"0 {bridge.tag}/t remote {number}" for number in range(20)]
    of_local = [f"0 {bridge.tag}/t local {number}" for number in range(20)]
    expected = {
        "at the remote broker": sorted(of_remote + (of_local if goes_out else [])),
        "at Mosquitto": sorted(of_local + (of_remote if comes_in else [])),
    }
    found = {"at the remote broker": here, "at Mosquitto": there}
    for place, subscriber in found.items():
        lines = [line for line in subscriber.rest() if not line.endswith("settled")]
        check(sorted(lines) == expected[place], f"{place}: {sorted(lines)} instead of {expected[place]}")


def settled(bridge, there):
    """Publishes at the remote broker until it arrives at Mosquitto."""
    if there is None:
        return
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        bridge.publish(bridge.remote, f"{bridge.tag}/settled", "settled")
        if any(line.endswith("settled") for line in there.rest()):
            return
    raise AssertionError("nothing comes in")


def direction_in(bridge):
    exchange(bridge, comes_in=True, goes_out=False)


def direction_out(bridge):
    exchange(bridge, comes_in=False, goes_out=True)


def direction_both(bridge):
    exchange(bridge, comes_in=True, goes_out=True)


def state(bridge):
    """The state is retained, and the will tells of the end."""
    watch = connected(bridge)
    late = bridge.subscribe(bridge.remote, bridge.state())
    line = late.line("retained state")
    check(line == f"1 {bridge.state()} 1", f"state {line!r}")
    bridge.kill()
    line = watch.line("will of the bridge")
    check(line == f"0 {bridge.state()} 0", f"will {line!r}")
    later = bridge.subscribe(bridge.remote, bridge.state())
    line = later.line("retained will")
    check(line == f"1 {bridge.state()} 0", f"retained will {line!r}")


def retained(bridge):
    """A message that is retained at one side becomes retained at the other."""
    connected(bridge)
    bridge.publish(bridge.local, f"{bridge.tag}/kept", "value", "-r")
    late = None
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end and not late:
        late = bridge.subscribe(bridge.remote, f"{bridge.tag}/kept").rest()
    check(late == [f"1 {bridge.tag}/kept value"], f"{late}")


SCENARIOS = {
    "in": ("in", direction_in),
    "out": ("out", direction_out),
    "both": ("both", direction_both),
    "state": ("both", state),
    "retained": ("both", retained),
}


def main(host, port, wanted):
    failed = 0
    for version in ("3.1.1", "5.0"):
        for name, (direction, body) in SCENARIOS.items():
            if wanted and name not in wanted:
                continue
            problem = run(body, Bridge(host, port, version, direction))
            failed += problem is not None
            print(f"ok {version}/{name}" if problem is None else f"FAIL {version}/{name}: {problem}", flush=True)
    return 1 if failed else 0


def run(body, bridge):
    try:
        body(bridge)
        return None
    except Exception as error:  # Whatever went wrong is the scenario's result.
        return f"{type(error).__name__}: {error}; Mosquitto: {bridge.log()}"
    finally:
        bridge.close()


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def check(holds, what):
    if not holds:
        raise AssertionError(what)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
