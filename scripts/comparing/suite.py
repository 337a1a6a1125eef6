"""What the brokers are compared in. Each scenario is a file that ringload runs; the files go into the results."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scenario:
    # Names the file.
    name: str
    # What it is called in tables and plots, where the QoS stands beside it.
    family: str
    about: str
    groups: tuple
    # What a broker must be able to do to take part.
    needs: tuple = ()
    # Of its messages; nothing if there are none.
    qos: int | None = None
    # It tells how long the slowest take, which is another in each round: it needs more of them.
    has_tail: bool = False

    def toml(self, warmup_s, duration_s):
        lines = [f'name = "{self.family}"', f'about = "{self.about}"', f'warmup = "{warmup_s}s"', f'duration = "{duration_s}s"']
        for group in self.groups:
            lines += ["", "[[group]]", *(f"{key} = {written(value)}" for key, value in group.items())]
        return "\n".join(lines) + "\n"


def written(value):
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def flow(family, about, qos, publishers, subscribers, topic, filter=None, needs=(), **more):
    """Publishers and subscribers, at one QoS."""
    if qos == 2:
        needs += ("qos2",)
    common = {"qos": qos} | {key: more.pop(key) for key in ("protocol", "clean") if key in more}
    return Scenario(f"{family}-qos{qos}", family, about, (
        {"name": "subscribers", "clients": subscribers, **common, "subscribe": filter or topic},
        {"name": "publishers", "clients": publishers, **common, "publish": topic, **more},
    ), needs, qos, "rate" in more)


PAIR = "compare/{run}/{index}"
ALL_OF_THEM = "compare/{run}/#"
FAST = "as fast as the broker can"
# Messages per second of each of 50 publishers: two thirds of what the slowest of the brokers can do at QoS 2.
RATE = 200

SUITE = [
    *(flow("pairs", f"50 publishers, each with a subscriber of its own, QoS {qos}; {FAST}", qos, 50, 50, PAIR, window=10)
      for qos in (0, 1, 2)),
    *(flow("fan-out", f"One publisher, 200 subscribers, QoS {qos}; {FAST}", qos, 1, 200, "compare/{run}", window=50)
      for qos in (0, 1)),
    *(flow("fan-in", f"50 publishers, one subscriber with a wildcard, QoS {qos}; {FAST}", qos, 50, 1, PAIR, ALL_OF_THEM,
           window=10)
      for qos in (0, 1)),
    flow("shared", f"50 publishers, 10 subscribers that share the messages, QoS 1; {FAST}", 1, 50, 10, PAIR,
         "$share/compare/" + ALL_OF_THEM, needs=("shared", "mqtt5"), protocol="5.0", window=10),
    # At the same rate for each QoS and each broker: closed loops flatter a slow one, whose batches are larger.
    *(flow("rate", f"50 pairs, {50 * RATE:,} messages per second by schedule, QoS {qos}", qos, 50, 50, PAIR, rate=RATE)
      for qos in (0, 1, 2)),
    Scenario("connect", "connect", "5,000 clients that connect as fast as the broker lets them, and stay",
             ({"name": "idle", "clients": 5000, "keep_alive": "300s"},)),
]

# With sessions that are kept, so that acknowledgements promise something. A broker may deliver before it acknowledges: no
# publisher has more messages that are not acknowledged than messages that are not delivered.
DURABLE = [
    *(flow("pairs", f"50 publishers, each with a subscriber of its own, all with sessions, QoS {qos}; {FAST}", qos, 50, 50, PAIR,
           clean=False, window=10, inflight_max=10) for qos in (1, 2)),
    flow("alone", "One publisher that waits for each message and its PUBACK, one subscriber, both with sessions, QoS 1", 1, 1, 1, PAIR,
         clean=False, window=1, inflight_max=1),
    flow("rate", "50 pairs with sessions, 1,000 messages per second by schedule, QoS 1", 1, 50, 50, PAIR, clean=False, rate=20),
]

# Minutes instead of an hour: one row for each thing that is told apart.
QUICK = ("pairs-qos0", "pairs-qos1", "pairs-qos2", "fan-out-qos1", "rate-qos0", "rate-qos1", "rate-qos2", "connect")

# What scripts/demo shows: how much goes through, and how long it takes at a rate far below that.
DEMO = [scenario for qos in (0, 1, 2) for scenario in (
    flow("pairs", f"50 publishers, each with a subscriber of its own, QoS {qos}; {FAST}", qos, 50, 50, PAIR, window=10),
    flow("rate", f"50 pairs, 10,000 messages per second by schedule, QoS {qos}", qos, 50, 50, PAIR, rate=200),
)]
