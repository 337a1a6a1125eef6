"""Clients of all kinds that come and go for a long time, and what the broker's heap holds while nobody is there."""

import os
import subprocess
import time
from pathlib import Path

from .peers import RINGLOAD, ROOT, TARGET, cargo, say
from .process import Broker, free_port

# One after the other, again and again: connections, retained messages, durable sessions, groups, everything at once.
ROUND = (
    ("connect", "--set", "idle.clients=1000", "--duration", "2s"),
    ("retained-flood", "--duration", "5s"),
    ("reconnect-storm", "--duration", "12s"),
    ("shared", "--duration", "2s"),
    ("mixed", "--duration", "5s"),
)
# Sessions of clients that are gone end after it, so that nothing is left at rest. Those of clients that come back must not,
# however late a busy machine lets them.
EXPIRY_S = 10
# Timers of a second, and two samples of the heap.
REST_S = EXPIRY_S + 12
SLOPE_MAX = 1024 * 1024


def churn(folder, seconds):
    """Gives `(passed, text)`."""
    library, samples = folder / "heap_sampler.so", folder / "heap.txt"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-pthread", "-o", library, ROOT / "scripts/heap_sampler.c"], check=True)
    samples.unlink(missing_ok=True)
    port = free_port()
    command = [build_with_system_allocator(), "--listen", f"127.0.0.1:{port}", "--shards", "2", "--session-expiry-max", f"{EXPIRY_S}s"]
    environment = {"LD_PRELOAD": str(library), "HEAP_SAMPLES": str(samples)}
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    at_rest, failures, end = [], [], time.monotonic() + seconds
    with Broker([command], port, cores, folder, environment) as broker:
        # The first rounds fill what is kept on purpose: pools of buffers, tables.
        while len(at_rest) < 3 or time.monotonic() < end:
            failures += one_round(port, folder)
            if not broker.is_alive():
                return False, f"the broker ended after {len(at_rest)} rounds: {broker.log.read_text(errors='replace')[-500:]}"
            time.sleep(REST_S)
            at_rest.append(last_sample(samples))
            print(f"   round {len(at_rest)}: {at_rest[-1][1] / 1024:,.0f} KiB at rest", flush=True)
    settled = at_rest[len(at_rest) // 4:]
    slope = slope_per_hour(settled)
    text = (f"{len(at_rest)} rounds; live heap at rest {settled[0][1] / 1024:,.0f} KiB, at the end {settled[-1][1] / 1024:,.0f} KiB, "
            f"{slope / 1024:+,.0f} KiB/h (at most {SLOPE_MAX // 1024:,})")
    if failures:
        text += f"; {len(failures)} runs failed, the first: {failures[0]}"
    return slope < SLOPE_MAX and not failures, text


def build_with_system_allocator():
    """The released broker but for its allocator: only that of the system says what of its memory is in use."""
    folder = TARGET / "system-allocator"
    if not (folder / "release/ringmq").exists():
        say("building the broker with the allocator of the system: about four minutes the first time")
    cargo("build", "--release", "--package", "ringmq", "--no-default-features", "--target-dir", str(folder))
    return folder / "release/ringmq"


def one_round(port, folder):
    failures = []
    for scenario, *options in ROUND:
        command = [RINGLOAD, "run", scenario, "--target", f"127.0.0.1:{port}", "--no-sys", "--quiet", *options]
        done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            failures.append(f"{scenario} ended with {done.returncode}: {(done.stdout + done.stderr).strip()[-300:]}")
    return failures


def last_sample(path: Path):
    """Seconds and bytes."""
    seconds, size = path.read_text().splitlines()[-1].split()
    return int(seconds), int(size)


def slope_per_hour(points):
    """Of the line with the least squares."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return 3600 * sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
