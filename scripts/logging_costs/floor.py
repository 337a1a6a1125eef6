"""What the disk permits: a bare loop of write and fdatasync, beside which a log is judged."""

import mmap
import os
import threading
import time
from pathlib import Path

from comparing.machine import parse_cores

SEGMENT = 64 << 20
BLOCK = 4096
SECTOR = 512


class Disk:
    """What went to the device below a folder since the beginning, ours or not."""

    def __init__(self, folder):
        device = folder.stat().st_dev
        self._stat = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat")
        self._before = self._read()

    def moved(self):
        return {name: now - self._before[name] for name, now in self._read().items()}

    def _read(self):
        # Fields 7 and 16 of Documentation/block/stat.rst: sectors written, flushes.
        fields = self._stat.read_text().split()
        return {"written": int(fields[6]) * SECTOR, "flushes": int(fields[15])}


def groups(folder, size, under_way, seconds, cores, per_s=None):
    """Groups of `size` bytes into a file of zeros, past the page cache; each is written and flushed, `under_way` at a time: as fast as it
    goes, or `per_s` of them in a second."""
    size = max(BLOCK, -(-size // BLOCK) * BLOCK)
    path = folder / "floor"
    file = prepare(path)
    took, place, lock, deadline = [], [0], threading.Lock(), time.monotonic() + seconds

    def loop():
        os.sched_setaffinity(0, parse_cores(cores))
        data = mmap.mmap(-1, size)
        data.write(b"\x09" * size)
        while time.monotonic() < deadline:
            with lock:
                at = place[0]
                place[0] = at + size if at + 2 * size <= SEGMENT else 0
            began = time.monotonic()
            os.pwrite(file, data, at)
            os.fdatasync(file)
            took.append(time.monotonic() - began)
            if per_s:
                time.sleep(max(0, under_way / per_s - took[-1]))

    began = time.monotonic()
    threads = [threading.Thread(target=loop) for _ in range(under_way)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed = time.monotonic() - began
    os.close(file)
    path.unlink()
    took.sort()
    p50, p99 = (took[int((len(took) - 1) * share)] * 1e6 for share in (0.5, 0.99))
    return {"groups_per_s": len(took) / elapsed, "p50_us": p50, "p99_us": p99}


def prepare(path):
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_DIRECT, 0o600)
    zeros = mmap.mmap(-1, 1 << 20)
    for at in range(0, SEGMENT, len(zeros)):
        os.pwrite(file, zeros, at)
    os.fsync(file)
    return file
