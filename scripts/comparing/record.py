"""Runs as they are kept: what the tables are made from, a run on each line. Distributions and courses over time are only in
the page that `ringload report` makes of the results themselves."""

import json

PERCENTILES = ("count", "min_us", "mean_us", "p50_us", "p90_us", "p99_us", "p999_us", "max_us")
TOTALS = ("clients", "connects_per_s", "sent_per_s", "received_per_s")
BROKER = ("user_ns_per_delivery", "system_ns_per_delivery", "connect_us_per_connection", "rss_before_bytes",
          "rss_connected_bytes", "rss_per_connection_bytes", "rss_peak_bytes")


def compact(one):
    """A result of ringload without what no table shows; what remains has its place and name. What was seen of others while
    it ran stands beside, if somebody looked."""
    seen = {"disturbance": one["disturbance"]} if "disturbance" in one else {}
    totals, broker, latency = one["totals"], one["broker"], one["totals"]["latency"]
    return {
        "validity": {field: one["validity"][field] for field in ("valid", "reasons")},
        "totals": {
            **{field: rounded(totals[field]) for field in TOTALS},
            "latency": latency and {"corrected": {field: rounded(latency["corrected"][field]) for field in PERCENTILES}},
            "ledger": {kind: count for kind, count in totals["ledger"].items() if count or kind in ("lost", "out_of_order", "corrupt")},
        },
        "broker": broker and {field: rounded(broker[field]) for field in BROKER},
        **seen,
    }


def rounded(number):
    """Six significant digits: more than any measurement has."""
    return float(f"{number:.6g}") if isinstance(number, float) else number


def write(path, head, runs):
    """`head`: fields of the file; `runs`: compact ones, with what tells them apart."""
    lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in runs)
    text = json.dumps(head, indent=1).removesuffix("\n}")
    path.write_text(f'{text},\n "runs": [\n{lines}\n]}}\n')
