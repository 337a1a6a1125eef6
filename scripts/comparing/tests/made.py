"""Results as ringload writes them, with the few numbers that a test is about."""

import json

from ..probe import Course, Reading
from ..rounds import Run

MICROS = ("min_us", "mean_us", "p50_us", "p90_us", "p99_us", "p999_us", "max_us")


def result(rate=1000.0, cpu_ns=2000.0, p99_us=100, lost=0, out_of_order=0, checks=()):
    latency = {"count": 1000} | {field: p99_us for field in MICROS}
    return {
        "validity": {"valid": not checks, "reasons": [{"check": check, "text": f"it was {check}"} for check in checks]},
        "totals": {"clients": 100, "connects_per_s": 5000.0, "sent_per_s": rate, "received_per_s": rate,
                   "latency": {"corrected": latency, "uncorrected": latency},
                   "ledger": {"delivered": 1000, "lost": lost, "out_of_order": out_of_order, "corrupt": 0}},
        "broker": {"user_ns_per_delivery": cpu_ns / 2, "system_ns_per_delivery": cpu_ns / 2, "connect_us_per_connection": 30.0,
                   "rss_before_bytes": 1, "rss_connected_bytes": 2, "rss_per_connection_bytes": 1024, "rss_peak_bytes": 3},
    }


def run(folder, name, strangers=0.0, ways=(60, 61), tls="", **numbers):
    """A run whose result is in a file."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps(result(**numbers)))
    return Run(path, strangers, tls, course=course(*ways))


def course(*one_way_ns):
    return Course(tuple(Reading(ns, (1.4, 1.4)) for ns in one_way_ns))
