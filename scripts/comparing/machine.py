"""The machine that is measured on: what it is, and whether it is quiet."""

import os
import platform
import re
import subprocess
import time
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def facts(root):
    """Rows of a table about it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": cpu_model(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory:.1f} GiB",
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
        "mitigations": ", ".join(sorted(mitigations())) or "none",
        "commit": commit(root),
    }


def cpu_model():
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def mitigations():
    """Faults of the processor that the kernel works around, which makes system calls dearer."""
    for path in Path("/sys/devices/system/cpu/vulnerabilities").glob("*"):
        if path.read_text().startswith("Mitigation"):
            yield path.name


def commit(root):
    described = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True)
    return described.stdout.strip() or "unknown"


def split_cores():
    """The cores in two halves: for the broker, the smaller one, and for the load."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("this needs two cores at least: one for the broker and one for the load")
    half = len(cores) // 2
    return ",".join(map(str, cores[:half])), ",".join(map(str, cores[half:]))


def parse_cores(text):
    """`0,2-3` as [0, 2, 3]."""
    cores = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdigit() or (last and not last.isdigit()):
            raise ValueError(f"`{text}` is no list of cores: write 0,2-3")
        cores += range(int(first), int(last or first) + 1)
    if missing := set(cores) - os.sched_getaffinity(0):
        raise ValueError(f"core {min(missing)} is not there, or not for us")
    return cores


class Strangers:
    """Tells how much of some cores went to others than our processes. User time alone: the kernel's work for one
    process is not told from that for another, and much of it is counted where it happens to be done."""

    def __init__(self, cores, pids):
        self._cores, self._pids = cores, pids
        self._before = self._read()

    def share(self):
        """Of one core, since the beginning."""
        at, every, own = (now - before for now, before in zip(self._read(), self._before))
        return max(0.0, every - own) / TICKS_PER_S / at

    def _read(self):
        return time.monotonic(), user_ticks(self._cores), sum(map(own_user_ticks, self._pids))


def user_ticks(cores):
    """Time in programs, and time that a hypervisor took away."""
    ticks = 0
    for line in Path("/proc/stat").read_text().splitlines():
        found = re.match(r"cpu(\d+) (.*)", line)
        if found and int(found[1]) in cores:
            fields = list(map(int, found[2].split()))
            ticks += fields[0] + fields[1] + fields[7]
    return ticks


def own_user_ticks(pid):
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(fields[11])
