"""Whether the host moved the CPUs of a virtual machine: asked around every run, by a cache line that goes to and fro."""

import re
import subprocess
from dataclasses import dataclass

from .install import ROOT, TARGET

# Figures of a reading, and how far they may go apart. Quiet neighbours change the way from one CPU to the other by a tenth;
# a move, by half or more. A sibling that gets busy slows a core down by a third.
FIGURES = (
    (lambda reading: reading.one_way_ns, 1.4),
    (lambda reading: reading.core_ns[0], 1.25),
    (lambda reading: reading.core_ns[1], 1.25),
)
TIME_MAX_S = 20
SOURCE = ROOT / "scripts/ping_pong.c"


@dataclass(frozen=True)
class Reading:
    one_way_ns: float
    core_ns: tuple

    def __str__(self):
        return f"{self.one_way_ns:.0f} ns from one CPU to the other with steps of {self.core_ns[0]:.2f} and {self.core_ns[1]:.2f} ns"


@dataclass(frozen=True)
class Course:
    """The readings around a run, and how the CPUs lay for most of what it is compared with."""

    readings: tuple = ()
    usual: Reading | None = None

    def change(self):
        """How far the readings are from the usual one or, without that, from each other, by the bound for each figure:
        above 1 the CPUs were moved."""
        points = self.readings if self.usual is None else (*self.readings, self.usual)
        if len(points) < 2:
            return 0.0
        return max(apart(*(of(reading) for reading in points)) / bound for of, bound in FIGURES)

    @property
    def is_moved(self):
        return self.change() > 1

    def text(self):
        return " and ".join(map(str, self.readings)) + (f", for most of the round {self.usual}" if self.usual else "")


def usual(readings):
    """The one that most others are near to: how the CPUs lay most of the time. Nothing if there are none."""
    def neighbours(one):
        return sum(not Course((one, other)).is_moved for other in readings)
    return max(readings, key=neighbours, default=None)


def apart(*values):
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
