"""What Ringmq is swept over: one size grows, everything else stays, and what a delivery costs must not jump."""

from dataclasses import dataclass

from .suite import FAST, flow

PAIR = "sweep/{run}/{index}"
# Bytes underway over all publishers, so that large payloads measure copying and not the memory of sockets.
UNDERWAY_MAX = 16 * 1024 * 1024


@dataclass(frozen=True)
class Sweep:
    name: str
    # What grows, as the axis of the plot says it.
    axis: str
    about: str
    # Pairs of a value and the scenario that is run for it.
    points: tuple


def payloads():
    for size in (16, 64, 256, 1024, 4096, 16384, 65536, 1048576):
        pairs = 50 if size <= 1024 else 8
        window = max(1, min(10, UNDERWAY_MAX // size // pairs))
        yield size, flow("payload", f"{pairs} pairs, payloads of {size:,} bytes; {FAST}", 0, pairs, pairs, PAIR,
                         payload=size, window=window)


def subscribers():
    for count in (1, 10, 100, 1000, 5000):
        yield count, flow("subscribers", f"One publisher, {count:,} subscribers; {FAST}", 0, 1, count, "sweep/{run}", window=50)


def publishers():
    for count in (1, 10, 100, 1000):
        yield count, flow("publishers", f"{count:,} publishers, one subscriber; {FAST}", 0, count, 1, PAIR, "sweep/{run}/#",
                          window=max(1, 500 // count))


def wildcards():
    for depth in (1, 2, 4, 8, 16):
        below = "/x" * (depth - 1)
        yield depth, flow("wildcards", f"50 pairs, filters with {depth} times +; {FAST}", 0, 50, 50, f"{PAIR}/x{below}",
                          PAIR + "/+" * depth, window=10)


def topics():
    for count in (1, 10, 100, 1000, 10_000):
        yield count, flow("topics", f"10 pairs, each publisher goes round {count:,} topics; {FAST}", 0, 10, 10,
                          PAIR + f"/{{message%{count}}}", PAIR + "/+", window=50)


def aliases():
    for count in (0, 1, 10, 100, 1000):
        yield count, flow("aliases", f"10 pairs, each publisher goes round 1,000 topics, {count:,} of them by alias; {FAST}", 0, 10, 10,
                          PAIR + "/{message%1000}", PAIR + "/+", protocol="5.0", topic_aliases=count, window=50)


SWEEPS = [
    Sweep("payload", "bytes of payload", "pairs, QoS 0", tuple(payloads())),
    Sweep("subscribers", "subscribers of one topic", "fan-out, QoS 0", tuple(subscribers())),
    Sweep("publishers", "publishers to one subscriber", "fan-in, QoS 0", tuple(publishers())),
    Sweep("wildcards", "+ in the filter", "pairs, QoS 0, a filter that ends in so many +", tuple(wildcards())),
    Sweep("topics", "topics of each publisher", "pairs, QoS 0, one subscription for all topics of a publisher; "
          "a shard remembers the routes of 4,096 topics", tuple(topics())),
    Sweep("aliases", "topics by alias", "pairs, QoS 0, 1,000 topics of each publisher, so many of them by topic alias", tuple(aliases())),
]
