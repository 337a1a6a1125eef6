"""Whether the host moved the CPUs of a virtual machine: asked around every run, by a cache line that goes to and fro."""

import re
import subprocess
from dataclasses import dataclass

from .install import ROOT, TARGET

# Quiet neighbours change the way from one CPU to the other by a tenth; a move, by half or more.
ONE_WAY_CHANGE_MAX = 1.4
# A sibling that gets busy slows a core down by a third.
CORE_CHANGE_MAX = 1.25
TIME_MAX_S = 20
SOURCE = ROOT / "scripts/ping_pong.c"


@dataclass(frozen=True)
class Reading:
    one_way_ns: float
    core_ns: tuple


@dataclass(frozen=True)
class Course:
    """The readings of a round, in their order."""

    readings: tuple = ()

    def change(self):
        """How far the figures went apart, by the bound for each: above 1 the CPUs were moved."""
        if len(self.readings) < 2:
            return 0.0
        ways = apart(reading.one_way_ns for reading in self.readings) / ONE_WAY_CHANGE_MAX
        cores = [apart(reading.core_ns[at] for reading in self.readings) / CORE_CHANGE_MAX for at in (0, 1)]
        return max(ways, *cores)

    @property
    def is_moved(self):
        return self.change() > 1

    def text(self):
        ways = [reading.one_way_ns for reading in self.readings]
        cores = [ns for reading in self.readings for ns in reading.core_ns]
        return (f"{min(ways):.0f} to {max(ways):.0f} ns from one CPU to the other, "
                f"{min(cores):.2f} to {max(cores):.2f} ns for a step on one")


def apart(values):
    values = list(values)
    return max(values) / min(values)


class Probe:
    """Between the first core of the broker and the first one of the load."""

    def __init__(self, broker_core, load_core):
        self._command = [TARGET / "ping_pong", str(broker_core), str(load_core)]

    def build(self):
        """Gives why it cannot be had, or nothing."""
        program = self._command[0]
        if program.exists() and program.stat().st_mtime >= SOURCE.stat().st_mtime:
            return None
        program.parent.mkdir(parents=True, exist_ok=True)
        try:
            done = subprocess.run(["cc", "-O2", "-pthread", "-o", program, SOURCE], capture_output=True, text=True)
        except FileNotFoundError:
            return "there is no C compiler"
        return None if done.returncode == 0 else f"it does not compile: {done.stderr.strip()[-300:]}"

    def read(self):
        """Nothing if the machine is so busy that it tells nothing."""
        try:
            done = subprocess.run(self._command, capture_output=True, text=True, timeout=TIME_MAX_S)
        except subprocess.TimeoutExpired:
            return None
        return parse(done.stdout)


def parse(text):
    found = re.fullmatch(r"one_way_ns ([\d.]+) core_ns ([\d.]+) ([\d.]+)\n?", text)
    if not found:
        return None
    one_way, *cores = map(float, found.groups())
    return Reading(one_way, tuple(cores)) if one_way > 0 and min(cores) > 0 else None
