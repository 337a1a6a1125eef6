"""Checks an MQTT broker with paho-mqtt (Python), speaking 3.1.1 and 5.0.

Usage: main.py HOST PORT [SCENARIO...]

Prints one line per scenario, `ok NAME` or `FAIL NAME: why`, and exits with 1 if one failed. Every scenario runs
with PAIRS pairs of client ids at once, so that publishers and subscribers meet on every shard of a broker that
places clients by a hash of their id.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

from client import Place, V311, V5
import scenarios
import scenarios_v5

PAIRS = 8
# Scenarios wait for timers far more than they compute: running several at once keeps the whole under 20 s.
SCENARIOS_AT_ONCE = 5


def main(host, port, wanted):
    plan = [
        (f"{'3.1.1' if version == V311 else '5.0'}/{name}", body, version)
        for version, bodies in ((V311, scenarios.ALL), (V5, scenarios.ALL | scenarios_v5.ALL))
        for name, body in bodies.items()
        if not wanted or name in wanted
    ]
    failed = 0
    with ThreadPoolExecutor(SCENARIOS_AT_ONCE) as pool:
        runs = [(name, pool.submit(run_pairs, name, body, version, host, port)) for name, body, version in plan]
        for name, run in runs:
            problem = run.result()
            failed += problem is not None
            print(f"ok {name}" if problem is None else f"FAIL {name}: {problem}", flush=True)
    return 1 if failed else 0


def run_pairs(name, body, version, host, port):
    """Runs one scenario for every pair of client ids; the first problem, or None."""
    with ThreadPoolExecutor(PAIRS) as pool:
        tag = f"{os.getpid()}-{name.replace('/', '-')}"
        places = [Place(host, port, version, f"py-{tag}-{index}") for index in range(PAIRS)]
        return next((problem for problem in pool.map(lambda place: run_one(body, place), places) if problem), None)


def run_one(body, place):
    try:
        body(place)
        return None
    except Exception as error:  # Whatever went wrong is the scenario's result.
        return f"{place.tag}: {type(error).__name__}: {error}"
    finally:
        place.close_all()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
